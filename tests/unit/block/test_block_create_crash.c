/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left of a new image when the power fails while it is made, or after that: nothing or all
 * of it under its name, whatever of the folder's entries is lost; and all of it once it was made.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/create.h"
#include "block/image.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/power_cut.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/unit.h"

#define LEN (256u << 10)

enum { TOP, DATA, DISKS };

static struct mem_disk disks[DISKS];
static struct mem_record record;
static struct mem_fault fault;
static struct power_cut cut;
static size_t made; /* when, in the record */
static const struct block_create_options *making;

static const struct block_create_options kinds[] = {
    {.format = BLOCK_FORMAT_RAW},
    {.format = BLOCK_FORMAT_RAW, .prealloc = BLOCK_PREALLOC_FULL},
    {.format = BLOCK_FORMAT_QCOW2},
    {.format = BLOCK_FORMAT_QCOW2, .prealloc = BLOCK_PREALLOC_METADATA, .cluster_size = 4096},
    {.format = BLOCK_FORMAT_QCOW2, .data_file = "data"},
    {.format = BLOCK_FORMAT_QCOW2, .data_file = "data", .data_file_raw = true},
};

static int make(const struct block_create_options *kind, long fail_at)
{
    struct mem_disk *all[DISKS] = {&disks[TOP], &disks[DATA]};
    struct block_create_options options = *kind;
    struct mem_env env;
    struct err err = {0};
    int r;

    making = kind;
    options.path = "top";
    options.len = LEN;
    mem_disk_init(&disks[TOP], "top");
    mem_disk_init(&disks[DATA], "data");
    mem_env_init(&env);
    fault = (struct mem_fault){.after = fail_at, .result = -EIO};
    for (unsigned i = 0; i < DISKS; i++)
        disks[i].named = false;
    power_cut_init(&cut, &record, all, DISKS, 1);
    for (unsigned i = 0; i < DISKS; i++) {
        disks[i].record = &record;
        disks[i].fault = &fault;
        mem_env_add(&env, &disks[i]);
    }
    r = block_create_in(&env.env, &options, &err);
    made = record.n;
    return r;
}

static void done(void)
{
    power_cut_done(&cut);
    mem_record_done(&record);
    for (unsigned i = 0; i < DISKS; i++)
        mem_disk_done(&disks[i]);
}

/* The image under this name is whole, and shows zeroes. */
static void check_image(size_t at)
{
    static uint8_t data[LEN];
    struct qcow2_image_check check;
    struct mem_env env;
    struct block *block;

    if (making->data_file && !cut.state[DATA].named)
        ck_abort_msg("after %zu operations: an image without its data file", at);
    mem_env_init(&env);
    for (unsigned i = 0; i < DISKS; i++)
        mem_env_add(&env, &cut.state[i]);
    block = mem_env_open(&env, "top", making->format, true);
    ck_assert_uint_eq(block->len, LEN);
    ck_assert_int_eq(mem_block_read(block, 0, data, LEN), 0);
    ck_assert_int_eq(block_close(block), 0);
    ck_assert(data[0] == 0 && memcmp(data, data + 1, LEN - 1) == 0);
    if (making->format != BLOCK_FORMAT_QCOW2)
        return;
    qcow2_image_check(&cut.state[TOP], &check);
    if (check.errors + check.leaks > 0)
        ck_abort_msg("after %zu operations: %u leaks, %s", at, check.leaks, check.first);
}

static void check_made(size_t at, void *opaque)
{
    if (cut.state[TOP].named)
        check_image(at);
    else if (at >= made)
        ck_abort_msg("after %zu operations: the image that was made is not there", at);
}

START_TEST(new_image_is_there_or_not)
{
    ck_assert_int_eq(make(&kinds[_i], -1), 0);
    power_cut_all(&cut, check_made, NULL);
    done();
}
END_TEST

static void check_failed(size_t at, void *opaque)
{
    if (cut.state[TOP].named)
        check_image(at);
    if (at >= made && (cut.state[TOP].named || cut.state[DATA].named))
        ck_abort_msg("after %zu operations: something is left of an image that was not made", at);
}

START_TEST(image_that_could_not_be_made_is_not_there)
{
    bool happened;
    long after = 0;

    do {
        int r = make(&kinds[_i], after++);

        happened = fault.happened;
        ck_assert_int_eq(r, happened ? -EIO : 0);
        if (happened)
            power_cut_all(&cut, check_failed, NULL);
        done();
    } while (happened);
    ck_assert_int_gt(after, 4);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("create");

    tcase_set_timeout(tcase, 30);
    tcase_add_loop_test(tcase, new_image_is_there_or_not, 0, ARRAY_SIZE(kinds));
    tcase_add_loop_test(tcase, image_that_could_not_be_made_is_not_there, 0, ARRAY_SIZE(kinds));
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("block_create_crash", add_tests)
