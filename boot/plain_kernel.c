/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/plain_kernel.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "boot/loader.h"
#include "boot/relocs_x86.h"
#include "boot/unpack.h"
#include "boot/vmlinux_x86.h"
#include "memory/guest_mem.h"

/* Debian's have 15 MB. */
#define PACKED_MAX (256 * MIB)

struct room {
    uint8_t *area;
    uint8_t *kernel; /* PLAIN_KERNEL_HEAD bytes after that */
    size_t kernel_len;
};

/* Memory that goes back to the host when it is unmapped. NULL with *err filled: too much. */
static uint8_t *map_piece(uint64_t len, uint64_t max, struct err *err)
{
    void *data;

    if (len == 0 || len > max) {
        err_set(err, -EFBIG, "%llu bytes of packed data or relocations, expected up to %llu",
                (unsigned long long)len, (unsigned long long)max);
        return NULL;
    }
    data = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    return data;
}

/* ---- from the file into the area ------------------------------------------------------------- */

static int unpack_file(const struct boot_file *file, const struct kernel_payload *payload,
                       const struct room *room, size_t *ret_len, struct err *err)
{
    uint8_t *packed = map_piece(payload->len, PACKED_MAX, err);
    struct load load = {.file = file, .off = payload->file_off, .len = payload->len, .dst = packed};
    int r;

    if (!packed)
        return -ENOMEM;
    r = loader_run(&load, 1, err);
    if (r == 0)
        r = unpack(packed, payload->len, room->area, PLAIN_KERNEL_HEAD + room->kernel_len, ret_len,
                   err);
    (void)munmap(packed, payload->len); /* ours, so it cannot fail */
    return r;
}

/* ---- from there to its place ----------------------------------------------------------------- */

/* A kernel without a table was built without KASLR. */
static int copy_table(const uint8_t *table, size_t len, const struct relocs_kernel *kernel,
                      struct plain_kernel *plain, struct err *err)
{
    struct relocs relocs;
    uint8_t *copy;
    int r;

    if (len == 0)
        return 0;
    r = relocs_parse(table, len, kernel, &relocs, err);
    if (r < 0)
        return r;
    copy = map_piece(len, PLAIN_KERNEL_TABLE_MAX, err);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, table, len);
    plain->table = copy;
    plain->table_len = len;
    return 0;
}

/*
 * A stock kernel's file ends with 10 MB of zeros, its variables without a value. Guest memory is
 * zero by itself, in huge pages even; a mapping of zeros would cost a fault and a copy for each
 * page.
 */
static uint64_t without_zeros(const uint8_t *kernel, uint64_t len /* whole pages */, uint64_t min)
{
    static const uint8_t zeros[PLAIN_KERNEL_PAGE];

    while (len > min && memcmp(kernel + len - PLAIN_KERNEL_PAGE, zeros, PLAIN_KERNEL_PAGE) == 0)
        len -= PLAIN_KERNEL_PAGE;
    return len;
}

/* The table lies where a segment goes. */
static int put(const struct kernel_payload *payload, const struct room *room, size_t len,
               struct plain_kernel *ret_plain, struct err *err)
{
    struct plain_kernel plain = {0};
    struct relocs_kernel kernel = {.link_gpa = payload->link_gpa};
    struct vmlinux vmlinux;
    int r = vmlinux_parse(room->area, len, payload->link_gpa, room->kernel_len, &vmlinux, err);

    if (r < 0)
        return r;
    plain.entry_off = vmlinux.entry_off;
    kernel.len = vmlinux.end_off;
    r = copy_table(room->area + vmlinux.elf_len, len - vmlinux.elf_len, &kernel, &plain, err);
    if (r < 0)
        return r;
    vmlinux_place(&vmlinux, room->area, len, room->kernel);
    plain.image_len = without_zeros(room->kernel, align_up(vmlinux.end_off, PLAIN_KERNEL_PAGE),
                                    align_up(plain.entry_off + 1, PLAIN_KERNEL_PAGE));
    *ret_plain = plain;
    return 0;
}

int plain_kernel_unpack(const struct boot_file *file, const struct kernel_payload *payload,
                        uint8_t *area, size_t kernel_len, struct plain_kernel *ret_kernel,
                        struct err *err)
{
    const struct room room = {
        .area = area, .kernel = area + PLAIN_KERNEL_HEAD, .kernel_len = kernel_len};
    size_t len = 0;
    int r;

    guest_mem_prefer_huge(area, PLAIN_KERNEL_HEAD + kernel_len);
    r = unpack_file(file, payload, &room, &len, err);
    return r == 0 ? put(payload, &room, len, ret_kernel, err) : r;
}

void plain_kernel_done(const struct plain_kernel *kernel)
{
    if (kernel->table)
        (void)munmap(kernel->table, kernel->table_len);
}
