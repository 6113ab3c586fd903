/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/image_file.h"

#include <string.h>

#include "block/image.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/scratch.h"

struct block *image_open_with(const char *name, struct block_options options)
{
    struct block *block;
    struct err err = {0};

    options.path = scratch_path(name);
    ck_assert_msg(block_open(&options, &block, &err) == 0, "%s", err.msg);
    return block;
}

struct block *image_open(const char *name, enum block_format format, bool readonly)
{
    return image_open_with(name, (struct block_options){.format = format,
                                                        .readonly = readonly,
                                                        .discard = true,
                                                        .cache = BLOCK_CACHE_UNSAFE});
}

void image_assert_shows(struct block *block, const void *expected, size_t len)
{
    const uint8_t *bytes = expected;
    uint8_t *data = malloc(len + 1);

    ck_assert_ptr_nonnull(data);
    ck_assert_uint_ge(block->len, len);
    ck_assert_int_eq(mem_block_read(block, 0, data, len), 0);
    for (size_t i = 0; i < len; i++)
        if (data[i] != bytes[i])
            ck_abort_msg("%s: at %zu is %#x, expected %#x", block->path, i, data[i], bytes[i]);
    free(data);
}

void image_assert_file_shows(const char *name, const void *expected, size_t len)
{
    struct block *block = image_open(name, BLOCK_FORMAT_QCOW2, true);

    ck_assert_uint_eq(block->len, len);
    image_assert_shows(block, expected, len);
    ck_assert_int_eq(block_close(block), 0);
}

void image_assert_sound(const char *name)
{
    struct block *block = image_open_with(name, (struct block_options){.format = BLOCK_FORMAT_QCOW2,
                                                                       .readonly = true,
                                                                       .flags = BLOCK_OPEN_CHECK});
    struct block_check_result result;
    struct err err = {0};

    ck_assert_msg(block_check(block, 0, NULL, &result, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
    if (result.corruptions || result.leaks || result.check_errors)
        ck_abort_msg("%s: %llu corruptions, %llu leaks", name,
                     (unsigned long long)result.corruptions, (unsigned long long)result.leaks);
}

void image_assert_qemu_agrees(const char *name, const void *expected, size_t len)
{
    scratch_ok("qemu-img check -q -f qcow2 %s", name);
    if (!expected)
        return;
    scratch_save("expected", expected, len);
    scratch_ok("qemu-img compare -q -f raw -F qcow2 expected %s", name);
}
