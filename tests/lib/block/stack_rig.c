/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/stack_rig.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "block/live.h"
#include "block/stack.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/dice.h"
#include "tests/lib/unit.h"

struct stack_rig stack_rig;

const struct rig_layout rig_layouts[RIG_LAYOUTS] = {
    {.name = "raw", .raw = true},
    {.name = "small clusters", .cluster_bits = 9},
    {.name = "lazy refcounts", .cluster_bits = 12, .lazy = true},
    {.name = "subclusters", .cluster_bits = 14, .extended_l2 = true},
};

/* ---- requests -------------------------------------------------------------------------------- */

static void done(struct block_req *req, int result)
{
    struct rig_slot *slot = container_of(req, struct rig_slot, req);

    stack_rig.nfailed += result < 0;
    stack_rig.ndone++;
    if (req->op == BLOCK_FLUSH && result == 0)
        stack_rig.flushes[stack_rig.nflushes++] =
            (struct rig_flush){slot->begin, stack_rig.record.n};
    else if (req->op == BLOCK_WRITE && result == 0)
        history_end(&stack_rig.history, slot->event, stack_rig.record.n);
}

void rig_submit_flush(struct rig_slot *slot)
{
    slot->begin = mem_record_mark(&stack_rig.record);
    slot->req = (struct block_req){.op = BLOCK_FLUSH, .done = done};
    stack_rig.nsubmitted++;
    block_submit(stack_rig.top, &slot->req);
}

/* A write to a part of the disk that is this slot's, or a flush. */
void rig_submit(unsigned i)
{
    struct rig_slot *slot = &stack_rig.slots[i];
    const unsigned part = (unsigned)RIG_SECTORS / RIG_REQS;
    uint64_t n = 1 + dice_roll(&stack_rig.dice, RIG_LONGEST);
    uint64_t first = i * part + dice_roll(&stack_rig.dice, part - (unsigned)n + 1);

    if (dice_roll(&stack_rig.dice, 5) == 0) {
        rig_submit_flush(slot);
        return;
    }
    slot->begin = mem_record_mark(&stack_rig.record);
    stack_rig.nsubmitted++;
    slot->event = history_begin(&stack_rig.history, HISTORY_SURE, slot->begin);
    for (uint64_t at = 0; at < n; at++) {
        history_put(&stack_rig.history, slot->event, first + at, ++stack_rig.stamp);
        history_fill(slot->data + at * HISTORY_SECTOR, stack_rig.stamp);
    }
    slot->iov = (struct iovec){slot->data, n * HISTORY_SECTOR};
    slot->req = (struct block_req){.op = BLOCK_WRITE,
                                   .off = first * HISTORY_SECTOR,
                                   .len = n * HISTORY_SECTOR,
                                   .iov = &slot->iov,
                                   .niov = 1,
                                   .done = done};
    block_submit(stack_rig.top, &slot->req);
}

void rig_wait_all(void)
{
    while (block_in_flight(stack_rig.top) > 0 || stack_rig.top->live)
        aio_wait(stack_rig.top->aio);
    ck_assert_uint_eq(stack_rig.ndone, stack_rig.nsubmitted);
}

void rig_some_rounds(unsigned n)
{
    for (unsigned round = 0; round < n; round++) {
        for (unsigned i = 0; i < stack_rig.nreqs; i++)
            rig_submit(i);
        rig_wait_all();
    }
}

/* ---- operations ------------------------------------------------------------------------------ */

static void ignore_news(struct loop_work *work)
{
}

void rig_start(void (*operation)(void *opaque))
{
    block_job_begin(&stack_rig.job, 0, stack_rig.loop, stack_rig.loop, ignore_news);
    stack_rig.job.complete = true;
    ck_assert_int_eq(block_live_start(stack_rig.top, operation, NULL), 0);
}

void rig_run_at_rest(void (*operation)(void *opaque))
{
    rig_start(operation);
    rig_wait_all();
}

/* Requests all the time, until it is done. */
void rig_run_under_load(void (*operation)(void *opaque))
{
    rig_start(operation);
    do {
        for (unsigned i = 0; i < stack_rig.nreqs; i++)
            rig_submit(i);
        while (block_in_flight(stack_rig.top) > 0)
            aio_wait(stack_rig.top->aio);
    } while (stack_rig.top->live && stack_rig.nflushes < ARRAY_SIZE(stack_rig.flushes) - RIG_REQS);
    rig_wait_all();
}

/*
 * The host fails once: an operation on a file of these kinds, after so many others. Returns whether
 * it came to that.
 */
bool rig_run_and_fail(void (*operation)(void *opaque), unsigned kinds, long after)
{
    stack_rig.fault = (struct mem_fault){.after = after, .kinds = kinds, .result = -EIO};
    rig_run_at_rest(operation);
    stack_rig.fault.after = -1;
    return stack_rig.fault.happened;
}

void rig_assert_done(void)
{
    ck_assert_msg(stack_rig.result == 0, "%s", stack_rig.err.msg);
}

/* ---- images ---------------------------------------------------------------------------------- */

static const char *const names[RIG_DISKS] = {"old", "new", "new2", "new3"};

/* Each overlay has clusters of another size. */
static void make_overlay(unsigned i)
{
    static const unsigned cluster_bits[RIG_DISKS] = {0, 12, 9, 14};
    const bool on_raw = i == RIG_NEW && stack_rig.layout->raw;

    qcow2_image_make(&stack_rig.disks[i],
                     &(struct qcow2_image_options){.cluster_bits = cluster_bits[i],
                                                   .refcount_order = 4,
                                                   .backing = names[i - 1],
                                                   .backing_format = on_raw ? "raw" : "qcow2",
                                                   .size = RIG_SECTORS * HISTORY_SECTOR});
}

void rig_init(const struct rig_layout *layout, unsigned ndisks, uint64_t seed)
{
    stack_rig = (struct stack_rig){.layout = layout,
                                   .dice = seed,
                                   .fault = {.after = -1},
                                   .ndisks = ndisks,
                                   .nreqs = RIG_REQS};
    mem_env_init(&stack_rig.env);
    history_init(&stack_rig.history, RIG_SECTORS);
    for (unsigned i = 0; i < ndisks; i++) {
        mem_disk_init(&stack_rig.disks[i], names[i]);
        mem_env_add(&stack_rig.env, &stack_rig.disks[i]);
    }
    if (layout->raw)
        stack_rig.disks[RIG_OLD].len = RIG_SECTORS * HISTORY_SECTOR;
    else
        qcow2_image_make(&stack_rig.disks[RIG_OLD],
                         &(struct qcow2_image_options){.cluster_bits = layout->cluster_bits,
                                                       .refcount_order = 4,
                                                       .lazy_refcounts = layout->lazy,
                                                       .extended_l2 = layout->extended_l2,
                                                       .size = RIG_SECTORS * HISTORY_SECTOR});
    for (unsigned i = RIG_NEW; i < ndisks; i++)
        make_overlay(i);
}

static struct block *open_with(struct mem_env *env, const char *name, unsigned flags, bool readonly)
{
    const struct block_options options = {
        .path = name,
        .format = strcmp(name, "old") == 0 && stack_rig.layout->raw ? BLOCK_FORMAT_RAW
                                                                    : BLOCK_FORMAT_QCOW2,
        .readonly = readonly,
        .flags = flags};
    struct block *block;
    struct err err = {0};

    ck_assert_msg(block_open_in(&env->env, &options, &block, &err) == 0, "%s", err.msg);
    return block;
}

static void attach_top(void)
{
    ck_assert_int_eq(loop_new(&stack_rig.loop), 0);
    ck_assert_int_eq(block_attach(stack_rig.top, stack_rig.loop, &stack_rig.err), 0);
}

/* The overlay has its backing file from the start. */
void rig_attach_pair(void)
{
    stack_rig.top = open_with(&stack_rig.env, "new", 0, false);
    attach_top();
}

void rig_next(void)
{
    stack_rig.overlay =
        open_with(&stack_rig.env, names[++stack_rig.nopen], BLOCK_OPEN_NO_BACKING, false);
}

/* From here on what happens to the disks is recorded. */
void rig_attach(void)
{
    for (unsigned i = 0; i < stack_rig.ndisks; i++) {
        stack_rig.disks[i].record = &stack_rig.record;
        stack_rig.disks[i].fault = &stack_rig.fault;
        stack_rig.disks[i].shuffle = true;
        stack_rig.disks[i].seed = (unsigned)dice_next(&stack_rig.dice);
    }
    stack_rig.top = open_with(&stack_rig.env, "old", 0, false);
    rig_next();
    attach_top();
}

void rig_put(void *opaque)
{
    block_hold(stack_rig.top);
    stack_rig.result = block_stack_put(stack_rig.top, stack_rig.overlay, &stack_rig.err);
    if (stack_rig.result == 0) {
        stack_rig.top = stack_rig.overlay;
        stack_rig.put_at = mem_record_mark(&stack_rig.record);
    }
    block_release(stack_rig.top);
}

/* Requests are under way, and come while the images change. */
void rig_put_under_load(void)
{
    for (unsigned i = 0; i < stack_rig.nreqs / 2; i++)
        rig_submit(i);
    aio_wait(stack_rig.top->aio);
    rig_start(rig_put);
    for (unsigned i = stack_rig.nreqs / 2; i < stack_rig.nreqs; i++)
        rig_submit(i);
    rig_wait_all();
}

void rig_free_loop(void)
{
    block_job_done(&stack_rig.job);
    loop_cancel(stack_rig.loop, &stack_rig.job.news);
    loop_free(stack_rig.loop);
}

void rig_detach(void)
{
    size_t begin = mem_record_mark(&stack_rig.record);

    ck_assert_int_eq(block_detach(stack_rig.top), 0);
    ck_assert_int_eq(block_close(stack_rig.top), 0);
    stack_rig.flushes[stack_rig.nflushes++] = (struct rig_flush){begin, stack_rig.record.n};
    rig_free_loop();
}

void rig_end(void)
{
    history_done(&stack_rig.history);
    mem_record_done(&stack_rig.record);
    for (unsigned i = 0; i < stack_rig.ndisks; i++)
        mem_disk_done(&stack_rig.disks[i]);
}

/* ---- what the images show -------------------------------------------------------------------- */

/* All that ended before a flush that was over by `at` began is certain. */
size_t rig_settled(size_t at)
{
    size_t begin = 0;

    for (unsigned i = 0; i < stack_rig.nflushes; i++)
        if (stack_rig.flushes[i].end <= at && stack_rig.flushes[i].begin > begin)
            begin = stack_rig.flushes[i].begin;
    return begin;
}

void rig_check_image(struct mem_disk *disks, const char *name, size_t at, size_t sure)
{
    static uint8_t data[RIG_SECTORS * HISTORY_SECTOR];
    struct block *block;
    struct mem_env env;

    mem_env_init(&env);
    for (unsigned i = 0; i < stack_rig.ndisks; i++)
        mem_env_add(&env, &disks[i]);
    block = open_with(&env, name, 0, true);
    ck_assert_int_eq(mem_block_read(block, 0, data, sizeof(data)), 0);
    ck_assert_int_eq(block_close(block), 0);
    for (uint64_t i = 0; i < RIG_SECTORS; i++) {
        uint64_t stamp = 0;

        if (!history_read_stamp(data + i * HISTORY_SECTOR, &stamp) ||
            !history_allows(&stack_rig.history, i, stamp, at, sure))
            ck_abort_msg("%s: %s after %zu operations (switched after %zu): sector %llu shows %llu",
                         stack_rig.layout->name, name, at, stack_rig.put_at, (unsigned long long)i,
                         (unsigned long long)stamp);
    }
}

void rig_check_counts(struct mem_disk *disks, bool leaks_too)
{
    struct qcow2_image_check check;

    for (unsigned i = stack_rig.layout->raw ? RIG_NEW : RIG_OLD; i < stack_rig.ndisks; i++) {
        qcow2_image_check(&disks[i], &check);
        ck_assert_msg(check.errors == 0 || check.dirty, "%s: %s", stack_rig.layout->name,
                      check.first);
        ck_assert(!leaks_too || (check.leaks == 0 && !check.dirty));
    }
}

/* ---- power cuts ------------------------------------------------------------------------------ */

void rig_begin_to_record(const struct rig_layout *layout, unsigned ndisks)
{
    struct mem_disk *disks[RIG_DISKS];

    rig_init(layout, ndisks, unit_seed());
    for (unsigned i = 0; i < ndisks; i++)
        disks[i] = &stack_rig.disks[i];
    power_cut_init(&stack_rig.power_cut, &stack_rig.record, disks, ndisks, unit_seed());
    rig_attach();
}

void rig_check_overlay(size_t at, void *opaque)
{
    rig_check_image(stack_rig.power_cut.state, names[stack_rig.ndisks - 1], at, rig_settled(at));
    rig_check_counts(stack_rig.power_cut.state, false);
}

void rig_check_all_cuts(void (*check)(size_t at, void *opaque))
{
    ck_assert_uint_eq(stack_rig.nfailed, 0);
    rig_detach();
    power_cut_all(&stack_rig.power_cut, check, NULL);
    rig_check_image(stack_rig.disks, names[stack_rig.ndisks - 1], stack_rig.record.n,
                    stack_rig.record.n);
    rig_check_counts(stack_rig.disks, true);
    power_cut_done(&stack_rig.power_cut);
}
