/*
 * What is left of a qcow2 image when the power fails, or when the host fails an operation.
 *
 * A random workload runs on an image in memory that records each operation. Crash states are made
 * of that record: all operations up to a barrier, and of those after it any that might have
 * reached the disk, whole or in part. In each state the image must have at worst leaked clusters,
 * and show everything that had been flushed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/lib/mem_file.h"
#include "tests/lib/qcow2_image.h"
#include "tests/lib/unit.h"
#include "vmm/base/bytes.h"

#define SECTOR BLOCK_SECTOR_SIZE
#define DISK_SIZE (768u << 10)
#define NSECTORS (DISK_SIZE / SECTOR)
#define EVENTS_MAX 400u

static unsigned base_seed;

/* A request as the guest saw it, and where in the record of operations it began and ended. */
struct event {
    enum block_op op;
    uint64_t first; /* sector */
    uint64_t n;
    uint64_t stamp; /* of its first sector; 0: zeroes */
    size_t begin;
    size_t end;
};

struct rig {
    struct mem_env env;
    struct mem_disk disk;
    struct mem_disk base;
    struct mem_disk start; /* the image before the first operation */
    struct block *block;
    unsigned seed;
    uint64_t stamp;
    struct event events[EVENTS_MAX];
    unsigned nevents;
};

static unsigned rnd(struct rig *rig, unsigned below)
{
    return (unsigned)rand_r(&rig->seed) % below;
}

static void fill(uint8_t *sector, uint64_t stamp)
{
    memset(sector, (int)(stamp % 251), SECTOR);
    store_le64(sector, stamp);
}

/* ---- workload -------------------------------------------------------------------------------------- */

static void rig_init(struct rig *rig, unsigned cluster_bits, bool backing, unsigned seed)
{
    memset(rig, 0, sizeof(*rig));
    rig->seed = seed;
    mem_disk_init(&rig->disk, "top");
    mem_disk_init(&rig->base, "base");
    mem_disk_init(&rig->start, "start");
    if (backing) {
        rig->base.len = DISK_SIZE / 2;
        for (uint64_t i = 0; i < NSECTORS / 2; i++)
            fill(rig->base.data + i * SECTOR, ++rig->stamp);
    }
    qcow2_image_make(&rig->disk, &(struct qcow2_image_options){
                                     .cluster_bits = cluster_bits,
                                     .refcount_order = 4,
                                     .size = DISK_SIZE,
                                     .backing = backing ? "base" : NULL,
                                     .backing_format = "raw",
                                 });
    memcpy(rig->start.data, rig->disk.data, rig->disk.len);
    rig->start.len = rig->disk.len;
    mem_env_init(&rig->env);
    mem_env_add(&rig->env, &rig->disk);
    mem_env_add(&rig->env, &rig->base);
    rig->block = mem_env_open(&rig->env, "top", BLOCK_FORMAT_QCOW2, false);
}

static void rig_done(struct rig *rig)
{
    mem_disk_done(&rig->disk);
    mem_disk_done(&rig->base);
    mem_disk_done(&rig->start);
}

static void pick_event(struct rig *rig, struct event *event)
{
    static const enum block_op ops[] = {BLOCK_WRITE, BLOCK_WRITE,        BLOCK_WRITE,
                                        BLOCK_WRITE, BLOCK_WRITE_ZEROES, BLOCK_WRITE_ZEROES,
                                        BLOCK_FLUSH};

    *event = (struct event){.op = ops[rnd(rig, ARRAY_SIZE(ops))]};
    if (event->op == BLOCK_FLUSH)
        return;
    event->first = rnd(rig, NSECTORS);
    event->n = 1 + rnd(rig, rnd(rig, 4) ? 16 : 200);
    event->n = min_u64(event->n, NSECTORS - event->first);
    if (event->op == BLOCK_WRITE) {
        event->stamp = rig->stamp + 1;
        rig->stamp += event->n;
    }
}

static int run_event(struct rig *rig, struct event *event)
{
    uint64_t len = event->n * SECTOR;
    uint8_t *buf;
    int r;

    if (event->op != BLOCK_WRITE)
        return mem_block_op(rig->block, event->op, rnd(rig, 2) ? BLOCK_REQ_UNMAP : 0,
                            event->first * SECTOR, len);
    buf = malloc(len);
    ck_assert_ptr_nonnull(buf);
    for (uint64_t i = 0; i < event->n; i++)
        fill(buf + i * SECTOR, event->stamp + i);
    r = mem_block_write(rig->block, event->first * SECTOR, buf, len);
    free(buf);
    return r;
}

static void run_workload(struct rig *rig, unsigned n)
{
    rig->disk.record = true;
    while (rig->nevents < n) {
        struct event *event = &rig->events[rig->nevents++];

        pick_event(rig, event);
        event->begin = rig->disk.nops;
        ck_assert_int_eq(run_event(rig, event), 0);
        event->end = rig->disk.nops;
    }
    rig->disk.record = false;
}

/* ---- crash states ----------------------------------------------------------------------------------- */

/* Some sectors of an operation. */
static void apply_torn(struct rig *rig, struct mem_disk *disk, const struct mem_op *op)
{
    for (uint64_t at = 0; at < op->len; at += SECTOR) {
        struct mem_op part = {.op = op->op,
                              .off = op->off + at,
                              .len = min_u64(SECTOR, op->len - at),
                              .data = op->data ? op->data + at : NULL};

        if (rnd(rig, 2))
            mem_disk_apply(disk, &part);
    }
}

/* The disk after a power cut when `cut` operations had been handed to the host. */
static void make_crash_state(struct rig *rig, struct mem_disk *disk, size_t cut, bool in_order)
{
    const struct mem_op *ops = rig->disk.ops;
    size_t synced = 0;

    memset(disk->data, 0, disk->len);
    memcpy(disk->data, rig->start.data, rig->start.len);
    disk->len = rig->start.len;
    for (size_t i = 0; i < cut; i++)
        if (ops[i].op == FILE_SYNC)
            synced = i + 1;
    for (size_t i = 0; i < cut; i++) {
        unsigned fate = in_order || i < synced ? 0 : rnd(rig, 3);

        if (fate == 0)
            mem_disk_apply(disk, &ops[i]);
        else if (fate == 1 && ops[i].op != FILE_SYNC)
            apply_torn(rig, disk, &ops[i]);
    }
}

static uint64_t initial_stamp(const struct rig *rig, uint64_t sector)
{
    return sector * SECTOR < rig->base.len ? load_le64(rig->base.data + sector * SECTOR) : 0;
}

/* May a sector show `stamp` after a cut? */
static bool is_allowed(const struct rig *rig, uint64_t sector, uint64_t stamp, size_t cut)
{
    size_t flushed_from = 0; /* events before this one are durable */
    bool allowed = stamp == initial_stamp(rig, sector);

    for (unsigned i = 0; i < rig->nevents; i++)
        if (rig->events[i].op == BLOCK_FLUSH && rig->events[i].end <= cut)
            flushed_from = i;
    for (unsigned i = 0; i < rig->nevents && rig->events[i].begin < cut; i++) {
        const struct event *event = &rig->events[i];
        bool match;

        if (event->op == BLOCK_FLUSH || sector - event->first >= event->n)
            continue;
        match = stamp == (event->stamp ? event->stamp + (sector - event->first) : 0);
        allowed = match || (allowed && i >= flushed_from);
    }
    return allowed;
}

static void verify_crash_state(struct rig *rig, struct mem_disk *disk, size_t cut)
{
    static uint8_t data[DISK_SIZE];
    struct qcow2_image_check check;
    struct mem_env env;
    struct block *block;

    qcow2_image_check(disk, &check);
    if (check.errors > 0)
        ck_abort_msg("cut after %zu operations: %s", cut, check.first);

    mem_env_init(&env);
    mem_env_add(&env, disk);
    mem_env_add(&env, &rig->base);
    block = mem_env_open(&env, disk->name, BLOCK_FORMAT_QCOW2, true);
    ck_assert_int_eq(mem_block_read(block, 0, data, DISK_SIZE), 0);
    for (uint64_t i = 0; i < NSECTORS; i++) {
        uint64_t stamp = load_le64(data + i * SECTOR);
        uint8_t expected[SECTOR] = {0};

        /* Data is torn by sectors only: within one it is one version or another. */
        if (stamp)
            fill(expected, stamp);
        if (!is_allowed(rig, i, stamp, cut) || memcmp(data + i * SECTOR, expected, SECTOR) != 0)
            ck_abort_msg("cut after %zu operations: sector %llu shows version %llu", cut,
                         (unsigned long long)i, (unsigned long long)stamp);
    }
    ck_assert_int_eq(block_close(block), 0);
}

static const struct crash_variant {
    unsigned cluster_bits;
    bool backing;
} crash_variants[] = {{9, false}, {9, true}, {12, false}, {12, true}, {16, false}, {16, true}};

START_TEST(every_cut_leaves_a_consistent_image_with_all_that_was_flushed)
{
    const struct crash_variant *variant = &crash_variants[_i];
    unsigned seed = base_seed + (unsigned)_i;
    struct mem_disk crashed;
    struct rig rig;
    unsigned states = 0;

    rig_init(&rig, variant->cluster_bits, variant->backing, seed);
    run_workload(&rig, 120);
    ck_assert_int_eq(block_close(rig.block), 0);
    mem_disk_init(&crashed, "crashed");
    for (size_t cut = 0; cut <= rig.disk.nops; cut++) {
        make_crash_state(&rig, &crashed, cut, true);
        verify_crash_state(&rig, &crashed, cut);
        make_crash_state(&rig, &crashed, cut, false);
        verify_crash_state(&rig, &crashed, cut);
        states += 2;
    }
    printf("cluster bits %u, %s: seed %u: %u crash states\n", variant->cluster_bits,
           variant->backing ? "overlay" : "alone", seed, states);
    mem_disk_done(&crashed);
    rig_done(&rig);
}
END_TEST

/* ---- failing operations ------------------------------------------------------------------------------ */

static const struct fault {
    int result;
    bool is_short;
} faults[] = {{-EIO, false}, {-ENOSPC, false}, {0, true}};

/*
 * Let operation number `after` fail, go on, and see that the image is consistent and shows for each
 * sector what some request put there. Returns whether the fault happened.
 */
static bool run_with_fault(unsigned cluster_bits, const struct fault *fault, long after)
{
    struct mem_disk crashed;
    struct rig rig;
    bool failed;

    rig_init(&rig, cluster_bits, true, base_seed);
    rig.disk.fail_after = after;
    rig.disk.fail_with = fault->result;
    rig.disk.fail_short = fault->is_short;
    rig.disk.record = true;
    while (rig.nevents < 60) {
        struct event *event = &rig.events[rig.nevents];

        pick_event(&rig, event);
        event->begin = rig.disk.nops;
        if (run_event(&rig, event) < 0) {
            ck_assert(rig.disk.failed);
            /* Neither done nor undone for certain: any later state may show it or not. */
            if (event->op == BLOCK_FLUSH)
                continue;
        }
        event->end = rig.disk.nops;
        rig.nevents++;
    }
    (void)block_close(rig.block); /* may report the fault */
    failed = rig.disk.failed;

    /* As after a crash: what failed may be there or not, and so may what no flush confirmed. */
    mem_disk_init(&crashed, "crashed");
    make_crash_state(&rig, &crashed, rig.disk.nops, true);
    for (unsigned i = 0; i < rig.nevents && failed; i++)
        if (rig.events[i].op == BLOCK_FLUSH)
            rig.events[i].end = SIZE_MAX;
    verify_crash_state(&rig, &crashed, rig.disk.nops);
    mem_disk_done(&crashed);
    rig_done(&rig);
    return failed;
}

START_TEST(each_failing_operation_leaves_a_consistent_image)
{
    const struct fault *fault = &faults[_i];
    long after = 0;

    while (run_with_fault(after % 2 ? 9 : 16, fault, after))
        after++;
    printf("seed %u: %ld failing operations\n", base_seed, after);
    ck_assert_int_gt(after, 60);
}
END_TEST

START_TEST(failed_barrier_fails_every_later_flush)
{
    struct rig rig;
    uint8_t data[SECTOR] = {1};

    rig_init(&rig, 16, false, base_seed);
    ck_assert_int_eq(mem_block_write(rig.block, 0, data, sizeof(data)), 0);
    rig.disk.fail_after = 1; /* the refcount block is written, the barrier behind it fails */
    rig.disk.fail_with = -EIO;
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), -EIO);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), -EIO);
    ck_assert_int_eq(mem_block_write(rig.block, 0, data, sizeof(data)), 0);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), -EIO);
    ck_assert_int_eq(block_close(rig.block), -EIO);
    rig_done(&rig);
}
END_TEST

START_TEST(flush_that_ran_out_of_space_succeeds_once_there_is_some)
{
    struct rig rig;
    uint8_t data[SECTOR] = {1};
    struct qcow2_image_check check;

    rig_init(&rig, 16, false, base_seed);
    ck_assert_int_eq(mem_block_write(rig.block, 0, data, sizeof(data)), 0);
    rig.disk.fail_after = 0;
    rig.disk.fail_with = -ENOSPC;
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), -ENOSPC);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), 0);
    ck_assert_int_eq(block_close(rig.block), 0);
    qcow2_image_check(&rig.disk, &check);
    ck_assert_msg(check.errors == 0 && check.leaks == 0, "%s", check.first);
    rig_done(&rig);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *cuts = tcase_create("cuts");
    TCase *failing = tcase_create("faults");
    const char *seed = getenv("SEED");

    base_seed = seed ? (unsigned)strtoul(seed, NULL, 0) : (unsigned)time(NULL);
    tcase_set_timeout(cuts, 120);
    tcase_add_loop_test(cuts, every_cut_leaves_a_consistent_image_with_all_that_was_flushed, 0,
                        ARRAY_SIZE(crash_variants));
    suite_add_tcase(suite, cuts);
    tcase_set_timeout(failing, 120);
    tcase_add_loop_test(failing, each_failing_operation_leaves_a_consistent_image, 0,
                        ARRAY_SIZE(faults));
    tcase_add_test(failing, failed_barrier_fails_every_later_flush);
    tcase_add_test(failing, flush_that_ran_out_of_space_succeeds_once_there_is_some);
    suite_add_tcase(suite, failing);
}

UNIT_MAIN("qcow2_crash", add_tests)
