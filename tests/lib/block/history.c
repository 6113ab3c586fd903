/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/history.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

static void *grow(void *array, unsigned *max, size_t size)
{
    *max = *max ? *max * 2 : 8;
    array = realloc(array, *max * size);
    if (!array)
        abort();
    return array;
}

/* ---- contents -------------------------------------------------------------------------------- */

void history_fill(uint8_t *sector, uint64_t stamp)
{
    uint64_t noise = stamp * 0x9e3779b97f4a7c15ull;

    memset(sector, (int)(stamp % 251), HISTORY_SECTOR);
    for (unsigned at = 8; (stamp & HISTORY_NOISE) && at < HISTORY_SECTOR; at += 8) {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        store_le64(sector + at, noise);
    }
    store_le64(sector, stamp);
}

bool history_read_stamp(const uint8_t *sector, uint64_t *ret_stamp)
{
    uint8_t expected[HISTORY_SECTOR];
    uint64_t stamp = load_le64(sector);

    history_fill(expected, stamp);
    if (memcmp(sector, expected, sizeof(expected)) != 0)
        return false;
    *ret_stamp = stamp;
    return true;
}

/* ---- events ---------------------------------------------------------------------------------- */

void history_init(struct history *history, uint64_t nsectors)
{
    unsigned begin;

    *history = (struct history){.nsectors = nsectors};
    history->sectors = calloc(nsectors, sizeof(*history->sectors));
    if (!history->sectors)
        abort();
    begin = history_begin(history, HISTORY_DURABLE, 0);
    for (uint64_t i = 0; i < nsectors; i++)
        history_put(history, begin, i, 0);
    history_end(history, begin, 0);
}

void history_done(struct history *history)
{
    for (uint64_t i = 0; i < history->nsectors; i++)
        free(history->sectors[i].entries);
    free(history->sectors);
    free(history->events);
    *history = (struct history){0};
}

void history_set_initial(struct history *history, uint64_t sector, uint64_t stamp)
{
    history->sectors[sector].entries[0].stamp = stamp;
}

uint64_t history_initial(const struct history *history, uint64_t sector)
{
    return history->sectors[sector].entries[0].stamp;
}

unsigned history_begin(struct history *history, enum history_kind kind, size_t now)
{
    if (history->nevents == history->max_events)
        history->events = grow(history->events, &history->max_events, sizeof(*history->events));
    history->events[history->nevents] =
        (struct history_event){.kind = kind, .begin = now, .end = SIZE_MAX};
    return history->nevents++;
}

void history_put(struct history *history, unsigned event, uint64_t sector, uint64_t stamp)
{
    struct history_sector *s = &history->sectors[sector];

    if (s->n == s->max)
        s->entries = grow(s->entries, &s->max, sizeof(*s->entries));
    s->entries[s->n++] = (struct history_entry){.event = event, .stamp = stamp};
}

void history_end(struct history *history, unsigned event, size_t now)
{
    history->events[event].end = now;
}

/* `durable`: until when events of that kind are certain by themselves. */
static bool is_settled(const struct history_event *event, size_t durable, size_t settled)
{
    if (event->kind == HISTORY_MAYBE)
        return false;
    return event->end <= settled || (event->kind == HISTORY_DURABLE && event->end <= durable);
}

void history_lose(struct history *history, size_t now, size_t settled)
{
    for (unsigned i = 0; i < history->nevents; i++) {
        struct history_event *event = &history->events[i];

        if (is_settled(event, now, settled))
            continue;
        event->kind = HISTORY_MAYBE;
        event->end = SIZE_MAX;
    }
}

static bool allows(const struct history *history, uint64_t sector, uint64_t stamp, size_t now,
                   size_t durable, size_t settled)
{
    const struct history_sector *s = &history->sectors[sector];
    size_t last = 0; /* when the last certain event began: what ended before is gone */

    for (unsigned i = 0; i < s->n; i++) {
        const struct history_event *event = &history->events[s->entries[i].event];

        if (is_settled(event, durable, settled))
            last = max_u64(last, event->begin);
    }
    for (unsigned i = 0; i < s->n; i++) {
        const struct history_event *event = &history->events[s->entries[i].event];

        /* The initial contents begin and end at 0; they last until something else is certain. */
        if (s->entries[i].stamp == stamp && event->begin <= now &&
            (event->end > last || event->begin == last))
            return true;
    }
    return false;
}

bool history_allows(const struct history *history, uint64_t sector, uint64_t stamp, size_t now,
                    size_t settled)
{
    return allows(history, sector, stamp, now, now, settled);
}

bool history_allows_read(const struct history *history, uint64_t sector, uint64_t stamp,
                         size_t begin, size_t end)
{
    return allows(history, sector, stamp, end, begin, begin);
}

bool history_changes(const struct history *history, uint64_t sector, size_t begin)
{
    const struct history_sector *s = &history->sectors[sector];

    for (unsigned i = 0; i < s->n; i++)
        if (history->events[s->entries[i].event].end > begin)
            return true;
    return false;
}

uint64_t history_latest(const struct history *history, uint64_t sector)
{
    const struct history_sector *s = &history->sectors[sector];

    return s->entries[s->n - 1].stamp;
}
