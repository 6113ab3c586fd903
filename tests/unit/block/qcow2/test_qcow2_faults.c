/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left of a qcow2 image when the host fails an operation: any one, by itself or with some
 * that follow, as an error or in part only.
 *
 * Random operations run on images in memory, in stages of a few steps. Each stage is lived once
 * undisturbed, and from the same beginning again for each operation of the host, which then fails:
 * so the work grows with the number of operations, and not with its square.
 *
 * SEED=n repeats a run. SCALE=n makes it n times as long.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/block/qcow2/qcow2_state.h"
#include "tests/lib/unit.h"

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
 * Let operation number `after` of a stage that begins with these disks fail, go on, and see that
 * the image is consistent, shows for each sector what some request put there, and takes requests.
 * Returns whether the fault happened.
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

/* ---- single requests ------------------------------------------------------------------------- */

struct small_rig {
    struct mem_env env;
    struct mem_disk disk;
    struct mem_disk base;
    struct mem_fault fault;
    struct block *block;
};

#define CLUSTER 65536ull
#define SMALL_DISK (16 * CLUSTER)

/* The first half over data of a raw file; cluster 1 and the last one were written before. */
static void small_rig_init(struct small_rig *rig)
{
    static uint8_t data[CLUSTER];

    mem_disk_init(&rig->disk, "top");
    mem_disk_init(&rig->base, "base");
    rig->fault = (struct mem_fault){.after = -1};
    rig->disk.fault = &rig->fault;
    rig->base.fault = &rig->fault;
    rig->base.len = SMALL_DISK / 2;
    memset(rig->base.data, 7, rig->base.len);
    qcow2_image_make(&rig->disk, &(struct qcow2_image_options){.refcount_order = 4,
                                                               .size = SMALL_DISK,
                                                               .backing = "base",
                                                               .backing_format = "raw"});
    mem_env_init(&rig->env);
    mem_env_add(&rig->env, &rig->disk);
    mem_env_add(&rig->env, &rig->base);
    rig->block = mem_env_open(&rig->env, "top", BLOCK_FORMAT_QCOW2, false);
    memset(data, 9, sizeof(data));
    ck_assert_int_eq(mem_block_write(rig->block, CLUSTER, data, sizeof(data)), 0);
    ck_assert_int_eq(mem_block_write(rig->block, SMALL_DISK - CLUSTER, data, sizeof(data)), 0);
    ck_assert_int_eq(block_close(rig->block), 0);
    rig->block = mem_env_open(&rig->env, "top", BLOCK_FORMAT_QCOW2, false);
    /* The first write looks for the end of what is used, which is a hint. */
    ck_assert_int_eq(mem_block_write(rig->block, SMALL_DISK - CLUSTER, data, SECTOR), 0);
    rig->block->driver->trim(rig->block);
}

/*
 * Close and look at what is left. Where that works, what failed has given back what it had taken.
 */
static void small_rig_done(struct small_rig *rig)
{
    struct qcow2_image_check check;
    int r = block_close(rig->block);

    qcow2_image_check(&rig->disk, &check);
    ck_assert_msg(check.errors == 0 && (r < 0 || check.leaks == 0), "%u leaks %s", check.leaks,
                  check.first);
    mem_disk_done(&rig->disk);
    mem_disk_done(&rig->base);
}

static const struct small_request {
    const char *name;
    enum block_op op;
    unsigned flags;
    uint64_t off;
    uint64_t len;
    long least; /* operations of the host that can fail */
} small_requests[] = {
    {"read", BLOCK_READ, 0, 0, 3ull * CLUSTER, 3},
    {"write in place", BLOCK_WRITE, 0, CLUSTER, SECTOR, 1},
    {"copying write", BLOCK_WRITE, 0, 3ull * CLUSTER + SECTOR, SECTOR, 3},
    {"write of many clusters", BLOCK_WRITE, 0, SECTOR, 6ull * CLUSTER, 5},
    {"durable write", BLOCK_WRITE, BLOCK_REQ_FUA, 9ull * CLUSTER, SECTOR, 6},
    {"compressed write", BLOCK_WRITE, BLOCK_REQ_COMPRESSED, 4ull * CLUSTER, CLUSTER, 2},
    {"zeroes", BLOCK_WRITE_ZEROES, 0, SECTOR, 3ull * CLUSTER, 4},
};

/*
 * What can go wrong with a request is told: it fails with what the host said if, and only if, one
 * of its reads, writes and syncs failed. What is only a hint to the host (holes, length) may fail.
 */
START_TEST(each_failing_operation_fails_its_request)
{
    static uint8_t data[6 * CLUSTER];
    const struct small_request *request = &small_requests[_i];
    struct iovec iov = {data, request->len};
    long after = 0;
    bool happened;

    memset(data, 5, sizeof(data));
    do {
        struct block_req req = {.op = request->op,
                                .flags = request->flags,
                                .off = request->off,
                                .len = request->len,
                                .iov = &iov,
                                .niov = 1};
        int result = after % 2 ? -EIO : -ENOSPC;
        struct small_rig rig;
        int r;

        small_rig_init(&rig);
        rig.fault =
            (struct mem_fault){.after = after++,
                               .kinds = 1u << FILE_READ | 1u << FILE_WRITE | 1u << FILE_SYNC,
                               .result = result};
        r = block_execute(rig.block, &req);
        happened = rig.fault.happened;
        rig.fault.after = -1;
        ck_assert_msg(r == (happened ? result : 0), "%s: operation %ld: %d", request->name, after,
                      r);
        small_rig_done(&rig);
    } while (happened);
    ck_assert_msg(after > request->least, "%s: %ld operations", request->name, after);
}
END_TEST

/* Whichever of them it is: those between the steps count as well as the last one. */
START_TEST(each_failed_barrier_fails_every_later_flush)
{
    uint8_t data[SECTOR] = {1};
    long after = 0;
    bool happened;

    do {
        struct small_rig rig;

        small_rig_init(&rig);
        ck_assert_int_eq(mem_block_write(rig.block, 0, data, sizeof(data)), 0);
        rig.fault = (struct mem_fault){.after = after++, .kinds = 1u << FILE_SYNC, .result = -EIO};
        for (int i = 0; i < 3; i++) {
            int r = mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0);

            ck_assert_int_eq(r, rig.fault.happened ? -EIO : 0);
            ck_assert_int_eq(mem_block_write(rig.block, 0, data, sizeof(data)), 0);
        }
        happened = rig.fault.happened;
        rig.fault.after = -1;
        if (happened)
            ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), -EIO);
        small_rig_done(&rig);
    } while (happened);
    ck_assert_int_gt(after, 2);
}
END_TEST

START_TEST(flush_that_ran_out_of_space_succeeds_once_there_is_some)
{
    struct small_rig rig;
    uint8_t data[SECTOR] = {1};

    small_rig_init(&rig);
    ck_assert_int_eq(mem_block_write(rig.block, 0, data, sizeof(data)), 0);
    rig.fault = (struct mem_fault){.kinds = 1u << FILE_WRITE, .result = -ENOSPC};
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), -ENOSPC);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), 0);
    ck_assert(rig.fault.happened);
    small_rig_done(&rig);
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
                        (int)((size_t)LAYOUTS * scale * ARRAY_SIZE(faults)));
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("requests");
    tcase_add_loop_test(tcase, each_failing_operation_fails_its_request, 0,
                        ARRAY_SIZE(small_requests));
    tcase_add_test(tcase, each_failed_barrier_fails_every_later_flush);
    tcase_add_test(tcase, flush_that_ran_out_of_space_succeeds_once_there_is_some);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("qcow2_faults", add_tests)
