/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each sector of a disk may show, given what was asked of it, what of that was going on at the
 * same time, and what a flush has made durable.
 *
 * Every sector that is written gets a stamp of its own, which its contents are made of. The clock
 * is any number that grows; for power cuts it is the place in the record of operations.
 */
#ifndef MINIVMM_TESTS_HISTORY_H
#define MINIVMM_TESTS_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_SECTOR 512u

/* In a stamp: contents that do not compress. */
#define HISTORY_NOISE (1ull << 62)

/* Fill a sector with what a stamp stands for; 0: zeroes. */
void history_fill(uint8_t *sector, uint64_t stamp);

/* The stamp that a sector was filled with, or false if it is no such sector. */
bool history_read_stamp(const uint8_t *sector, uint64_t *ret_stamp);

enum history_kind {
    HISTORY_SURE,    /* it shows the new stamp when it has ended */
    HISTORY_DURABLE, /* and does so even after a power cut */
    HISTORY_MAYBE,   /* it shows the new stamp or what was there before: discards, failures */
};

struct history_event {
    enum history_kind kind;
    size_t begin;
    size_t end; /* SIZE_MAX: not yet, or failed */
};

struct history_entry {
    unsigned event;
    uint64_t stamp;
};

struct history_sector {
    struct history_entry *entries;
    unsigned n;
    unsigned max;
};

struct history {
    uint64_t nsectors;
    struct history_sector *sectors;
    struct history_event *events;
    unsigned nevents;
    unsigned max_events;
};

/* All sectors show zeroes. */
void history_init(struct history *history, uint64_t nsectors);
void history_done(struct history *history);

/* What a sector shows before everything else. */
void history_set_initial(struct history *history, uint64_t sector, uint64_t stamp);

uint64_t history_initial(const struct history *history, uint64_t sector);

/* Begin an event, say what it is to put where, and end it, unless it failed. */
unsigned history_begin(struct history *history, enum history_kind kind, size_t now);
void history_put(struct history *history, unsigned event, uint64_t sector, uint64_t stamp);
void history_end(struct history *history, unsigned event, size_t now);

/*
 * The disk was lost with all that was in memory only: what is not settled may be gone, or come back
 * later.
 */
void history_lose(struct history *history, size_t now, size_t settled);

/*
 * May the sector show `stamp` at `now`, when all that ended by `settled` is certain to be there?
 * Without a power cut the two are the same.
 */
bool history_allows(const struct history *history, uint64_t sector, uint64_t stamp, size_t now,
                    size_t settled);

/* May a read that began and ended then show it? */
bool history_allows_read(const struct history *history, uint64_t sector, uint64_t stamp,
                         size_t begin, size_t end);

/* Is an event under way that changes the sector, or has one been since `begin`? */
bool history_changes(const struct history *history, uint64_t sector, size_t begin);

/* A stamp that the sector may show now; the only one, if no events overlapped there. */
uint64_t history_latest(const struct history *history, uint64_t sector);

#endif
