/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "base/log.h"
#include "devices/virtio/virtio_rings.h"
#include "devices/virtio/vsock_mux.h"

/* Queues (5.10.2), named as the specification does: from where the driver is. */
enum { RX, TX, EVENT, NQUEUES };

/*
 * What is done for a queue in one round of the loop: as many packets of 64 KiB to the host, or of 4
 * KiB to the guest, take some tenths of a millisecond.
 */
#define ROUND_PACKETS 128u

/* With so many pieces no more buffers are popped ahead; ordinary ones have one or two each. */
#define BUF_PIECES_MAX VIRTQ_CHAIN_MAX

/* Owner: the loop's thread. */
struct virtio_vsock {
    struct virtio_rings rings;
    struct vsock_host *host;
    struct vsock_guest guest;
    struct vsock_mux mux;
    struct virtio_vsock_config config; /* constant */
    struct iovec *scratch;             /* of the mux; VIRTQ_CHAIN_MAX */
    bool filling;                      /* fill_bufs is looking for news by itself */

    /*
     * Buffers for the guest that were popped and not used yet, the first ones first. Nobody writes
     * to them between two rounds of the loop.
     */
    struct vsock_buf bufs[VSOCK_FILL_MAX];
    uint16_t heads[VSOCK_FILL_MAX];
    unsigned nbufs;
    struct iovec *pieces; /* of the buffers; room for one more chain than BUF_PIECES_MAX */
    unsigned npieces;

    bool tell_reset; /* there was no buffer for that event yet */
    struct loop_work reset_transport;
};

static struct virtio_vsock *vsock_of(struct virtio_dev *dev)
{
    return container_of(dev, struct virtio_vsock, rings.dev);
}

static struct virtio_ring *ring_of(struct virtio_vsock *vsock, unsigned queue)
{
    return &vsock->rings.all[queue];
}

/* ---- to the guest ---------------------------------------------------------------------------- */

static void keep_buf(struct virtio_vsock *vsock, const struct virtq_chain *chain)
{
    struct iovec *pieces = vsock->pieces + vsock->npieces;

    memcpy(pieces, chain->iov + chain->nout, chain->nin * sizeof(*pieces));
    vsock->bufs[vsock->nbufs] = (struct vsock_buf){
        .iov = pieces,
        .niov = chain->nin,
        .len = chain->in_len,
    };
    vsock->heads[vsock->nbufs] = chain->head;
    vsock->nbufs++;
    vsock->npieces += chain->nin;
}

/*
 * Have buffers for packets, as many as one look at a socket can fill. False: there are none, and a
 * kick will tell when there are. A buffer without room for a packet of one byte makes as little
 * sense as a broken ring.
 */
static bool have_bufs(struct virtio_vsock *vsock)
{
    struct virtio_ring *ring = ring_of(vsock, RX);
    const struct virtq_chain *chain;

    while (vsock->nbufs < VSOCK_FILL_MAX && vsock->npieces <= BUF_PIECES_MAX &&
           (chain = virtio_ring_next(ring))) {
        if (chain->in_len <= VSOCK_HEADER_LEN) {
            log_guest(LOG_WARN, "virtio-vsock: buffer of %u bytes: too short for a packet",
                      chain->in_len);
            virtio_rings_break(&vsock->rings);
            return false;
        }
        keep_buf(vsock, chain);
    }
    return vsock->nbufs > 0;
}

/* The first `n` buffers are filled. */
static void give_bufs(struct virtio_vsock *vsock, unsigned n)
{
    const unsigned left = vsock->nbufs - n;
    unsigned pieces = 0;

    for (unsigned i = 0; i < n; i++) {
        virtq_push(ring_of(vsock, RX)->vq, vsock->heads[i], vsock->bufs[i].written);
        pieces += vsock->bufs[i].niov;
    }
    vsock->nbufs = left;
    vsock->npieces -= pieces;
    memmove(vsock->heads, vsock->heads + n, left * sizeof(vsock->heads[0]));
    memmove(vsock->bufs, vsock->bufs + n, left * sizeof(vsock->bufs[0]));
    memmove(vsock->pieces, vsock->pieces + pieces, vsock->npieces * sizeof(vsock->pieces[0]));
    for (unsigned i = 0; i < left; i++)
        vsock->bufs[i].iov -= pieces;
}

static void fill_bufs(struct virtio_vsock *vsock)
{
    const bool was_full = vsock_mux_is_full(&vsock->mux);
    unsigned done = 0;

    vsock->filling = true;
    while (done < ROUND_PACKETS && vsock_mux_has_news(&vsock->mux) && have_bufs(vsock)) {
        unsigned n = vsock_mux_fill(&vsock->mux, vsock->bufs, vsock->nbufs);

        give_bufs(vsock, n);
        done += n + 1; /* a look at a socket that had nothing, too */
    }
    vsock->filling = false;
    if (done >= ROUND_PACKETS)
        virtio_ring_again(ring_of(vsock, RX));
    if (was_full && !vsock_mux_is_full(&vsock->mux))
        virtio_ring_again(ring_of(vsock, TX));
}

static void wake(struct vsock_mux *mux)
{
    struct virtio_vsock *vsock = container_of(mux, struct virtio_vsock, mux);

    if (!vsock->filling)
        virtio_ring_again(ring_of(vsock, RX));
}

/* ---- from the guest -------------------------------------------------------------------------- */

/*
 * As long as the guest has no buffers for answers, it may be that no packet is taken (5.10.6.1.2);
 * the end of that is noticed in fill_bufs.
 */
static void take_packets(struct virtio_vsock *vsock)
{
    struct virtio_ring *ring = ring_of(vsock, TX);
    const struct virtq_chain *chain;
    unsigned npackets = 0;

    while (!vsock_mux_is_full(&vsock->mux)) {
        if (npackets++ == ROUND_PACKETS) {
            virtio_ring_again(ring);
            return;
        }
        chain = virtio_ring_next(ring);
        if (!chain)
            return;
        vsock_mux_packet(&vsock->mux, chain->iov, chain->nout);
        virtq_push(ring->vq, chain->head, 0);
    }
}

/* ---- events ---------------------------------------------------------------------------------- */

static void tell_events(struct virtio_vsock *vsock)
{
    const struct virtio_vsock_event event = {.id = htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET)};
    struct virtio_ring *ring = ring_of(vsock, EVENT);
    const struct virtq_chain *chain = vsock->tell_reset ? virtio_ring_next(ring) : NULL;

    if (!chain)
        return; /* when there is a buffer a kick will tell */
    vsock->tell_reset = false;
    virtq_push(
        ring->vq, chain->head,
        (uint32_t)iov_from_buf(chain->iov + chain->nout, chain->nin, 0, &event, sizeof(event)));
}

static void reset_transport(struct loop_work *work)
{
    struct virtio_vsock *vsock = container_of(work, struct virtio_vsock, reset_transport);

    vsock_mux_clear(&vsock->mux);
    vsock->tell_reset = virtio_ring_is_started(ring_of(vsock, EVENT));
    virtio_ring_again(ring_of(vsock, EVENT));
    virtio_ring_again(ring_of(vsock, TX)); /* there is room for answers again */
}

void virtio_vsock_reset_transport(struct virtio_dev *dev)
{
    struct virtio_vsock *vsock = vsock_of(dev);

    loop_post(vsock->rings.loop, &vsock->reset_transport);
}

/* ---- queues ---------------------------------------------------------------------------------- */

static int connect_guest(struct vsock_guest *guest, int fd, uint32_t port)
{
    return vsock_mux_connect(&container_of(guest, struct virtio_vsock, guest)->mux, fd, port);
}

/* Whoever connects while no driver could answer is told so at once. */
static void update_guest(struct virtio_vsock *vsock)
{
    if (virtio_ring_is_started(ring_of(vsock, RX)) && virtio_ring_is_started(ring_of(vsock, TX)))
        vsock->host->guest = &vsock->guest;
    else if (vsock->host->guest == &vsock->guest)
        vsock->host->guest = NULL;
}

static void work(struct virtio_ring *ring)
{
    static void (*const by_queue[NQUEUES])(struct virtio_vsock *) = {
        [RX] = fill_bufs,
        [TX] = take_packets,
        [EVENT] = tell_events,
    };
    struct virtio_vsock *vsock = container_of(ring->rings, struct virtio_vsock, rings);

    update_guest(vsock);
    by_queue[ring->index](vsock);
}

static bool has_started_queue(struct virtio_vsock *vsock)
{
    for (unsigned i = 0; i < NQUEUES; i++)
        if (virtio_ring_is_started(ring_of(vsock, i)))
            return true;
    return false;
}

/* In a pause, everything stays as it is. */
static void rest(struct virtio_ring *ring)
{
    struct virtio_vsock *vsock = container_of(ring->rings, struct virtio_vsock, rings);

    if (virtio_ring_is_started(ring))
        return;
    if (ring->index == RX) {
        vsock->nbufs = 0;
        vsock->npieces = 0;
    }
    update_guest(vsock);
    if (has_started_queue(vsock))
        return;
    vsock_mux_clear(&vsock->mux);
    vsock->tell_reset = false;
}

static void resumed(struct virtio_rings *rings)
{
    vsock_mux_resumed(&container_of(rings, struct virtio_vsock, rings)->mux);
}

/* ---- virtio_ops ------------------------------------------------------------------------------ */

/* As many rounds as a full queue takes whose packets have 32 pieces each. */
static void take_last_packets(void *opaque)
{
    struct virtio_vsock *vsock = opaque;

    for (unsigned i = 0; i < VIRTQ_SIZE_MAX; i += ROUND_PACKETS)
        virtio_ring_look(ring_of(vsock, TX));
}

/* What a guest has sent just before it ends is heard. */
static void vsock_queue_stop(struct virtio_dev *dev, unsigned queue)
{
    struct virtio_vsock *vsock = vsock_of(dev);

    if (queue == TX)
        loop_call(vsock->rings.loop, take_last_packets, vsock);
    virtio_rings_queue_stop(dev, queue);
}

static uint64_t vsock_features(struct virtio_dev *dev)
{
    return 0; /* 5.10.3: without any of them, there are stream sockets */
}

static void vsock_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
    const struct virtio_vsock_config *config = &vsock_of(dev)->config;

    virtio_config_copy(config, sizeof(*config), off, buf, len);
}

/* No field can be written. */
static void vsock_config_write(struct virtio_dev *dev, uint32_t off, const void *buf, uint32_t len)
{
}

static void leave_loop(void *opaque)
{
    struct virtio_vsock *vsock = opaque;

    loop_cancel(vsock->rings.loop, &vsock->reset_transport);
    vsock_mux_done(&vsock->mux);
}

static void free_memory(struct virtio_vsock *vsock)
{
    free(vsock->scratch);
    free(vsock->pieces);
    free(vsock);
}

static void vsock_free(struct virtio_dev *dev)
{
    struct virtio_vsock *vsock = vsock_of(dev);

    loop_call(vsock->rings.loop, leave_loop, vsock);
    virtio_rings_done(&vsock->rings);
    free_memory(vsock);
}

static const struct virtio_ops virtio_vsock_ops = {
    .name = "virtio-vsock",
    .device_id = VIRTIO_ID_VSOCK,
    .features = vsock_features,
    .config_read = vsock_config_read,
    .config_write = vsock_config_write,
    .features_ok = virtio_rings_features_ok,
    .queue_start = virtio_rings_queue_start,
    .queue_stop = vsock_queue_stop,
    .pause = virtio_rings_pause,
    .resume = virtio_rings_resume,
    .free = vsock_free,
};

/* ---- setting up ------------------------------------------------------------------------------ */

static void init_mux(struct virtio_vsock *vsock, const struct virtio_vsock_options *options)
{
    vsock->mux.host = options->host;
    vsock->mux.wake = wake;
    vsock->mux.env = (struct vsock_env){
        .loop = options->loop,
        .guest_cid = options->cid,
        .paused = &vsock->rings.pause.on,
        .counters = &options->host->counters,
        .iov = vsock->scratch,
        .niov = VIRTQ_CHAIN_MAX,
    };
    vsock_mux_init(&vsock->mux);
}

int virtio_vsock_new(const struct virtio_vsock_options *options, const struct guest_mem *mem,
                     struct virtio_dev **ret_dev)
{
    struct virtio_vsock *vsock = calloc(1, sizeof(*vsock));
    int r = -ENOMEM;

    if (!vsock)
        return -ENOMEM;
    /* Not cleared: of the room for the longest chains, most pages are never touched. */
    vsock->scratch = malloc(VIRTQ_CHAIN_MAX * sizeof(*vsock->scratch));
    vsock->pieces = malloc((BUF_PIECES_MAX + VIRTQ_CHAIN_MAX) * sizeof(*vsock->pieces));
    vsock->rings = (struct virtio_rings){
        .loop = options->loop,
        .work = work,
        .rest = rest,
        .resumed = resumed,
    };
    if (vsock->scratch && vsock->pieces)
        r = virtio_rings_init(&vsock->rings, &virtio_vsock_ops, mem, NQUEUES);
    if (r < 0) {
        free_memory(vsock);
        return r;
    }
    vsock->host = options->host;
    vsock->guest.connect = connect_guest;
    vsock->config.guest_cid = htole64(options->cid);
    init_mux(vsock, options);
    vsock->reset_transport.run = reset_transport;
    *ret_dev = &vsock->rings.dev;
    return 0;
}
