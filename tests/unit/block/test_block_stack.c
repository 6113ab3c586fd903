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
#include "tests/lib/block/history.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/power_cut.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/dice.h"
#include "tests/lib/unit.h"

#define SECTORS ((uint64_t)512)
#define SECTOR HISTORY_SECTOR
#define REQS 16u    /* at a time */
#define LONGEST 24u /* sectors of a request */

enum { OLD, NEW, DISKS };

static const struct layout {
    const char *name;
    unsigned cluster_bits;
    bool raw;
    bool lazy;
    bool extended_l2;
} layouts[] = {
    {.name = "raw", .raw = true},
    {.name = "small clusters", .cluster_bits = 9},
    {.name = "lazy refcounts", .cluster_bits = 12, .lazy = true},
    {.name = "subclusters", .cluster_bits = 14, .extended_l2 = true},
};

struct flush {
    size_t begin;
    size_t end;
};

/* One write at a time may be at a sector; flushes are remembered. */
struct slot {
    struct block_req req;
    struct iovec iov;
    unsigned event;
    size_t begin;
    uint8_t data[LONGEST * SECTOR];
};

static struct rig {
    const struct layout *layout;
    struct mem_env env;
    struct mem_disk disks[DISKS];
    struct mem_record record;
    struct mem_fault fault;
    struct history history;
    struct flush flushes[1000];
    unsigned nflushes;
    struct slot slots[REQS];
    uint64_t dice;
    uint64_t stamp;
    unsigned nfailed;
    unsigned nsubmitted;
    unsigned ndone;
    struct loop *loop;
    struct block *top;
    struct block *overlay;
    int result;
    struct err err;
    size_t put_at; /* in the record: the overlay has the requests */
} rig;

/* ---- requests -------------------------------------------------------------------------------- */

static void done(struct block_req *req, int result)
{
    struct slot *slot = container_of(req, struct slot, req);

    rig.nfailed += result < 0;
    rig.ndone++;
    if (req->op == BLOCK_FLUSH && result == 0)
        rig.flushes[rig.nflushes++] = (struct flush){slot->begin, rig.record.n};
    else if (req->op == BLOCK_WRITE && result == 0)
        history_end(&rig.history, slot->event, rig.record.n);
}

static void submit_flush(struct slot *slot)
{
    slot->begin = mem_record_mark(&rig.record);
    slot->req = (struct block_req){.op = BLOCK_FLUSH, .done = done};
    rig.nsubmitted++;
    block_submit(rig.top, &slot->req);
}

/* A write to a part of the disk that is this slot's, or a flush. */
static void submit(unsigned i)
{
    struct slot *slot = &rig.slots[i];
    const unsigned part = (unsigned)SECTORS / REQS;
    uint64_t n = 1 + dice_roll(&rig.dice, LONGEST);
    uint64_t first = i * part + dice_roll(&rig.dice, part - (unsigned)n + 1);

    if (dice_roll(&rig.dice, 5) == 0) {
        submit_flush(slot);
        return;
    }
    slot->begin = mem_record_mark(&rig.record);
    rig.nsubmitted++;
    slot->event = history_begin(&rig.history, HISTORY_SURE, slot->begin);
    for (uint64_t at = 0; at < n; at++) {
        history_put(&rig.history, slot->event, first + at, ++rig.stamp);
        history_fill(slot->data + at * SECTOR, rig.stamp);
    }
    slot->iov = (struct iovec){slot->data, n * SECTOR};
    slot->req = (struct block_req){.op = BLOCK_WRITE,
                                   .off = first * SECTOR,
                                   .len = n * SECTOR,
                                   .iov = &slot->iov,
                                   .niov = 1,
                                   .done = done};
    block_submit(rig.top, &slot->req);
}

static void wait_all(void)
{
    while (block_in_flight(rig.top) > 0 || rig.top->live)
        aio_wait(rig.top->aio);
    ck_assert_uint_eq(rig.ndone, rig.nsubmitted);
}

static void some_rounds(unsigned n)
{
    for (unsigned round = 0; round < n; round++) {
        for (unsigned i = 0; i < REQS; i++)
            submit(i);
        wait_all();
    }
}

/* ---- operations ------------------------------------------------------------------------------ */

static struct block_job job;

static void start(void (*operation)(void *opaque))
{
    job = (struct block_job){0};
    ck_assert_int_eq(block_live_start(rig.top, operation, NULL), 0);
}

static void run_at_rest(void (*operation)(void *opaque))
{
    start(operation);
    wait_all();
}

/* Requests all the time, until it is done. */
static void run_under_load(void (*operation)(void *opaque))
{
    start(operation);
    do {
        for (unsigned i = 0; i < REQS; i++)
            submit(i);
        while (block_in_flight(rig.top) > 0)
            aio_wait(rig.top->aio);
    } while (rig.top->live && rig.nflushes < ARRAY_SIZE(rig.flushes) - REQS);
    wait_all();
}

/*
 * The host fails once: an operation on a file of these kinds, after so many others. Returns whether
 * it came to that.
 */
static bool run_and_fail(void (*operation)(void *opaque), unsigned kinds, long after)
{
    rig.fault = (struct mem_fault){.after = after, .kinds = kinds, .result = -EIO};
    run_at_rest(operation);
    rig.fault.after = -1;
    return rig.fault.happened;
}

static void assert_done(void)
{
    ck_assert_msg(rig.result == 0, "%s", rig.err.msg);
}

/* ---- images ---------------------------------------------------------------------------------- */

static void init(const struct layout *layout, uint64_t seed)
{
    static const char *const names[DISKS] = {"old", "new"};

    rig = (struct rig){.layout = layout, .dice = seed, .fault = {.after = -1}};
    mem_env_init(&rig.env);
    history_init(&rig.history, SECTORS);
    for (unsigned i = 0; i < DISKS; i++) {
        mem_disk_init(&rig.disks[i], names[i]);
        mem_env_add(&rig.env, &rig.disks[i]);
    }
    if (layout->raw)
        rig.disks[OLD].len = SECTORS * SECTOR;
    else
        qcow2_image_make(&rig.disks[OLD],
                         &(struct qcow2_image_options){.cluster_bits = layout->cluster_bits,
                                                       .refcount_order = 4,
                                                       .lazy_refcounts = layout->lazy,
                                                       .extended_l2 = layout->extended_l2,
                                                       .size = SECTORS * SECTOR});
    qcow2_image_make(&rig.disks[NEW],
                     &(struct qcow2_image_options){.cluster_bits = 12,
                                                   .refcount_order = 4,
                                                   .backing = "old",
                                                   .backing_format = layout->raw ? "raw" : "qcow2",
                                                   .size = SECTORS * SECTOR});
}

static struct block *open_with(struct mem_env *env, const char *name, unsigned flags, bool readonly)
{
    const struct block_options options = {.path = name,
                                          .format = strcmp(name, "old") == 0 && rig.layout->raw
                                                        ? BLOCK_FORMAT_RAW
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
    ck_assert_int_eq(loop_new(&rig.loop), 0);
    ck_assert_int_eq(block_attach(rig.top, rig.loop, &rig.err), 0);
}

/* The overlay has its backing file from the start. */
static void attach_pair(void)
{
    rig.top = open_with(&rig.env, "new", 0, false);
    attach_top();
}

/* The old image alone. From here on what happens to the disks is recorded. */
static void attach(void)
{
    for (unsigned i = 0; i < DISKS; i++) {
        rig.disks[i].record = &rig.record;
        rig.disks[i].fault = &rig.fault;
        rig.disks[i].shuffle = true;
        rig.disks[i].seed = (unsigned)dice_next(&rig.dice);
    }
    rig.top = open_with(&rig.env, "old", 0, false);
    rig.overlay = open_with(&rig.env, "new", BLOCK_OPEN_NO_BACKING, false);
    attach_top();
}

static void put(void *opaque)
{
    block_hold(rig.top);
    rig.result = block_stack_put(rig.top, rig.overlay, &rig.err);
    if (rig.result == 0) {
        rig.top = rig.overlay;
        rig.put_at = mem_record_mark(&rig.record);
    }
    block_release(rig.top);
}

/* Requests are under way, and come while the images change. */
static void put_under_load(void)
{
    for (unsigned i = 0; i < REQS / 2; i++)
        submit(i);
    aio_wait(rig.top->aio);
    start(put);
    for (unsigned i = REQS / 2; i < REQS; i++)
        submit(i);
    wait_all();
}

static void detach(void)
{
    size_t begin = mem_record_mark(&rig.record);

    ck_assert_int_eq(block_detach(rig.top), 0);
    ck_assert_int_eq(block_close(rig.top), 0);
    rig.flushes[rig.nflushes++] = (struct flush){begin, rig.record.n};
    loop_free(rig.loop);
}

static void end(void)
{
    history_done(&rig.history);
    mem_record_done(&rig.record);
    for (unsigned i = 0; i < DISKS; i++)
        mem_disk_done(&rig.disks[i]);
}

/* ---- what the images show -------------------------------------------------------------------- */

/* All that ended before a flush that was over by `at` began is certain. */
static size_t settled(size_t at)
{
    size_t begin = 0;

    for (unsigned i = 0; i < rig.nflushes; i++)
        if (rig.flushes[i].end <= at && rig.flushes[i].begin > begin)
            begin = rig.flushes[i].begin;
    return begin;
}

static void check_image(struct mem_disk *disks, const char *name, size_t at, size_t sure)
{
    static uint8_t data[SECTORS * SECTOR];
    struct block *block;
    struct mem_env env;

    mem_env_init(&env);
    for (unsigned i = 0; i < DISKS; i++)
        mem_env_add(&env, &disks[i]);
    block = open_with(&env, name, 0, true);
    ck_assert_int_eq(mem_block_read(block, 0, data, sizeof(data)), 0);
    ck_assert_int_eq(block_close(block), 0);
    for (uint64_t i = 0; i < SECTORS; i++) {
        uint64_t stamp = 0;

        if (!history_read_stamp(data + i * SECTOR, &stamp) ||
            !history_allows(&rig.history, i, stamp, at, sure))
            ck_abort_msg("%s: %s after %zu operations (switched after %zu): sector %llu shows %llu",
                         rig.layout->name, name, at, rig.put_at, (unsigned long long)i,
                         (unsigned long long)stamp);
    }
}

static void check_counts(struct mem_disk *disks, bool leaks_too)
{
    struct qcow2_image_check check;

    for (unsigned i = rig.layout->raw ? NEW : OLD; i < DISKS; i++) {
        qcow2_image_check(&disks[i], &check);
        ck_assert_msg(check.errors == 0 || check.dirty, "%s: %s", rig.layout->name, check.first);
        ck_assert(!leaks_too || (check.leaks == 0 && !check.dirty));
    }
}

/* ---- power cuts ------------------------------------------------------------------------------ */

static struct power_cut power_cut;

static void begin_to_record(const struct layout *layout)
{
    struct mem_disk *disks[DISKS] = {&rig.disks[OLD], &rig.disks[NEW]};

    init(layout, unit_seed());
    power_cut_init(&power_cut, &rig.record, disks, DISKS, unit_seed());
    attach();
}

/* The overlay shows the disk at any time. */
static void check_overlay(size_t at, void *opaque)
{
    check_image(power_cut.state, "new", at, settled(at));
    check_counts(power_cut.state, false);
}

/* The old image does as long as it has the requests. */
static void check_both(size_t at, void *opaque)
{
    check_overlay(at, opaque);
    if (at <= rig.put_at)
        check_image(power_cut.state, "old", at, settled(at));
}

static void check_all_cuts(void (*check)(size_t at, void *opaque))
{
    ck_assert_uint_eq(rig.nfailed, 0);
    detach();
    power_cut_all(&power_cut, check, NULL);
    check_image(rig.disks, "new", rig.record.n, rig.record.n);
    check_counts(rig.disks, true);
    power_cut_done(&power_cut);
}

START_TEST(what_was_flushed_is_there_after_a_power_cut)
{
    begin_to_record(&layouts[_i]);
    some_rounds(2);
    put_under_load();
    assert_done();
    some_rounds(2);
    check_all_cuts(check_both);
    end();
}
END_TEST

static void stream(void *opaque)
{
    struct block *dropped = NULL;

    rig.result = block_stream(rig.top, &job, &dropped, &rig.err);
    if (rig.result == 0)
        (void)block_close(dropped); /* only read */
}

/* Nothing but the job writes: only it knows that there is something to flush. */
static void stream_at_rest(void)
{
    submit_flush(&rig.slots[0]);
    wait_all();
    run_at_rest(stream);
}

START_TEST(a_streamed_image_is_whole_after_a_power_cut)
{
    begin_to_record(&layouts[_i / 2]);
    some_rounds(2);
    put_under_load();
    if (_i % 2)
        stream_at_rest();
    else
        run_under_load(stream);
    assert_done();
    ck_assert_ptr_null(rig.top->backing);
    some_rounds(1);
    check_all_cuts(check_both);
    end();
}
END_TEST

/* ---- committing ------------------------------------------------------------------------------ */

static void commit(void *opaque)
{
    struct block *base;

    rig.result = block_commit_live(rig.top, &job, &base, &rig.err);
    if (rig.result < 0)
        return;
    block_release(base);
    rig.overlay = rig.top;
    rig.top = base;
}

/* The image that had the requests is closed then. */
static void commit_under_load(void)
{
    run_under_load(commit);
    if (rig.result == 0)
        ck_assert_int_eq(block_close(rig.overlay), 0);
}

/* The overlay shows the disk at any time: at the end it is empty, and what is below it does. */
START_TEST(a_committed_image_is_whole_after_a_power_cut)
{
    begin_to_record(&layouts[_i]);
    some_rounds(1);
    put_under_load();
    some_rounds(1);
    commit_under_load();
    assert_done();
    some_rounds(1);
    check_all_cuts(check_overlay);
    check_image(rig.disks, "old", rig.record.n, rig.record.n);
    end();
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
    copied_held += rig.top->held;
}

static void hog_submit(struct hog *hog)
{
    static uint8_t data[HOG_LEN];

    hog->iov = (struct iovec){data, HOG_LEN};
    hog->req.off = dice_roll(&rig.dice, HOG_DISK / HOG_LEN) * HOG_LEN;
    block_submit(rig.top, &hog->req);
}

static void hog_done(struct block_req *req, int result)
{
    rig.nfailed += result < 0;
    hog_writes++;
    if (rig.top->live || hog_writes < HOG_WARM_UP)
        hog_submit(container_of(req, struct hog, req));
}

/* It is not the job that it waits for, but each write for itself. */
START_TEST(a_guest_that_writes_all_the_time_does_not_wait_for_the_rest)
{
    init(&layouts[0], unit_seed());
    rig.disks[OLD].len = HOG_DISK;
    qcow2_image_make(&rig.disks[NEW], &(struct qcow2_image_options){.cluster_bits = 16,
                                                                    .refcount_order = 4,
                                                                    .backing = "old",
                                                                    .backing_format = "raw",
                                                                    .size = HOG_DISK});
    attach_pair();
    for (unsigned i = 0; i < DISKS; i++) {
        rig.disks[i].shuffle = true;
        rig.disks[i].seed = (unsigned)dice_next(&rig.dice);
    }
    copied_held = 0;
    hog_writes = 0;
    for (unsigned i = 0; i < HOGS; i++) {
        hogs[i].req = (struct block_req){
            .op = BLOCK_WRITE, .len = HOG_LEN, .iov = &hogs[i].iov, .niov = 1, .done = hog_done};
        hog_submit(&hogs[i]);
    }
    while (hog_writes < HOG_WARM_UP - HOGS)
        aio_wait(rig.top->aio);
    rig.disks[OLD].before_write = note_copy;
    start(commit);
    while (rig.top->live)
        aio_wait(rig.top->aio);
    rig.disks[OLD].before_write = NULL;
    wait_all();
    assert_done();
    ck_assert_uint_eq(rig.nfailed, 0);
    ck_assert_uint_gt(hog_writes, HOG_WARM_UP + 2 * HOG_DISK / HOG_LEN);
    ck_assert_uint_le(copied_held, 4 + 2 * HOGS); /* MiB, with those of requests under way */
    ck_assert_int_eq(block_close(rig.overlay), 0);
    detach();
    end();
}
END_TEST

/* ---- a guest that would turn the base into another format ------------------------------------ */

static void done_first(struct block_req *req, int result)
{
    rig.nfailed += result < 0;
    rig.ndone++;
}

static int write_first_sector(const char *text)
{
    struct slot *slot = &rig.slots[0];
    unsigned nfailed = rig.nfailed;

    memset(slot->data, 0, SECTOR);
    memcpy(slot->data, text, strlen(text));
    slot->iov = (struct iovec){slot->data, SECTOR};
    slot->req = (struct block_req){
        .op = BLOCK_WRITE, .len = SECTOR, .iov = &slot->iov, .niov = 1, .done = done_first};
    rig.nsubmitted++;
    block_submit(rig.top, &slot->req);
    wait_all();
    return rig.nfailed > nfailed ? -1 : 0;
}

static void commit_now(void)
{
    run_at_rest(commit);
    if (rig.result == 0)
        ck_assert_int_eq(block_close(rig.overlay), 0);
}

/* Only the overlay said that the base is raw: another time the base may be probed. */
START_TEST(a_raw_base_that_an_image_names_keeps_its_format)
{
    init(&layouts[0], unit_seed());
    attach_pair();
    ck_assert_int_eq(write_first_sector("QFI\xfb"), 0);
    commit_now();
    ck_assert_int_eq(rig.result, -EPERM);
    ck_assert_ptr_nonnull(strstr(rig.err.msg, "look like an image of another format"));
    ck_assert_uint_eq(rig.disks[OLD].data[0], 0);
    ck_assert_int_eq(write_first_sector("harmless"), 0);
    commit_now();
    assert_done();
    ck_assert_int_lt(write_first_sector("QFI\xfb"), 0);
    ck_assert_int_eq(rig.disks[OLD].data[0], 'h');
    detach();
    end();
}
END_TEST

/* The user said so when he opened it. */
START_TEST(a_base_that_the_user_called_raw_takes_any_sector)
{
    init(&layouts[0], unit_seed());
    attach();
    run_at_rest(put);
    ck_assert_int_eq(write_first_sector("QFI\xfb"), 0);
    commit_now();
    assert_done();
    ck_assert_int_eq(rig.disks[OLD].data[0], 'Q');
    ck_assert_int_eq(write_first_sector("QFI"), 0);
    detach();
    end();
}
END_TEST

/* ---- failures of jobs ------------------------------------------------------------------------ */

/* The operation has succeeded, at last, and no request has failed. */
static void go_on_and_end(void)
{
    assert_done();
    some_rounds(1);
    ck_assert_uint_eq(rig.nfailed, 0);
    detach();
}

static void begin_on_overlay(const struct layout *layout, uint64_t seed)
{
    init(layout, seed);
    attach();
    some_rounds(1);
    put_under_load();
    some_rounds(1);
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

        begin_on_overlay(&layouts[_i], unit_seed() + (unsigned)after);
        happened = run_and_fail(commit, 1u << FILE_WRITE | 1u << FILE_READ, after);
        untidy = happened && rig.result == 0;
        if (rig.result == 0)
            (void)block_close(rig.overlay);
        some_rounds(1);
        if (rig.result < 0)
            commit_under_load();
        go_on_and_end();
        check_image(rig.disks, "old", rig.record.n, rig.record.n);
        check_image(rig.disks, "new", rig.record.n, rig.record.n);
        check_counts(rig.disks, !untidy);
        end();
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
        begin_on_overlay(&layouts[_i], unit_seed() + (unsigned)after);
        rig.disks[OLD].fault = NULL;
        rig.fault = (struct mem_fault){
            .after = after, .more = 100000, .kinds = 1u << FILE_WRITE, .result = -EIO};
        run_at_rest(commit);
        happened = rig.fault.happened;
        rig.fault.more = 0;
        rig.fault.after = -1;
        if (rig.result == 0)
            (void)block_close(rig.overlay);
        some_rounds(2);
        ck_assert(rig.result < 0 || rig.nfailed == 0);
        (void)block_detach(rig.top);
        (void)block_close(rig.top);
        loop_free(rig.loop);
        check_image(rig.disks, "new", rig.record.n,
                    rig.nfailed > 0 ? settled(rig.record.n) : rig.record.n);
        end();
    }
}
END_TEST

/* ---- failures -------------------------------------------------------------------------------- */

/* A job that fails leaves the image as it was, and the next one succeeds. */
START_TEST(an_operation_of_the_host_fails_while_streaming)
{
    bool happened = true;

    for (long after = 0; happened; after++) {
        begin_on_overlay(&layouts[_i], unit_seed() + (unsigned)after);
        happened = run_and_fail(stream, 1u << FILE_WRITE | 1u << FILE_READ, after);
        some_rounds(1);
        if (rig.result < 0)
            run_under_load(stream);
        go_on_and_end();
        check_image(rig.disks, "new", rig.record.n, rig.record.n);
        check_counts(rig.disks, true);
        end();
    }
}
END_TEST

/* Whatever fails, the disk goes on in one image or the other, and the next attempt succeeds. */
START_TEST(an_operation_of_the_host_fails)
{
    bool happened = true;

    for (long after = 0; happened; after++) {
        init(&layouts[_i], unit_seed() + (unsigned)after);
        attach();
        some_rounds(1);
        happened = run_and_fail(put, 1u << FILE_WRITE | 1u << FILE_READ, after);
        ck_assert_int_eq(rig.result < 0, happened);
        some_rounds(1);
        if (rig.result < 0)
            put_under_load();
        go_on_and_end();
        check_image(rig.disks, "new", rig.record.n, rig.record.n);
        check_counts(rig.disks, true);
        end();
    }
}
END_TEST

/* A file that could not be synced takes no flush any more: the guest is told, here and there. */
START_TEST(a_sync_fails)
{
    init(&layouts[_i], unit_seed());
    attach();
    some_rounds(1);
    rig.nfailed = 0;
    submit(0);
    wait_all();
    if (run_and_fail(put, 1u << FILE_SYNC, 0)) {
        ck_assert_int_lt(rig.result, 0);
        ck_assert_ptr_eq(rig.top->backing, NULL);
        submit_flush(&rig.slots[0]);
        wait_all();
        ck_assert_uint_eq(rig.nfailed, 1);
        ck_assert_int_eq(block_close(rig.overlay), 0);
    }
    (void)block_detach(rig.top);
    (void)block_close(rig.top);
    loop_free(rig.loop);
    end();
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("stack");
    TCase *hog = tcase_create("hog");

    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, what_was_flushed_is_there_after_a_power_cut, 0, ARRAY_SIZE(layouts));
    tcase_add_loop_test(tcase, an_operation_of_the_host_fails, 0, ARRAY_SIZE(layouts));
    tcase_add_loop_test(tcase, a_streamed_image_is_whole_after_a_power_cut, 0,
                        2 * ARRAY_SIZE(layouts));
    tcase_add_loop_test(tcase, a_committed_image_is_whole_after_a_power_cut, 0,
                        ARRAY_SIZE(layouts));
    tcase_add_test(tcase, a_raw_base_that_an_image_names_keeps_its_format);
    tcase_add_test(tcase, a_base_that_the_user_called_raw_takes_any_sector);
    tcase_add_loop_test(tcase, an_operation_of_the_host_fails_while_committing, 0,
                        ARRAY_SIZE(layouts));
    tcase_add_loop_test(tcase, the_host_of_an_overlay_fails_while_committing, 0,
                        ARRAY_SIZE(layouts));
    tcase_add_loop_test(tcase, an_operation_of_the_host_fails_while_streaming, 0,
                        ARRAY_SIZE(layouts));
    tcase_add_loop_test(tcase, a_sync_fails, 0, ARRAY_SIZE(layouts));
    tcase_set_timeout(hog, 100);
    tcase_add_test(hog, a_guest_that_writes_all_the_time_does_not_wait_for_the_rest);
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, hog);
}

UNIT_MAIN("block_stack", add_tests)
