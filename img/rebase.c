#include "img/rebase.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "img/crew.h"
#include "vmm/base/bytes.h"

/* Compared at a time: two buffers of this size stay in a processor's cache. */
#define PIECE (512u << 10)
#define BUF_ALIGN 4096u

struct piece {
    uint64_t off;
    uint64_t len; /* 0: there is none */
    bool old_data;
    bool new_data; /* else: zeroes */
};

struct rebase {
    const struct rebase_options *options;
    uint64_t len;
    uint64_t base_len;
    uint64_t unit;        /* what takes space in the image together */
    struct co_mutex lock; /* of what comes next: looking for it may wait */
    uint64_t pos;
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

/* ---- what is to be compared ------------------------------------------------------------------------- */

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

/* Pieces end where units of the image do, as far as possible: parts of a unit would be filled up. */
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
    *ret_piece = piece;
}

/* ---- comparing and writing -------------------------------------------------------------------------- */

static int read_side(struct crew_worker *worker, struct block *block, bool data,
                     const struct piece *piece, uint8_t *buf)
{
    if (data)
        return crew_read(worker, block, piece->off, piece->len, buf);
    memset(buf, 0, piece->len);
    return 0;
}

/* How far the buffers are the same from `at` on, or differ, by units. */
static uint64_t run_end(const struct rebase *rebase, const struct piece *piece, uint64_t at,
                        uint8_t *const bufs[2], bool *ret_same)
{
    uint64_t end = at;

    do {
        uint64_t unit_end = align_down(piece->off + end, rebase->unit) + rebase->unit;
        uint64_t n = min_u64(unit_end - piece->off, piece->len) - end;
        bool same = memcmp(bufs[0] + end, bufs[1] + end, n) == 0;

        if (end == at)
            *ret_same = same;
        if (same != *ret_same)
            break;
        end += n;
    } while (end < piece->len);
    return end;
}

/*
 * Both old and new are there: write what is only old. Zeroes are written as data: a request for zeroes
 * does nothing where the image reads as zero already, which may be the old backing file's doing.
 */
static int keep_old(struct rebase *rebase, struct crew_worker *worker, const struct piece *piece,
                    uint8_t *const bufs[2])
{
    uint64_t end;

    for (uint64_t at = 0; at < piece->len; at = end) {
        struct block_req req = {.op = BLOCK_WRITE, .off = piece->off + at};
        bool same = true;

        end = run_end(rebase, piece, at, bufs, &same);
        req.len = end - at;
        if (!same)
            crew_submit(worker, rebase->options->image, &req, bufs[0] + at);
    }
    return crew_wait(worker);
}

static void rebase_piece(struct rebase *rebase, struct crew_worker *worker,
                         const struct piece *piece, uint8_t *const bufs[2])
{
    const struct rebase_options *options = rebase->options;
    int r = read_side(worker, options->image, piece->old_data, piece, bufs[0]);

    if (r < 0) {
        fail(rebase, r, "error while reading from old backing file");
        return;
    }
    r = read_side(worker, options->base, piece->new_data, piece, bufs[1]);
    if (r < 0) {
        fail(rebase, r, "error while reading from new backing file");
        return;
    }
    r = keep_old(rebase, worker, piece, bufs);
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
    r = crew_run(blocks, options->base ? 2 : 1, crew_size(), rebase_pieces, &rebase, &crew_err);
    if (rebase.result == 0 && r < 0) {
        rebase.result = r;
        *err = crew_err;
    }
    return rebase.result;
}
