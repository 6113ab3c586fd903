/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input: two bytes that say how much room there is, then the packed payload of a kernel. It is
 * unpacked into that room; what comes out, or else the input itself, is taken for a vmlinux with
 * its table, put in place and relocated. No byte outside the room may be written.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/relocs_x86.h"
#include "boot/unpack.h"
#include "boot/vmlinux_x86.h"
#include "tests/lib/boot/kernel_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD 0x800u
#define DELTA 0x2a00000u
#define PIECE 0x1000u

static void relocate(const uint8_t *table, size_t len, uint8_t *kernel, size_t kernel_len)
{
    const struct relocs_kernel linked = {.link_gpa = TEST_KERNEL_GPA, .len = kernel_len};
    struct relocs relocs;
    struct err err;
    uint8_t *copy = malloc(len + 1);

    if (!copy)
        abort();
    memcpy(copy, table, len);
    if (relocs_parse(copy, len, &linked, &relocs, &err) == 0) {
        if (relocs.add64.n + relocs.subtract32.n + relocs.add32.n > len / 4)
            abort();
        for (size_t off = 0; off < kernel_len; off += PIECE) {
            if (relocs_count_pages(&relocs, off, PIECE) > 1)
                abort();
            relocs_apply(&relocs, kernel, off, PIECE, DELTA);
        }
    }
    free(copy);
}

/* An image of `len` bytes at the start of `area`, whose kernel's place is HEAD bytes after that. */
static void put(uint8_t *area, size_t area_len, size_t len)
{
    struct vmlinux vmlinux;
    struct err err;

    if (area_len < HEAD ||
        vmlinux_parse(area, len, TEST_KERNEL_GPA, area_len - HEAD, &vmlinux, &err) < 0)
        return;
    if (vmlinux.elf_len > len || vmlinux.entry_off >= area_len - HEAD)
        abort();
    relocate(area + vmlinux.elf_len, len - vmlinux.elf_len, area + HEAD, area_len - HEAD);
    vmlinux_place(&vmlinux, area, len, area + HEAD);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    uint8_t *area;
    size_t room, len;

    if (size < 2)
        return 0;
    room = load_le16(data);
    data += 2;
    size -= 2;
    area = calloc(1, room + 1); /* its last byte is nobody's */
    if (!area)
        abort();
    if (unpack(data, size, area, room, &len, &err) < 0) {
        len = min_u64(size, room);
        memcpy(area, data, len);
    }
    if (len > room)
        abort();
    put(area, room, len);
    if (area[room] != 0)
        abort();
    free(area);
    return 0;
}
