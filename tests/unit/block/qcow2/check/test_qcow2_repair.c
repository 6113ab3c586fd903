/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair of images in memory: what is lost, what is marked, and what a power cut or a failing host
 * leaves of a repair. That the checker itself is right is test_qcow2_check's matter.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/image.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/qcow2.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/power_cut.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/unit.h"

#define DISK_SIZE (512u << 10)
#define CHUNK 512u
#define NCHUNKS (DISK_SIZE / CHUNK)
#define FIX_ALL (BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS)

static unsigned base_seed;

struct rig {
    struct mem_disk disk;
    uint8_t model[DISK_SIZE];
    bool readable[NCHUNKS];
};

static struct rig rig;

static int open_disk(struct mem_disk *disk, unsigned flags, bool readonly, struct block **ret_block)
{
    struct block_options options = {
        .path = disk->name, .format = BLOCK_FORMAT_QCOW2, .readonly = readonly, .flags = flags};
    struct mem_env env;
    struct err err;

    mem_env_init(&env);
    mem_env_add(&env, disk);
    return block_open_in(&env.env, &options, ret_block, &err);
}

/* ---- images ---------------------------------------------------------------------------------- */

static void write_some(struct block *block, unsigned n, unsigned *seed)
{
    static uint8_t data[32 * CHUNK];

    for (unsigned i = 0; i < n; i++) {
        uint64_t off = (uint64_t)rand_r(seed) % NCHUNKS * CHUNK;
        uint64_t len = min_u64((1 + (uint64_t)rand_r(seed) % 32) * CHUNK, DISK_SIZE - off);

        memset(data, 1 + rand_r(seed) % 255, len);
        ck_assert_int_eq(mem_block_write(block, off, data, len), 0);
    }
}

static void make_image(unsigned version, unsigned cluster_bits, bool snapshot, unsigned seed)
{
    struct block *block;
    char name[] = "one";

    mem_disk_init(&rig.disk, "image");
    qcow2_image_make(&rig.disk, &(struct qcow2_image_options){.version = version,
                                                              .cluster_bits = cluster_bits,
                                                              .refcount_order = 4,
                                                              .size = DISK_SIZE});
    ck_assert_int_eq(open_disk(&rig.disk, 0, false, &block), 0);
    write_some(block, 12, &seed);
    if (snapshot)
        ck_assert_int_eq(block_snapshot_create(block, &(struct block_snapshot){.name = name}, NULL),
                         0);
    write_some(block, 4, &seed);
    ck_assert_int_eq(mem_block_read(block, 0, rig.model, DISK_SIZE), 0);
    ck_assert_int_eq(block_close(block), 0);
}

static void rig_done(void)
{
    mem_disk_done(&rig.disk);
}

static int check(struct mem_disk *disk, unsigned fix, struct block_check_result *ret_result)
{
    struct block *block;
    struct err err;
    int r = open_disk(disk, BLOCK_OPEN_CHECK, fix == 0, &block);
    int r2;

    memset(ret_result, 0xff, sizeof(*ret_result));
    if (r < 0)
        return r;
    r = block_check(block, fix, NULL, ret_result, &err);
    r2 = block_close(block);
    return r < 0 ? r : r2;
}

static bool is_clean(struct mem_disk *disk)
{
    struct block_check_result result;

    return check(disk, 0, &result) == 0 && result.corruptions == 0 && result.leaks == 0 &&
           result.check_errors == 0;
}

static void assert_repairs(void)
{
    struct block_check_result result;

    ck_assert_int_eq(check(&rig.disk, FIX_ALL, &result), 0);
    ck_assert_uint_eq(result.corruptions, 0);
    ck_assert_uint_eq(result.leaks, 0);
    ck_assert(is_clean(&rig.disk));
}

static bool reads_as_model(struct block *block, unsigned chunk)
{
    uint8_t data[CHUNK];

    return mem_block_read(block, chunk * (uint64_t)CHUNK, data, CHUNK) == 0 &&
           memcmp(data, rig.model + chunk * (uint64_t)CHUNK, CHUNK) == 0;
}

/* Which chunks read right; or, with `only_expected`, do those still that did? */
static bool scan(struct mem_disk *disk, bool only_expected)
{
    struct block *block;
    bool all = true;

    if (open_disk(disk, 0, true, &block) < 0) {
        memset(rig.readable, 0, sizeof(rig.readable));
        return !only_expected;
    }
    for (unsigned i = 0; i < NCHUNKS; i++) {
        bool right = reads_as_model(block, i);

        if (only_expected)
            all = all && (right || !rig.readable[i]);
        else
            rig.readable[i] = right;
    }
    ck_assert_int_eq(block_close(block), 0);
    return all;
}

static void assert_reads_as_before(struct mem_disk *disk)
{
    memset(rig.readable, 1, sizeof(rig.readable));
    ck_assert(scan(disk, true));
}

/* ---- what is lost ---------------------------------------------------------------------------- */

static uint8_t *field(unsigned off)
{
    return rig.disk.data + off;
}

static const unsigned cluster_bits[] = {9, 12, 16};

START_TEST(lost_refcount_table_is_rebuilt)
{
    for (int how = 0; how < 5; how++) {
        uint64_t table;

        make_image(3, cluster_bits[_i], true, base_seed);
        table = load_be64(field(HDR_REFTABLE_OFF));
        if (how == 0)
            store_be64(field(HDR_REFTABLE_OFF), 12345); /* no cluster */
        else if (how == 1)
            store_be64(field(HDR_REFTABLE_OFF), 1ull << 40); /* outside the file */
        else if (how == 2)
            store_be32(field(HDR_REFTABLE_CLUSTERS), 0);
        else if (how == 3)
            store_be32(field(HDR_REFTABLE_CLUSTERS), UINT32_MAX);
        else
            memset(rig.disk.data + table, how == 4 ? 0xff : 0, 512);
        assert_repairs();
        assert_reads_as_before(&rig.disk);
        rig_done();
    }
}
END_TEST

START_TEST(entries_that_point_nowhere_read_as_zero)
{
    static const uint64_t entries[] = {
        1ull << 63 | 1ull << 40, /* outside the file */
        1ull << 63 | 512,        /* not at a cluster */
        1ull << 62 | 1ull << 50, /* compressed, outside */
        1ull << 62 | 100,        /* compressed, in the header */
    };

    for (unsigned version = 2; version <= 3; version++) {
        uint64_t l2;
        struct block *block;

        make_image(version, 12, false, base_seed);
        l2 = load_be64(rig.disk.data + load_be64(field(HDR_L1_OFF))) & QCOW2_OFF_MASK;
        for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
            store_be64(rig.disk.data + l2 + i * 8, entries[i]);
            memset(rig.model + i * 4096, 0, 4096);
        }
        assert_repairs();
        assert_reads_as_before(&rig.disk);
        ck_assert_int_eq(open_disk(&rig.disk, 0, false, &block), 0);
        ck_assert_int_eq(mem_block_write(block, 0, rig.model, DISK_SIZE), 0);
        ck_assert_int_eq(block_close(block), 0);
        ck_assert(is_clean(&rig.disk));
        rig_done();
    }
}
END_TEST

START_TEST(zero_flag_in_version_2_is_an_error)
{
    struct block_check_result result;
    uint64_t l2;

    make_image(2, 12, false, base_seed);
    l2 = load_be64(rig.disk.data + load_be64(field(HDR_L1_OFF))) & QCOW2_OFF_MASK;
    rig.disk.data[l2 + 7] |= 1;
    ck_assert_int_eq(check(&rig.disk, 0, &result), 0);
    ck_assert_uint_eq(result.corruptions, 1);
    assert_repairs();
    assert_reads_as_before(&rig.disk);
    rig_done();
}
END_TEST

START_TEST(snapshot_table_beyond_limits_is_cut)
{
    for (unsigned how = 0; how < 2; how++) {
        uint8_t *table;

        make_image(3, 12, true, base_seed);
        table = rig.disk.data + load_be64(field(HDR_SNAPSHOTS_OFF));
        if (how == 0)
            store_be32(table + 36, 5000); /* of extra data */
        else
            store_be32(field(HDR_NB_SNAPSHOTS), QCOW2_SNAPSHOTS_MAX + 1);
        ck_assert(!is_clean(&rig.disk));
        assert_repairs();
        ck_assert_uint_le(load_be32(field(HDR_NB_SNAPSHOTS)), QCOW2_SNAPSHOTS_MAX);
        assert_reads_as_before(&rig.disk);
        rig_done();
    }
}
END_TEST

/* ---- marks ----------------------------------------------------------------------------------- */

static uint64_t marks(void)
{
    return load_be64(field(HDR_INCOMPATIBLE)) & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
}

START_TEST(marks_go_when_the_image_is_right)
{
    struct block_check_result result;
    struct block *block;

    make_image(3, 12, true, base_seed);
    store_be64(field(HDR_INCOMPATIBLE), QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
    ck_assert_int_eq(check(&rig.disk, 0, &result), 0);
    ck_assert_uint_ne(marks(), 0);
    ck_assert_int_eq(check(&rig.disk, BLOCK_FIX_LEAKS, &result), 0);
    ck_assert_uint_eq(marks(), 0);

    store_be64(field(HDR_INCOMPATIBLE), QCOW2_INCOMPAT_CORRUPT);
    store_be64(field(HDR_L1_OFF), 1ull << 40);
    ck_assert_int_lt(check(&rig.disk, FIX_ALL, &result), 0);
    ck_assert_uint_ne(marks(), 0);
    ck_assert_int_lt(open_disk(&rig.disk, 0, false, &block), 0);
    rig_done();
}
END_TEST

/* Count a cluster that nobody uses, after all others. */
static void leak_one(void)
{
    uint64_t counts = load_be64(rig.disk.data + load_be64(field(HDR_REFTABLE_OFF)));

    rig.disk.len = align_up(rig.disk.len, 4096) + 4096;
    store_be16(rig.disk.data + counts + (rig.disk.len / 4096 - 1) * 2, 7);
}

START_TEST(leaks_alone_are_not_repaired_among_errors)
{
    struct block_check_result result;

    make_image(3, 12, false, base_seed);
    leak_one();
    ck_assert_int_eq(check(&rig.disk, BLOCK_FIX_LEAKS, &result), 0);
    ck_assert_uint_eq(result.leaks_fixed, 1);
    ck_assert(is_clean(&rig.disk));

    leak_one();
    store_be16(rig.disk.data + load_be64(rig.disk.data + load_be64(field(HDR_REFTABLE_OFF))), 0);
    ck_assert_int_eq(check(&rig.disk, BLOCK_FIX_LEAKS, &result), 0);
    ck_assert_uint_eq(result.leaks_fixed, 0);
    ck_assert(!is_clean(&rig.disk));
    assert_repairs();
    assert_reads_as_before(&rig.disk);
    rig_done();
}
END_TEST

START_TEST(dirty_image_gets_its_counts)
{
    struct block *block;
    uint64_t counts;

    make_image(3, 12, true, base_seed);
    counts = load_be64(rig.disk.data + load_be64(field(HDR_REFTABLE_OFF)));
    memset(rig.disk.data + counts + 16, 0, 400); /* deferred, and never written */
    store_be64(field(HDR_INCOMPATIBLE), QCOW2_INCOMPAT_DIRTY);
    ck_assert_int_eq(open_disk(&rig.disk, 0, true, &block), 0);
    ck_assert_int_eq(block_close(block), 0);
    ck_assert_uint_eq(marks(), QCOW2_INCOMPAT_DIRTY); /* who only reads changes nothing */
    ck_assert_int_eq(open_disk(&rig.disk, 0, false, &block), 0);
    ck_assert_int_eq(block_close(block), 0);
    ck_assert_uint_eq(marks(), 0);
    ck_assert(is_clean(&rig.disk));
    assert_reads_as_before(&rig.disk);
    rig_done();
}
END_TEST

/* Counts of one bit cannot count a cluster of data that compressed data lies in as well. */
START_TEST(dirty_image_that_cannot_be_repaired_is_not_written)
{
    struct block *block;
    uint64_t l2;

    mem_disk_init(&rig.disk, "image");
    qcow2_image_make(&rig.disk,
                     &(struct qcow2_image_options){.cluster_bits = 12, .size = 1u << 16});
    ck_assert_int_eq(open_disk(&rig.disk, 0, false, &block), 0);
    ck_assert_int_eq(mem_block_write(block, 0, rig.model, 8192), 0);
    ck_assert_int_eq(block_close(block), 0);
    l2 = load_be64(rig.disk.data + load_be64(field(HDR_L1_OFF))) & QCOW2_OFF_MASK;
    store_be64(rig.disk.data + l2,
               1ull << 62 | (load_be64(rig.disk.data + l2 + 8) & QCOW2_OFF_MASK));
    store_be64(field(HDR_INCOMPATIBLE), QCOW2_INCOMPAT_DIRTY);
    ck_assert_int_eq(open_disk(&rig.disk, 0, false, &block), -EIO);
    ck_assert_uint_eq(marks(), QCOW2_INCOMPAT_DIRTY);
    rig_done();
}
END_TEST

/* ---- interruptions --------------------------------------------------------------------------- */

/* Spoil a random number in the metadata: in the L1 table, a refcount block, or an L2 table. */
static void spoil(unsigned *seed)
{
    uint64_t cluster = 1ull << load_be32(field(HDR_CLUSTER_BITS));
    uint64_t l1 = load_be64(field(HDR_L1_OFF));
    uint64_t n = load_be32(field(HDR_L1_SIZE));
    uint64_t at = l1 + (uint64_t)rand_r(seed) % n * 8;
    uint64_t clusters = rig.disk.len / cluster;

    switch (rand_r(seed) % 6) {
    case 0:
        break;
    case 1:
        at = load_be64(rig.disk.data + load_be64(field(HDR_REFTABLE_OFF)));
        /* Not of clusters past the end: those turn into leaks when the file grows. */
        at += (uint64_t)rand_r(seed) % (min_u64(clusters * 2, cluster) / 8) * 8;
        break;
    default: {
        uint64_t l2 = load_be64(rig.disk.data + at) & QCOW2_OFF_MASK;

        at = l2 ? l2 + (uint64_t)rand_r(seed) % (cluster / 8) * 8 : at;
    }
    }
    store_be64(rig.disk.data + at,
               (uint64_t)(rand_r(seed) % 2) << 63 | (uint64_t)rand_r(seed) % clusters * cluster);
}

static unsigned cut_everywhere(struct power_cut *cut, const struct block_check_result *before)
{
    struct block_check_result now;
    struct mem_disk *state = &cut->state[0];
    size_t nops = cut->record->n;
    unsigned n = 0;

    for (size_t at = 0; at <= nops; at++) {
        for (int fate = 0; fate < POWER_CUT_FATES; fate++, n++) {
            power_cut_make(cut, at, (enum power_cut_fate)fate);
            ck_assert_int_eq(check(state, 0, &now), 0);
            if (now.corruptions > before->corruptions || now.leaks > before->leaks)
                ck_abort_msg("cut after %zu of %zu operations: %llu errors, %llu leaks", at, nops,
                             (unsigned long long)now.corruptions, (unsigned long long)now.leaks);
            ck_assert(scan(state, true));
        }
    }
    return n;
}

/* Repair the image, and look at it after a power cut at each moment of that. */
static unsigned repair_with_cuts(unsigned seed)
{
    struct block_check_result before;
    struct block_check_result after;
    struct mem_disk *disk = &rig.disk;
    struct mem_record record = {0};
    struct power_cut cut;
    unsigned n;

    (void)scan(disk, false);
    if (check(disk, 0, &before) < 0)
        ck_abort_msg("seed %u: not checked", seed);
    power_cut_init(&cut, &record, &disk, 1, seed);
    disk->record = &record;
    if (check(disk, FIX_ALL, &after) < 0 || after.corruptions || after.leaks)
        ck_abort_msg("seed %u: not repaired", seed);
    disk->record = NULL;
    n = cut_everywhere(&cut, &before);
    power_cut_done(&cut);
    mem_record_done(&record);
    return n;
}

START_TEST(interrupted_repair_leaves_the_image_no_worse)
{
    unsigned seed = base_seed + (unsigned)_i * 1000;
    unsigned states = 0;

    for (unsigned round = 0; round < 12; round++, seed++) {
        unsigned at = seed;

        make_image(3, cluster_bits[_i], round % 2, seed);
        spoil(&at);
        states += repair_with_cuts(seed);
        rig_done();
    }
    printf("cluster bits %u, seed %u: %u states\n", cluster_bits[_i], base_seed, states);
}
END_TEST

START_TEST(each_failing_operation_leaves_the_image_no_worse)
{
    struct mem_fault fault = {.result = -EIO, .happened = true};
    struct block_check_result before;
    struct block_check_result now;
    struct block_check_result result;
    struct mem_disk damaged;
    long after = 0;

    make_image(3, 12, true, base_seed);
    memset(rig.disk.data + load_be64(field(HDR_REFTABLE_OFF)), 0, 8);
    mem_disk_init(&damaged, "damaged");
    mem_disk_copy(&damaged, &rig.disk);
    ck_assert_int_eq(check(&damaged, 0, &before), 0);
    for (; fault.happened; after++) {
        mem_disk_copy(&rig.disk, &damaged);
        fault.after = after;
        fault.happened = false;
        rig.disk.fault = &fault;
        (void)check(&rig.disk, FIX_ALL, &result);
        rig.disk.fault = NULL;
        ck_assert_int_eq(check(&rig.disk, 0, &now), 0);
        ck_assert_uint_le(now.corruptions, before.corruptions);
        ck_assert_uint_le(now.leaks, before.leaks);
        assert_reads_as_before(&rig.disk);
    }
    ck_assert_int_gt(after, 15);
    mem_disk_done(&damaged);
    rig_done();
}
END_TEST

/* ---- hostile images -------------------------------------------------------------------------- */

START_TEST(overlapping_tables_end_the_check_soon)
{
    struct block_check_result result;
    uint64_t table = 16u << 20;

    make_image(3, 16, false, base_seed);
    rig.disk.len = 64u << 20;
    store_be32(field(HDR_NB_SNAPSHOTS), 60000);
    store_be64(field(HDR_SNAPSHOTS_OFF), table);
    for (uint64_t i = 0; i < 60000; i++) {
        store_be64(rig.disk.data + table + i * 40, 32u << 20);
        store_be32(rig.disk.data + table + i * 40 + 8, (4u << 20) - (uint32_t)i);
    }
    ck_assert_int_eq(check(&rig.disk, 0, &result), -EFBIG);
    ck_assert_int_eq(check(&rig.disk, FIX_ALL, &result), -EFBIG);
    rig_done();
}
END_TEST

START_TEST(one_table_in_all_entries_is_read_once)
{
    struct block_check_result result;
    struct block *block;
    struct err err;
    uint64_t l1 = 16u << 20;
    uint64_t l2;
    uint32_t n = 4u << 20;
    uint64_t opened;

    make_image(3, 16, false, base_seed);
    l2 = load_be64(rig.disk.data + load_be64(field(HDR_L1_OFF)));
    rig.disk.len = 64u << 20;
    store_be64(field(HDR_L1_OFF), l1);
    store_be32(field(HDR_L1_SIZE), n);
    for (uint64_t i = 0; i < n; i++)
        store_be64(rig.disk.data + l1 + i * 8, l2);
    ck_assert_int_eq(open_disk(&rig.disk, BLOCK_OPEN_CHECK, true, &block), 0);
    opened = block_get_stats(block)->meta_reads; /* the L1 table, by parts */
    ck_assert_int_eq(block_check(block, 0, NULL, &result, &err), 0);
    ck_assert_uint_gt(result.corruptions, n);
    ck_assert_uint_lt(block_get_stats(block)->meta_reads - opened, 40);
    ck_assert_int_eq(block_close(block), 0);
    rig_done();
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("repair");

    base_seed = unit_seed();
    log_set_level(LOG_ERROR);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, lost_refcount_table_is_rebuilt, 0, ARRAY_SIZE(cluster_bits));
    tcase_add_test(tcase, entries_that_point_nowhere_read_as_zero);
    tcase_add_test(tcase, zero_flag_in_version_2_is_an_error);
    tcase_add_test(tcase, snapshot_table_beyond_limits_is_cut);
    tcase_add_test(tcase, marks_go_when_the_image_is_right);
    tcase_add_test(tcase, leaks_alone_are_not_repaired_among_errors);
    tcase_add_test(tcase, dirty_image_gets_its_counts);
    tcase_add_test(tcase, dirty_image_that_cannot_be_repaired_is_not_written);
    tcase_add_loop_test(tcase, interrupted_repair_leaves_the_image_no_worse, 0,
                        ARRAY_SIZE(cluster_bits));
    tcase_add_test(tcase, each_failing_operation_leaves_the_image_no_worse);
    tcase_add_test(tcase, overlapping_tables_end_the_check_soon);
    tcase_add_test(tcase, one_table_in_all_entries_is_read_once);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("qcow2_repair", add_tests)
