/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order on disk, rule by rule: short lives of an image, and all that a power cut can leave of
 * each, whichever operation is the one lost or the one there (power_cut_all).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/flush.h"
#include "block/qcow2/qcow2.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/power_cut.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/unit.h"

#define CLUSTER 512u
#define DISK (128u << 10)
#define DEVICE (512u << 10)
#define FAR (DISK / 2) /* in another L2 table than the beginning */

static struct mem_disk top;
static struct mem_disk *disks[] = {&top};
static struct mem_record record;
static struct mem_fault fault;
static struct mem_env env;
static struct power_cut cut;
static struct block *block;

/*
 * What a cluster showed before anything was recorded, what was written, and when that was durable.
 */
static struct watched {
    uint64_t off;
    uint8_t before;
    uint8_t after;
    size_t durable; /* place in the record; 0: never */
} watched[16];
static unsigned nwatched;

static void open_image(void)
{
    mem_env_init(&env);
    mem_env_add(&env, &top);
    block = mem_env_open(&env, "top", BLOCK_FORMAT_QCOW2, false);
}

/*
 * On a device with something old on it, so that what is lost or empty does not look like zeroes; or
 * in a file, where new space reads as zero, and fewer barriers are needed.
 */
static void begin(const struct qcow2_image_options *options, bool device)
{
    struct qcow2_image_options here = *options;

    here.cluster_bits = 9;
    here.refcount_order = 4;
    here.size = DISK;
    mem_disk_init(&top, "top");
    if (device)
        mem_disk_make_device(&top, DEVICE, 1);
    qcow2_image_make(&top, &here);
    fault = (struct mem_fault){.after = -1};
    top.fault = &fault;
    open_image();
    nwatched = 0;
}

/* From here on the power fails. */
static void start_recording(void)
{
    power_cut_init(&cut, &record, disks, 1, 1);
    top.record = &record;
}

static void put(uint64_t off, uint8_t value)
{
    uint8_t data[CLUSTER];

    memset(data, value, sizeof(data));
    ck_assert_int_eq(mem_block_write(block, off, data, sizeof(data)), 0);
}

static void flush(void)
{
    ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), 0);
}

static void watch(uint64_t off, uint8_t before, uint8_t after)
{
    watched[nwatched++] = (struct watched){.off = off, .before = before, .after = after};
}

/* What was watched so far is durable. */
static void flush_watched(void)
{
    flush();
    for (unsigned i = 0; i < nwatched; i++)
        if (watched[i].durable == 0)
            watched[i].durable = record.n;
}

static uint8_t shown[DISK]; /* by the disk in a state */

static void check_contents(size_t at)
{
    for (uint64_t off = 0; off < DISK; off += CLUSTER) {
        uint8_t value = shown[off];
        bool found = false;

        if (memcmp(shown + off, shown + off + 1, CLUSTER - 1) != 0)
            ck_abort_msg("after %zu operations: %#llx: a mixture", at, (unsigned long long)off);

        for (unsigned i = 0; i < nwatched; i++) {
            const struct watched *w = &watched[i];

            if (w->off != off)
                continue;
            found = true;
            if (value != w->after && (value != w->before || (w->durable && at >= w->durable)))
                ck_abort_msg("after %zu operations: %#llx shows %u", at, (unsigned long long)off,
                             value);
        }
        if (!found && value != 0)
            ck_abort_msg("after %zu operations: %#llx shows %u, and nobody wrote it", at,
                         (unsigned long long)off, value);
    }
}

static void check_state(size_t at, void *opaque)
{
    void (*check_more)(void) = *(void (**)(void))opaque;
    struct qcow2_image_check check;
    struct mem_env state_env;
    struct block *b;

    qcow2_image_check(&cut.state[0], &check);
    if (check.errors > 0)
        ck_abort_msg("after %zu operations: %s", at, check.first);
    mem_env_init(&state_env);
    mem_env_add(&state_env, &cut.state[0]);
    b = mem_env_open(&state_env, "top", BLOCK_FORMAT_QCOW2, true);
    ck_assert_int_eq(mem_block_read(b, 0, shown, sizeof(shown)), 0);
    ck_assert_int_eq(block_close(b), 0);
    check_contents(at);
    if (check_more)
        check_more();
}

static void cut_everywhere(void (*check_more)(void))
{
    ck_assert_int_eq(block_close(block), 0);
    power_cut_all(&cut, check_state, &check_more);
    power_cut_done(&cut);
    mem_record_done(&record);
    mem_disk_done(&top);
}

/* ---- whole lives ----------------------------------------------------------------------------- */

static const struct kind {
    struct qcow2_image_options options;
    bool device;
} kinds[] = {
    {{.version = 3}, true},
    {{.version = 3}, false},
    {{.version = 3, .lazy_refcounts = true}, true},
    {{.version = 3, .lazy_refcounts = true}, false},
};

/* New clusters, one that is freed, one that takes its place, another L2 table, a rewrite. */
START_TEST(each_step_of_a_life_is_there_or_not)
{
    begin(&kinds[_i].options, kinds[_i].device);
    put(0, 1);
    flush();
    start_recording();
    watch(0, 1, 0);
    watch(CLUSTER, 0, 2);
    watch(FAR, 0, 3);
    put(CLUSTER, 2);
    put(FAR, 3);
    ck_assert_int_eq(mem_block_op(block, BLOCK_DISCARD, 0, 0, CLUSTER), 0);
    flush_watched();
    watch(2ull * CLUSTER, 0, 4);
    put(2ull * CLUSTER, 4);
    flush_watched();
    cut_everywhere(NULL);
}
END_TEST

/*
 * Many flushes of little each: there is a stock of clusters then, so that no count is written that
 * would bring a barrier with it. In a file data need not come first either, so the new table, which
 * goes where something old is, has no barrier before it but its own.
 */
START_TEST(new_tables_are_whole_before_anything_points_at_them)
{
    begin(&kinds[_i].options, kinds[_i].device);
    top.no_zero = true; /* nor is what is freed made a hole */
    for (unsigned i = 0; i < 12; i++) {
        put((uint64_t)i * CLUSTER, 1);
        watch((uint64_t)i * CLUSTER, 1, 1);
        flush();
    }
    ck_assert_int_eq(mem_block_op(block, BLOCK_DISCARD, 0, 0, CLUSTER), 0);
    watched[0] = (struct watched){.off = 0};
    flush();
    flush();
    start_recording();
    watch(FAR, 0, 3);
    put(FAR, 3);
    flush_watched();
    cut_everywhere(NULL);
}
END_TEST

/* ---- after a failure ------------------------------------------------------------------------- */

/*
 * The counts are not in the file and do not have to be, so there is no other barrier on the way
 * than the one that the data asks for.
 */
START_TEST(data_comes_first_after_a_round_that_failed)
{
    begin(&(struct qcow2_image_options){.lazy_refcounts = true}, true);
    put(0, 1);
    flush();
    start_recording();
    watch(0, 1, 1);
    watch(CLUSTER, 0, 2);
    put(CLUSTER, 2);
    fault = (struct mem_fault){.kinds = 1u << FILE_WRITE, .result = -ENOSPC};
    ck_assert_int_eq(qcow2_write_back(qcow2_of(block)), -ENOSPC);
    ck_assert(fault.happened);
    flush_watched();
    cut_everywhere(NULL);
}
END_TEST

/*
 * The file is made longer before data is written past its end, but that may fail, or be lost like
 * anything else. New clusters of a file read as zero, and no counts are written here, so that
 * nothing else asks for a barrier before the table.
 */
START_TEST(file_is_long_enough_before_anything_points_behind_its_end)
{
    begin(&(struct qcow2_image_options){.version = 3, .lazy_refcounts = true}, false);
    fault = (struct mem_fault){.kinds = 1u << MEM_TRUNCATE, .more = 1000, .result = -ENOSPC};
    put(0, 1);
    flush();
    ck_assert(fault.happened);
    if (_i == 0)
        fault.after = -1;
    start_recording();
    watch(0, 1, 1);
    for (unsigned i = 1; i < 4; i++) {
        watch((uint64_t)i * CLUSTER, 0, 2);
        put((uint64_t)i * CLUSTER, 2);
    }
    flush_watched();
    cut_everywhere(NULL);
}
END_TEST

/* The tables in the file still give the cluster to its old place. */
START_TEST(what_is_freed_stays_until_a_round_has_succeeded)
{
    begin(&kinds[_i].options, kinds[_i].device);
    put(0, 1);
    flush();
    start_recording();
    watch(0, 1, 0);
    watch(CLUSTER, 0, 2);
    ck_assert_int_eq(mem_block_op(block, BLOCK_DISCARD, 0, 0, CLUSTER), 0);
    fault = (struct mem_fault){.kinds = 1u << FILE_WRITE, .result = -ENOSPC};
    ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), -ENOSPC);
    put(CLUSTER, 2);
    flush_watched();
    cut_everywhere(NULL);
}
END_TEST

/*
 * A process writes a table, and is killed before that is durable. The next one finds a cluster free
 * that the old table uses, and repairs or allocates.
 */
START_TEST(what_a_killed_process_left_is_durable_before_the_first_change)
{
    begin(&kinds[_i].options, kinds[_i].device);
    put(0, 1);
    flush();
    start_recording();
    watch(0, 1, 0);
    ck_assert_int_eq(mem_block_op(block, BLOCK_DISCARD, 0, 0, CLUSTER), 0);
    fault = (struct mem_fault){.kinds = 1u << FILE_SYNC, .more = 1000, .result = -EIO};
    ck_assert_int_lt(block_close(block), 0);
    fault.after = -1;
    open_image();
    watch(CLUSTER, 0, 2);
    put(CLUSTER, 2);
    flush_watched();
    cut_everywhere(NULL);
}
END_TEST

/* ---- feature bits ---------------------------------------------------------------------------- */

#define UNKNOWN_BIT (1ull << 5)

/* Whoever made the image believes the bit as long as it is there. */
static void check_autoclear(void)
{
    uint64_t bits = load_be64(cut.state[0].data + HDR_AUTOCLEAR);

    if (shown[0] != 1)
        ck_assert_msg(!(bits & UNKNOWN_BIT), "data has changed, and an autoclear bit is there");
}

START_TEST(autoclear_bits_are_gone_before_data_changes)
{
    begin(&kinds[0].options, true);
    put(0, 1);
    ck_assert_int_eq(block_close(block), 0);
    store_be64(top.data + HDR_AUTOCLEAR, UNKNOWN_BIT);
    open_image();
    start_recording();
    watch(0, 1, 2);
    put(0, 2);
    flush_watched();
    cut_everywhere(check_autoclear);
}
END_TEST

/*
 * The tests' own checker takes counts that are too low for errors if the bit is not there. The file
 * is durably long enough before, so that new clusters in it ask for no barrier.
 */
START_TEST(dirty_bit_is_there_before_counts_are_missing)
{
    begin(&(struct qcow2_image_options){.lazy_refcounts = true}, _i);
    put(0, 1);
    ck_assert_int_eq(block_close(block), 0);
    open_image();
    qcow2_file_grow(qcow2_of(block), DEVICE);
    flush();
    start_recording();
    watch(0, 1, 1);
    watch(CLUSTER, 0, 2);
    put(CLUSTER, 2);
    flush_watched();
    cut_everywhere(NULL); /* closing it, too: the bit goes last */
}
END_TEST

/*
 * Clearing the dirty bit fails at each of its barriers: the bit may be gone from the file then.
 * What is written afterwards must not leave refcounts missing in an image that does not say so.
 */
START_TEST(dirty_bit_that_could_not_be_cleared_is_set_again)
{
    long after = 0;
    bool happened = true;

    for (; happened; after++) {
        struct qcow2_image_check check;
        uint8_t data[CLUSTER] = {2};

        begin(&(struct qcow2_image_options){.lazy_refcounts = true}, false);
        put(0, 1);
        qcow2_file_grow(qcow2_of(block), DEVICE);
        flush(); /* the file is durably long enough: new clusters in it ask for no barrier */
        fault = (struct mem_fault){.kinds = 1u << FILE_SYNC, .result = -EIO, .after = after};
        ck_assert_int_eq(qcow2_settle(qcow2_of(block)), fault.happened ? -EIO : 0);
        happened = fault.happened;
        fault.after = -1;
        (void)mem_block_write(block, CLUSTER, data, sizeof(data));
        ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), happened ? -EIO : 0);
        (void)block_close(block);
        qcow2_image_check(&top, &check);
        if (check.errors > 0)
            ck_abort_msg("after %ld barriers: %s", after, check.first);
        mem_disk_done(&top);
    }
    ck_assert_int_gt(after, 2);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("order");

    tcase_set_timeout(tcase, 30);
    tcase_add_loop_test(tcase, each_step_of_a_life_is_there_or_not, 0, ARRAY_SIZE(kinds));
    tcase_add_loop_test(tcase, new_tables_are_whole_before_anything_points_at_them, 0,
                        ARRAY_SIZE(kinds));
    tcase_add_test(tcase, data_comes_first_after_a_round_that_failed);
    tcase_add_loop_test(tcase, file_is_long_enough_before_anything_points_behind_its_end, 0, 2);
    tcase_add_loop_test(tcase, what_is_freed_stays_until_a_round_has_succeeded, 0,
                        ARRAY_SIZE(kinds));
    tcase_add_loop_test(tcase, what_a_killed_process_left_is_durable_before_the_first_change, 0,
                        ARRAY_SIZE(kinds));
    tcase_add_test(tcase, autoclear_bits_are_gone_before_data_changes);
    tcase_add_loop_test(tcase, dirty_bit_is_there_before_counts_are_missing, 0, 2);
    tcase_add_test(tcase, dirty_bit_that_could_not_be_cleared_is_set_again);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("qcow2_order", add_tests)
