/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/disk_load.h"

#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/lib/dice.h"
#include "tests/lib/unit.h"

#define WAIT_US 200u
#define WAITS_MAX 600000u /* two minutes */

static void set_busy(struct disk_load *load, const struct block_req *req, bool busy)
{
    for (uint64_t at = req->off; at < req->off + req->len; at += DISK_LOAD_UNIT) {
        load->busy[at / DISK_LOAD_UNIT] = busy;
        load->versions[at / DISK_LOAD_UNIT] += req->op != BLOCK_READ;
    }
}

static bool is_busy(const struct disk_load *load, uint64_t off, uint64_t len)
{
    for (uint64_t at = off; at < off + len; at += DISK_LOAD_UNIT)
        if (load->busy[at / DISK_LOAD_UNIT])
            return true;
    return false;
}

static enum block_op pick_op(struct disk_load *load)
{
    unsigned n = dice_roll(&load->dice, 100);

    if (load->reads_only || n < 40)
        return BLOCK_READ;
    if (n < 85)
        return BLOCK_WRITE;
    if (n < 90)
        return BLOCK_WRITE_ZEROES;
    return n < 95 ? BLOCK_DISCARD : BLOCK_FLUSH;
}

static void pick_range(struct disk_load *load, struct block_req *req)
{
    unsigned units;

    do {
        units = 1 + dice_roll(&load->dice, DISK_LOAD_UNITS_MAX);
        req->len = (uint64_t)units * DISK_LOAD_UNIT;
        req->off = dice_roll(&load->dice, (unsigned)(load->len / DISK_LOAD_UNIT) - units + 1) *
                   (uint64_t)DISK_LOAD_UNIT;
    } while (is_busy(load, req->off, req->len));
}

static void fill(struct disk_load_slot *slot)
{
    for (uint64_t at = 0; at < slot->req.len; at += sizeof(uint64_t)) {
        uint64_t word = dice_next(&slot->load->dice);

        memcpy(slot->data + at, &word, sizeof(word));
    }
}

static void submit(struct disk_load_slot *slot);

static void settle(struct disk_load *load, const struct disk_load_slot *slot)
{
    const struct block_req *req = &slot->req;
    uint8_t *model = load->model + req->off;

    switch (req->op) {
    case BLOCK_READ:
        ck_assert_msg(memcmp(model, slot->data, req->len) == 0,
                      "%llu bytes at %llu are not what was written", (unsigned long long)req->len,
                      (unsigned long long)req->off);
        break;
    case BLOCK_WRITE:
        memcpy(model, slot->data, req->len);
        break;
    case BLOCK_WRITE_ZEROES:
        memset(model, 0, req->len);
        break;
    default:
        break;
    }
}

static void write_data(struct disk_load_slot *slot);

static void done(struct block_req *req, int result)
{
    struct disk_load_slot *slot = container_of(req, struct disk_load_slot, req);
    struct disk_load *load = slot->load;

    ck_assert_msg(result == 0, "request %d of %llu bytes at %llu: %s", (int)req->op,
                  (unsigned long long)req->len, (unsigned long long)req->off, strerror(-result));
    atomic_fetch_add(&load->ndone, 1);
    if (req->op == BLOCK_DISCARD) {
        write_data(slot); /* what it shows until then is anybody's guess */
        return;
    }
    settle(load, slot);
    if (req->op != BLOCK_FLUSH)
        set_busy(load, req, false);
    if (!load->stopping)
        submit(slot);
    else if (--load->running == 0)
        atomic_store(&load->stopped, true);
}

static void transfer(struct disk_load_slot *slot)
{
    slot->iov = (struct iovec){slot->data, slot->req.len};
    slot->req.iov = &slot->iov;
    slot->req.niov = 1;
}

static void write_data(struct disk_load_slot *slot)
{
    slot->req.op = BLOCK_WRITE;
    fill(slot);
    transfer(slot);
    block_port_submit(slot->load->port, &slot->req);
}

static void submit(struct disk_load_slot *slot)
{
    struct disk_load *load = slot->load;
    struct block_req *req = &slot->req;

    *req = (struct block_req){.op = pick_op(load), .done = done};
    if (req->op != BLOCK_FLUSH) {
        pick_range(load, req);
        set_busy(load, req, true);
    }
    if (req->op == BLOCK_WRITE)
        fill(slot);
    if (req->op == BLOCK_READ || req->op == BLOCK_WRITE)
        transfer(slot);
    if (req->op == BLOCK_WRITE_ZEROES && dice_roll(&load->dice, 2))
        req->flags = BLOCK_REQ_UNMAP;
    block_port_submit(load->port, req);
}

struct disk_load *disk_load_new(struct block_port *port, uint64_t len, uint64_t max,
                                const uint8_t *initial, uint64_t seed)
{
    struct disk_load *load = calloc(1, sizeof(*load));

    ck_assert_ptr_nonnull(load);
    load->port = port;
    load->dice = seed;
    load->len = len;
    load->max = max;
    load->model = calloc(1, max);
    load->busy = calloc(max / DISK_LOAD_UNIT, sizeof(*load->busy));
    load->versions = calloc(max / DISK_LOAD_UNIT, sizeof(*load->versions));
    ck_assert(load->model && load->busy && load->versions);
    if (initial)
        memcpy(load->model, initial, len);
    return load;
}

void disk_load_free(struct disk_load *load)
{
    free(load->model);
    free(load->busy);
    free(load->versions);
    free(load);
}

void disk_load_start(void *opaque)
{
    struct disk_load *load = opaque;

    load->stopping = false;
    atomic_store(&load->stopped, false);
    load->running = DISK_LOAD_DEPTH;
    for (unsigned i = 0; i < DISK_LOAD_DEPTH; i++) {
        load->slots[i].load = load;
        submit(&load->slots[i]);
    }
}

void disk_load_stop(void *opaque)
{
    struct disk_load *load = opaque;

    load->stopping = true;
}

void disk_load_wait(struct disk_load *load, unsigned long ndone)
{
    const unsigned long end = atomic_load(&load->ndone) + ndone;

    for (unsigned i = 0; atomic_load(&load->ndone) < end; i++) {
        ck_assert_uint_lt(i, WAITS_MAX);
        (void)usleep(WAIT_US);
    }
}

void disk_load_end(struct disk_load *load)
{
    loop_call(load->port->loop, disk_load_stop, load);
    for (unsigned i = 0; !atomic_load(&load->stopped); i++) {
        ck_assert_uint_lt(i, WAITS_MAX);
        (void)usleep(WAIT_US);
    }
}
