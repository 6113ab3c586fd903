/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_net_limiter.h"

#include "base/bytes.h"
#include "base/clock.h"

#define PARTS_OF_SECOND 10

void net_limiter_init(struct net_limiter *limiter, const struct virtio_net_limits *limits,
                      uint64_t now_ns)
{
    *limiter = (struct net_limiter){.limits = *limits, .leaked_ns = now_ns};
}

void net_limiter_count(struct net_limiter *limiter, uint64_t bytes, uint64_t packets)
{
    bucket_fill(&limiter->bytes, (double)bytes);
    bucket_fill(&limiter->packets, (double)packets);
}

static uint64_t wait_ns(struct bucket *bucket, uint64_t limit, double seconds, uint64_t uncounted)
{
    double rate = (double)limit;

    if (limit == 0)
        return 0;
    bucket_leak(bucket, rate, seconds);
    return bucket_wait_ns(bucket, rate, rate / PARTS_OF_SECOND - (double)uncounted);
}

uint64_t net_limiter_wait_ns(struct net_limiter *limiter, uint64_t now_ns, uint64_t bytes,
                             uint64_t packets)
{
    double seconds = (double)(now_ns - limiter->leaked_ns) / (double)NS_PER_S;

    limiter->leaked_ns = now_ns;
    return max_u64(wait_ns(&limiter->bytes, limiter->limits.bps, seconds, bytes),
                   wait_ns(&limiter->packets, limiter->limits.pps, seconds, packets));
}
