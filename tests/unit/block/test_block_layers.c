/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images in the middle of a chain are committed or streamed while requests come: when the power
 * fails, or the host fails an operation.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/commit_live.h"
#include "block/commit_middle.h"
#include "block/stack.h"
#include "block/stream.h"
#include "tests/lib/block/stack_rig.h"
#include "tests/lib/unit.h"

/* ---- the operations: the chain is new3, new2, new, old --------------------------------------- */

static struct block *lowest(void)
{
    struct block *layer = stack_rig.top;

    for (unsigned depth = 1; block_stack_at(stack_rig.top, depth); depth++)
        layer = block_stack_at(stack_rig.top, depth);
    return layer;
}

/* The images between new3 and old are not needed any more. */
static void stream_to_old(void *opaque)
{
    struct block *dropped = NULL;

    stack_rig.result =
        block_stream(stack_rig.top, lowest(), "old", &stack_rig.job, &dropped, &stack_rig.err);
    (void)block_close(dropped); /* only read */
}

/* new2 is not needed any more, and new is the base. */
static void stream_to_new(void *opaque)
{
    struct block *dropped = NULL;

    stack_rig.result = block_stream(stack_rig.top, block_stack_at(stack_rig.top, 2), "new",
                                    &stack_rig.job, &dropped, &stack_rig.err);
    (void)block_close(dropped);
}

static void commit_middle(unsigned overlay, unsigned base, const char *name)
{
    const struct block_middle middle = {
        .active = stack_rig.top,
        .overlay = block_stack_at(stack_rig.top, overlay),
        .base = block_stack_at(stack_rig.top, base),
        .name = name,
    };
    struct block *dropped = NULL;

    stack_rig.result = block_commit_middle(&middle, &stack_rig.job, &dropped, &stack_rig.err);
    ck_assert(!middle.base->writable);
    ck_assert(overlay == 0 || !middle.overlay->writable);
    ck_assert((stack_rig.result == 0) == (dropped != NULL));
    (void)block_close(dropped);
}

static void commit_both(void *opaque)
{
    commit_middle(0, 3, "old");
}

static void commit_upper(void *opaque)
{
    commit_middle(0, 2, "new");
}

/* The overlay whose header changes has no requests. */
static void commit_lower(void *opaque)
{
    commit_middle(1, 3, "old");
}

static void commit_all(void *opaque)
{
    struct block_commit_live committed;
    struct block *base = lowest();

    stack_rig.result =
        block_commit_live(stack_rig.top, base, "old", &stack_rig.job, &committed, &stack_rig.err);
    (void)block_close(committed.dropped);
    ck_assert(committed.moved == (stack_rig.result == 0));
    if (!committed.moved)
        return;
    block_release(base);
    stack_rig.overlay = stack_rig.top;
    stack_rig.top = base;
}

static const struct operation {
    void (*run)(void *opaque);
    unsigned left; /* images of the chain afterwards */
} operations[] = {
    {stream_to_old, 2}, {stream_to_new, 3}, {commit_both, 2},
    {commit_upper, 3},  {commit_lower, 3},  {commit_all, 1},
};

#define CASES ((int)(ARRAY_SIZE(operations) * RIG_LAYOUTS))

static const struct operation *operation_of(int i)
{
    return &operations[(unsigned)i % ARRAY_SIZE(operations)];
}

static const struct rig_layout *layout_of(int i)
{
    return &rig_layouts[(unsigned)i / ARRAY_SIZE(operations)];
}

/* ---- a chain --------------------------------------------------------------------------------- */

/* Each image has something of its own. Few requests, since each moment is looked at. */
static void build_chain(void)
{
    stack_rig.nreqs = 3;
    rig_some_rounds(2);
    for (unsigned i = RIG_NEW; i < RIG_DISKS; i++) {
        if (i > RIG_NEW)
            rig_next();
        rig_run_at_rest(rig_put);
        rig_assert_done();
        rig_some_rounds(2);
    }
}

/* An image that had the requests is closed when it has them no more. */
static void close_old_top(const struct operation *operation)
{
    if (operation->run == commit_all && stack_rig.result == 0)
        ck_assert_int_eq(block_close(stack_rig.overlay), 0);
}

START_TEST(a_chain_is_whole_after_a_power_cut)
{
    const struct operation *operation = operation_of(_i);

    rig_begin_to_record(layout_of(_i), RIG_DISKS);
    build_chain();
    rig_run_under_load(operation->run);
    rig_assert_done();
    close_old_top(operation);
    ck_assert_ptr_nonnull(block_stack_at(stack_rig.top, operation->left - 1));
    ck_assert_ptr_null(block_stack_at(stack_rig.top, operation->left));
    rig_some_rounds(1);
    rig_check_all_cuts(rig_check_overlay);
    rig_end();
}
END_TEST

/* It leaves the disk as it was, and the next attempt succeeds. */
START_TEST(an_operation_of_the_host_fails)
{
    const struct operation *operation = operation_of(_i);
    bool happened = true;

    for (long after = 0; happened; after++) {
        bool untidy;

        rig_init(layout_of(_i), RIG_DISKS, unit_seed() + (unsigned)after);
        rig_attach();
        build_chain();
        happened = rig_run_and_fail(operation->run, 1u << FILE_WRITE | 1u << FILE_READ, after);
        untidy = happened && stack_rig.result == 0;
        close_old_top(operation);
        rig_some_rounds(1);
        if (stack_rig.result < 0) {
            rig_run_under_load(operation->run);
            close_old_top(operation);
        }
        rig_assert_done();
        rig_some_rounds(1);
        ck_assert_uint_eq(stack_rig.nfailed, 0);
        rig_detach();
        rig_check_image(stack_rig.disks, "new3", stack_rig.record.n, stack_rig.record.n);
        rig_check_counts(stack_rig.disks,
                         !untidy && !stack_rig.layout->lazy); /* its mark may stay */
        rig_end();
    }
}
END_TEST

/* The disk stays where it is, and the base has what it had then. */
static void commit_and_stay(void *opaque)
{
    struct block_commit_live committed;

    stack_rig.job.stay = true;
    stack_rig.result = block_commit_live(stack_rig.top, lowest(), "old", &stack_rig.job, &committed,
                                         &stack_rig.err);
    ck_assert(!committed.moved);
    ck_assert_ptr_null(committed.dropped);
}

START_TEST(a_commit_can_end_without_a_move)
{
    size_t at;

    rig_init(&rig_layouts[_i], RIG_DISKS, unit_seed());
    rig_attach();
    build_chain();
    rig_run_at_rest(commit_and_stay);
    rig_assert_done();
    ck_assert(!lowest()->writable);
    at = mem_record_mark(&stack_rig.record);
    rig_check_image(stack_rig.disks, "old", at, at);
    rig_some_rounds(2);
    ck_assert_ptr_nonnull(block_stack_at(stack_rig.top, 3));
    rig_detach();
    rig_check_image(stack_rig.disks, "new3", stack_rig.record.n, stack_rig.record.n);
    rig_check_counts(stack_rig.disks, true);
    rig_end();
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *cuts = tcase_create("cuts");
    TCase *failures = tcase_create("failures");

    tcase_set_timeout(cuts, 300);
    tcase_add_loop_test(cuts, a_chain_is_whole_after_a_power_cut, 0, CASES);
    tcase_set_timeout(failures, 300);
    tcase_add_loop_test(failures, an_operation_of_the_host_fails, 0, CASES);
    tcase_add_loop_test(failures, a_commit_can_end_without_a_move, 0, RIG_LAYOUTS);
    suite_add_tcase(suite, cuts);
    suite_add_tcase(suite, failures);
}

UNIT_MAIN("block_layers", add_tests)
