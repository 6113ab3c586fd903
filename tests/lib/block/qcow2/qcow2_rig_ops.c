/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations on the image of a rig. To add one: a function, and a line in the table at the
 * end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "tests/lib/block/qcow2/qcow2_rig.h"

#define SECTOR BLOCK_SECTOR_SIZE
#define DEPTH_MAX 32u

/* ---- requests -------------------------------------------------------------------------------- */

/* A request, its event in the history, and its memory. */
struct request {
    struct qcow2_rig *rig;
    struct block_req req;
    struct iovec iov[2];
    uint8_t *buf;
    unsigned event;
    size_t begin;
    struct burst *burst; /* that it is part of */
};

static void pick_range(struct qcow2_rig *rig, struct block_req *req)
{
    uint64_t first = qcow2_rig_random(rig, (unsigned)rig->nsectors);
    uint64_t n = 1 + qcow2_rig_random(rig, qcow2_rig_random(rig, 4) ? 16 : 200);

    if (rig->hot > 0 && qcow2_rig_random(rig, 3) == 0)
        first %= rig->hot;
    if (qcow2_rig_random(rig, 3) == 0)
        first = align_down(first, max_u64(1, (1ull << rig->layout.cluster_bits) / SECTOR));
    req->off = first * SECTOR;
    req->len = min_u64(n, rig->nsectors - first) * SECTOR;
}

/* Whole clusters, as compressed writes need; the disk's end completes the last one. */
static void widen_to_clusters(struct qcow2_rig *rig, struct block_req *req)
{
    uint64_t cluster = 1ull << rig->layout.cluster_bits;
    uint64_t end = align_up(req->off + req->len, cluster);

    req->off = align_down(req->off, cluster);
    req->len = min_u64(end, rig->nsectors * SECTOR) - req->off;
}

/* If it has whole ones. */
static bool frees_clusters(const struct block_req *req)
{
    return req->op == BLOCK_DISCARD || req->op == BLOCK_WRITE_ZEROES;
}

/* Make the data and put it in the history. */
static void prepare_data(struct request *request)
{
    struct qcow2_rig *rig = request->rig;
    struct block_req *req = &request->req;
    uint64_t noise = qcow2_rig_random(rig, 3) == 0 ? HISTORY_NOISE : 0;

    request->buf = malloc(req->len + 1);
    if (!request->buf)
        abort();
    for (uint64_t i = 0; i < req->len / SECTOR && req->op == BLOCK_WRITE; i++) {
        uint64_t stamp = ++rig->stamp | noise;

        history_fill(request->buf + i * SECTOR, stamp);
        history_put(&rig->history, request->event, req->off / SECTOR + i, stamp);
    }
    /* Two pieces at an odd place. */
    request->iov[0] = (struct iovec){request->buf, req->len / 3};
    request->iov[1] = (struct iovec){request->buf + req->len / 3, req->len - req->len / 3};
    req->iov = request->iov;
    req->niov = 2;
}

static void request_begin(struct request *request)
{
    struct qcow2_rig *rig = request->rig;
    struct block_req *req = &request->req;
    enum history_kind kind = HISTORY_SURE;

    if (req->op != BLOCK_FLUSH)
        pick_range(rig, req);
    if (req->flags & BLOCK_REQ_COMPRESSED || (frees_clusters(req) && qcow2_rig_random(rig, 2)))
        widen_to_clusters(rig, req);
    if (req->op == BLOCK_DISCARD)
        kind = HISTORY_MAYBE;
    if (req->flags & BLOCK_REQ_FUA)
        kind = HISTORY_DURABLE;
    request->begin = qcow2_rig_now(rig);
    request->event = history_begin(&rig->history, kind, request->begin);
    if (req->op == BLOCK_READ || req->op == BLOCK_WRITE)
        prepare_data(request);
    for (uint64_t i = 0; i < req->len / SECTOR; i++)
        if (req->op == BLOCK_DISCARD || req->op == BLOCK_WRITE_ZEROES)
            history_put(&rig->history, request->event, req->off / SECTOR + i, 0);
}

/* May a read that began at `begin` show this in a sector? */
static bool may_show(const struct qcow2_rig *rig, uint64_t sector, const uint8_t *data,
                     size_t begin)
{
    uint64_t stamp;

    if (history_read_stamp(data, &stamp))
        return history_allows_read(&rig->history, sector, stamp, begin, rig->record.n);
    return rig->in_files && history_changes(&rig->history, sector, begin);
}

/* What was read must be what may be there, now or when the read began. */
static void verify_read(struct request *request)
{
    struct qcow2_rig *rig = request->rig;
    const struct block_req *req = &request->req;

    for (uint64_t i = 0; i < req->len / SECTOR; i++) {
        uint64_t sector = req->off / SECTOR + i;

        if (may_show(rig, sector, request->buf + i * SECTOR, request->begin))
            continue;
        fprintf(stderr, "sector %llu: a read shows what was never there\n",
                (unsigned long long)sector);
        abort();
    }
}

struct burst {
    struct request requests[DEPTH_MAX];
    unsigned left; /* to be started */
    unsigned in_flight;
    bool cancel; /* at some moment its requests are cancelled */
};

static void request_end(struct request *request, int result)
{
    struct qcow2_rig *rig = request->rig;

    if (result < 0) {
        rig->failures += !(result == -ECANCELED && request->burst && request->burst->cancel);
    } else if (request->req.op == BLOCK_FLUSH) {
        qcow2_rig_flushed(rig, request->begin);
    } else {
        history_end(&rig->history, request->event, qcow2_rig_now(rig));
        if (request->req.op == BLOCK_READ)
            verify_read(request);
    }
    free(request->buf);
    request->buf = NULL;
}

static void execute(struct qcow2_rig *rig, enum block_op op, unsigned flags)
{
    struct request request = {.rig = rig, .req = {.op = op, .flags = flags}};

    request_begin(&request);
    request_end(&request, block_execute(rig->block, &request.req));
}

static void do_read(struct qcow2_rig *rig)
{
    execute(rig, BLOCK_READ, 0);
}

static void do_write(struct qcow2_rig *rig)
{
    execute(rig, BLOCK_WRITE, 0);
}

static void do_durable_write(struct qcow2_rig *rig)
{
    execute(rig, BLOCK_WRITE, BLOCK_REQ_FUA);
}

/*
 * As a database does it: there is a stock of clusters, and their data need not come before the
 * tables.
 */
static void do_durable_writes(struct qcow2_rig *rig)
{
    unsigned n = 6 + qcow2_rig_random(rig, 10);

    for (unsigned i = 0; i < n; i++) {
        do_durable_write(rig);
        if (qcow2_rig_random(rig, 4) == 0)
            execute(rig, BLOCK_DISCARD, 0);
    }
}

static void do_compress(struct qcow2_rig *rig)
{
    execute(rig, BLOCK_WRITE, BLOCK_REQ_COMPRESSED);
}

static bool can_compress(const struct qcow2_rig *rig)
{
    return rig->layout.data == QCOW2_DATA_INSIDE;
}

static void do_zero(struct qcow2_rig *rig)
{
    execute(rig, BLOCK_WRITE_ZEROES, 0);
}

static void do_unmap(struct qcow2_rig *rig)
{
    execute(rig, BLOCK_WRITE_ZEROES, BLOCK_REQ_UNMAP);
}

static void do_discard(struct qcow2_rig *rig)
{
    execute(rig, BLOCK_DISCARD, 0);
}

static void do_flush(struct qcow2_rig *rig)
{
    execute(rig, BLOCK_FLUSH, 0);
}

/* ---- many at once ---------------------------------------------------------------------------- */

static void burst_start(struct request *request);

static void burst_request_done(struct block_req *req, int result)
{
    struct request *request = container_of(req, struct request, req);
    struct burst *burst = request->burst;

    request_end(request, result);
    burst->in_flight--;
    if (burst->cancel && qcow2_rig_random(request->rig, DEPTH_MAX / 2) == 0)
        block_set_cancel(request->rig->block, true);
    if (burst->left > 0)
        burst_start(request);
    else if (burst->in_flight == 0)
        loop_stop(request->rig->loop);
}

static void burst_start(struct request *request)
{
    static const enum block_op ops[] = {BLOCK_WRITE,   BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE_ZEROES,
                                        BLOCK_DISCARD, BLOCK_READ,  BLOCK_FLUSH};
    struct qcow2_rig *rig = request->rig;
    struct block_req *req = &request->req;

    *req = (struct block_req){.op = ops[qcow2_rig_random(rig, ARRAY_SIZE(ops))],
                              .done = burst_request_done};
    if (req->op == BLOCK_WRITE_ZEROES && qcow2_rig_random(rig, 2))
        req->flags = BLOCK_REQ_UNMAP;
    if (req->op == BLOCK_WRITE && can_compress(rig) && qcow2_rig_random(rig, 3) == 0)
        req->flags = BLOCK_REQ_COMPRESSED;
    if (req->op == BLOCK_WRITE && qcow2_rig_random(rig, 10) == 0)
        req->flags |= BLOCK_REQ_FUA;
    request->burst->left--;
    request->burst->in_flight++;
    request_begin(request);
    block_submit(rig->block, req);
}

static void run_burst(struct qcow2_rig *rig, unsigned n, unsigned depth, bool cancel)
{
    struct burst burst = {.left = n, .cancel = cancel};
    struct err err = {0};

    if (depth > DEPTH_MAX || n < depth || block_attach(rig->block, rig->loop, &err) < 0)
        abort();
    for (unsigned i = 0; i < depth; i++) {
        burst.requests[i] = (struct request){.rig = rig, .burst = &burst};
        burst_start(&burst.requests[i]);
    }
    if (loop_run(rig->loop) < 0)
        abort();
    if (block_detach(rig->block) < 0)
        rig->failures++;
    block_set_cancel(rig->block, false);
}

void qcow2_rig_requests(struct qcow2_rig *rig, unsigned n, unsigned depth)
{
    run_burst(rig, n, depth, false);
}

static void do_burst(struct qcow2_rig *rig)
{
    unsigned n = 2 + qcow2_rig_random(rig, DEPTH_MAX - 1);

    qcow2_rig_requests(rig, n, 1 + qcow2_rig_random(rig, n));
}

static void do_cancelled_burst(struct qcow2_rig *rig)
{
    unsigned n = 2 + qcow2_rig_random(rig, DEPTH_MAX - 1);

    run_burst(rig, n, 1 + qcow2_rig_random(rig, n), true);
}

/* ---- the image as a whole -------------------------------------------------------------------- */

static void do_reopen(struct qcow2_rig *rig)
{
    (void)qcow2_rig_close(rig); /* counts in rig->failures */
    qcow2_rig_reopen(rig);
}

static void do_trim(struct qcow2_rig *rig)
{
    rig->block->driver->trim(rig->block);
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct rig_op {
    const char *name;
    unsigned weight;
    void (*run)(struct qcow2_rig *rig);
    bool (*is_possible)(const struct qcow2_rig *rig); /* NULL: always */
} rig_ops[] = {
    {"read", 4, do_read, NULL},
    {"write", 24, do_write, NULL},
    {"durable write", 2, do_durable_write, NULL},
    {"durable writes", 2, do_durable_writes, NULL},
    {"compress", 6, do_compress, can_compress},
    {"zero", 5, do_zero, NULL},
    {"unmap", 5, do_unmap, NULL},
    {"discard", 6, do_discard, NULL},
    {"flush", 6, do_flush, NULL},
    {"burst", 3, do_burst, NULL},
    {"cancelled burst", 1, do_cancelled_burst, NULL},
    {"reopen", 1, do_reopen, NULL},
    {"trim", 1, do_trim, NULL},
    {"grow", 1, qcow2_rig_grow, qcow2_rig_can_grow},
    {"shrink", 1, qcow2_rig_shrink, qcow2_rig_can_shrink},
    {"commit", 1, qcow2_rig_commit, qcow2_rig_can_commit},
    {"repair", 1, qcow2_rig_repair, NULL},
    {"take snapshot", 2, qcow2_rig_take_snapshot, qcow2_rig_can_take_snapshot},
    {"apply snapshot", 1, qcow2_rig_apply_snapshot, qcow2_rig_has_snapshot},
    {"delete snapshot", 1, qcow2_rig_delete_snapshot, qcow2_rig_has_snapshot},
};

const char *qcow2_rig_step(struct qcow2_rig *rig)
{
    unsigned total = 0;
    unsigned pick;
    size_t i = 0;

    for (size_t k = 0; k < ARRAY_SIZE(rig_ops); k++)
        total += rig_ops[k].weight;
    do {
        pick = qcow2_rig_random(rig, total);
        for (i = 0; pick >= rig_ops[i].weight; i++)
            pick -= rig_ops[i].weight;
    } while (rig_ops[i].is_possible && !rig_ops[i].is_possible(rig));
    rig_ops[i].run(rig);
    return rig_ops[i].name;
}
