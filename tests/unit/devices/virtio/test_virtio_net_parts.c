/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: filters, headers and limits, each by itself. */
#include <linux/virtio_net.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "devices/virtio/virtio.h"
#include "devices/virtio/virtio_net_filter.h"
#include "devices/virtio/virtio_net_hdr.h"
#include "devices/virtio/virtio_net_limiter.h"
#include "net/net.h"
#include "tests/lib/unit.h"

/* ---- filter ---------------------------------------------------------------------------------- */

static const struct mac own = {{0x52, 0x54, 0, 0, 0, 1}};
static const struct mac other = {{0x52, 0x54, 0, 0, 0, 2}};
static const struct mac group = {{0x33, 0x33, 0, 0, 0, 1}};
static const struct mac group2 = {{0x33, 0x33, 0, 0, 0, 2}};
static const struct mac broadcast = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

static struct net_filter filter;

static void set_mode(uint8_t command, bool on)
{
    ck_assert(net_filter_set_mode(&filter, command, on));
}

/* As a driver that has said that it does not want everything. */
static void set_up_filter(void)
{
    net_filter_reset(&filter, &own);
    set_mode(VIRTIO_NET_CTRL_RX_PROMISC, false);
}

START_TEST(everything_passes_at_first)
{
    net_filter_reset(&filter, &own);
    ck_assert(net_filter_passes(&filter, &own));
    ck_assert(net_filter_passes(&filter, &other));
    ck_assert(net_filter_passes(&filter, &group));
    ck_assert(net_filter_passes(&filter, &broadcast));
}
END_TEST

START_TEST(own_address_and_broadcasts_pass)
{
    ck_assert(net_filter_passes(&filter, &own));
    ck_assert(net_filter_passes(&filter, &broadcast));
    ck_assert(!net_filter_passes(&filter, &other));
    ck_assert(!net_filter_passes(&filter, &group));
}
END_TEST

START_TEST(addresses_of_the_tables_pass)
{
    net_filter_fill(&filter.unicast, &other, 1);
    ck_assert(net_filter_passes(&filter, &other));
    ck_assert(!net_filter_passes(&filter, &group));
    net_filter_fill(&filter.multicast, &group, 1);
    ck_assert(net_filter_passes(&filter, &group));
    ck_assert(!net_filter_passes(&filter, &group2));
    net_filter_fill(&filter.unicast, &other, 0);
    ck_assert(!net_filter_passes(&filter, &other));
}
END_TEST

START_TEST(tables_that_overflow_let_all_of_their_kind_pass)
{
    static struct mac macs[NET_FILTER_MACS];

    for (unsigned i = 0; i < NET_FILTER_MACS; i++)
        macs[i] = (struct mac){{2, 1, 1, 1, 1, (uint8_t)i}};
    net_filter_fill(&filter.unicast, macs, NET_FILTER_MACS);
    ck_assert(!filter.unicast.overflow);
    ck_assert(net_filter_passes(&filter, &macs[NET_FILTER_MACS - 1]));
    ck_assert(!net_filter_passes(&filter, &other));
    net_filter_fill(&filter.unicast, macs, NET_FILTER_MACS + 1);
    ck_assert(filter.unicast.overflow && filter.unicast.n == 0);
    ck_assert(net_filter_passes(&filter, &other));
    ck_assert(!net_filter_passes(&filter, &group));
    net_filter_fill(&filter.multicast, macs, UINT32_MAX);
    ck_assert(net_filter_passes(&filter, &group));
}
END_TEST

START_TEST(modes_let_in_and_keep_out)
{
    set_mode(VIRTIO_NET_CTRL_RX_ALLMULTI, true);
    ck_assert(net_filter_passes(&filter, &group));
    ck_assert(!net_filter_passes(&filter, &other));
    set_mode(VIRTIO_NET_CTRL_RX_ALLUNI, true);
    ck_assert(net_filter_passes(&filter, &other));
    set_mode(VIRTIO_NET_CTRL_RX_NOUNI, true);
    ck_assert(!net_filter_passes(&filter, &other));
    ck_assert(!net_filter_passes(&filter, &own));
    ck_assert(net_filter_passes(&filter, &group));
    set_mode(VIRTIO_NET_CTRL_RX_NOMULTI, true);
    ck_assert(!net_filter_passes(&filter, &group));
    ck_assert(net_filter_passes(&filter, &broadcast));
    set_mode(VIRTIO_NET_CTRL_RX_NOBCAST, true);
    ck_assert(!net_filter_passes(&filter, &broadcast));
    set_mode(VIRTIO_NET_CTRL_RX_PROMISC, true);
    ck_assert(net_filter_passes(&filter, &broadcast));
    ck_assert(!net_filter_set_mode(&filter, 6, true));
    ck_assert(!net_filter_set_mode(&filter, 255, true));
}
END_TEST

/* ---- headers --------------------------------------------------------------------------------- */

#define LEN 2000u
#define NEEDS_CSUM VIRTIO_NET_HDR_F_NEEDS_CSUM

/* A header, what was agreed on, and what comes of it. */
struct hdr_case {
    const char *what;
    unsigned flags, gso_type, hdr_len, gso_size, csum_start, csum_offset;
    uint64_t without; /* of NET_OFFLOADS */
    unsigned good;
    unsigned hdr_len_after;
};

#define HOST(name) VIRTIO_FEATURE(VIRTIO_NET_F_##name)
#define TCPV4 VIRTIO_NET_HDR_GSO_TCPV4
#define TCPV6 VIRTIO_NET_HDR_GSO_TCPV6

static const struct hdr_case hdr_cases[] = {
    {"plain", 0, 0, 0, 0, 0, 0, NET_OFFLOADS, true, 0},
    {"plain with odd rest", 0, 0, 9999, 7, 50000, 50000, NET_OFFLOADS, true, 0},
    {"checksum", NEEDS_CSUM, 0, 0, 0, 34, 16, 0, true, 0},
    {"checksum is all that was agreed on", NEEDS_CSUM, 0, 0, 0, 34, 16, NET_OFFLOADS & ~HOST(CSUM),
     true, 0},
    {"checksum not agreed on", NEEDS_CSUM, 0, 0, 0, 34, 16, HOST(CSUM), false, 0},
    {"checksum at the very end", NEEDS_CSUM, 0, 0, 0, LEN - 18, 16, 0, true, 0},
    {"checksum behind the end", NEEDS_CSUM, 0, 0, 0, LEN - 17, 16, 0, false, 0},
    {"checksum start far out", NEEDS_CSUM, 0, 0, 0, 65535, 0, 0, false, 0},
    {"checksum offset far out", NEEDS_CSUM, 0, 0, 0, 34, 65535, 0, false, 0},
    {"sum of both wraps in 16 bits", NEEDS_CSUM, 0, 0, 0, 34, 65520, 0, false, 0},
    {"checksum right behind Ethernet", NEEDS_CSUM, 0, 0, 0, 14, 0, 0, true, 0},
    {"checksum in Ethernet", NEEDS_CSUM, 0, 0, 0, 13, 16, 0, false, 0},
    {"tso4", NEEDS_CSUM, TCPV4, 54, 1448, 34, 16, 0, true, 54},
    {"tso4 not agreed on", NEEDS_CSUM, TCPV4, 54, 1448, 34, 16, HOST(HOST_TSO4), false, 0},
    {"tso6", NEEDS_CSUM, TCPV6, 74, 1448, 54, 16, 0, true, 74},
    {"tso6 not agreed on", NEEDS_CSUM, TCPV6, 74, 1448, 54, 16, HOST(HOST_TSO6), false, 0},
    {"tso without a checksum", 0, TCPV4, 54, 1448, 34, 16, 0, false, 0},
    {"tso in pieces of 0", NEEDS_CSUM, TCPV4, 54, 0, 34, 16, 0, false, 0},
    {"tso in pieces of 7", NEEDS_CSUM, TCPV4, 54, 7, 34, 16, 0, false, 0},
    {"tso in pieces of 8", NEEDS_CSUM, TCPV4, 54, 8, 34, 16, 0, true, 54},
    {"hdr_len over the end", NEEDS_CSUM, TCPV4, LEN + 1, 1448, 34, 16, 0, true, LEN},
    {"hdr_len nonsense", NEEDS_CSUM, TCPV4, 65535, 1448, 34, 16, 0, true, LEN},
    {"ufo", NEEDS_CSUM, VIRTIO_NET_HDR_GSO_UDP, 54, 1448, 34, 6, 0, false, 0},
    {"ecn", NEEDS_CSUM, TCPV4 | VIRTIO_NET_HDR_GSO_ECN, 54, 1448, 34, 16, 0, false, 0},
    {"only ecn", NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN, 54, 1448, 34, 16, 0, false, 0},
    {"unknown kind", NEEDS_CSUM, 77, 54, 1448, 34, 16, 0, false, 0},
    {"flags of the other direction", VIRTIO_NET_HDR_F_DATA_VALID | 0xf8, 0, 0, 0, 0, 0,
     NET_OFFLOADS, true, 0},
};

START_TEST(headers_are_checked)
{
    const struct hdr_case *c = &hdr_cases[_i];
    struct virtio_net_hdr_v1 hdr = {
        .flags = (uint8_t)c->flags,
        .gso_type = (uint8_t)c->gso_type,
        .hdr_len = htole16((uint16_t)c->hdr_len),
        .gso_size = htole16((uint16_t)c->gso_size),
        .csum_start = htole16((uint16_t)c->csum_start),
        .csum_offset = htole16((uint16_t)c->csum_offset),
        .num_buffers = 0x1234,
    };

    ck_assert_msg(net_hdr_check(&hdr, LEN, NET_OFFLOADS & ~c->without) == c->good, "%s", c->what);
    if (!c->good)
        return;
    ck_assert_uint_eq(hdr.flags, c->flags & NEEDS_CSUM);
    ck_assert_uint_eq(hdr.num_buffers, 0);
    ck_assert_uint_eq(le16toh(hdr.hdr_len), c->hdr_len_after);
    ck_assert_uint_eq(le16toh(hdr.gso_size), hdr.gso_type ? c->gso_size : 0);
    ck_assert_uint_eq(le16toh(hdr.csum_start), hdr.flags ? c->csum_start : 0);
}
END_TEST

START_TEST(packets_of_a_frame_are_counted)
{
    struct virtio_net_hdr_v1 hdr = {.gso_size = htole16(1000)};

    ck_assert_uint_eq(net_hdr_packets(&hdr, 5000), 1);
    hdr.gso_type = TCPV4;
    ck_assert_uint_eq(net_hdr_packets(&hdr, 5000), 5);
    ck_assert_uint_eq(net_hdr_packets(&hdr, 5001), 6);
    ck_assert_uint_eq(net_hdr_packets(&hdr, 14), 1);
    hdr.gso_size = 0;
    ck_assert_uint_eq(net_hdr_packets(&hdr, 5000), 1);
}
END_TEST

/* ---- limits ---------------------------------------------------------------------------------- */

static struct net_limiter limiter;
static uint64_t now_ns;

static void limit(uint64_t bps, uint64_t pps)
{
    const struct virtio_net_limits limits = {.bps = bps, .pps = pps};

    now_ns = 77 * NS_PER_S;
    net_limiter_init(&limiter, &limits, now_ns);
}

static uint64_t wait_ns(void)
{
    return net_limiter_wait_ns(&limiter, now_ns, 0, 0);
}

/* Send frames as soon as they may, for a time; returns how many. */
static unsigned send_for(uint64_t time_ns, uint64_t bytes, uint64_t packets)
{
    uint64_t end_ns = now_ns + time_ns;
    unsigned n = 0;

    for (;;) {
        uint64_t wait = wait_ns();

        if (now_ns + wait >= end_ns)
            return n;
        now_ns += wait;
        net_limiter_count(&limiter, bytes, packets);
        n++;
    }
}

START_TEST(no_limit_is_none)
{
    limit(0, 0);
    ck_assert(!net_limiter_is_on(&limiter));
    net_limiter_count(&limiter, 1 << 30, 1 << 30);
    ck_assert_uint_eq(wait_ns(), 0);
}
END_TEST

START_TEST(bytes_keep_to_their_rate)
{
    limit(1000000, 0);
    ck_assert(net_limiter_is_on(&limiter));
    /* Ten seconds, and the tenth of one that the bucket holds. */
    ck_assert_uint_eq(send_for(10 * NS_PER_S, 1000, 50), 10100);
}
END_TEST

START_TEST(packets_keep_to_their_rate)
{
    limit(0, 1000);
    ck_assert(net_limiter_is_on(&limiter));
    ck_assert_uint_eq(send_for(10 * NS_PER_S, 1000000, 1), 10100);
}
END_TEST

START_TEST(quiet_earns_no_more_than_a_tenth_of_a_second)
{
    limit(1000000, 0);
    (void)send_for(NS_PER_S, 1000, 1);
    now_ns += 3600 * NS_PER_S;
    ck_assert_uint_le(send_for(NS_PER_MS, 1000, 1), 103);
}
END_TEST

START_TEST(frames_not_counted_yet_count)
{
    limit(1000000, 0);
    ck_assert_uint_eq(net_limiter_wait_ns(&limiter, now_ns, 100000, 1), 0);
    ck_assert_uint_gt(net_limiter_wait_ns(&limiter, now_ns, 100001, 1), 0);
    ck_assert_uint_eq(wait_ns(), 0);
    limit(0, 1000);
    ck_assert_uint_eq(net_limiter_wait_ns(&limiter, now_ns, 1 << 20, 100), 0);
    ck_assert_uint_gt(net_limiter_wait_ns(&limiter, now_ns, 1 << 20, 101), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("headers");

    unit_case_with(suite, "filter", set_up_filter, NULL, everything_passes_at_first,
                   own_address_and_broadcasts_pass, addresses_of_the_tables_pass,
                   tables_that_overflow_let_all_of_their_kind_pass, modes_let_in_and_keep_out);
    tcase_add_loop_test(tcase, headers_are_checked, 0, ARRAY_SIZE(hdr_cases));
    tcase_add_test(tcase, packets_of_a_frame_are_counted);
    suite_add_tcase(suite, tcase);
    unit_case(suite, "limits", no_limit_is_none, bytes_keep_to_their_rate,
              packets_keep_to_their_rate, quiet_earns_no_more_than_a_tenth_of_a_second,
              frames_not_counted_yet_count);
}

UNIT_MAIN("virtio_net_parts", add_tests)
