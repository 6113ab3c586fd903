/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking and repairing hostile qcow2 images. The input is the image, which begins with a 'Q';
 * anything else is a number of choices, those choices of what its host does (mem_disk.h), and the
 * image.
 *
 * Whatever it says, both end; and an image that was repaired is found right when it is checked
 * again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/mem_env.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore_line(struct block_check_report *report, const char *text)
{
}

static int check(struct mem_disk *disk, unsigned fix, struct block_check_result *ret_result)
{
    struct block_options options = {.path = "image",
                                    .format = BLOCK_FORMAT_QCOW2,
                                    .readonly = fix == 0,
                                    .flags = BLOCK_OPEN_CHECK};
    struct block_check_report report = {.line = ignore_line};
    struct mem_disk data;
    struct mem_env env;
    struct block *block;
    struct err err;
    int r;

    mem_env_init(&env);
    mem_env_add(&env, disk);
    mem_disk_init(&data, "data");
    mem_env_add(&env, &data);
    r = block_open_in(&env.env, &options, &block, &err);
    if (r == 0) {
        r = block_check(block, fix, &report, ret_result, &err);
        if (block_close(block) < 0 && r == 0 && !disk->choices)
            abort();
    }
    mem_disk_done(&data);
    return r;
}

static bool is_right(const struct block_check_result *result)
{
    return result->corruptions == 0 && result->leaks == 0 && result->check_errors == 0;
}

static void check_and_repair(struct mem_disk *disk)
{
    struct block_check_result repaired = {0};
    struct block_check_result again = {0};

    (void)check(disk, 0, &again); /* whatever it finds */
    if (check(disk, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS, &repaired) < 0 || !is_right(&repaired))
        return;
    disk->choices = NULL; /* from now on the host does as it is told */
    if (check(disk, 0, &again) < 0 || !is_right(&again))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem_choices choices = {0};
    struct mem_disk disk;

    if (size > 0 && data[0] != 'Q') {
        choices = (struct mem_choices){.bytes = data + 1, .n = data[0]};
        if (!range_fits(1, choices.n, size))
            return 0;
        data += 1 + choices.n;
        size -= 1 + choices.n;
    }
    mem_disk_init(&disk, "image");
    disk.choices = choices.n > 0 ? &choices : NULL;
    disk.len = min_u64(size, MEM_DISK_MAX);
    memcpy(disk.data, data, disk.len);
    check_and_repair(&disk);
    mem_disk_done(&disk);
    return 0;
}
