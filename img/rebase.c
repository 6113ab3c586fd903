/* SPDX-License-Identifier: Apache-2.0 */
#include "img/rebase.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "img/crew.h"
#include "img/zero_scan.h"

/* Compared at a time: two buffers of this size stay in a processor's cache. */
#define PIECE (512u << 10)
#define BUF_ALIGN 4096u

struct piece {
    uint64_t off;
    uint64_t len; /* 0: there is none */
    bool old_data;
    bool new_data; /* else: zeroes */
    uint64_t turn;
};

struct rebase {
    const struct rebase_options *options;
    uint64_t len;
    uint64_t base_len;
    uint64_t unit;        /* what takes space in the image together */
    struct co_mutex lock; /* of what comes next: looking for it may wait */
    uint64_t pos;
    struct crew_turns turns; /* to write */
    int result;
    struct err *err;
};

static int fail(struct rebase *rebase, int r, const char *what)
{
    if (rebase->result == 0) {
        rebase->result = r;
        err_set_errno(rebase->err, r, "%s", what);
    }
    return r;
}

/* ---- what is to be compared ------------------------------------------------------------------ */

static int base_status(const struct rebase *rebase, uint64_t len, struct block_status *ret_status)
{
    if (rebase->pos < rebase->base_len)
        return block_get_status(rebase->options->base, rebase->pos,
                                min_u64(len, rebase->base_len - rebase->pos), false, ret_status);
    *ret_status = (struct block_status){.flags = BLOCK_STATUS_ZERO, .len = len};
    return 0;
}

/* What comes next; `ret_same`: it shows the same before and after, so nothing is to be done. */
static int look(struct rebase *rebase, struct piece *ret_piece, bool *ret_same)
{
    struct block *image = rebase->options->image;
    uint64_t len = rebase->len - rebase->pos;
    struct block_status own;
    struct block_status old;
    struct block_status new = {0};
    int r = block_get_status(image, rebase->pos, len, true, &own);

    if (r < 0)
        return r;
    *ret_piece = (struct piece){.off = rebase->pos, .len = own.len};
    *ret_same = own.flags & BLOCK_STATUS_ALLOCATED;
    if (*ret_same)
        return 0;
    r = block_get_status(image, rebase->pos, own.len, false, &old);
    if (r == 0)
        r = base_status(rebase, own.len, &new);
    if (r < 0)
        return r;
    ret_piece->len = min_u64(old.len, new.len);
    ret_piece->old_data = !(old.flags & BLOCK_STATUS_ZERO);
    ret_piece->new_data = !(new.flags &BLOCK_STATUS_ZERO);
    *ret_same = !ret_piece->old_data && !ret_piece->new_data;
    if (ret_piece->old_data && ret_piece->new_data)
        *ret_same = block_is_same_layer(old.layer, new.layer);
    return 0;
}

/*
 * Pieces end where units of the image do, as far as possible: parts of a unit would be filled up.
 */
static int step(struct rebase *rebase, struct piece *ret_piece, bool *ret_same)
{
    uint64_t end;
    int r = look(rebase, ret_piece, ret_same);

    if (r < 0)
        return fail(rebase, r, "error while reading image metadata");
    if (!*ret_same) {
        end = min_u64(rebase->pos + ret_piece->len, align_down(rebase->pos, PIECE) + PIECE);
        if (align_down(end, rebase->unit) > rebase->pos)
            end = align_down(end, rebase->unit);
        ret_piece->len = end - rebase->pos;
    }
    rebase->pos += ret_piece->len;
    return 0;
}

static void next_piece(struct rebase *rebase, struct piece *ret_piece)
{
    struct piece piece = {.len = 0};
    bool same = true;

    co_mutex_lock(&rebase->lock);
    while (rebase->result == 0 && same && rebase->pos < rebase->len)
        if (step(rebase, &piece, &same) < 0)
            break;
    co_mutex_unlock(&rebase->lock);
    if (same || rebase->result < 0)
        piece.len = 0;
    else
        piece.turn = crew_turn_take(&rebase->turns);
    *ret_piece = piece;
}

/* ---- comparing and writing ------------------------------------------------------------------- */

enum change { CHANGE_NONE, CHANGE_TO_ZEROES, CHANGE_TO_DATA };

/* A side that has no data is zeroes, which are in no buffer. */
static enum change change_of(const struct piece *piece, const uint8_t *old, const uint8_t *new,
                             uint64_t len)
{
    if (!piece->new_data)
        return zero_scan_all(old, len) ? CHANGE_NONE : CHANGE_TO_DATA;
    if (!piece->old_data)
        return zero_scan_all(new, len) ? CHANGE_NONE : CHANGE_TO_ZEROES;
    if (memcmp(old, new, len) == 0)
        return CHANGE_NONE;
    return zero_scan_all(old, len) ? CHANGE_TO_ZEROES : CHANGE_TO_DATA;
}

/* How far the units from `at` on are of one kind, and of which. */
static uint64_t run_end(const struct rebase *rebase, const struct piece *piece, uint64_t at,
                        uint8_t *const bufs[2], enum change *ret_change)
{
    uint64_t end = at;

    do {
        uint64_t unit_end = align_down(piece->off + end, rebase->unit) + rebase->unit;
        uint64_t n = min_u64(unit_end - piece->off, piece->len) - end;
        enum change change = change_of(piece, bufs[0] + end, bufs[1] + end, n);

        if (end == at)
            *ret_change = change;
        if (change != *ret_change)
            break;
        end += n;
    } while (end < piece->len);
    return end;
}

/* What was read: write what is only old. */
static void begin_writes(struct rebase *rebase, struct crew_worker *worker,
                         const struct piece *piece, uint8_t *const bufs[2])
{
    uint64_t end;

    for (uint64_t at = 0; at < piece->len; at = end) {
        struct block_req req = {.op = BLOCK_WRITE, .off = piece->off + at};
        enum change change = CHANGE_NONE;

        end = run_end(rebase, piece, at, bufs, &change);
        req.len = end - at;
        if (change == CHANGE_TO_ZEROES) {
            req.op = BLOCK_WRITE_ZEROES;
            req.flags = BLOCK_REQ_OWN;
        }
        if (change != CHANGE_NONE)
            crew_submit(worker, rebase->options->image, &req,
                        change == CHANGE_TO_DATA ? bufs[0] + at : NULL);
    }
}

static int read_sides(struct rebase *rebase, struct crew_worker *worker, const struct piece *piece,
                      uint8_t *const bufs[2])
{
    const struct rebase_options *options = rebase->options;
    int r = 0;

    if (piece->old_data)
        r = crew_read(worker, options->image, piece->off, piece->len, bufs[0]);
    if (r < 0)
        return fail(rebase, r, "error while reading from old backing file");
    if (piece->new_data)
        r = crew_read(worker, options->base, piece->off, piece->len, bufs[1]);
    return r < 0 ? fail(rebase, r, "error while reading from new backing file") : 0;
}

static void rebase_piece(struct rebase *rebase, struct crew_worker *worker,
                         const struct piece *piece, uint8_t *const bufs[2])
{
    int r = read_sides(rebase, worker, piece, bufs);

    crew_turn_wait(&rebase->turns, piece->turn);
    if (r == 0 && rebase->result == 0)
        begin_writes(rebase, worker, piece, bufs);
    crew_turn_pass(&rebase->turns);
    r = crew_wait(worker);
    if (r < 0)
        fail(rebase, r, "Error while writing to COW image");
}

static void rebase_pieces(struct crew_worker *worker)
{
    struct rebase *rebase = worker->crew->opaque;
    uint8_t *bufs[2] = {aligned_alloc(BUF_ALIGN, PIECE), aligned_alloc(BUF_ALIGN, PIECE)};
    struct piece piece;

    if (!bufs[0] || !bufs[1])
        fail(rebase, -ENOMEM, "cannot compare");
    for (next_piece(rebase, &piece); piece.len > 0; next_piece(rebase, &piece)) {
        rebase_piece(rebase, worker, &piece, bufs);
        progress_report(rebase->options->progress, rebase->pos, rebase->len);
    }
    free(bufs[0]);
    free(bufs[1]);
}

int rebase_run(const struct rebase_options *options, struct err *err)
{
    struct block *const blocks[] = {options->image, options->base};
    struct rebase rebase = {.options = options, .err = err};
    struct block_info info;
    struct err crew_err;
    int r;

    block_get_info(options->image, &info);
    rebase.len = info.len;
    rebase.unit = max_u64(info.alloc_unit, BLOCK_SECTOR_SIZE);
    if (options->base) {
        block_get_info(options->base, &info);
        rebase.base_len = info.len;
    }
    co_mutex_init(&rebase.lock);
    crew_turns_init(&rebase.turns);
    r = crew_run(blocks, options->base ? 2 : 1, crew_size(), rebase_pieces, &rebase, &crew_err);
    if (rebase.result == 0 && r < 0) {
        rebase.result = r;
        *err = crew_err;
    }
    return rebase.result;
}
