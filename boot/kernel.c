/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/kernel.h"

#include "base/bytes.h"
#include "boot/bzimage_x86.h"
#include "boot/elf.h"
#include "boot/stranger.h"

/* Enough for every format's first header. */
#define HEAD_LEN 1024

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
        r = stranger_refuse(file, head, len, err);
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
