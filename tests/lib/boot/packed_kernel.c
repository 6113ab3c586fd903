/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/boot/packed_kernel.h"

#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bytes.h"

#define LZ4_BLOCK (8 * MIB)

static void fill(uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i + i / 256);
}

/* A place as the table has it: the virtual address, cut to 32 bits. */
static uint32_t word(uint32_t off)
{
    return 0x80000000u + TEST_KERNEL_GPA + off;
}

void test_vmlinux_init(struct test_vmlinux *v)
{
    memset(v, 0, sizeof(*v));
    memcpy(v->ehdr.e_ident, ELFMAG, SELFMAG);
    v->ehdr.e_ident[EI_CLASS] = ELFCLASS64;
    v->ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
    v->ehdr.e_type = ET_EXEC;
    v->ehdr.e_machine = EM_X86_64;
    v->ehdr.e_entry = TEST_KERNEL_GPA + TEST_VMLINUX_ENTRY;
    v->ehdr.e_phoff = offsetof(struct test_vmlinux, load);
    v->ehdr.e_phentsize = sizeof(v->load[0]);
    v->ehdr.e_phnum = TEST_VMLINUX_SEGMENTS;
    v->ehdr.e_shoff = offsetof(struct test_vmlinux, shdr);
    v->ehdr.e_shentsize = sizeof(v->shdr);
    v->ehdr.e_shnum = 1;
    v->load[0] = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_offset = offsetof(struct test_vmlinux, text),
        .p_paddr = TEST_KERNEL_GPA,
        .p_filesz = sizeof(v->text),
        .p_memsz = sizeof(v->text),
        .p_align = 2 * MIB,
    };
    v->load[1] = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_offset = offsetof(struct test_vmlinux, data),
        .p_paddr = TEST_KERNEL_GPA + TEST_VMLINUX_DATA,
        .p_filesz = sizeof(v->data),
        .p_memsz = 2 * sizeof(v->data),
        .p_align = 2 * MIB,
    };
    fill(v->text, sizeof(v->text));
    fill(v->data, sizeof(v->data));
    store_le64(v->text + TEST_VMLINUX_RELOC64, TEST_VMLINUX_VALUE64);
    store_le64(v->data + TEST_VMLINUX_RELOC64_DATA - TEST_VMLINUX_DATA, TEST_VMLINUX_VALUE64);
    store_le32(v->text + TEST_VMLINUX_INVERSE32, TEST_VMLINUX_VALUE32);
    store_le32(v->text + TEST_VMLINUX_RELOC32, TEST_VMLINUX_VALUE32);
    v->table[1] = word(TEST_VMLINUX_RELOC64);
    v->table[2] = word(TEST_VMLINUX_RELOC64_DATA);
    v->table[4] = word(TEST_VMLINUX_INVERSE32);
    v->table[6] = word(TEST_VMLINUX_RELOC32);
    v->table[7] = word(TEST_VMLINUX_RELOC32 + 8);
}

static void check(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s failed\n", what);
        exit(EXIT_FAILURE);
    }
}

static size_t pack_gzip(const void *data, size_t len, uint8_t *dst, size_t room)
{
    z_stream stream = {
        .next_in = (Bytef *)(uintptr_t)data,
        .avail_in = (uInt)len,
        .next_out = dst,
        .avail_out = (uInt)room,
    };

    check(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK,
          "deflateInit2");
    check(deflate(&stream, Z_FINISH) == Z_STREAM_END, "deflate");
    deflateEnd(&stream);
    return stream.total_out;
}

static size_t pack_xz(const void *data, size_t len, uint8_t *dst, size_t room)
{
    size_t out = 0;

    check(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, data, len, dst, &out, room) == LZMA_OK,
          "lzma_easy_buffer_encode");
    return out;
}

static size_t pack_lz4(const void *data, size_t len, uint8_t *dst, size_t room)
{
    size_t out = 4;

    store_le32(dst, 0x184c2102);
    for (size_t off = 0; off < len; off += LZ4_BLOCK) {
        int n = LZ4_compress_default((const char *)data + off, (char *)dst + out + 4,
                                     (int)min_u64(LZ4_BLOCK, len - off), (int)(room - out - 4));

        check(n > 0, "LZ4_compress_default");
        store_le32(dst + out, (uint32_t)n);
        out += 4 + (size_t)n;
    }
    return out;
}

static size_t pack_zstd(const void *data, size_t len, uint8_t *dst, size_t room)
{
    size_t out = ZSTD_compress(dst, room, data, len, 3);

    check(!ZSTD_isError(out), "ZSTD_compress");
    return out;
}

uint8_t *test_pack(enum test_packing packing, const void *data, size_t len, size_t *ret_len)
{
    size_t room = len + len / 64 + 4096, out = 0;
    uint8_t *dst = calloc(1, room);

    check(dst != NULL, "calloc");
    switch (packing) {
    case TEST_PACKED_GZIP:
        *ret_len = pack_gzip(data, len, dst, room);
        return dst;
    case TEST_PACKED_XZ:
        out = pack_xz(data, len, dst, room);
        break;
    case TEST_PACKED_LZ4:
        out = pack_lz4(data, len, dst, room);
        break;
    case TEST_PACKED_ZSTD:
        out = pack_zstd(data, len, dst, room);
        break;
    }
    store_le32(dst + out, (uint32_t)len);
    *ret_len = out + 4;
    return dst;
}

uint8_t *test_bzimage_around(const void *payload, size_t len, size_t *ret_len)
{
    size_t head = offsetof(struct test_bzimage, kernel);
    size_t kernel_len = align_up(TEST_PAYLOAD_OFF + len, 16);
    struct test_bzimage image;
    uint8_t *file = calloc(1, head + kernel_len);

    check(file != NULL, "calloc");
    test_bzimage_init(&image);
    image.hdr.syssize = (uint32_t)(kernel_len / 16);
    image.hdr.payload_offset = TEST_PAYLOAD_OFF;
    image.hdr.payload_length = (uint32_t)len;
    memcpy(file, &image, head + TEST_PAYLOAD_OFF);
    memcpy(file + head + TEST_PAYLOAD_OFF, payload, len);
    *ret_len = head + kernel_len;
    return file;
}

uint8_t *test_packed_kernel(enum test_packing packing, const struct test_vmlinux *vmlinux,
                            size_t *ret_len)
{
    size_t len;
    uint8_t *payload = test_pack(packing, vmlinux, sizeof(*vmlinux), &len);
    uint8_t *file = test_bzimage_around(payload, len, ret_len);

    free(payload);
    return file;
}
