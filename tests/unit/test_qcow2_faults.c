/*
 * What is left of a qcow2 image when the host fails an operation: any one, by itself or with some
 * that follow, as an error or in part only.
 *
 * Random operations run on images in memory, in stages of a few steps. Each stage is lived once
 * undisturbed, and from the same beginning again for each operation of the host, which then fails: so
 * the work grows with the number of operations, and not with its square.
 *
 * SEED=n repeats a run. SCALE=n makes it n times as long.
 */
#include <errno.h>
#include <stdlib.h>

#include "tests/lib/qcow2_state.h"
#include "tests/lib/unit.h"
#include "vmm/base/bytes.h"

#define STAGES 8
#define STEPS 6u /* of a stage */

#define SECTOR BLOCK_SECTOR_SIZE

static unsigned base_seed;
static char running[160]; /* layout and seed */

/* With sanitizers, which take ten times as long, it is the code on the way that is looked at. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAULT_STEP 9
#else
#define FAULT_STEP 1 /* every operation fails once */
#endif

/* ---- random operations ----------------------------------------------------------------------- */

/* Once; a disk that is full for a while; part of the operation only. */
static const struct mem_fault faults[] = {{.result = -EIO},
                                          {.result = -ENOSPC, .more = 40},
                                          {.is_short = true},
                                          {.result = -EIO, .more = 3}};

static void take_steps(struct qcow2_rig *rig)
{
    for (unsigned i = 0; i < STEPS; i++) {
        (void)qcow2_rig_step(rig);
        if (rig->failures > 0 && !rig->fault.happened)
            ck_abort_msg("%s: a request failed although no operation did", running);
    }
}

/*
 * Let operation number `after` of a stage that begins with these disks fail, go on, and see that the
 * image is consistent, shows for each sector what some request put there, and takes requests. Returns
 * whether the fault happened.
 */
static bool live_with_fault(const struct qcow2_rig *first, struct mem_disk *disks,
                            const struct mem_fault *fault, long after, unsigned seed)
{
    struct qcow2_rig rig;
    struct qcow2_state state = {.rig = &rig, .disks = rig.disks, .what = running};
    bool happened;

    qcow2_rig_init_next(&rig, first, disks, seed);
    rig.fault = *fault;
    rig.fault.after = after;
    qcow2_rig_reopen(&rig);
    take_steps(&rig);
    (void)qcow2_rig_close(&rig); /* may report the fault */
    happened = rig.fault.happened;
    rig.fault.after = -1;

    /* What failed may be there or not, and so may what no flush confirmed. */
    state.at = rig.record.n;
    qcow2_state_verify(&state);
    qcow2_state_verify_base(&state);
    qcow2_state_verify_snapshots(&state);
    qcow2_state_use_further(&state);
    qcow2_rig_done(&rig);
    return happened;
}

/* All failures of a stage, and then the stage without. Returns how many. */
static long live_stage(struct qcow2_rig *rig, const struct mem_fault *fault, unsigned seed)
{
    struct mem_disk disks[QCOW2_RIG_DISKS];
    long after = 0;

    ck_assert_int_eq(qcow2_rig_close(rig), 0);
    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++) {
        mem_disk_init(&disks[i], rig->disks[i].name);
        mem_disk_copy(&disks[i], &rig->disks[i]);
    }
    while (live_with_fault(rig, disks, fault, after, seed))
        after += FAULT_STEP;
    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++)
        mem_disk_done(&disks[i]);
    qcow2_rig_reopen(rig);
    take_steps(rig);
    return after;
}

START_TEST(each_failing_operation_leaves_a_consistent_image)
{
    const struct mem_fault *fault = &faults[(unsigned)_i % ARRAY_SIZE(faults)];
    unsigned seed = base_seed + (unsigned)_i / ARRAY_SIZE(faults);
    struct qcow2_layout layout;
    struct qcow2_rig rig;
    char text[120];
    long n = 0;

    qcow2_layout_pick(&layout, seed);
    qcow2_layout_print(&layout, text, sizeof(text));
    snprintf(running, sizeof(running), "SEED=%u: %s", base_seed, text);
    qcow2_rig_init(&rig, &layout, seed);
    for (unsigned stage = 0; stage < STAGES; stage++)
        n += live_stage(&rig, fault, seed + stage);
    printf("%s: %ld failing operations\n", running, n);
    ck_assert_int_gt(n, 30);
    ck_assert_int_eq(qcow2_rig_close(&rig), 0);
    qcow2_rig_done(&rig);
}
END_TEST

/* ---- single properties ----------------------------------------------------------------------- */

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

#define LAYOUTS 3

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("random");
    unsigned scale = unit_number("SCALE", 1);

    base_seed = unit_seed();
    tcase_set_timeout(tcase, 60 * scale);
    tcase_add_loop_test(tcase, each_failing_operation_leaves_a_consistent_image, 0,
                        (int)(LAYOUTS * scale * ARRAY_SIZE(faults)));
    suite_add_tcase(suite, tcase);
    unit_case(suite, "faults", failed_barrier_fails_every_later_flush,
              flush_that_ran_out_of_space_succeeds_once_there_is_some);
}

UNIT_MAIN("qcow2_faults", add_tests)
