/* SPDX-License-Identifier: Apache-2.0 */
#include "img/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/io_memory.h"
#include "base/loop.h"

struct bench {
    const struct bench_options *options;
    struct loop *loop;
    uint64_t len; /* of the image */

    uint8_t *memory;
    struct slot *slots;
    struct slot *free; /* those not in flight */

    uint64_t next_off;
    uint64_t random;
    uint64_t started;
    uint64_t done;
    unsigned in_flight; /* requests of slots */
    unsigned flushes;   /* in flight */
    bool flush_due;
    int result;
};

/* A request that is used again and again. */
struct slot {
    struct bench *bench;
    struct block_req req;
    struct iovec iov;
    struct slot *next; /* in the list of free ones */
};

/* A flush, which is made for each. */
struct flush {
    struct bench *bench;
    struct block_req req;
};

/* ---- requests -------------------------------------------------------------------------------- */

static void go_on(struct bench *bench);

static uint64_t pick_off(struct bench *bench)
{
    const struct bench_options *o = bench->options;
    uint64_t off = bench->next_off;

    if (o->seed) {
        /* xorshift64: Marsaglia, "Xorshift RNGs" */
        bench->random ^= bench->random << 13;
        bench->random ^= bench->random >> 7;
        bench->random ^= bench->random << 17;
        return bench->random % ((bench->len - o->size) / o->step + 1) * o->step;
    }
    bench->next_off = (off + o->step) % bench->len;
    return min_u64(off, bench->len - o->size);
}

static void transfer_done(struct block_req *req, int result)
{
    struct slot *slot = container_of(req, struct slot, req);
    struct bench *bench = slot->bench;
    uint64_t interval = bench->options->flush_interval;

    if (result < 0)
        bench->result = result;
    slot->next = bench->free;
    bench->free = slot;
    bench->in_flight--;
    bench->done++;
    if (interval && bench->done % interval == 0)
        bench->flush_due = true;
    go_on(bench);
}

static void start_transfer(struct bench *bench)
{
    struct slot *slot = bench->free;

    bench->free = slot->next;
    slot->req = (struct block_req){
        .op = bench->options->write ? BLOCK_WRITE : BLOCK_READ,
        .off = pick_off(bench),
        .len = bench->options->size,
        .iov = &slot->iov,
        .niov = 1,
        .done = transfer_done,
    };
    bench->started++;
    bench->in_flight++;
    block_submit(bench->options->block, &slot->req);
}

static void flush_done(struct block_req *req, int result)
{
    struct flush *flush = container_of(req, struct flush, req);
    struct bench *bench = flush->bench;

    if (result < 0)
        bench->result = result;
    free(flush);
    bench->flushes--;
    go_on(bench);
}

static void start_flush(struct bench *bench)
{
    struct flush *flush = calloc(1, sizeof(*flush));

    if (!flush) {
        bench->result = -ENOMEM;
        return;
    }
    flush->bench = bench;
    flush->req = (struct block_req){.op = BLOCK_FLUSH, .done = flush_done};
    bench->flush_due = false;
    bench->flushes++;
    block_submit(bench->options->block, &flush->req);
}

/* Keep as many requests in flight as there should be. */
static void go_on(struct bench *bench)
{
    const struct bench_options *o = bench->options;

    if (bench->flush_due && (o->no_drain || bench->in_flight == 0))
        start_flush(bench);
    if (bench->in_flight + bench->flushes == 0 && (bench->result < 0 || bench->done == o->count)) {
        loop_stop(bench->loop);
        return;
    }
    if (bench->result < 0 || (!o->no_drain && (bench->flush_due || bench->flushes > 0)))
        return;
    while (bench->free && bench->started < o->count)
        start_transfer(bench);
}

/* ---- a run ----------------------------------------------------------------------------------- */

static int make_slots(struct bench *bench)
{
    const struct bench_options *o = bench->options;

    bench->slots = calloc(o->depth, sizeof(*bench->slots));
    bench->memory = io_memory_new(o->depth * o->size);
    if (!bench->slots || !bench->memory)
        return -ENOMEM;
    memset(bench->memory, o->pattern, o->depth * o->size);
    for (unsigned i = 0; i < o->depth; i++) {
        struct slot *slot = &bench->slots[i];

        slot->bench = bench;
        slot->iov = (struct iovec){bench->memory + i * o->size, o->size};
        slot->next = bench->free;
        bench->free = slot;
    }
    return 0;
}

static double cpu_seconds(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage); /* cannot fail for oneself */
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Between the first request and the answer to the last one. */
static int measure(struct bench *bench, struct bench_result *ret_result)
{
    double cpu = cpu_seconds();
    uint64_t start = monotonic_ns();
    int r;

    go_on(bench);
    r = loop_run(bench->loop);
    ret_result->seconds = (double)(monotonic_ns() - start) / 1e9;
    ret_result->cpu_seconds = cpu_seconds() - cpu;
    ret_result->stats = *block_get_stats(bench->options->block);
    return r < 0 ? r : bench->result;
}

static int run_attached(struct bench *bench, struct bench_result *ret_result, struct err *err)
{
    struct block *block = bench->options->block;
    int r = block_attach(block, bench->loop, err);
    int r2;

    if (r < 0)
        return r;
    r = measure(bench, ret_result);
    if (r < 0)
        err_set_errno(err, r, "Failed request");
    r2 = block_detach(block);
    return r == 0 && r2 < 0 ? err_set_errno(err, r2, "cannot write back the image") : r;
}

int bench_run(const struct bench_options *options, struct bench_result *ret_result, struct err *err)
{
    struct bench bench = {.options = options, .next_off = options->off, .random = options->seed};
    struct block_info info;
    int r = make_slots(&bench);

    block_get_info(options->block, &info);
    bench.len = info.len;
    if (r == 0)
        r = loop_new(&bench.loop);
    if (r < 0) {
        err_set_errno(err, r, "cannot prepare the requests");
    } else {
        r = run_attached(&bench, ret_result, err);
        loop_free(bench.loop);
    }
    free(bench.slots);
    io_memory_free(bench.memory, options->depth * options->size);
    return r;
}
