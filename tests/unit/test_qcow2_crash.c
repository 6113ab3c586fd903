/*
 * What is left of a qcow2 image when the power fails, or when the host fails an operation.
 *
 * Random operations run on images in memory whose changes are all recorded. After each of the
 * record's operations the power fails: the state of the disks is made in several ways (power_cut.h),
 * and in each the image has at worst leaked clusters, shows everything that was flushed, and can be
 * used further: in some a second life begins, which a power cut ends as well. `qemu-img check` and
 * `compare`, and our own check, look at some of the states.
 *
 * SEED=n repeats a run. SCALE=n makes it n times as long.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/block_ops.h"
#include "block/qcow2.h"
#include "block/qcow2_header.h"
#include "tests/lib/power_cut.h"
#include "tests/lib/qcow2_rig.h"
#include "tests/lib/qemu_oracle.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "vmm/base/bytes.h"

#define SECTOR BLOCK_SECTOR_SIZE

static unsigned base_seed;
static unsigned scale;
static bool have_qemu;
static char running[160]; /* layout and seed */
static char before[64];   /* in a second life: how the first one ended */

/* ---- a state after a power cut --------------------------------------------------------------- */

static void fail_at(size_t at, const char *what)
{
    ck_abort_msg("SEED=%u: %s: %spower cut after %zu operations: %s", base_seed, running, before,
                 at, what);
}

/*
 * The counts of an image that says that they are out of date (lazy refcounts) are made right by
 * whoever opens it for writing.
 */
static bool recover(struct mem_disk *disks)
{
    const uint8_t *hdr = disks[QCOW2_RIG_TOP].data;
    struct mem_env env;

    if (load_be32(hdr + 4) < 3 || !(load_be64(hdr + HDR_INCOMPATIBLE) & QCOW2_INCOMPAT_DIRTY))
        return false;
    ck_assert_int_eq(block_close(qcow2_rig_open(&env, disks, false)), 0);
    return true;
}

static void check_tables(const struct mem_disk *top, size_t at)
{
    struct qcow2_image_check check;

    qcow2_image_check(top, &check);
    if (check.errors > 0)
        fail_at(at, check.first);
}

/* A commit may have been cut off. */
static void check_base(const struct qcow2_rig *rig, const struct mem_disk *disks, size_t at)
{
    if (rig->layout.backing == QCOW2_ON_QCOW2)
        check_tables(&disks[QCOW2_RIG_BASE], at);
}

/* Our own check finds what the tests' checker finds. */
static void check_beside(struct mem_disk *disks, size_t at)
{
    struct block_options options = {.path = disks[QCOW2_RIG_TOP].name,
                                    .format = BLOCK_FORMAT_QCOW2,
                                    .readonly = true,
                                    .flags = BLOCK_OPEN_CHECK};
    struct block_check_result result;
    struct qcow2_image_check check;
    struct mem_env env;
    struct block *block;
    struct err err = {0};

    qcow2_image_check(&disks[QCOW2_RIG_TOP], &check);
    mem_env_init(&env);
    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++)
        mem_env_add(&env, &disks[i]);
    if (block_open_in(&env.env, &options, &block, &err) < 0 ||
        block_check(block, 0, NULL, &result, &err) < 0)
        fail_at(at, err.msg);
    if (result.corruptions > 0 || result.check_errors > 0)
        fail_at(at, "our own check finds errors where there are none");
    if (result.leaks != check.leaks)
        fail_at(at, "our own check finds another number of leaks");
    ck_assert_int_eq(block_close(block), 0);
}

static void verify_contents(struct qcow2_rig *rig, struct mem_disk *disks, size_t at)
{
    struct mem_env env;
    struct block *block = qcow2_rig_open(&env, disks, true);
    const char *wrong = qcow2_rig_verify(rig, block, at, qcow2_rig_settled(rig, at));

    if (wrong)
        fail_at(at, wrong);
    ck_assert_int_eq(block_close(block), 0);
}

static void verify_snapshots(struct qcow2_rig *rig, struct mem_disk *disks, size_t at)
{
    const char *wrong = qcow2_rig_verify_snapshots(rig, disks, at);

    if (wrong)
        fail_at(at, wrong);
}

static uint8_t *read_all(struct mem_disk *disks, uint64_t *ret_len)
{
    struct mem_env env;
    struct block *block = qcow2_rig_open(&env, disks, true);
    uint8_t *data = malloc(block->len);

    ck_assert_ptr_nonnull(data);
    ck_assert_int_eq(mem_block_read(block, 0, data, block->len), 0);
    *ret_len = block->len;
    ck_assert_int_eq(block_close(block), 0);
    return data;
}

/* The disk goes on after the power cut: it takes writes, and nothing else changes. */
static void use_further(struct qcow2_rig *rig, struct mem_disk *disks, size_t at)
{
    uint64_t len;
    uint8_t *expected = read_all(disks, &len);
    struct mem_env env;
    struct block *block = qcow2_rig_open(&env, disks, false);
    uint8_t *data;

    for (int i = 0; i < 12; i++) {
        uint64_t off = (uint64_t)qcow2_rig_random(rig, (unsigned)(len / SECTOR)) * SECTOR;
        uint64_t n = min_u64((1ull + qcow2_rig_random(rig, 40)) * SECTOR, len - off);

        if (i % 4 == 3) {
            memset(expected + off, 0, n);
            ck_assert_int_eq(
                mem_block_op(block, BLOCK_WRITE_ZEROES, i % 8 == 3 ? BLOCK_REQ_UNMAP : 0, off, n),
                0);
        } else {
            memset(expected + off, i + 1, n);
            ck_assert_int_eq(mem_block_write(block, off, expected + off, n), 0);
        }
        if (i == 6)
            ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), 0);
    }
    ck_assert_int_eq(block_close(block), 0);
    check_tables(&disks[QCOW2_RIG_TOP], at);
    verify_snapshots(rig, disks, at);
    data = read_all(disks, &len);
    if (memcmp(data, expected, len) != 0)
        fail_at(at, "what was written afterwards is not there");
    free(data);
    free(expected);
}

static void ask_qemu(struct mem_disk *disks, size_t at)
{
    uint64_t len;
    uint8_t *contents = read_all(disks, &len);
    const char *wrong = qemu_oracle_check(disks, QCOW2_RIG_DISKS, contents, len);

    if (wrong)
        fail_at(at, wrong);
    free(contents);
}

static void verify_state(struct qcow2_rig *rig, struct mem_disk *disks, size_t at)
{
    verify_contents(rig, disks, at);
    if (recover(disks))
        verify_contents(rig, disks, at);
    check_tables(&disks[QCOW2_RIG_TOP], at);
}

/* ---- power cuts ------------------------------------------------------------------------------ */

/* The rig's life, after which the record has all of it. */
static void live(struct qcow2_rig *rig, struct power_cut *cut, unsigned seed, unsigned steps)
{
    struct mem_disk *disks[QCOW2_RIG_DISKS];

    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++)
        disks[i] = &rig->disks[i];
    power_cut_init(cut, &rig->record, disks, QCOW2_RIG_DISKS, seed);
    if (!rig->block)
        qcow2_rig_reopen(rig);
    for (unsigned i = 0; i < steps; i++)
        (void)qcow2_rig_step(rig);
    ck_assert_uint_eq(rig->failures, 0);
    ck_assert_int_eq(qcow2_rig_close(rig), 0);
}

static enum power_cut_fate any_fate(unsigned n)
{
    return (enum power_cut_fate)(1 + n % (POWER_CUT_FATES - 1));
}

/*
 * What the power cut left is used like any image, and the power fails again: while it is opened, where
 * that has something to write, or at some moment later.
 */
static void second_life(const struct qcow2_rig *first, struct mem_disk *disks, size_t at)
{
    struct power_cut cut;
    struct qcow2_rig rig;

    snprintf(before, sizeof(before), "after a power cut at %zu, another ", at);
    qcow2_rig_init_next(&rig, first, disks, base_seed + (unsigned)at);
    live(&rig, &cut, base_seed, 12);
    for (size_t again = 0; again <= rig.record.n;
         again += 1 + qcow2_rig_random(&rig, (unsigned)rig.record.n / 4 + 1)) {
        power_cut_make(&cut, again, any_fate((unsigned)again));
        verify_state(&rig, cut.state, again);
        verify_snapshots(&rig, cut.state, again);
        check_base(&rig, cut.state, again);
    }
    power_cut_done(&cut);
    qcow2_rig_done(&rig);
    before[0] = '\0';
}

static void verify_and_go_on(struct qcow2_rig *rig, struct mem_disk *disks, size_t at, unsigned n)
{
    if (n % 64 == 13)
        second_life(rig, disks, at);
    verify_state(rig, disks, at);
    if (n % 4 == 0)
        check_base(rig, disks, at);
    if (n % 4 == 1)
        verify_snapshots(rig, disks, at);
    if (n % 4 == 2)
        check_beside(disks, at);
    if (have_qemu && n % 128 == 77)
        ask_qemu(disks, at);
    if (n % 16 == 3)
        use_further(rig, disks, at);
}

static void cut_everywhere(const struct qcow2_layout *layout, unsigned seed, unsigned steps)
{
    struct power_cut cut;
    struct qcow2_rig rig;
    unsigned n = 0;

    qcow2_layout_print(layout, running, sizeof(running));
    qcow2_rig_init(&rig, layout, seed);
    live(&rig, &cut, seed, steps);
    for (size_t at = 0; at <= rig.record.n; at++) {
        if (at < rig.record.n && rig.record.ops[at].op == MEM_MARK)
            continue;
        power_cut_make(&cut, at, POWER_CUT_IN_ORDER);
        verify_and_go_on(&rig, cut.state, at, n++);
        power_cut_make(&cut, at, any_fate(n));
        verify_and_go_on(&rig, cut.state, at, n++);
    }
    printf("%s: seed %u: %u states\n", running, seed, n);
    power_cut_done(&cut);
    qcow2_rig_done(&rig);
}

/* ---- the matrix ------------------------------------------------------------------------------ */

/*
 * What a power cut leaves does not depend on the build: with sanitizers, which take ten times as
 * long, it is the code on the way that is looked at.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LAYOUTS 4
#define FAULT_STEP 9
#else
#define LAYOUTS 24
#define FAULT_STEP 1 /* every operation fails once */
#endif

START_TEST(every_cut_leaves_a_consistent_image_with_all_that_was_flushed)
{
    unsigned seed = base_seed + (unsigned)_i;
    struct qcow2_layout layout;

    qcow2_layout_pick(&layout, seed);
    cut_everywhere(&layout, seed, 100 * scale);
}
END_TEST

/* ---- failing operations ---------------------------------------------------------------------- */

/* Once; a disk that is full for a while; part of the operation only. */
static const struct mem_fault faults[] = {{.result = -EIO},
                                          {.result = -ENOSPC, .more = 40},
                                          {.is_short = true},
                                          {.result = -EIO, .more = 3}};

/*
 * Let operation number `after` fail, go on, and see that the image is consistent, shows for each
 * sector what some request put there, and takes requests. Returns whether the fault happened.
 */
static bool run_with_fault(const struct qcow2_layout *layout, const struct mem_fault *fault,
                           long after)
{
    struct qcow2_rig rig;
    bool happened;

    qcow2_rig_init(&rig, layout, base_seed);
    rig.fault = *fault;
    rig.fault.after = after;
    for (unsigned i = 0; i < 50; i++) {
        (void)qcow2_rig_step(&rig);
        if (rig.failures > 0 && !rig.fault.happened)
            ck_abort_msg("SEED=%u: a request failed although no operation did", base_seed);
    }
    (void)qcow2_rig_close(&rig); /* may report the fault */
    happened = rig.fault.happened;
    rig.fault.after = -1;

    /* What failed may be there or not, and so may what no flush confirmed. */
    (void)recover(rig.disks);
    check_tables(&rig.disks[QCOW2_RIG_TOP], rig.record.n);
    verify_contents(&rig, rig.disks, rig.record.n);
    verify_snapshots(&rig, rig.disks, rig.record.n);
    use_further(&rig, rig.disks, rig.record.n);
    qcow2_rig_done(&rig);
    return happened;
}

#define FAULT_LAYOUTS 2

START_TEST(each_failing_operation_leaves_a_consistent_image)
{
    const struct mem_fault *fault = &faults[(unsigned)_i % ARRAY_SIZE(faults)];
    struct qcow2_layout layout;
    long after = 0;

    qcow2_layout_pick(&layout, base_seed + (unsigned)_i / ARRAY_SIZE(faults));
    qcow2_layout_print(&layout, running, sizeof(running));
    while (run_with_fault(&layout, fault, after))
        after += FAULT_STEP;
    printf("%s: SEED=%u: %ld failing operations\n", running, base_seed, after);
    ck_assert_int_gt(after, 30);
}
END_TEST

struct small_rig {
    struct mem_env env;
    struct mem_disk disk;
    struct mem_fault fault;
    struct block *block;
};

static void small_rig_init(struct small_rig *rig)
{
    mem_disk_init(&rig->disk, "top");
    rig->fault = (struct mem_fault){.after = -1};
    rig->disk.fault = &rig->fault;
    qcow2_image_make(&rig->disk,
                     &(struct qcow2_image_options){.refcount_order = 4, .size = 1 << 20});
    mem_env_init(&rig->env);
    mem_env_add(&rig->env, &rig->disk);
    rig->block = mem_env_open(&rig->env, "top", BLOCK_FORMAT_QCOW2, false);
}

START_TEST(failed_barrier_fails_every_later_flush)
{
    struct small_rig rig;
    uint8_t data[SECTOR] = {1};

    small_rig_init(&rig);
    ck_assert_int_eq(mem_block_write(rig.block, 0, data, sizeof(data)), 0);
    rig.fault = (struct mem_fault){.kinds = 1u << FILE_SYNC, .result = -EIO};
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), -EIO);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), -EIO);
    ck_assert_int_eq(mem_block_write(rig.block, 0, data, sizeof(data)), 0);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), -EIO);
    ck_assert_int_eq(block_close(rig.block), -EIO);
    mem_disk_done(&rig.disk);
}
END_TEST

START_TEST(flush_that_ran_out_of_space_succeeds_once_there_is_some)
{
    struct small_rig rig;
    uint8_t data[SECTOR] = {1};
    struct qcow2_image_check check;

    small_rig_init(&rig);
    ck_assert_int_eq(mem_block_write(rig.block, 0, data, sizeof(data)), 0);
    rig.fault = (struct mem_fault){.result = -ENOSPC};
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), -ENOSPC);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), 0);
    ck_assert_int_eq(block_close(rig.block), 0);
    qcow2_image_check(&rig.disk, &check);
    ck_assert_msg(check.errors == 0 && check.leaks == 0, "%s", check.first);
    mem_disk_done(&rig.disk);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *cuts = tcase_create("cuts");
    TCase *failing = tcase_create("faults");

    base_seed = unit_seed();
    scale = unit_number("SCALE", 1);
    have_qemu = scratch_has_qemu();
    tcase_set_timeout(cuts, 120 * scale);
    tcase_add_checked_fixture(cuts, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(cuts, every_cut_leaves_a_consistent_image_with_all_that_was_flushed, 0,
                        LAYOUTS);
    suite_add_tcase(suite, cuts);
    tcase_set_timeout(failing, 120 * scale);
    tcase_add_loop_test(failing, each_failing_operation_leaves_a_consistent_image, 0,
                        (int)((size_t)FAULT_LAYOUTS * scale * ARRAY_SIZE(faults)));
    tcase_add_test(failing, failed_barrier_fails_every_later_flush);
    tcase_add_test(failing, flush_that_ran_out_of_space_succeeds_once_there_is_some);
    suite_add_tcase(suite, failing);
}

UNIT_MAIN("qcow2_crash", add_tests)
