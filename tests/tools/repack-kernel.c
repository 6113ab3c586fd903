/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: repack-kernel gzip|xz|lz4|zstd BZIMAGE NEW
 *
 * Make a bzImage whose kernel is packed in another way, so that a stock kernel can be booted in
 * each of the packings that are unpacked on the host. The kernel's own stub is not in the new file:
 * who leaves it to the stub boots nothing.
 */
#include <errno.h>
#include <error.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "boot/file.h"
#include "boot/kernel.h"
#include "boot/unpack.h"
#include "tests/lib/boot/packed_kernel.h"

/* Of the setup header, from the start of the file: Documentation/arch/x86/boot.rst. */
#define SYSSIZE 0x1f4u
#define PAYLOAD_LENGTH 0x24cu

static const char *const names[TEST_PACKINGS] = {
    [TEST_PACKED_GZIP] = "gzip",
    [TEST_PACKED_XZ] = "xz",
    [TEST_PACKED_LZ4] = "lz4",
    [TEST_PACKED_ZSTD] = "zstd",
};

static enum test_packing packing_of(const char *name)
{
    for (unsigned i = 0; i < TEST_PACKINGS; i++)
        if (strcmp(names[i], name) == 0)
            return (enum test_packing)i;
    error(2, 0, "%s: expected gzip, xz, lz4 or zstd", name);
    abort(); /* error() has ended the process */
}

static uint8_t *allocate(size_t len)
{
    uint8_t *data = malloc(len);

    if (!data)
        error(1, ENOMEM, "%zu bytes", len);
    return data;
}

static uint8_t *read_file(const struct boot_file *file)
{
    uint8_t *data = allocate(file->size);
    struct err err;

    if (boot_file_read(file, 0, data, file->size, &err) < 0)
        error(1, 0, "%s: %s", file->path, err.msg);
    return data;
}

static uint8_t *unpack_payload(const struct kernel_image *image, const uint8_t *data,
                               size_t *ret_len)
{
    const struct kernel_payload *payload = &image->payload;
    size_t room = 2 * image->segments[0].mem_len;
    uint8_t *unpacked = allocate(room);
    struct err err;

    if (unpack(data + payload->file_off, payload->len, unpacked, room, ret_len, &err) < 0)
        error(1, 0, "%s", err.msg);
    return unpacked;
}

/* The head of the file up to its payload, and another payload. */
static void write_file(const char *path, const struct kernel_image *image, uint8_t *head,
                       const uint8_t *payload, size_t len)
{
    uint64_t kernel_off = image->segments[0].file_off;
    uint64_t payload_off = image->payload.file_off;
    uint64_t end = kernel_off + align_up(payload_off + len - kernel_off, 16);
    static const uint8_t zeros[16];
    FILE *out = fopen(path, "wb");

    store_le32(head + SYSSIZE, (uint32_t)((end - kernel_off) / 16));
    store_le32(head + PAYLOAD_LENGTH, (uint32_t)len);
    if (!out || fwrite(head, payload_off, 1, out) != 1 || fwrite(payload, len, 1, out) != 1 ||
        fwrite(zeros, 1, end - payload_off - len, out) != end - payload_off - len ||
        fclose(out) != 0)
        error(1, errno, "%s", path);
}

int main(int argc, char **argv)
{
    struct kernel_image image;
    struct boot_file file;
    uint8_t *data, *unpacked, *packed;
    enum test_packing packing;
    size_t len, packed_len;
    struct err err;

    if (argc != 4)
        error(2, 0, "usage: repack-kernel gzip|xz|lz4|zstd BZIMAGE NEW");
    packing = packing_of(argv[1]);
    if (boot_file_open(argv[2], &file, &err) < 0 || kernel_identify(&file, &image, &err) < 0)
        error(1, 0, "%s", err.msg);
    if (image.payload.len == 0)
        error(1, 0, "%s: it has no payload that can be unpacked", argv[2]);
    data = read_file(&file);
    unpacked = unpack_payload(&image, data, &len);
    packed = test_pack(packing, unpacked, len, &packed_len);
    write_file(argv[3], &image, data, packed, packed_len);
    free(packed);
    free(unpacked);
    free(data);
    boot_file_close(&file);
    return 0;
}
