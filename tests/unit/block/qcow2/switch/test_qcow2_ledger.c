/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of a whole image: counts in memory, and the switch to new tables, which a power cut at
 * any moment leaves either undone or done, with not even a leak.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/counts.h"
#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/meta/table.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/put.h"
#include "block/qcow2/switch/switch.h"
#include "block/qcow2/switch/tree.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/power_cut.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define DISK_SIZE (1u << 20)
#define SECTOR BLOCK_SECTOR_SIZE

static unsigned base_seed;
static bool have_qemu;

/* ---- counts ---------------------------------------------------------------------------------- */

START_TEST(counts_of_any_size_are_kept)
{
    static const uint64_t values[] = {1, 255, 256, UINT32_MAX, UINT64_MAX, 0, 7};
    struct qcow2_counts counts;

    qcow2_counts_init(&counts);
    ck_assert_uint_eq(qcow2_counts_get(&counts, 5), 0);
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        ck_assert_int_eq(qcow2_counts_set(&counts, 5, values[i]), 0);
        ck_assert_int_eq(qcow2_counts_set(&counts, 6, i), 0);
        ck_assert_uint_eq(qcow2_counts_get(&counts, 5), values[i]);
        ck_assert_uint_eq(qcow2_counts_get(&counts, 6), i);
    }
    ck_assert_uint_eq(qcow2_counts_get(&counts, 7), 0);
    ck_assert_uint_eq(qcow2_counts_get(&counts, UINT64_MAX), 0);
    qcow2_counts_done(&counts);
}
END_TEST

START_TEST(counts_are_found_across_gaps)
{
    struct qcow2_counts a;
    struct qcow2_counts b;
    uint64_t far = QCOW2_COUNTS_CLUSTERS_MAX - 1;

    qcow2_counts_init(&a);
    qcow2_counts_init(&b);
    ck_assert_int_eq(qcow2_counts_set(&a, 100, 1), 0);
    ck_assert_int_eq(qcow2_counts_set(&a, far, 1), 0);
    ck_assert_uint_eq(qcow2_counts_next(&a, 0, UINT64_MAX), 100);
    ck_assert_uint_eq(qcow2_counts_next(&a, 101, UINT64_MAX), far);
    ck_assert_uint_eq(qcow2_counts_next(&a, 101, 5000), 5000);
    ck_assert_int_eq(qcow2_counts_set(&b, 100, 300), 0);
    ck_assert_uint_eq(qcow2_counts_differ(&a, &b, 0, UINT64_MAX), 100);
    ck_assert_int_eq(qcow2_counts_set(&b, 100, 1), 0);
    ck_assert_uint_eq(qcow2_counts_differ(&a, &b, 0, UINT64_MAX), far);
    ck_assert_uint_eq(qcow2_counts_differ(&a, &b, 0, far), far);
    qcow2_counts_done(&a);
    qcow2_counts_done(&b);
}
END_TEST

START_TEST(counts_are_bounded)
{
    struct qcow2_counts counts;
    uint64_t i = 0;
    int r = 0;

    qcow2_counts_init(&counts);
    ck_assert_int_eq(qcow2_counts_set(&counts, QCOW2_COUNTS_CLUSTERS_MAX, 1), -EFBIG);
    ck_assert_int_eq(qcow2_counts_set(&counts, UINT64_MAX, 1), -EFBIG);
    for (; r == 0 && i < QCOW2_COUNTS_CLUSTERS_MAX; i += 1024)
        r = qcow2_counts_set(&counts, i, UINT64_MAX);
    ck_assert_int_eq(r, -EFBIG);
    ck_assert_uint_le(counts.bytes, QCOW2_COUNTS_BYTES_MAX);
    qcow2_counts_done(&counts);
}
END_TEST

/* ---- an image, and what is done to it -------------------------------------------------------- */

struct rig {
    struct mem_env env;
    struct mem_disk disk;
    struct mem_record record;
    struct mem_fault fault;
    struct power_cut cut; /* from where recording began */
    struct block *block;
    struct qcow2 *q;
    unsigned seed;
};

static unsigned rnd(struct rig *rig, unsigned below)
{
    return (unsigned)rand_r(&rig->seed) % below;
}

static void write_some(struct rig *rig, unsigned n)
{
    static uint8_t data[64 * SECTOR];

    for (unsigned i = 0; i < n; i++) {
        uint64_t off = rnd(rig, DISK_SIZE / SECTOR) * (uint64_t)SECTOR;
        uint64_t len = min_u64((1 + rnd(rig, 64)) * (uint64_t)SECTOR, DISK_SIZE - off);

        memset(data, 1 + (int)rnd(rig, 255), sizeof(data));
        ck_assert_int_eq(mem_block_write(rig->block, off, data, len), 0);
    }
    /* The first releases clusters, the second writes their counts. */
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(mem_block_op(rig->block, BLOCK_FLUSH, 0, 0, 0), 0);
}

static void rig_init(struct rig *rig, unsigned cluster_bits, unsigned refcount_order, unsigned seed)
{
    memset(rig, 0, sizeof(*rig));
    rig->seed = seed;
    mem_disk_init(&rig->disk, "top");
    rig->fault.after = -1;
    qcow2_image_make(&rig->disk, &(struct qcow2_image_options){.cluster_bits = cluster_bits,
                                                               .refcount_order = refcount_order,
                                                               .size = DISK_SIZE});
    mem_env_init(&rig->env);
    mem_env_add(&rig->env, &rig->disk);
    rig->block = mem_env_open(&rig->env, "top", BLOCK_FORMAT_QCOW2, false);
    rig->q = qcow2_of(rig->block);
    write_some(rig, 30);
}

static void rig_record(struct rig *rig)
{
    struct mem_disk *disk = &rig->disk;

    mem_record_done(&rig->record);
    power_cut_done(&rig->cut);
    power_cut_init(&rig->cut, &rig->record, &disk, 1, rig->seed);
    rig->disk.record = &rig->record;
    rig->disk.fault = &rig->fault;
}

static void rig_done(struct rig *rig)
{
    ck_assert_int_eq(block_close(rig->block), 0);
    mem_disk_done(&rig->disk);
    power_cut_done(&rig->cut);
    mem_record_done(&rig->record);
}

static int begin(struct rig *rig, struct qcow2_ledger **ret_refs, struct qcow2_switch *ret_next,
                 uint64_t **ret_l1)
{
    int r = qcow2_ledger_new(rig->q, ret_refs);

    if (r == 0)
        r = qcow2_ledger_load(*ret_refs);
    if (r == 0)
        r = qcow2_switch_init(rig->q, ret_next);
    return r < 0 ? r : qcow2_l1_read(rig->q, rig->q->l1.host, rig->q->l1.n, ret_l1);
}

/* The active tree becomes a snapshot's, and the disk gets a copy. */
static int take_snapshot(struct rig *rig)
{
    struct qcow2_ledger *refs = NULL;
    struct qcow2_switch next;
    char id[] = "1";
    struct qcow2_snapshot snapshot = {.id = id, .name = id, .disk_len = DISK_SIZE};
    struct qcow2_snaptable table = {.n = 1, .snapshots = &snapshot};
    uint8_t *data = NULL;
    uint64_t *l1 = NULL;
    size_t len = 0;
    int r = begin(rig, &refs, &next, &l1);

    snapshot.l1_host = rig->q->l1.host;
    snapshot.l1_n = rig->q->l1.n;
    if (r == 0)
        r = qcow2_tree_add(refs, l1, rig->q->l1.n, QCOW2_TREE_DATA, 1);
    if (r == 0)
        r = qcow2_tree_copy_tables(refs, l1, rig->q->l1.n, QCOW2_COPY_ALL);
    if (r == 0)
        r = qcow2_put_l1(refs, l1, rig->q->l1.n, &next.l1_host);
    if (r == 0)
        r = qcow2_snaptable_encode(&table, &data, &len);
    if (r == 0)
        r = qcow2_put(refs, data, len, &next.snapshots_host);
    next.nsnapshots = 1;
    if (r == 0)
        r = qcow2_switch_over(refs, &next);
    free(data);
    free(l1);
    qcow2_ledger_free(refs);
    return r;
}

static int drop_tree(struct qcow2_ledger *refs, const struct qcow2_snaptable *table)
{
    const struct qcow2_snapshot *snapshot = &table->snapshots[0];
    uint64_t *l1;
    int r = qcow2_l1_read(refs->q, snapshot->l1_host, snapshot->l1_n, &l1);

    if (r < 0)
        return r;
    r = qcow2_tree_add(refs, l1, snapshot->l1_n, QCOW2_TREE_TABLES | QCOW2_TREE_DATA, -1);
    if (r == 0)
        r = qcow2_ledger_add(refs, snapshot->l1_host, snapshot->l1_n * 8ull, -1);
    free(l1);
    return r < 0 ? r : qcow2_ledger_add(refs, table->host, table->len, -1);
}

static int delete_snapshot(struct rig *rig)
{
    struct qcow2_snaptable table = {0};
    struct qcow2_ledger *refs = NULL;
    struct qcow2_switch next;
    uint64_t *l1 = NULL;
    uint32_t n = rig->q->l1.n;
    int r = begin(rig, &refs, &next, &l1);

    if (r == 0)
        r = qcow2_snaptable_read(rig->q, &table, NULL);
    if (r == 0)
        r = drop_tree(refs, &table);
    if (r == 0)
        r = qcow2_tree_copy_tables(refs, l1, n, QCOW2_COPY_CHANGED);
    if (r == 0)
        r = qcow2_ledger_add(refs, rig->q->l1.host, n * 8ull, -1);
    if (r == 0)
        r = qcow2_put_l1(refs, l1, n, &next.l1_host);
    next.nsnapshots = 0;
    next.snapshots_host = 0;
    if (r == 0)
        r = qcow2_switch_over(refs, &next);
    qcow2_snaptable_done(&table);
    free(l1);
    qcow2_ledger_free(refs);
    return r;
}

/* ---- states ---------------------------------------------------------------------------------- */

static void read_disk(struct mem_disk *disk, uint8_t *data)
{
    struct mem_env env;
    struct block *block;

    mem_env_init(&env);
    mem_env_add(&env, disk);
    block = mem_env_open(&env, disk->name, BLOCK_FORMAT_QCOW2, true);
    ck_assert_int_eq(mem_block_read(block, 0, data, DISK_SIZE), 0);
    ck_assert_int_eq(block_close(block), 0);
}

/* By the tests' own checker; and by QEMU's, if it is asked and there. */
static void assert_clean(const struct mem_disk *disk, bool ask_qemu, const char *when)
{
    struct qcow2_image_check check;

    qcow2_image_check(disk, &check);
    if (check.errors > 0 || check.leaks > 0)
        ck_abort_msg("%s: %u errors, %u leaks %s", when, check.errors, check.leaks, check.first);
    if (!ask_qemu || !have_qemu)
        return;
    mem_disk_save(disk, scratch_path("image"));
    if (scratch_shell("qemu-img check -f qcow2 image >log 2>&1") != 0) {
        (void)scratch_shell("head -5 log");
        ck_abort_msg("%s: qemu-img check finds faults", when);
    }
}

static void assert_every_cut_is_clean(struct rig *rig)
{
    static uint8_t before[DISK_SIZE];
    static uint8_t data[DISK_SIZE];
    struct power_cut *cut = &rig->cut;
    unsigned nstates = 0;
    char when[64];

    power_cut_make(cut, 0, POWER_CUT_IN_ORDER);
    read_disk(&cut->state[0], before);
    for (size_t at = 0; at <= rig->record.n; at++) {
        for (int i = 0; i < POWER_CUT_FATES; i++) {
            enum power_cut_fate fate = (enum power_cut_fate)i;

            if (!power_cut_differs(cut, at, fate))
                continue;
            power_cut_make(cut, at, fate);
            snprintf(when, sizeof(when), "%zu of %zu operations, fate %d", at, rig->record.n, i);
            assert_clean(&cut->state[0], nstates++ % 16 == 0, when);
            read_disk(&cut->state[0], data);
            ck_assert_msg(memcmp(before, data, DISK_SIZE) == 0, "%s: other data", when);
        }
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

static const struct layout {
    unsigned cluster_bits;
    unsigned refcount_order;
} layouts[] = {{9, 4}, {9, 6}, {10, 1}, {12, 3}, {16, 4}, {16, 5}};

START_TEST(every_cut_of_a_switch_leaves_a_clean_image)
{
    const struct layout *layout = &layouts[_i];
    unsigned seed = base_seed + (unsigned)_i;
    struct rig rig;
    size_t nops;

    printf("cluster bits %u, refcount order %u: seed %u\n", layout->cluster_bits,
           layout->refcount_order, seed);
    rig_init(&rig, layout->cluster_bits, layout->refcount_order, seed);
    rig_record(&rig);
    ck_assert_int_eq(take_snapshot(&rig), 0);
    nops = rig.record.n;
    assert_every_cut_is_clean(&rig);

    write_some(&rig, 5);
    rig_record(&rig);
    ck_assert_int_eq(delete_snapshot(&rig), 0);
    assert_every_cut_is_clean(&rig);

    write_some(&rig, 20);
    assert_clean(&rig.disk, true, "written after the switch");
    ck_assert_uint_gt(nops, 4);
    rig_done(&rig);
}
END_TEST

/* Let the operation after `after` others fail. Did that happen? */
static bool switch_with_fault(long after, bool *ret_at_last_step)
{
    struct rig rig;
    bool failed;

    rig_init(&rig, 12, 4, base_seed);
    rig.disk.fault = &rig.fault;
    rig.fault = (struct mem_fault){.after = after, .result = -ENOSPC};
    rig.fault.kinds = (1u << MEM_TRUNCATE) - 1; /* making the file longer ahead is only a hint */
    failed = take_snapshot(&rig) < 0;
    rig.fault.after = -1;
    ck_assert(failed == rig.fault.happened);
    assert_clean(&rig.disk, true, "after a failure");
    *ret_at_last_step = rig.q->corrupt;
    if (rig.q->corrupt)
        ck_assert_int_ne(mem_block_write(rig.block, 0, &rig, SECTOR), 0);
    else if (rig.block->file->sync_error == 0)
        write_some(&rig, 10);
    (void)block_close(rig.block); /* a failed barrier stays failed */
    assert_clean(&rig.disk, true, "closed after a failure");
    mem_disk_done(&rig.disk);
    return failed;
}

START_TEST(each_failing_operation_leaves_a_clean_image)
{
    unsigned last_steps = 0;
    bool last_step;
    long after = 0;

    while (switch_with_fault(after, &last_step)) {
        last_steps += last_step;
        after++;
    }
    ck_assert_int_gt(after, 8);
    ck_assert_uint_ge(last_steps, 3); /* the header, its barrier, loading the tables again */
}
END_TEST

START_TEST(clusters_written_without_a_commit_are_not_taken_for_zeroes)
{
    static uint8_t data[1 << 16];
    struct qcow2_ledger *refs;
    struct qcow2_switch next;
    struct rig rig;
    uint64_t *l1;
    uint64_t host;

    rig_init(&rig, 16, 4, base_seed);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_WRITE_ZEROES, BLOCK_REQ_UNMAP, 0, DISK_SIZE), 0);
    ck_assert_int_eq(begin(&rig, &refs, &next, &l1), 0);
    memset(data, 0xaa, sizeof(data));
    for (int i = 0; i < 64; i++)
        ck_assert_int_eq(qcow2_put(refs, data, sizeof(data), &host), 0);
    qcow2_ledger_free(refs);
    free(l1);

    for (uint64_t off = 0; off < DISK_SIZE; off += sizeof(data)) {
        ck_assert_int_eq(mem_block_write(rig.block, off, file_zeroes, SECTOR), 0);
        ck_assert_int_eq(mem_block_read(rig.block, off, data, sizeof(data)), 0);
        ck_assert_int_eq(memcmp(data, file_zeroes, sizeof(data)), 0);
    }
    rig_done(&rig);
}
END_TEST

START_TEST(blocks_whose_counts_stay_are_not_written)
{
    struct rig rig;
    struct qcow2_ledger *refs;
    struct qcow2_switch next;
    uint64_t *l1;

    /* 64 counts to a block: several hundred blocks, of which an L1 table touches few. */
    rig_init(&rig, 9, 6, base_seed);
    rig_record(&rig);
    ck_assert_int_eq(begin(&rig, &refs, &next, &l1), 0);
    ck_assert_int_eq(qcow2_ledger_add(refs, rig.q->l1.host, rig.q->l1.n * 8ull, -1), 0);
    ck_assert_int_eq(qcow2_put_l1(refs, l1, rig.q->l1.n, &next.l1_host), 0);
    ck_assert_int_eq(qcow2_switch_over(refs, &next), 0);
    ck_assert_uint_lt(rig.disk.counts[FILE_WRITE], 2000);
    ck_assert_uint_lt(rig.record.n, 12);
    assert_clean(&rig.disk, true, "after the switch");
    qcow2_ledger_free(refs);
    free(l1);
    rig_done(&rig);
}
END_TEST

START_TEST(counts_that_do_not_fit_are_refused)
{
    struct rig rig;

    rig_init(&rig, 12, 0, base_seed);
    ck_assert_int_eq(take_snapshot(&rig), -ERANGE);
    assert_clean(&rig.disk, true, "after the refusal");
    write_some(&rig, 3);
    assert_clean(&rig.disk, true, "written after the refusal");
    rig_done(&rig);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *switches = tcase_create("switch");

    base_seed = unit_seed();
    have_qemu = scratch_has_qemu();
    unit_case(suite, "counts", counts_of_any_size_are_kept, counts_are_found_across_gaps,
              counts_are_bounded);
    tcase_add_checked_fixture(switches, scratch_set_up, scratch_tear_down);
    tcase_set_timeout(switches, 120);
    tcase_add_loop_test(switches, every_cut_of_a_switch_leaves_a_clean_image, 0,
                        ARRAY_SIZE(layouts));
    tcase_add_test(switches, each_failing_operation_leaves_a_clean_image);
    tcase_add_test(switches, clusters_written_without_a_commit_are_not_taken_for_zeroes);
    tcase_add_test(switches, blocks_whose_counts_stay_are_not_written);
    tcase_add_test(switches, counts_that_do_not_fit_are_refused);
    suite_add_tcase(suite, switches);
}

UNIT_MAIN("qcow2_ledger", add_tests)
