/* SPDX-License-Identifier: Apache-2.0 */
#include "net/passt_guard.h"

#include <errno.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"

#define TYPE_AT 12u
#define IP4_TO 30u /* where the destination is */
#define IP6_TO 38u

/* Of the host itself: connections to the address that is all zero go there, too. */
static bool is_host_ip4(const uint8_t addr[4])
{
    return addr[0] == IN_LOOPBACKNET || load_be32(addr) == INADDR_ANY;
}

/* As IPv4's address in the form of IPv6, too. */
static bool is_host_ip6(const uint8_t addr[16])
{
    struct in6_addr ip6;

    memcpy(&ip6, addr, sizeof(ip6));
    return IN6_IS_ADDR_LOOPBACK(&ip6) || IN6_IS_ADDR_UNSPECIFIED(&ip6) ||
           (IN6_IS_ADDR_V4MAPPED(&ip6) && is_host_ip4(addr + 12));
}

/* A frame that ends before its addresses has zeroes there: it is no IP, and not sent either. */
static bool is_for_host(const uint8_t head[PASST_GUARD_HEAD])
{
    switch (load_be16(head + TYPE_AT)) {
    case ETHERTYPE_IP:
        return is_host_ip4(head + IP4_TO);
    case ETHERTYPE_IPV6:
        return is_host_ip6(head + IP6_TO);
    default:
        return false;
    }
}

/* Returns the number of elements at `iov`; 0: it may not be sent; -E2BIG: `room` is too small. */
static int copy_frame(const struct net_frame *frame, uint8_t head[PASST_GUARD_HEAD],
                      struct iovec *iov, unsigned room)
{
    const uint32_t len = (uint32_t)min_u64(frame->len, PASST_GUARD_HEAD);
    int n;

    memset(head, 0, PASST_GUARD_HEAD);
    (void)iov_to_buf(frame->iov, frame->niov, NET_HDR_LEN, head, len); /* so long it is */
    if (is_for_host(head))
        return 0;
    if (room < 2)
        return -E2BIG;
    iov[0] = frame->iov[0];
    iov[1] = (struct iovec){head, len};
    if (len == frame->len)
        return 2;
    n = iov_slice(frame->iov, frame->niov, NET_HDR_LEN + len, frame->len - len, iov + 2, room - 2);
    return n < 0 ? n : 2 + n;
}

unsigned passt_guard_take(struct passt_guard *guard, const struct net_frame *frames,
                          unsigned nframes)
{
    unsigned used = 0;
    unsigned i;

    for (i = 0; i < nframes && i < NET_SEND_MAX; i++) {
        struct iovec *iov = &guard->iov[used];
        int n = copy_frame(&frames[i], guard->heads[i], iov, NET_IOV_MAX - used);

        if (n <= 0)
            break;
        guard->frames[i] =
            (struct net_frame){.iov = iov, .niov = (unsigned)n, .len = frames[i].len};
        used += (unsigned)n;
    }
    return i;
}
