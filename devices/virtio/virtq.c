/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtq.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "base/log.h"
#include "devices/virtio/virtio.h"
#include "devices/virtio/virtq_access.h"

/* ---- setting up ------------------------------------------------------------------------------ */

void virtq_reset(struct virtq *vq)
{
    *vq = (struct virtq){0};
}

int virtq_enable(struct virtq *vq, const struct guest_mem *mem)
{
    void *desc;
    void *avail;
    void *used;

    if (!is_pow2(vq->size) || vq->size > VIRTQ_SIZE_MAX)
        return -EINVAL;
    if (!is_aligned(vq->desc_gpa, VRING_DESC_ALIGN_SIZE) ||
        !is_aligned(vq->avail_gpa, VRING_AVAIL_ALIGN_SIZE) ||
        !is_aligned(vq->used_gpa, VRING_USED_ALIGN_SIZE))
        return -EINVAL;
    if (guest_mem_at(mem, vq->desc_gpa, VIRTQ_DESC_BYTES(vq->size), &desc) < 0 ||
        guest_mem_at(mem, vq->avail_gpa, VIRTQ_AVAIL_BYTES(vq->size), &avail) < 0 ||
        guest_mem_at(mem, vq->used_gpa, VIRTQ_USED_BYTES(vq->size), &used) < 0)
        return -EFAULT;

    vq->mem = mem;
    vq->desc = desc;
    vq->avail = avail;
    vq->used = used;
    vq->ready = true;
    return 0;
}

void virtq_start(struct virtq *vq, uint64_t features)
{
    assert(vq->ready);
    vq->indirect = features & VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC);
    vq->event_idx = features & VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX);
    vq->next_avail = 0;
    vq->avail_idx = 0;
    vq->next_used = 0;
    vq->published_used = 0;
    vq->in_flight = 0;
}

void virtq_go_on_at(struct virtq *vq, uint16_t position)
{
    vq->next_avail = position;
    vq->avail_idx = position;
    vq->next_used = position;
    vq->published_used = position;
}

void virtq_take_over(struct virtq *vq)
{
    virtq_go_on_at(vq, ring_load16(&vq->used->idx, __ATOMIC_SEQ_CST));
}

/* ---- the event indices after the rings (2.7.7, 2.7.10) --------------------------------------- */

/* After the available ring: the driver says when it wants an interrupt. */
static const uint16_t *used_event(const struct virtq *vq)
{
    return &vq->avail->ring[vq->size];
}

/* After the used ring: the device says when it wants a kick. */
static uint16_t *avail_event(struct virtq *vq)
{
    return (uint16_t *)(void *)&vq->used->ring[vq->size];
}

/* ---- chains ---------------------------------------------------------------------------------- */

/* A table of descriptors that is being walked: the queue's own, or an indirect one. */
struct desc_table {
    const uint8_t *host;
    uint32_t size; /* in descriptors */
    bool is_indirect;
};

/* One descriptor in host byte order, copied. */
static struct vring_desc fetch_desc(const struct desc_table *table, uint16_t index)
{
    struct vring_desc desc;

    ring_fetch(&desc, table->host + (size_t)index * sizeof(desc), sizeof(desc));
    return (struct vring_desc){
        .addr = le64toh(desc.addr),
        .len = le32toh(desc.len),
        .flags = le16toh(desc.flags),
        .next = le16toh(desc.next),
    };
}

static int broken(const char *what, uint64_t value)
{
    log_guest(LOG_WARN, "virtqueue: %s (%#" PRIx64 ")", what, value);
    return -EPROTO;
}

static int add_buffer(const struct virtq *vq, struct virtq_chain *chain,
                      const struct vring_desc *desc)
{
    bool writable = desc->flags & VRING_DESC_F_WRITE;
    uint32_t *len = writable ? &chain->in_len : &chain->out_len;
    void *host;

    /* 2.7.4.2: what the device reads comes before what it writes. */
    if (!writable && chain->nin > 0)
        return broken("readable buffer after a writable one", desc->addr);
    if (desc->len == 0)
        return 0;
    if (chain->nout + chain->nin == VIRTQ_CHAIN_MAX)
        return broken("chain of too many buffers", VIRTQ_CHAIN_MAX);
    /* 2.7.5.2 bounds a chain to 4 GiB; the length in the used ring ends one byte before that. */
    if ((uint64_t)chain->out_len + chain->in_len + desc->len > UINT32_MAX)
        return broken("chain of 4 GiB or more", desc->len);
    if (guest_mem_at(vq->mem, desc->addr, desc->len, &host) < 0)
        return broken("buffer outside of memory", desc->addr);

    chain->iov[chain->nout + chain->nin] = (struct iovec){.iov_base = host, .iov_len = desc->len};
    *len += desc->len;
    if (writable)
        chain->nin++;
    else
        chain->nout++;
    return 0;
}

/* Continue in the table that `desc` refers to (2.7.5.3). */
static int enter_indirect(const struct virtq *vq, const struct vring_desc *desc,
                          struct desc_table *table)
{
    void *host;

    if (!vq->indirect)
        return broken("indirect descriptor without the feature", desc->addr);
    if (table->is_indirect)
        return broken("indirect descriptor in an indirect table", desc->addr);
    /* 2.7.5.3.1; that the descriptor says WRITE is to be ignored (2.7.5.3.2). */
    if (desc->flags & VRING_DESC_F_NEXT)
        return broken("indirect descriptor with a next one", desc->next);
    if (desc->len == 0 || desc->len % sizeof(struct vring_desc) != 0)
        return broken("indirect table of odd length", desc->len);
    if (guest_mem_at(vq->mem, desc->addr, desc->len, &host) < 0)
        return broken("indirect table outside of memory", desc->addr);

    *table = (struct desc_table){
        .host = host,
        .size = (uint32_t)(desc->len / sizeof(struct vring_desc)),
        .is_indirect = true,
    };
    return 0;
}

/*
 * Walk the chain from descriptor `index`. A loop has no end, so it is a chain that is too long; one
 * descriptor more than there may be buffers, because the one that refers to a table is none.
 */
static int walk_chain(const struct virtq *vq, uint16_t index, struct virtq_chain *chain)
{
    struct desc_table table = {.host = (const uint8_t *)vq->desc, .size = vq->size};
    struct vring_desc desc;
    int r;

    for (;;) {
        if (index >= table.size)
            return broken("descriptor index out of range", index);
        if (chain->ndescs++ > VIRTQ_CHAIN_MAX)
            return broken("descriptor chain too long or a loop, at index", index);
        desc = fetch_desc(&table, index);

        if (desc.flags & VRING_DESC_F_INDIRECT) {
            r = enter_indirect(vq, &desc, &table);
            index = 0;
        } else {
            r = add_buffer(vq, chain, &desc);
            if (r == 0 && !(desc.flags & VRING_DESC_F_NEXT))
                return 0;
            index = desc.next;
        }
        if (r < 0)
            return r;
    }
}

/* ---- the available ring ---------------------------------------------------------------------- */

/*
 * Read the driver's index anew. Sequentially consistent, which does two jobs: as an acquire it
 * pairs with the driver's barrier before it stores idx (2.7.13, step 4), so that the ring entry
 * and the descriptors are seen; and in virtq_enable_kicks it may not move up before the store.
 */
static int refresh_avail_idx(struct virtq *vq)
{
    uint16_t idx = ring_load16(&vq->avail->idx, __ATOMIC_SEQ_CST);
    uint16_t navail = (uint16_t)(idx - vq->next_avail);

    /*
     * The driver cannot have more chains outstanding than there are descriptors. This bounds what a
     * device holds at any time, and refuses an index that went backwards.
     */
    if (navail + vq->in_flight > vq->size)
        return broken("available index jumped", idx);
    vq->avail_idx = idx;
    return 0;
}

int virtq_pop(struct virtq *vq, struct virtq_chain *ret_chain)
{
    int r;

    if (vq->next_avail == vq->avail_idx) {
        r = refresh_avail_idx(vq);
        if (r < 0)
            return r;
        if (vq->next_avail == vq->avail_idx)
            return 0;
    }

    ret_chain->head =
        ring_load16(&vq->avail->ring[vq->next_avail & (vq->size - 1)], __ATOMIC_RELAXED);
    ret_chain->nout = 0;
    ret_chain->nin = 0;
    ret_chain->ndescs = 0;
    ret_chain->out_len = 0;
    ret_chain->in_len = 0;
    r = walk_chain(vq, ret_chain->head, ret_chain);
    if (r < 0)
        return r;

    vq->next_avail++;
    vq->in_flight++;
    return 1;
}

void virtq_unpop(struct virtq *vq)
{
    assert(vq->in_flight > 0);
    vq->next_avail--;
    vq->in_flight--;
}

void virtq_disable_kicks(struct virtq *vq)
{
    /*
     * With event indices there is nothing to do: the index asked for has been passed, and the
     * driver kicks next when it is asked to, or after a full turn of 65536 chains.
     */
    if (!vq->event_idx)
        ring_store16(&vq->used->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

bool virtq_enable_kicks(struct virtq *vq)
{
    /*
     * The driver stores idx, then reads this word to decide on a kick, with a full barrier between
     * the two (2.7.13, step 6). Here it is the other way round: store this word, then read idx.
     * With both stores before both loads in one total order, at least one side sees the other's
     * store: either the driver kicks or we find its chain below. Without the second look, a chain
     * that came in between would wait for ever.
     */
    if (vq->event_idx)
        ring_store16(avail_event(vq), vq->next_avail, __ATOMIC_SEQ_CST);
    else
        ring_store16(&vq->used->flags, 0, __ATOMIC_SEQ_CST);

    /* A broken index counts as news, too: virtq_pop reports it. */
    return refresh_avail_idx(vq) < 0 || vq->avail_idx != vq->next_avail;
}

/* ---- the used ring --------------------------------------------------------------------------- */

void virtq_push(struct virtq *vq, uint16_t head, uint32_t written)
{
    struct vring_used_elem *elem = &vq->used->ring[vq->next_used & (vq->size - 1)];

    assert(vq->in_flight > 0);
    ring_store32(&elem->id, head, __ATOMIC_RELAXED);
    ring_store32(&elem->len, written, __ATOMIC_RELAXED);
    vq->next_used++;
    vq->in_flight--;
}

bool virtq_publish(struct virtq *vq)
{
    uint16_t old = vq->published_used;
    uint16_t new = vq->next_used;

    if (old == new)
        return false;
    vq->published_used = new;

    /*
     * As a release this store pairs with the driver's barrier after it read idx: it sees the
     * elements and the data in its buffers. And the load below may not move up before it: the
     * driver stores used_event, then reads idx again with a full barrier between (2.7.14), so
     * either it finds the new elements or we see its wish for an interrupt.
     */
    ring_store16(&vq->used->idx, new, __ATOMIC_SEQ_CST);

    if (vq->event_idx) {
        uint16_t event = ring_load16(used_event(vq), __ATOMIC_SEQ_CST);

        /* Did idx pass the event with this step? All modulo 2^16. */
        return vring_need_event(event, new, old);
    }
    return !(ring_load16(&vq->avail->flags, __ATOMIC_SEQ_CST) & VRING_AVAIL_F_NO_INTERRUPT);
}
