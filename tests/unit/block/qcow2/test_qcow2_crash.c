/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left of a qcow2 image when the power fails.
 *
 * Random operations run on images in memory whose changes are all recorded; in every other image
 * the host fails some of them. After each of the record's operations the power fails: the state of
 * the disks is made in all ways that differ (power_cut.h), and in each the image has at worst
 * leaked clusters, shows everything that was flushed, and can be used further: in some a second
 * life begins, which a power cut ends as well. `qemu-img check` and `compare`, and our own check,
 * look at some of the states.
 *
 * SEED=n repeats a run. SCALE=n makes it n times as long.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/qcow2/format/header.h"
#include "tests/lib/block/power_cut.h"
#include "tests/lib/block/qcow2/qcow2_state.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

static unsigned base_seed;
static unsigned scale;
static bool have_qemu;
static char running[160]; /* layout and seed */

/* ---- lives ----------------------------------------------------------------------------------- */

/* Now and then one operation fails, or some; or is done in part only. */
static const struct mem_fault faults[] = {{.result = -EIO},
                                          {.result = -EIO, .more = 3},
                                          {.result = -ENOSPC, .more = 40},
                                          {.result = -ENOSPC, .kinds = 1u << FILE_WRITE},
                                          {.is_short = true}};
#define FAULT_STEPS 8u   /* between two of them */
#define FAULT_WITHIN 40u /* operations of the host */

static void maybe_fail(struct qcow2_rig *rig)
{
    bool happened = rig->fault.happened;

    if (rig->fault.after >= 0 || qcow2_rig_random(rig, FAULT_STEPS) > 0)
        return;
    rig->fault = faults[qcow2_rig_random(rig, ARRAY_SIZE(faults))];
    rig->fault.after = (long)qcow2_rig_random(rig, FAULT_WITHIN);
    rig->fault.happened = happened;
}

/* The rig's life, after which the record has all of it. */
static void live(struct qcow2_rig *rig, struct power_cut *cut, unsigned seed, unsigned steps,
                 bool failing)
{
    struct mem_disk *disks[QCOW2_RIG_DISKS];

    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++)
        disks[i] = &rig->disks[i];
    power_cut_init(cut, &rig->record, disks, QCOW2_RIG_DISKS, seed);
    if (!rig->block)
        qcow2_rig_reopen(rig);
    for (unsigned i = 0; i < steps; i++) {
        if (failing)
            maybe_fail(rig);
        (void)qcow2_rig_step(rig);
        if (rig->failures > 0 && !rig->fault.happened)
            ck_abort_msg("%s: a request failed although no operation did", running);
    }
    if (qcow2_rig_close(rig) < 0)
        ck_assert(rig->fault.happened);
}

/* ---- power cuts ------------------------------------------------------------------------------ */

/*
 * What the power cut left is used like any image, and the power fails again: while it is opened,
 * where that has something to write, or at some moment later.
 */
static void second_life(const struct qcow2_state *first)
{
    char what[256];
    struct power_cut cut;
    struct qcow2_rig rig;
    struct qcow2_state state = {.rig = &rig, .disks = cut.state, .what = what};

    snprintf(what, sizeof(what), "%s, a power cut after %zu, another", running, first->at);
    qcow2_rig_init_next(&rig, first->rig, first->disks, base_seed + (unsigned)first->at);
    live(&rig, &cut, base_seed, 12, false);
    for (; state.at <= rig.record.n;
         state.at += 1 + qcow2_rig_random(&rig, (unsigned)rig.record.n / 4 + 1)) {
        power_cut_make(&cut, state.at,
                       (enum power_cut_fate)qcow2_rig_random(&rig, POWER_CUT_FATES));
        qcow2_state_verify(&state);
        qcow2_state_verify_snapshots(&state);
        qcow2_state_verify_base(&state);
    }
    power_cut_done(&cut);
    qcow2_rig_done(&rig);
}

static void verify_and_go_on(const struct qcow2_state *state, unsigned n)
{
    if (n % 64 == 13)
        second_life(state);
    qcow2_state_verify(state);
    if (n % 4 == 0)
        qcow2_state_verify_base(state);
    if (n % 4 == 1)
        qcow2_state_verify_snapshots(state);
    if (n % 4 == 2)
        qcow2_state_check_beside(state);
    if (have_qemu && n % 128 == 77)
        qcow2_state_ask_qemu(state);
    if (n % 16 == 3)
        qcow2_state_use_further(state);
}

static void cut_everywhere(const struct qcow2_layout *layout, unsigned seed, unsigned steps,
                           bool failing)
{
    char text[120];
    struct power_cut cut;
    struct qcow2_rig rig;
    struct qcow2_state state = {.rig = &rig, .disks = cut.state, .what = running};
    unsigned n = 0;

    qcow2_layout_print(layout, text, sizeof(text));
    snprintf(running, sizeof(running), "SEED=%u: %s", base_seed, text);
    qcow2_rig_init(&rig, layout, seed);
    live(&rig, &cut, seed, steps, failing);
    for (size_t at = 0; at <= rig.record.n; at++) {
        if (at < rig.record.n && rig.record.ops[at].op == MEM_MARK)
            continue;
        state.at = at;
        for (int i = 0; i < POWER_CUT_FATES; i++) {
            enum power_cut_fate fate = (enum power_cut_fate)i;

            if (!power_cut_differs(&cut, at, fate))
                continue;
            power_cut_make(&cut, at, fate);
            verify_and_go_on(&state, n++);
        }
    }
    printf("%s: seed %u: %u states, %u failures\n", running, seed, n, rig.failures);
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
#else
#define LAYOUTS 24
#endif

#define STEPS 60u
#define RAW_DATA_FILES 2 /* layouts of which have one */
#define DEVICES 3        /* so many after them are on one */

START_TEST(every_cut_leaves_a_consistent_image_with_all_that_was_flushed)
{
    unsigned seed = base_seed + (unsigned)_i;
    struct qcow2_layout layout;

    qcow2_layout_pick(&layout, seed);
    /* Rare, and not to be left to chance. */
    for (unsigned i = 1; _i < RAW_DATA_FILES && layout.data != QCOW2_DATA_FILE_RAW; i++)
        qcow2_layout_pick(&layout, seed + 1000 * i);
    if (_i >= RAW_DATA_FILES && _i < RAW_DATA_FILES + DEVICES)
        layout.device = true;
    cut_everywhere(&layout, seed, STEPS * scale, _i % 2 == 1);
}
END_TEST

/* ---- a larger refcount table ----------------------------------------------------------------- */

/* The random images are too small for one: here 2 MiB of clusters fill the first table. */
START_TEST(every_cut_while_the_refcount_table_grows_leaves_right_counts)
{
    static uint8_t data[64 * KIB];
    struct mem_record record = {.n = 0};
    struct qcow2_image_check check;
    struct mem_disk top;
    struct mem_disk *disks[] = {&top};
    struct power_cut cut;
    struct block *block;
    struct mem_env env;

    mem_disk_init(&top, "top");
    qcow2_image_make(&top, &(struct qcow2_image_options){
                               .cluster_bits = 9, .refcount_order = 6, .size = 4 * MIB});
    mem_env_init(&env);
    mem_env_add(&env, &top);
    block = mem_env_open(&env, "top", BLOCK_FORMAT_QCOW2, false);
    for (uint64_t off = 0; off < 3 * MIB; off += sizeof(data)) {
        /* The table grows where the file reaches 2 MiB. */
        if (off == 3 * MIB / 2) {
            ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), 0);
            power_cut_init(&cut, &record, disks, 1, base_seed);
            top.record = &record;
        }
        ck_assert_int_eq(mem_block_write(block, off, data, sizeof(data)), 0);
    }
    ck_assert_int_eq(block_close(block), 0);
    ck_assert_uint_gt(load_be32(top.data + HDR_REFTABLE_CLUSTERS), 1);
    for (size_t at = 0; at <= record.n; at++)
        for (int fate = 0; fate < POWER_CUT_FATES; fate++) {
            power_cut_make(&cut, at, (enum power_cut_fate)fate);
            qcow2_image_check(&cut.state[0], &check);
            if (check.errors > 0)
                ck_abort_msg("after %zu operations: %s", at, check.first);
        }
    power_cut_done(&cut);
    mem_record_done(&record);
    mem_disk_done(&top);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *cuts = tcase_create("cuts");
    TCase *grow = tcase_create("grow");

    base_seed = unit_seed();
    scale = unit_number("SCALE", 1);
    have_qemu = scratch_has_qemu();
    tcase_set_timeout(cuts, 120 * scale);
    tcase_add_checked_fixture(cuts, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(cuts, every_cut_leaves_a_consistent_image_with_all_that_was_flushed, 0,
                        LAYOUTS);
    suite_add_tcase(suite, cuts);
    tcase_add_test(grow, every_cut_while_the_refcount_table_grows_leaves_right_counts);
    suite_add_tcase(suite, grow);
}

UNIT_MAIN("qcow2_crash", add_tests)
