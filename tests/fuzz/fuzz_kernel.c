/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input: a kernel file, bzImage or ELF. What is accepted must lie in the file and in the address
 * space.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "boot/kernel.h"
#include "tests/lib/boot/kernel_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct kernel_image *image, size_t size)
{
    size_t entered = 0;

    for (size_t i = 0; i < image->nsegments; i++) {
        const struct kernel_segment *segment = &image->segments[i];
        uint64_t end;

        if (!range_fits(segment->file_off, segment->file_len, size) || segment->mem_len == 0 ||
            segment->file_len > segment->mem_len || !add_u64(segment->gpa, segment->mem_len, &end))
            abort();
        if (image->entry_gpa >= segment->gpa && image->entry_gpa < end)
            entered++;
    }
    if (!range_fits(image->payload.file_off, image->payload.len, size))
        abort();
    if (entered == 0 || image->setup_header_len > KERNEL_SETUP_HEADER_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct test_file memfile = test_file_new(data, size);
    struct kernel_image image;
    struct boot_file file;
    struct err err;

    if (boot_file_open(memfile.path, &file, &err) == 0) {
        if (kernel_identify(&file, &image, &err) == 0)
            check(&image, size);
        boot_file_close(&file);
    }
    test_file_free(&memfile);
    return 0;
}
