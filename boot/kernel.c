#include "boot/kernel.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "boot/bzimage_x86.h"
#include "boot/elf.h"
#include "vmm/base/bytes.h"

/* Enough for every format's first header. */
#define HEAD_LEN 1024

/* Files that look like kernels and are given by mistake; what to say about them. */
static const struct {
    size_t off;
    size_t len;
    const char *magic;
    const char *what;
} strangers[] = {
    {0, 2, "\x1f\x8b", "a gzip-compressed file: unpack it first"},
    {0, 4, "\x28\xb5\x2f\xfd", "a zstd-compressed file: unpack it first"},
    {0, 6, "\xfd\x37zXZ\0", "an xz-compressed file: unpack it first"},
    {0, 4, "\x02\x21\x4c\x18", "an LZ4-compressed file: unpack it first"},
    {0, 3, "BZh", "a bzip2-compressed file: unpack it first"},
    {0, 4, "QFI\xfb", "a qcow2 disk image"},
    {4, 4, "zimg", "a compressed EFI image of another architecture"},
    {56, 4, "ARM\x64", "an Image for arm64"},
    {56, 4, "RSC\x05", "an Image for RISC-V"},
};

static int refuse(const uint8_t *head, size_t len, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(strangers); i++)
        if (range_fits(strangers[i].off, strangers[i].len, len) &&
            memcmp(head + strangers[i].off, strangers[i].magic, strangers[i].len) == 0)
            return err_set(err, -EINVAL, "%s, expected an x86-64 bzImage or ELF kernel",
                           strangers[i].what);
    return err_set(err, -EINVAL, "not a kernel: expected an x86-64 bzImage or ELF kernel");
}

static int identify(const struct boot_file *file, struct kernel_image *ret_image, struct err *err)
{
    uint8_t head[HEAD_LEN];
    size_t len = min_u64(sizeof(head), file->size);
    int r = boot_file_read(file, 0, head, len, err);

    if (r < 0)
        return r;
    if (elf_probe(head, len))
        r = elf_parse(file, ret_image, err);
    else if (bzimage_probe(head, len))
        r = bzimage_parse(head, len, file->size, ret_image, err);
    else
        r = refuse(head, len, err);
    if (r < 0)
        err_prefix(err, "%s", file->path);
    return r;
}

int kernel_identify(const struct boot_file *file, struct kernel_image *ret_image, struct err *err)
{
    struct kernel_image image = {0};
    int r = identify(file, &image, err);

    if (r == 0)
        *ret_image = image;
    return r;
}
