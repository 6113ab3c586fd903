/* SPDX-License-Identifier: Apache-2.0 */
#include "img/copy.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/co.h"
#include "base/io_memory.h"
#include "block/image.h"
#include "img/crew.h"
#include "img/zero_scan.h"

/*
 * Data is copied in pieces of this size: they stay in a processor's cache between reading and
 * writing, and are long enough for any disk when several are under way.
 */
#define PIECE (512u << 10)
#define PIECE_MAX (16u << 20)

/* Longest piece that the host is asked to copy; it does not pass through this process. */
#define OFFLOAD_MAX (16u << 20)

/*
 * Zeroes in a cluster that is to be written are written with it, as its space is taken anyway; but
 * no more than this.
 */
#define UNIT_MAX (64u << 10)

/* What qemu-img copies at a time: scripts see progress in the same steps. */
#define STEP_LEN (2u << 20)

enum kind {
    KIND_DATA,
    KIND_ZERO,
    KIND_BACKING, /* the target's backing file shows it */
};

/* Pieces whose progress is told when the last of them is done. */
struct copy_step {
    uint64_t len;
    unsigned users; /* pieces under way; and one while others may come */
};

struct piece {
    enum kind kind;
    uint64_t off; /* in the target */
    uint64_t len;
    uint64_t turn;
    struct block *from; /* NULL: it is not for the host to copy */
    uint64_t from_host;
    struct copy_step *step; /* NULL: it is told by itself */
};

struct copy {
    const struct copy_options *options;
    uint64_t len;
    uint64_t piece_max;
    uint64_t target_len;
    uint64_t unit;       /* zeroes are looked for in units of this size */
    uint64_t alloc_unit; /* of the target */

    bool offload;         /* the host has not refused yet */
    struct co_mutex host; /* it is copying */

    /* What comes next; looking for it may wait. */
    struct co_mutex lock;
    uint64_t pos;
    enum kind kind;
    uint64_t kind_end;  /* from `pos` up to here it is of that kind */
    struct block *from; /* the layer in whose file `pos` is data, from `from_host` on; NULL: none */
    uint64_t from_host;
    struct crew_turns turns; /* to write */
    struct copy_step *step;  /* that pieces go into; NULL: none */

    uint64_t begun; /* ns */
    uint64_t paced; /* bytes that count for the rate */

    uint8_t *memory;     /* of all slots; NULL: none has needed any yet */
    unsigned nslots;     /* slots that there may be */
    unsigned slots_used; /* slots that have their part of `memory` */

    uint64_t data_total;
    uint64_t data_done;
    int result;
    struct err *err;
};

/* One piece after the other goes through a slot: a worker with a buffer. */
struct slot {
    struct copy *copy;
    struct crew_worker *worker;
    uint8_t *buf;
};

static _Atomic uint64_t position;

uint64_t copy_position(void)
{
    return atomic_load(&position);
}

static int fail(struct copy *copy, int r, const char *what, uint64_t off)
{
    if (copy->result == 0) {
        copy->result = r;
        err_set_errno(copy->err, r, "error while %s %llu", what, (unsigned long long)off);
    }
    return r;
}

/* ---- progress -------------------------------------------------------------------------------- */

static void show_progress(struct copy *copy, uint64_t len)
{
    struct progress *progress = copy->options->progress;

    copy->data_done += len;
    if (progress && progress->on)
        progress_report(progress, copy->data_done, copy->data_total);
    else if (progress)
        progress_report(progress, copy->pos, copy->len);
}

static void step_leave(struct copy *copy, struct copy_step *step)
{
    if (--step->users > 0)
        return;
    if (copy->result == 0 && step->len > 0)
        show_progress(copy, step->len);
    free(step);
}

static void step_end(struct copy *copy)
{
    if (copy->step)
        step_leave(copy, copy->step);
    copy->step = NULL;
}

/* Where there is no memory the piece is a step of its own. */
static void step_enter(struct copy *copy, struct piece *piece)
{
    const struct progress *progress = copy->options->progress;

    if (!progress || !progress->on || progress->terminal)
        return;
    if (!copy->step) {
        copy->step = malloc(sizeof(*copy->step));
        if (!copy->step)
            return;
        *copy->step = (struct copy_step){.users = 1};
    }
    piece->step = copy->step;
    piece->step->len += piece->len;
    if (piece->step->len >= STEP_LEN)
        copy->step = NULL; /* the piece takes the copy's place among its users */
    else
        piece->step->users++;
}

/* ---- what is where --------------------------------------------------------------------------- */

/* The part of the sources that `off` of the target comes from. */
static const struct copy_source *source_at(const struct copy_options *options, uint64_t off,
                                           uint64_t *ret_in_source)
{
    const struct copy_source *source = options->sources;

    for (; off >= source->len; source++)
        off -= source->len;
    *ret_in_source = off;
    return source;
}

static enum kind kind_of(const struct copy *copy, uint64_t off, const struct block_status *status)
{
    const struct copy_options *options = copy->options;

    if (status->flags & BLOCK_STATUS_ZERO)
        return options->target_has_backing && off >= options->backing_len ? KIND_BACKING
                                                                          : KIND_ZERO;
    return status->flags & BLOCK_STATUS_DATA ? KIND_DATA : KIND_BACKING;
}

/*
 * What the source itself says: nothing (no flags) where its backing file shows through, but zeroes
 * past the end of that.
 */
static int get_own_status(struct block *block, uint64_t off, uint64_t len,
                          struct block_status *ret_status)
{
    struct block_details details;
    struct block_info info = {.len = 0};
    int r = block_get_host_status(block, off, len, true, ret_status);

    if (r < 0 || (ret_status->flags & BLOCK_STATUS_ALLOCATED))
        return r;
    block_get_details(block, &details);
    if (details.backing)
        block_get_info(details.backing, &info);
    ret_status->flags = off < info.len ? 0 : BLOCK_STATUS_ZERO;
    if (off < info.len)
        ret_status->len = min_u64(ret_status->len, info.len - off);
    return 0;
}

static int get_status_once(const struct copy *copy, const struct copy_source *source, uint64_t off,
                           uint64_t len, struct block_status *ret_status)
{
    if (copy->options->target_has_backing)
        return get_own_status(source->block, source->off + off, len, ret_status);
    return block_get_host_status(source->block, source->off + off, len, false, ret_status);
}

/*
 * With `salvage`, what cannot be told of a range is asked for shorter ones, down to a sector, which
 * is then to be read.
 */
static int get_status(const struct copy *copy, const struct copy_source *source, uint64_t off,
                      uint64_t len, struct block_status *ret_status)
{
    int r = get_status_once(copy, source, off, len, ret_status);

    while (r < 0 && copy->options->salvage && len > BLOCK_SECTOR_SIZE) {
        len = align_up(len / 4, BLOCK_SECTOR_SIZE);
        r = get_status_once(copy, source, off, len, ret_status);
    }
    if (r < 0 && copy->options->salvage) {
        if (copy->options->unreadable)
            copy->options->unreadable(off, r, true);
        *ret_status = (struct block_status){.flags = BLOCK_STATUS_DATA, .len = len};
        r = 0;
    }
    return r;
}

/* The layer of which the host could copy what is there, uncompressed. */
static struct block *offload_layer(const struct copy *copy, const struct block_status *status)
{
    const unsigned as_it_is = BLOCK_STATUS_DATA | BLOCK_STATUS_OFFSET;
    const unsigned any = as_it_is | BLOCK_STATUS_ZERO | BLOCK_STATUS_COMPRESSED;

    return copy->offload && (status->flags & any) == as_it_is ? status->layer : NULL;
}

static int look(struct copy *copy)
{
    const struct copy_options *options = copy->options;
    struct block_status status;
    uint64_t in_source;
    const struct copy_source *source = source_at(options, copy->pos, &in_source);
    uint64_t len = source->len - in_source;
    int r;

    if (options->target_has_backing && copy->pos < options->backing_len)
        len = min_u64(len, options->backing_len - copy->pos);
    r = get_status(copy, source, in_source, len, &status);
    if (r < 0)
        return fail(copy, r, "reading block status at offset", in_source);
    step_end(copy); /* it is of one extent */
    copy->kind = kind_of(copy, copy->pos, &status);
    copy->kind_end = copy->pos + min_u64(status.len, len);
    copy->from = offload_layer(copy, &status);
    copy->from_host = status.host;
    return 0;
}

/* Zeroes that are to be written like any data. */
static bool is_written(const struct copy *copy, enum kind kind)
{
    return kind == KIND_DATA || (kind == KIND_ZERO && copy->options->min_zeroes == 0);
}

/* A cluster that is to be compressed is copied as a whole, whatever parts of it are. */
static void fit_clusters(struct copy *copy, struct piece *piece)
{
    uint64_t cluster = copy->unit;

    if (piece->len >= cluster) {
        piece->len = align_down(piece->len, cluster);
    } else if (piece->len < copy->len - piece->off) {
        piece->len = min_u64(cluster, copy->len - piece->off);
        piece->kind = KIND_DATA;
    }
}

/*
 * The host copies whole units of the target; what is left over at the ends is read and written.
 * Returns whether it is to copy the piece.
 */
static bool fit_offload(const struct copy *copy, struct piece *piece)
{
    uint64_t head = align_up(piece->off, copy->alloc_unit) - piece->off;

    if (!copy->offload || !copy->from || piece->len < head + copy->alloc_unit)
        return false;
    if (head > 0) {
        piece->len = head;
        return false;
    }
    piece->len = align_down(min_u64(piece->len, OFFLOAD_MAX), copy->alloc_unit);
    piece->from = copy->from;
    piece->from_host = copy->from_host;
    return true;
}

/* The next piece, of any kind. len 0: there is none. */
static int step(struct copy *copy, struct piece *ret_piece)
{
    struct piece piece = {.off = copy->pos};
    int r = 0;

    if (copy->pos < copy->len && copy->pos >= copy->kind_end)
        r = look(copy);
    if (r == 0 && copy->pos < copy->len) {
        piece.kind = copy->kind;
        piece.len = copy->kind_end - copy->pos;
        if (copy->options->compress)
            fit_clusters(copy, &piece);
        if (!fit_offload(copy, &piece) && is_written(copy, piece.kind))
            piece.len = min_u64(piece.len, copy->piece_max - piece.off % copy->piece_max);
        copy->pos += piece.len;
        copy->from_host += piece.len;
    }
    *ret_piece = piece;
    return r;
}

/* The next piece for which there is something to do. */
static int next_piece(struct copy *copy, struct piece *ret_piece)
{
    int r;

    co_mutex_lock(&copy->lock);
    do {
        r = copy->result < 0 ? copy->result : step(copy, ret_piece);
    } while (r == 0 && ret_piece->len > 0 && !is_written(copy, ret_piece->kind) &&
             (ret_piece->kind == KIND_BACKING || copy->options->target_is_zero));
    if (r == 0 && ret_piece->len > 0)
        ret_piece->turn = crew_turn_take(&copy->turns);
    if (r == 0 && ret_piece->len > 0 && is_written(copy, ret_piece->kind))
        step_enter(copy, ret_piece);
    else
        step_end(copy);
    co_mutex_unlock(&copy->lock);
    return r;
}

/* Before the images are attached. */
static int count_data(struct copy *copy)
{
    struct piece piece;
    int r;

    while ((r = step(copy, &piece)) == 0 && piece.len > 0)
        if (is_written(copy, piece.kind))
            copy->data_total += piece.len;
    copy->pos = 0;
    copy->kind_end = 0;
    return r;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int read_once(struct slot *slot, const struct copy_source *source, uint64_t off,
                     uint64_t len, uint8_t *buf)
{
    return crew_read(slot->worker, source->block, source->off + off, len, buf);
}

/* Sector by sector, with zeroes for those that cannot be read. */
static void read_salvaging(struct slot *slot, const struct copy_source *source, uint64_t off,
                           uint64_t len, uint8_t *buf)
{
    for (uint64_t at = 0; at < len; at += BLOCK_SECTOR_SIZE) {
        int r = read_once(slot, source, off + at, BLOCK_SECTOR_SIZE, buf + at);

        if (r == 0)
            continue;
        memset(buf + at, 0, BLOCK_SECTOR_SIZE);
        if (slot->copy->options->unreadable)
            slot->copy->options->unreadable(off + at, r, false);
    }
}

static int read_piece(struct slot *slot, const struct piece *piece)
{
    const struct copy_options *options = slot->copy->options;
    uint64_t done = 0;
    int r = 0;

    if (piece->kind == KIND_ZERO)
        memset(slot->buf, 0, piece->len);
    while (r == 0 && piece->kind == KIND_DATA && done < piece->len) {
        uint64_t off;
        const struct copy_source *source = source_at(options, piece->off + done, &off);
        uint64_t n = min_u64(piece->len - done, source->len - off);

        r = read_once(slot, source, off, n, slot->buf + done);
        if (r < 0 && options->salvage) {
            read_salvaging(slot, source, off, n, slot->buf + done);
            r = 0;
        }
        done += n;
    }
    return r < 0 ? fail(slot->copy, r, "reading at byte", piece->off) : 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void write_zeroes(struct slot *slot, uint64_t off, uint64_t len)
{
    const struct copy_options *options = slot->copy->options;
    struct block_req req = {
        .op = BLOCK_WRITE_ZEROES, .flags = BLOCK_REQ_UNMAP, .off = off, .len = len};

    if (!options->target_is_zero)
        crew_submit(slot->worker, options->target, &req, NULL);
}

/* The end of the sources may be in the middle of a cluster, which cannot be compressed then. */
static void write_data(struct slot *slot, uint64_t off, uint64_t len, uint8_t *buf)
{
    const struct copy *copy = slot->copy;
    uint64_t packed = 0;
    struct block_req req = {.op = BLOCK_WRITE, .flags = BLOCK_REQ_COMPRESSED, .off = off};

    if (copy->options->compress)
        packed = off + len == copy->target_len ? len : align_down(len, copy->unit);
    req.len = packed;
    if (packed > 0)
        crew_submit(slot->worker, copy->options->target, &req, buf);
    req = (struct block_req){.op = BLOCK_WRITE, .off = off + packed, .len = len - packed};
    if (packed < len)
        crew_submit(slot->worker, copy->options->target, &req, buf + packed);
}

/* What was read, without the zeroes in it if they need not be written. */
static void write_sparse(struct slot *slot, const struct piece *piece)
{
    const struct copy *copy = slot->copy;
    uint64_t n;

    for (uint64_t done = 0; done < piece->len; done += n) {
        uint64_t off = piece->off + done;
        bool zero;

        n = zero_scan_run(slot->buf + done, piece->len - done, off, copy->unit,
                          copy->options->compress ? 1 : copy->options->min_zeroes, &zero);
        if (zero)
            write_zeroes(slot, off, n);
        else
            write_data(slot, off, n, slot->buf + done);
    }
}

static void begin_writes(struct slot *slot, const struct piece *piece)
{
    if (!is_written(slot->copy, piece->kind))
        write_zeroes(slot, piece->off, piece->len);
    else if (slot->copy->options->min_zeroes == 0)
        write_data(slot, piece->off, piece->len, slot->buf);
    else
        write_sparse(slot, piece);
}

static void wait_for_turn(struct copy *copy, const struct piece *piece)
{
    if (!copy->options->out_of_order)
        crew_turn_wait(&copy->turns, piece->turn);
}

/* Wait until as much time has passed as what was written so far may take. */
static void keep_rate(struct slot *slot, const struct piece *piece)
{
    struct copy *copy = slot->copy;
    uint64_t now = monotonic_ns();
    uint64_t due;

    if (copy->options->rate == 0 || !is_written(copy, piece->kind))
        return;
    due = copy->begun + (uint64_t)((double)copy->paced / (double)copy->options->rate * 1e9);
    copy->paced += piece->len;
    if (due > now)
        crew_sleep(slot->worker, due - now);
}

/* A piece that could not be read: those after it are not to wait for it. */
static void give_up_turn(struct copy *copy, const struct piece *piece)
{
    wait_for_turn(copy, piece);
    crew_turn_pass(&copy->turns);
}

static int wait_for_writes(struct slot *slot, const struct piece *piece)
{
    int r = crew_wait(slot->worker);

    return r < 0 ? fail(slot->copy, r, "writing at byte", piece->off) : 0;
}

static int write_piece(struct slot *slot, const struct piece *piece)
{
    struct copy *copy = slot->copy;

    wait_for_turn(copy, piece);
    keep_rate(slot, piece);
    if (copy->result == 0) {
        atomic_store(&position, piece->off);
        begin_writes(slot, piece);
    }
    crew_turn_pass(&copy->turns);
    return wait_for_writes(slot, piece);
}

static int get_buf(struct slot *slot, const struct piece *piece)
{
    struct copy *copy = slot->copy;

    if (slot->buf)
        return 0;
    if (!copy->memory)
        copy->memory = io_memory_new(copy->nslots * copy->piece_max);
    if (!copy->memory) {
        (void)fail(copy, -ENOMEM, "reading at byte", piece->off);
        return -ENOMEM;
    }
    slot->buf = copy->memory + copy->slots_used++ * copy->piece_max;
    return 0;
}

/* ---- letting the host copy ------------------------------------------------------------------- */

static int ask_host(struct slot *slot, const struct piece *piece)
{
    struct block_req req = {
        .op = BLOCK_COPY,
        .off = piece->off,
        .len = piece->len,
        .from = piece->from,
        .from_host = piece->from_host,
    };

    crew_submit(slot->worker, slot->copy->options->target, &req, NULL);
    return crew_wait(slot->worker);
}

/* Read and write what the host was to copy. */
static int copy_by_parts(struct slot *slot, const struct piece *piece)
{
    struct piece part = {.kind = piece->kind};
    int r = get_buf(slot, piece);

    for (uint64_t done = 0; r == 0 && done < piece->len; done += part.len) {
        part.off = piece->off + done;
        part.len = min_u64(piece->len - done, slot->copy->piece_max);
        r = read_piece(slot, &part);
        if (r < 0)
            break;
        begin_writes(slot, &part);
        r = wait_for_writes(slot, &part);
    }
    return r;
}

/*
 * One at a time: file systems let the writers of a file wait for each other, which costs more than
 * it gains. After any failure the host is not asked again; reading and writing will show what is
 * wrong.
 */
static int offload_piece(struct slot *slot, const struct piece *piece)
{
    struct copy *copy = slot->copy;
    int r = 0;

    wait_for_turn(copy, piece);
    keep_rate(slot, piece);
    co_mutex_lock(&copy->host);
    if (copy->result == 0) {
        atomic_store(&position, piece->off);
        r = copy->offload ? ask_host(slot, piece) : -EOPNOTSUPP;
        copy->offload = r == 0;
    }
    co_mutex_unlock(&copy->host);
    crew_turn_pass(&copy->turns);
    return r < 0 ? copy_by_parts(slot, piece) : 0;
}

/* ---- slots ----------------------------------------------------------------------------------- */

static int read_and_write(struct slot *slot, const struct piece *piece)
{
    int r = 0;

    if (is_written(slot->copy, piece->kind)) {
        r = get_buf(slot, piece);
        if (r == 0)
            r = read_piece(slot, piece);
    }
    if (r == 0)
        return write_piece(slot, piece);
    give_up_turn(slot->copy, piece);
    return r;
}

static void copy_piece(struct slot *slot, const struct piece *piece)
{
    int r = piece->from ? offload_piece(slot, piece) : read_and_write(slot, piece);

    if (piece->step)
        step_leave(slot->copy, piece->step);
    else if (r == 0)
        show_progress(slot->copy, is_written(slot->copy, piece->kind) ? piece->len : 0);
}

static void copy_pieces(struct crew_worker *worker)
{
    struct copy *copy = worker->crew->opaque;
    struct slot slot = {.copy = copy, .worker = worker};
    struct piece piece;

    while (next_piece(copy, &piece) == 0 && piece.len > 0)
        copy_piece(&slot, &piece); /* copy->result has its failure */
}

static unsigned count_slots(const struct copy *copy)
{
    uint64_t pieces = max_u64(div_round_up(copy->len, copy->piece_max), 1);
    unsigned n = copy->options->requests ? copy->options->requests : crew_size();

    return (unsigned)min_u64(n, pieces);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void plan(struct copy *copy)
{
    const struct copy_options *options = copy->options;
    struct block_info info;

    block_get_info(options->target, &info);
    copy->target_len = info.len;
    copy->alloc_unit = max_u64(info.alloc_unit, 1);
    copy->offload = options->offload;
    for (unsigned i = 0; i < options->nsources; i++)
        copy->len += options->sources[i].len;
    copy->piece_max = max_u64(PIECE, min_u64(options->min_zeroes, PIECE_MAX));
    copy->unit = BLOCK_SECTOR_SIZE;
    while (copy->unit * 2 <= options->min_zeroes)
        copy->unit *= 2;
    if (options->compress)
        copy->unit = info.opt_io;
    else
        copy->unit = max_u64(copy->unit, min_u64(info.alloc_unit, UNIT_MAX));
    copy->piece_max = max_u64(align_down(copy->piece_max, copy->unit), copy->unit);
}

/* Let the crew do it, with all images. What has failed first is what is said. */
static int run_crew(struct copy *copy)
{
    const struct copy_options *options = copy->options;
    struct block **blocks = calloc(options->nsources + 1, sizeof(struct block *));
    struct err err;
    int r;

    if (!blocks)
        return err_set(copy->err, -ENOMEM, "out of memory");
    for (unsigned i = 0; i < options->nsources; i++)
        blocks[i] = options->sources[i].block;
    blocks[options->nsources] = options->target;
    copy->nslots = count_slots(copy);
    r = crew_run(blocks, options->nsources + 1, copy->nslots, copy_pieces, copy, &err);
    io_memory_free(copy->memory, copy->nslots * copy->piece_max);
    free(blocks);
    if (copy->result == 0 && r < 0) {
        copy->result = r;
        *copy->err = err;
    }
    return copy->result;
}

int copy_run(const struct copy_options *options, struct err *err)
{
    struct copy copy = {.options = options, .err = err, .begun = monotonic_ns()};
    int r;

    co_mutex_init(&copy.lock);
    co_mutex_init(&copy.host);
    crew_turns_init(&copy.turns);
    plan(&copy);
    r = options->progress && options->progress->on ? count_data(&copy) : 0;
    return r < 0 ? r : run_crew(&copy);
}
