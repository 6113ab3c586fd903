/* SPDX-License-Identifier: Apache-2.0 */
#include "img/compare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "img/crew.h"
#include "img/zero_scan.h"

/* Read at a time: what two buffers of this size hold stays in a processor's cache. */
#define PIECE (512u << 10)
#define BUF_ALIGN 4096u

/* What counts when two are compared strictly. */
#define STRICT_FLAGS                                                                               \
    (BLOCK_STATUS_DATA | BLOCK_STATUS_ZERO | BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_OFFSET)
#define AT_END (1u << 31)

struct side {
    struct block *block; /* NULL: zeroes */
    struct block_status status;
    uint64_t end; /* up to here it is the same */
};

struct piece {
    uint64_t off;
    uint64_t len; /* 0: there is none */
    bool read[2]; /* the other side is zeroes */

    /* Where the sides' data ends, in the last sector or with it; zeroes follow. */
    uint64_t ends[2];
};

struct comparison {
    const struct compare_options *options;
    struct co_mutex lock; /* of what comes next: looking for it may wait */
    struct side sides[2];
    uint64_t pos;
    bool over; /* there is something to be said of what is before `pos` */
    struct compare_result result;
};

/* Of what is found in any order, keep the first. */
static void found(struct comparison *c, enum compare_outcome outcome, uint64_t off, unsigned side,
                  int error)
{
    c->over = true;
    if (c->result.outcome == COMPARE_EQUAL || off < c->result.off)
        c->result = (struct compare_result){outcome, off, side, error};
}

/* ---- what is to be read ---------------------------------------------------------------------- */

static int look(struct comparison *c, unsigned i)
{
    struct side *side = &c->sides[i];
    uint64_t len = c->options->to - c->pos;
    int r = 0;

    if (c->pos < side->end)
        return 0;
    side->status = (struct block_status){.flags = BLOCK_STATUS_ZERO, .len = len};
    if (side->block)
        r = block_get_host_status(side->block, c->pos, len, false, &side->status);
    if (r < 0)
        found(c, COMPARE_NO_STATUS, c->pos, i, r);
    side->end = c->pos + side->status.len;
    return r;
}

static bool has_data(const struct side *side)
{
    return !(side->status.flags & BLOCK_STATUS_ZERO);
}

/* What two sides have to have in common; whether it goes on to the end, as with QEMU. */
static unsigned strict_status(const struct comparison *c, const struct side *side)
{
    unsigned to_the_end = side->end == c->options->to ? AT_END : 0;

    return (side->status.flags & STRICT_FLAGS) | to_the_end;
}

/* What comes next; nothing of it need be read. */
static int step(struct comparison *c, struct piece *ret_piece)
{
    struct side *a = &c->sides[0];
    struct side *b = &c->sides[1];
    struct piece piece = {.off = c->pos};
    int r = look(c, 0);

    if (r == 0)
        r = look(c, 1);
    if (r < 0)
        return r;
    if (c->options->strict && strict_status(c, a) != strict_status(c, b)) {
        found(c, COMPARE_STATUS, c->pos, 0, 0);
        return -EINVAL;
    }
    piece.len = min_u64(a->end, b->end) - c->pos;
    if (!(has_data(a) && has_data(b) && block_is_same_layer(a->status.layer, b->status.layer))) {
        piece.read[0] = has_data(a);
        piece.read[1] = has_data(b);
    }
    if (piece.read[0] || piece.read[1])
        piece.len = min_u64(piece.len, PIECE - piece.off % PIECE);
    c->pos += piece.len;
    for (unsigned i = 0; i < 2; i++)
        piece.ends[i] = c->pos - (c->pos == c->sides[i].end ? c->sides[i].status.beyond : 0);
    *ret_piece = piece;
    return 0;
}

static void next_piece(struct comparison *c, struct piece *ret_piece)
{
    struct piece piece = {.len = 0};

    co_mutex_lock(&c->lock);
    while (!c->over && c->pos < c->options->to) {
        if (step(c, &piece) == 0 && (piece.read[0] || piece.read[1]))
            break;
        piece.len = 0;
    }
    co_mutex_unlock(&c->lock);
    *ret_piece = piece;
}

/* ---- reading and comparing ------------------------------------------------------------------- */

/* `b` NULL: zeroes. */
static bool is_equal(const uint8_t *a, const uint8_t *b, uint64_t len)
{
    return b ? memcmp(a, b, len) == 0 : zero_scan_all(a, len);
}

/* Where the first sector is that differs. len: there is none. */
static uint64_t first_difference(const uint8_t *a, const uint8_t *b, uint64_t len)
{
    uint64_t at = 0;

    if (is_equal(a, b, len))
        return len;
    while (is_equal(a + at, b ? b + at : NULL, BLOCK_SECTOR_SIZE))
        at += BLOCK_SECTOR_SIZE;
    return at;
}

/*
 * QEMU counts what follows the end of a file inside a sector as a part of its own. So look for what
 * differs after that end in the sector at `at`, the piece's last one.
 */
static uint64_t look_closer(const struct piece *piece, const uint8_t *a, const uint8_t *b,
                            uint64_t at)
{
    uint64_t cuts[] = {
        min_u64(piece->ends[0], piece->ends[1]) - piece->off,
        max_u64(piece->ends[0], piece->ends[1]) - piece->off,
    };

    if (at + BLOCK_SECTOR_SIZE < piece->len)
        return at;
    for (unsigned i = 0; i < 2 && is_equal(a + at, b ? b + at : NULL, cuts[i] - at); i++)
        at = cuts[i];
    return at;
}

static void compare_piece(struct comparison *c, struct crew_worker *worker,
                          const struct piece *piece, uint8_t *bufs[2])
{
    uint8_t *a = piece->read[0] ? bufs[0] : bufs[1];
    uint8_t *b = piece->read[0] && piece->read[1] ? bufs[1] : NULL;
    uint64_t at;

    for (unsigned i = 0; i < 2; i++) {
        int r = piece->read[i]
                    ? crew_read(worker, c->sides[i].block, piece->off, piece->len, bufs[i])
                    : 0;

        if (r < 0) {
            found(c, COMPARE_NO_DATA, piece->off, i, r);
            return;
        }
    }
    if (c->options->strict && piece->ends[0] != piece->ends[1])
        found(c, COMPARE_STATUS, min_u64(piece->ends[0], piece->ends[1]), 0, 0);
    at = first_difference(a, b, piece->len);
    if (at < piece->len)
        found(c, COMPARE_CONTENT, piece->off + look_closer(piece, a, b, at), 0, 0);
}

static void compare_pieces(struct crew_worker *worker)
{
    struct comparison *c = worker->crew->opaque;
    uint8_t *bufs[2] = {aligned_alloc(BUF_ALIGN, PIECE), aligned_alloc(BUF_ALIGN, PIECE)};
    struct piece piece;

    if (!bufs[0] || !bufs[1])
        found(c, COMPARE_NO_DATA, c->pos, 0, -ENOMEM);
    for (next_piece(c, &piece); piece.len > 0; next_piece(c, &piece)) {
        compare_piece(c, worker, &piece, bufs);
        progress_report(c->options->progress, c->pos, c->options->progress_len);
    }
    free(bufs[0]);
    free(bufs[1]);
}

int compare_run(const struct compare_options *options, struct compare_result *ret_result,
                struct err *err)
{
    struct comparison c = {.options = options, .pos = options->from};
    unsigned n = options->blocks[1] ? 2 : 1;
    int r;

    for (unsigned i = 0; i < 2; i++)
        c.sides[i] = (struct side){.block = options->blocks[i], .end = options->from};
    co_mutex_init(&c.lock);
    r = crew_run(options->blocks, n, crew_size(), compare_pieces, &c, err);
    *ret_result = c.result;
    return r;
}
