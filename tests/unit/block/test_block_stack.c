/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An overlay is put on an image in use, and streamed: when the power fails, or the host fails an
 * operation.
 */
#include "block/stack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/commit_live.h"
#include "block/live.h"
#include "block/stream.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/block/stack_rig.h"
#include "tests/lib/dice.h"
#include "tests/lib/unit.h"

/* The old image does as long as it has the requests. */
static void check_both(size_t at, void *opaque)
{
    rig_check_overlay(at, opaque);
    if (at <= stack_rig.put_at)
        rig_check_image(stack_rig.power_cut.state, "old", at, rig_settled(at));
}

START_TEST(what_was_flushed_is_there_after_a_power_cut)
{
    rig_begin_to_record(&rig_layouts[_i], 2);
    rig_some_rounds(2);
    rig_put_under_load();
    rig_assert_done();
    rig_some_rounds(2);
    rig_check_all_cuts(check_both);
    rig_end();
}
END_TEST

static void stream(void *opaque)
{
    struct block *dropped = NULL;

    stack_rig.result =
        block_stream(stack_rig.top, NULL, NULL, &stack_rig.job, &dropped, &stack_rig.err);
    if (stack_rig.result == 0)
        (void)block_close(dropped); /* only read */
}

/* Nothing but the job writes: only it knows that there is something to flush. */
static void stream_at_rest(void)
{
    rig_submit_flush(&stack_rig.slots[0]);
    rig_wait_all();
    rig_run_at_rest(stream);
}

START_TEST(a_streamed_image_is_whole_after_a_power_cut)
{
    rig_begin_to_record(&rig_layouts[_i / 2], 2);
    rig_some_rounds(2);
    rig_put_under_load();
    if (_i % 2)
        stream_at_rest();
    else
        rig_run_under_load(stream);
    rig_assert_done();
    ck_assert_ptr_null(stack_rig.top->backing);
    rig_some_rounds(1);
    rig_check_all_cuts(check_both);
    rig_end();
}
END_TEST

/* ---- committing ------------------------------------------------------------------------------ */

static void commit(void *opaque)
{
    struct block *base = stack_rig.top->backing;
    struct block_commit_live committed;

    stack_rig.result =
        block_commit_live(stack_rig.top, base, NULL, &stack_rig.job, &committed, &stack_rig.err);
    ck_assert(stack_rig.result == 0 || !committed.moved);
    ck_assert_ptr_null(committed.dropped);
    if (stack_rig.result < 0)
        return;
    block_release(base);
    stack_rig.overlay = stack_rig.top;
    stack_rig.top = base;
}

/* The image that had the requests is closed then. */
static void commit_under_load(void)
{
    rig_run_under_load(commit);
    if (stack_rig.result == 0)
        ck_assert_int_eq(block_close(stack_rig.overlay), 0);
}

/* The overlay shows the disk at any time: at the end it is empty, and what is below it does. */
START_TEST(a_committed_image_is_whole_after_a_power_cut)
{
    rig_begin_to_record(&rig_layouts[_i], 2);
    rig_some_rounds(1);
    rig_put_under_load();
    rig_some_rounds(1);
    commit_under_load();
    rig_assert_done();
    rig_some_rounds(1);
    rig_check_all_cuts(rig_check_overlay);
    rig_check_image(stack_rig.disks, "old", stack_rig.record.n, stack_rig.record.n);
    rig_end();
}
END_TEST

/* ---- a guest that writes faster than is copied ----------------------------------------------- */

#define HOGS 8u
#define HOG_LEN ((size_t)1 << 20)
#define HOG_DISK (48 * HOG_LEN)
#define HOG_WARM_UP 200u

static struct hog {
    struct block_req req;
    struct iovec iov;
} hogs[HOGS];
static unsigned copied_held; /* pieces that the base got while requests waited */
static unsigned hog_writes;

static void note_copy(void)
{
    copied_held += stack_rig.top->held;
}

static void hog_submit(struct hog *hog)
{
    static uint8_t data[HOG_LEN];

    hog->iov = (struct iovec){data, HOG_LEN};
    hog->req.off = dice_roll(&stack_rig.dice, HOG_DISK / HOG_LEN) * HOG_LEN;
    block_submit(stack_rig.top, &hog->req);
}

static void hog_done(struct block_req *req, int result)
{
    stack_rig.nfailed += result < 0;
    hog_writes++;
    if (stack_rig.top->live || hog_writes < HOG_WARM_UP)
        hog_submit(container_of(req, struct hog, req));
}

/* It is not the job that it waits for, but each write for itself. */
START_TEST(a_guest_that_writes_all_the_time_does_not_wait_for_the_rest)
{
    rig_init(&rig_layouts[0], 2, unit_seed());
    stack_rig.disks[RIG_OLD].len = HOG_DISK;
    qcow2_image_make(&stack_rig.disks[RIG_NEW],
                     &(struct qcow2_image_options){.cluster_bits = 16,
                                                   .refcount_order = 4,
                                                   .backing = "old",
                                                   .backing_format = "raw",
                                                   .size = HOG_DISK});
    rig_attach_pair();
    for (unsigned i = 0; i < stack_rig.ndisks; i++) {
        stack_rig.disks[i].shuffle = true;
        stack_rig.disks[i].seed = (unsigned)dice_next(&stack_rig.dice);
    }
    copied_held = 0;
    hog_writes = 0;
    for (unsigned i = 0; i < HOGS; i++) {
        hogs[i].req = (struct block_req){
            .op = BLOCK_WRITE, .len = HOG_LEN, .iov = &hogs[i].iov, .niov = 1, .done = hog_done};
        hog_submit(&hogs[i]);
    }
    while (hog_writes < HOG_WARM_UP - HOGS)
        aio_wait(stack_rig.top->aio);
    stack_rig.disks[RIG_OLD].before_write = note_copy;
    rig_start(commit);
    while (stack_rig.top->live)
        aio_wait(stack_rig.top->aio);
    stack_rig.disks[RIG_OLD].before_write = NULL;
    rig_wait_all();
    rig_assert_done();
    ck_assert_uint_eq(stack_rig.nfailed, 0);
    ck_assert_uint_gt(hog_writes, HOG_WARM_UP + 2 * HOG_DISK / HOG_LEN);
    ck_assert_uint_le(copied_held, 4 + 2 * HOGS); /* MiB, with those of requests under way */
    ck_assert_int_eq(block_close(stack_rig.overlay), 0);
    rig_detach();
    rig_end();
}
END_TEST

/* ---- a guest that would turn the base into another format ------------------------------------ */

static void done_first(struct block_req *req, int result)
{
    stack_rig.nfailed += result < 0;
    stack_rig.ndone++;
}

static int write_first_sector(const char *text)
{
    struct rig_slot *slot = &stack_rig.slots[0];
    unsigned nfailed = stack_rig.nfailed;

    memset(slot->data, 0, HISTORY_SECTOR);
    memcpy(slot->data, text, strlen(text));
    slot->iov = (struct iovec){slot->data, HISTORY_SECTOR};
    slot->req = (struct block_req){
        .op = BLOCK_WRITE, .len = HISTORY_SECTOR, .iov = &slot->iov, .niov = 1, .done = done_first};
    stack_rig.nsubmitted++;
    block_submit(stack_rig.top, &slot->req);
    rig_wait_all();
    return stack_rig.nfailed > nfailed ? -1 : 0;
}

static void commit_now(void)
{
    rig_run_at_rest(commit);
    if (stack_rig.result == 0)
        ck_assert_int_eq(block_close(stack_rig.overlay), 0);
}

/* Only the overlay said that the base is raw: another time the base may be probed. */
START_TEST(a_raw_base_that_an_image_names_keeps_its_format)
{
    rig_init(&rig_layouts[0], 2, unit_seed());
    rig_attach_pair();
    ck_assert_int_eq(write_first_sector("QFI\xfb"), 0);
    commit_now();
    ck_assert_int_eq(stack_rig.result, -EPERM);
    ck_assert_ptr_nonnull(strstr(stack_rig.err.msg, "look like an image of another format"));
    ck_assert_uint_eq(stack_rig.disks[RIG_OLD].data[0], 0);
    ck_assert_int_eq(write_first_sector("harmless"), 0);
    commit_now();
    rig_assert_done();
    ck_assert_int_lt(write_first_sector("QFI\xfb"), 0);
    ck_assert_int_eq(stack_rig.disks[RIG_OLD].data[0], 'h');
    rig_detach();
    rig_end();
}
END_TEST

/* The user said so when he opened it. */
START_TEST(a_base_that_the_user_called_raw_takes_any_sector)
{
    rig_init(&rig_layouts[0], 2, unit_seed());
    rig_attach();
    rig_run_at_rest(rig_put);
    ck_assert_int_eq(write_first_sector("QFI\xfb"), 0);
    commit_now();
    rig_assert_done();
    ck_assert_int_eq(stack_rig.disks[RIG_OLD].data[0], 'Q');
    ck_assert_int_eq(write_first_sector("QFI"), 0);
    rig_detach();
    rig_end();
}
END_TEST

/* ---- failures of jobs ------------------------------------------------------------------------ */

/* The operation has succeeded, at last, and no request has failed. */
static void go_on_and_end(void)
{
    rig_assert_done();
    rig_some_rounds(1);
    ck_assert_uint_eq(stack_rig.nfailed, 0);
    rig_detach();
}

static void begin_on_overlay(const struct rig_layout *layout, uint64_t seed)
{
    rig_init(layout, 2, seed);
    rig_attach();
    rig_some_rounds(1);
    rig_put_under_load();
    rig_some_rounds(1);
}

/*
 * A job that fails leaves the image as it was, and the next one succeeds. One that could not give
 * the overlay's space back has done the rest.
 */
START_TEST(an_operation_of_the_host_fails_while_committing)
{
    bool happened = true;

    for (long after = 0; happened; after++) {
        bool untidy;

        begin_on_overlay(&rig_layouts[_i], unit_seed() + (unsigned)after);
        happened = rig_run_and_fail(commit, 1u << FILE_WRITE | 1u << FILE_READ, after);
        untidy = happened && stack_rig.result == 0;
        if (stack_rig.result == 0)
            (void)block_close(stack_rig.overlay);
        rig_some_rounds(1);
        if (stack_rig.result < 0)
            commit_under_load();
        go_on_and_end();
        rig_check_image(stack_rig.disks, "old", stack_rig.record.n, stack_rig.record.n);
        rig_check_image(stack_rig.disks, "new", stack_rig.record.n, stack_rig.record.n);
        rig_check_counts(stack_rig.disks, !untidy);
        rig_end();
    }
}
END_TEST

/*
 * From some moment on the overlay takes no write. Either it was empty by then, or the disk stays
 * there: nobody can start with an overlay that hides what was written below it.
 */
START_TEST(the_host_of_an_overlay_fails_while_committing)
{
    bool happened = true;

    for (long after = 0; happened; after++) {
        begin_on_overlay(&rig_layouts[_i], unit_seed() + (unsigned)after);
        stack_rig.disks[RIG_OLD].fault = NULL;
        stack_rig.fault = (struct mem_fault){
            .after = after, .more = 100000, .kinds = 1u << FILE_WRITE, .result = -EIO};
        rig_run_at_rest(commit);
        happened = stack_rig.fault.happened;
        stack_rig.fault.more = 0;
        stack_rig.fault.after = -1;
        if (stack_rig.result == 0)
            (void)block_close(stack_rig.overlay);
        rig_some_rounds(2);
        ck_assert(stack_rig.result < 0 || stack_rig.nfailed == 0);
        (void)block_detach(stack_rig.top);
        (void)block_close(stack_rig.top);
        rig_free_loop();
        rig_check_image(stack_rig.disks, "new", stack_rig.record.n,
                        stack_rig.nfailed > 0 ? rig_settled(stack_rig.record.n)
                                              : stack_rig.record.n);
        rig_end();
    }
}
END_TEST

/* ---- failures -------------------------------------------------------------------------------- */

/* A job that fails leaves the image as it was, and the next one succeeds. */
START_TEST(an_operation_of_the_host_fails_while_streaming)
{
    bool happened = true;

    for (long after = 0; happened; after++) {
        begin_on_overlay(&rig_layouts[_i], unit_seed() + (unsigned)after);
        happened = rig_run_and_fail(stream, 1u << FILE_WRITE | 1u << FILE_READ, after);
        rig_some_rounds(1);
        if (stack_rig.result < 0)
            rig_run_under_load(stream);
        go_on_and_end();
        rig_check_image(stack_rig.disks, "new", stack_rig.record.n, stack_rig.record.n);
        rig_check_counts(stack_rig.disks, true);
        rig_end();
    }
}
END_TEST

/* Whatever fails, the disk goes on in one image or the other, and the next attempt succeeds. */
START_TEST(an_operation_of_the_host_fails)
{
    bool happened = true;

    for (long after = 0; happened; after++) {
        rig_init(&rig_layouts[_i], 2, unit_seed() + (unsigned)after);
        rig_attach();
        rig_some_rounds(1);
        happened = rig_run_and_fail(rig_put, 1u << FILE_WRITE | 1u << FILE_READ, after);
        ck_assert_int_eq(stack_rig.result < 0, happened);
        rig_some_rounds(1);
        if (stack_rig.result < 0)
            rig_put_under_load();
        go_on_and_end();
        rig_check_image(stack_rig.disks, "new", stack_rig.record.n, stack_rig.record.n);
        rig_check_counts(stack_rig.disks, true);
        rig_end();
    }
}
END_TEST

/* A file that could not be synced takes no flush any more: the guest is told, here and there. */
START_TEST(a_sync_fails)
{
    rig_init(&rig_layouts[_i], 2, unit_seed());
    rig_attach();
    rig_some_rounds(1);
    stack_rig.nfailed = 0;
    rig_submit(0);
    rig_wait_all();
    if (rig_run_and_fail(rig_put, 1u << FILE_SYNC, 0)) {
        ck_assert_int_lt(stack_rig.result, 0);
        ck_assert_ptr_eq(stack_rig.top->backing, NULL);
        rig_submit_flush(&stack_rig.slots[0]);
        rig_wait_all();
        ck_assert_uint_eq(stack_rig.nfailed, 1);
        ck_assert_int_eq(block_close(stack_rig.overlay), 0);
    }
    (void)block_detach(stack_rig.top);
    (void)block_close(stack_rig.top);
    rig_free_loop();
    rig_end();
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("stack");
    TCase *jobs = tcase_create("jobs");
    TCase *hog = tcase_create("hog");

    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, what_was_flushed_is_there_after_a_power_cut, 0, RIG_LAYOUTS);
    tcase_add_loop_test(tcase, an_operation_of_the_host_fails, 0, RIG_LAYOUTS);
    tcase_add_test(tcase, a_raw_base_that_an_image_names_keeps_its_format);
    tcase_add_test(tcase, a_base_that_the_user_called_raw_takes_any_sector);
    tcase_add_loop_test(tcase, an_operation_of_the_host_fails_while_committing, 0, RIG_LAYOUTS);
    tcase_add_loop_test(tcase, the_host_of_an_overlay_fails_while_committing, 0, RIG_LAYOUTS);
    tcase_add_loop_test(tcase, an_operation_of_the_host_fails_while_streaming, 0, RIG_LAYOUTS);
    tcase_add_loop_test(tcase, a_sync_fails, 0, RIG_LAYOUTS);
    tcase_set_timeout(jobs, 300);
    tcase_add_loop_test(jobs, a_streamed_image_is_whole_after_a_power_cut, 0, 2 * RIG_LAYOUTS);
    tcase_add_loop_test(jobs, a_committed_image_is_whole_after_a_power_cut, 0, RIG_LAYOUTS);
    tcase_set_timeout(hog, 100);
    tcase_add_test(hog, a_guest_that_writes_all_the_time_does_not_wait_for_the_rest);
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, jobs);
    suite_add_tcase(suite, hog);
}

UNIT_MAIN("block_stack", add_tests)
