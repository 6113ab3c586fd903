/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images on top of each other, on disks in memory, that change while requests come: with a record
 * of all that reached the disks, for power cuts, and hosts that fail.
 *
 * There is one such rig. What is there at any moment is compared with a history of what was asked.
 */
#ifndef MINIVMM_TESTS_STACK_RIG_H
#define MINIVMM_TESTS_STACK_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "block/job.h"
#include "tests/lib/block/history.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/power_cut.h"

#define RIG_SECTORS ((uint64_t)512)
#define RIG_REQS 16u    /* at a time */
#define RIG_LONGEST 24u /* sectors of a request */

/* "old", and overlays on top of it: "new", "new2", "new3". */
enum { RIG_OLD, RIG_NEW, RIG_NEW2, RIG_NEW3, RIG_DISKS };

/* Of the old image. */
struct rig_layout {
    const char *name;
    unsigned cluster_bits;
    bool raw;
    bool lazy;
    bool extended_l2;
};

#define RIG_LAYOUTS 4u
extern const struct rig_layout rig_layouts[RIG_LAYOUTS];

struct rig_flush {
    size_t begin;
    size_t end;
};

/* One write at a time may be at a sector; flushes are remembered. */
struct rig_slot {
    struct block_req req;
    struct iovec iov;
    unsigned event;
    size_t begin;
    uint8_t data[RIG_LONGEST * HISTORY_SECTOR];
};

extern struct stack_rig {
    const struct rig_layout *layout;
    unsigned ndisks;
    unsigned nopen; /* overlays that were opened */
    struct mem_env env;
    struct mem_disk disks[RIG_DISKS];
    struct mem_record record;
    struct power_cut power_cut;
    struct mem_fault fault;
    struct history history;
    struct rig_flush flushes[1000];
    unsigned nflushes;
    unsigned nreqs; /* of a round */
    struct rig_slot slots[RIG_REQS];
    uint64_t dice;
    uint64_t stamp;
    unsigned nfailed;
    unsigned nsubmitted;
    unsigned ndone;
    struct loop *loop;
    struct block *top;
    struct block *overlay; /* opened, and not put on top yet */
    struct block_job job;
    int result;
    struct err err;
    size_t put_at; /* in the record: the overlay has the requests */
} stack_rig;

/* Make the images: so many, each on top of the one before. */
void rig_init(const struct rig_layout *layout, unsigned ndisks, uint64_t seed);
void rig_end(void);

/* The old image alone has requests; the first overlay is opened. What happens is recorded. */
void rig_attach(void);

/* The chain of the old image and the first overlay has requests from the start. */
void rig_attach_pair(void);

/* Open the next overlay. */
void rig_next(void);

/* The disk is closed. A test that does it in another way frees the loop. */
void rig_detach(void);
void rig_free_loop(void);

/* ---- requests -------------------------------------------------------------------------------- */

/* A write of slot `i`, to a part of the disk that is its own, or a flush. */
void rig_submit(unsigned i);
void rig_submit_flush(struct rig_slot *slot);
void rig_wait_all(void);
void rig_some_rounds(unsigned n);

/* ---- operations (block/live.h), which leave their result in the rig -------------------------- */

/* The job of each need not wait when it is ready. */
void rig_start(void (*operation)(void *opaque));
void rig_run_at_rest(void (*operation)(void *opaque));

/* Requests all the time, until it is done. */
void rig_run_under_load(void (*operation)(void *opaque));

/*
 * The host fails once: an operation on a file of these kinds, after so many others. Returns whether
 * it came to that.
 */
bool rig_run_and_fail(void (*operation)(void *opaque), unsigned kinds, long after);

void rig_assert_done(void);

/* An operation: the overlay that is open is put on top. */
void rig_put(void *opaque);
void rig_put_under_load(void);

/* ---- what the images show -------------------------------------------------------------------- */

/* All that ended before a flush that was over by `at` began is certain: until when is that? */
size_t rig_settled(size_t at);

void rig_check_image(struct mem_disk *disks, const char *name, size_t at, size_t sure);
void rig_check_counts(struct mem_disk *disks, bool leaks_too);

/* Make the images and attach the old one, for power cuts. */
void rig_begin_to_record(const struct rig_layout *layout, unsigned ndisks);

/* For rig_check_all_cuts: the last overlay shows the disk at any time. */
void rig_check_overlay(size_t at, void *opaque);

/* The disk is closed, the power was cut at any moment before, and the last overlay shows it. */
void rig_check_all_cuts(void (*check)(size_t at, void *opaque));

#endif
