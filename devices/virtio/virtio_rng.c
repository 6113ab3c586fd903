/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_rng.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/random.h"
#include "devices/virtio/virtio_rings.h"

/*
 * Most bytes for one request, and for all that are answered in a round of the loop: a tenth of a
 * millisecond. The rest of a larger buffer stays as it is, which the driver is told (5.4.6.2).
 */
#define ROUND_BYTES (64u * 1024)

/* What a buffer counts at least: a single byte costs about as much as so many. */
#define BUFFER_BYTES_MIN 64u

/* What is allowed for so long may come at once, after a time of quiet. */
#define BURST_NS (100 * NS_PER_MS)

/* A host that has just booted is asked again for its first random bytes. */
#define NOT_READY_NS (100 * NS_PER_MS)

struct virtio_rng {
    struct virtio_rings rings;
    uint64_t bps;

    /* Owner: the loop's thread. */
    uint64_t paid_ns; /* until when what was given so far would take at the rate of the limit */
    bool ready;       /* the host has random bytes */
    struct loop_timer later;
};

static struct virtio_rng *rng_of(struct virtio_dev *dev)
{
    return container_of(dev, struct virtio_rng, rings.dev);
}

/* ---- the limit ------------------------------------------------------------------------------- */

/* How long until the next request may be answered; 0: now. */
static uint64_t must_wait_ns(const struct virtio_rng *rng, uint64_t now_ns)
{
    return rng->paid_ns > now_ns + BURST_NS ? rng->paid_ns - now_ns - BURST_NS : 0;
}

static void pay(struct virtio_rng *rng, uint64_t now_ns, uint64_t cost)
{
    if (rng->bps == 0)
        return;
    if (rng->paid_ns < now_ns)
        rng->paid_ns = now_ns;
    rng->paid_ns += cost * NS_PER_S / rng->bps;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Take from a round's bytes what a buffer of `len` bytes costs. */
static void spend(uint32_t *left, uint32_t len)
{
    uint32_t cost = len > BUFFER_BYTES_MIN ? len : BUFFER_BYTES_MIN;

    *left -= cost < *left ? cost : *left;
}

/* Fill the chain's writable buffers, as far as *left reaches. Returns how many bytes it wrote. */
static uint32_t fill(const struct virtq_chain *chain, uint32_t *left)
{
    uint32_t done = 0;

    if (chain->nin == 0)
        spend(left, 0);
    for (unsigned i = 0; *left > 0 && i < chain->nin; i++) {
        const struct iovec *iov = &chain->iov[chain->nout + i];
        uint32_t len = (uint32_t)min_u64(iov->iov_len, *left);

        if (!random_bytes(iov->iov_base, len))
            break;
        done += len;
        spend(left, len);
    }
    return done;
}

static bool is_ready(struct virtio_rng *rng)
{
    uint8_t byte;

    rng->ready = rng->ready || random_bytes(&byte, sizeof(byte));
    return rng->ready;
}

static void work(struct virtio_ring *ring)
{
    struct virtio_rng *rng = container_of(ring->rings, struct virtio_rng, rings);
    uint64_t now_ns = monotonic_ns();
    uint64_t wait_ns = is_ready(rng) ? must_wait_ns(rng, now_ns) : NOT_READY_NS;
    uint32_t left = ROUND_BYTES;
    const struct virtq_chain *chain;

    while (wait_ns == 0 && left > 0 && (chain = virtio_ring_next(ring))) {
        uint32_t before = left;

        virtq_push(ring->vq, chain->head, fill(chain, &left));
        pay(rng, now_ns, before - left);
        wait_ns = must_wait_ns(rng, now_ns);
    }
    if (wait_ns > 0)
        loop_arm(rng->rings.loop, &rng->later, wait_ns);
    else if (left == 0)
        virtio_ring_again(ring);
}

static void time_came(struct loop_timer *timer)
{
    struct virtio_rng *rng = container_of(timer, struct virtio_rng, later);

    virtio_ring_again(&rng->rings.all[0]);
}

static void rest(struct virtio_ring *ring)
{
    struct virtio_rng *rng = container_of(ring->rings, struct virtio_rng, rings);

    loop_disarm(&rng->later);
}

/* ---- virtio_ops ------------------------------------------------------------------------------ */

static uint64_t rng_features(struct virtio_dev *dev)
{
    return 0;
}

static void rng_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
    virtio_config_copy(NULL, 0, off, buf, len);
}

static void rng_config_write(struct virtio_dev *dev, uint32_t off, const void *buf, uint32_t len)
{
}

static void rng_free(struct virtio_dev *dev)
{
    struct virtio_rng *rng = rng_of(dev);

    virtio_rings_done(&rng->rings);
    free(rng);
}

static const struct virtio_ops virtio_rng_ops = {
    .name = "virtio-rng",
    .device_id = VIRTIO_ID_RNG,
    .features = rng_features,
    .config_read = rng_config_read,
    .config_write = rng_config_write,
    .features_ok = virtio_rings_features_ok,
    .queue_start = virtio_rings_queue_start,
    .queue_stop = virtio_rings_queue_stop,
    .pause = virtio_rings_pause,
    .resume = virtio_rings_resume,
    .free = rng_free,
};

int virtio_rng_new(const struct virtio_rng_options *options, const struct guest_mem *mem,
                   struct virtio_dev **ret_dev)
{
    struct virtio_rng *rng = calloc(1, sizeof(*rng));
    int r;

    if (!rng)
        return -ENOMEM;
    rng->rings = (struct virtio_rings){
        .loop = options->loop,
        .work = work,
        .rest = rest,
    };
    r = virtio_rings_init(&rng->rings, &virtio_rng_ops, mem, 1);
    if (r < 0) {
        free(rng);
        return r;
    }
    rng->bps = options->bps;
    rng->later.expired = time_came;
    *ret_dev = &rng->rings.dev;
    return 0;
}
