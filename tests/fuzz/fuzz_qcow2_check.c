/*
 * Checking and repairing hostile qcow2 images. The input is the image.
 *
 * Whatever it says, both end; and an image that was repaired is found right when it is checked
 * again.
 */
#include <stdlib.h>
#include <string.h>

#include "block/block_ops.h"
#include "tests/lib/mem_file.h"
#include "vmm/base/bytes.h"

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
        if (block_close(block) < 0 && r == 0)
            abort();
    }
    mem_disk_done(&data);
    return r;
}

static bool is_right(const struct block_check_result *result)
{
    return result->corruptions == 0 && result->leaks == 0 && result->check_errors == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct block_check_result repaired = {0};
    struct block_check_result again = {0};
    struct mem_disk disk;

    mem_disk_init(&disk, "image");
    disk.len = min_u64(size, MEM_DISK_MAX);
    memcpy(disk.data, data, disk.len);
    (void)check(&disk, 0, &again); /* whatever it finds */
    if (check(&disk, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS, &repaired) == 0 && is_right(&repaired))
        if (check(&disk, 0, &again) < 0 || !is_right(&again))
            abort();
    mem_disk_done(&disk);
    return 0;
}
