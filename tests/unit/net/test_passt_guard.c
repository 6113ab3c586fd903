/* SPDX-License-Identifier: Apache-2.0 */
#include "net/passt_guard.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "tests/lib/unit.h"

#define FRAME_LEN 100u

static struct passt_guard guard;
static uint8_t header[NET_HDR_LEN];
static uint8_t bytes[NET_SEND_MAX][FRAME_LEN];
static struct iovec iov[NET_SEND_MAX][3];
static struct net_frame frames[NET_SEND_MAX];

/* A frame to an address, in two pieces of which the first has `at` bytes. */
static void make(unsigned i, const char *addr, uint32_t at)
{
    const bool is_ip6 = strchr(addr, ':');
    uint8_t *frame = bytes[i];

    memset(frame, (int)i, FRAME_LEN);
    store_be16(frame + 12, is_ip6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP);
    ck_assert_int_eq(
        inet_pton(is_ip6 ? AF_INET6 : AF_INET, addr, frame + (is_ip6 ? 14 + 24 : 14 + 16)), 1);
    iov[i][0] = (struct iovec){header, NET_HDR_LEN};
    iov[i][1] = (struct iovec){frame, at};
    iov[i][2] = (struct iovec){frame + at, FRAME_LEN - at};
    frames[i] = (struct net_frame){.iov = iov[i], .niov = 3, .len = FRAME_LEN};
}

/* What is sent of a frame, as long as the original. */
static void expect(unsigned i, const uint8_t *expected, uint32_t len)
{
    const struct net_frame *frame = &guard.frames[i];
    uint8_t got[NET_HDR_LEN + FRAME_LEN];

    ck_assert_uint_eq(frame->len, len);
    ck_assert_uint_le(frame->niov, NET_IOV_MAX);
    ck_assert_uint_eq(iov_len(frame->iov, frame->niov), NET_HDR_LEN + len);
    ck_assert_uint_eq(frame->iov[0].iov_len, NET_HDR_LEN);
    ck_assert_uint_eq(iov_to_buf(frame->iov, frame->niov, 0, got, sizeof(got)), NET_HDR_LEN + len);
    ck_assert_mem_eq(got + NET_HDR_LEN, expected, len);
}

START_TEST(frames_to_the_hosts_loopback_are_not_taken)
{
    static const char *const addrs[] = {
        "127.0.0.1", "127.0.0.53", "127.255.255.255",  "0.0.0.0",          "::1",
        "::",        "::0.0.0.1",  "::ffff:127.0.0.1", "::ffff:127.1.2.3", "::ffff:0.0.0.0",
    };

    for (size_t i = 0; i < ARRAY_SIZE(addrs); i++) {
        for (uint32_t at = 1; at < FRAME_LEN; at += 7) {
            make(0, addrs[i], at);
            ck_assert_msg(passt_guard_take(&guard, frames, 1) == 0, "%s", addrs[i]);
        }
    }
}
END_TEST

START_TEST(other_frames_are_taken_as_they_are)
{
    static const char *const addrs[] = {
        "10.0.2.2",    "126.255.255.255", "128.0.0.1", "255.255.255.255",
        "224.0.0.251", "0.0.0.1",         "ff02::1",   "fe80::1",
        "::2",         "2001:db8::1",     "1::",       "::ffff:10.0.0.1",
    };

    for (size_t i = 0; i < ARRAY_SIZE(addrs); i++) {
        for (uint32_t at = 1; at < FRAME_LEN; at += 7) {
            make(0, addrs[i], at);
            ck_assert_msg(passt_guard_take(&guard, frames, 1) == 1, "%s", addrs[i]);
            expect(0, bytes[0], FRAME_LEN);
        }
    }
}
END_TEST

/* ARP, and what looks like an address to the host where it is none. */
START_TEST(frames_of_other_kinds_are_taken)
{
    make(0, "127.0.0.1", 40);
    store_be16(bytes[0] + 12, ETHERTYPE_ARP);
    ck_assert_uint_eq(passt_guard_take(&guard, frames, 1), 1);
    expect(0, bytes[0], FRAME_LEN);
    for (uint32_t len = NET_FRAME_MIN; len <= PASST_GUARD_HEAD; len++) {
        iov[0][1] = (struct iovec){bytes[0], len};
        frames[0] = (struct net_frame){.iov = iov[0], .niov = 2, .len = len};
        ck_assert_uint_eq(passt_guard_take(&guard, frames, 1), 1);
        expect(0, bytes[0], len);
    }
}
END_TEST

START_TEST(a_guest_that_changes_a_frame_later_changes_no_address)
{
    uint8_t before[FRAME_LEN];

    make(0, "10.0.2.2", FRAME_LEN - 1);
    make(1, "2001:db8::1", FRAME_LEN - 1);
    for (unsigned i = 0; i < 2; i++) {
        memcpy(before, bytes[i], FRAME_LEN);
        ck_assert_uint_eq(passt_guard_take(&guard, frames + i, 1), 1);
        memset(bytes[i], 0x7f, PASST_GUARD_HEAD);
        expect(0, before, FRAME_LEN);
    }
}
END_TEST

START_TEST(those_before_one_that_may_not_be_sent_are_taken)
{
    for (unsigned i = 0; i < NET_SEND_MAX; i++)
        make(i, i == 40 ? "127.0.0.1" : "10.0.2.2", 1 + i);
    ck_assert_uint_eq(passt_guard_take(&guard, frames, NET_SEND_MAX), 40);
    for (unsigned i = 0; i < 40; i++)
        expect(i, bytes[i], FRAME_LEN);
    ck_assert_uint_eq(passt_guard_take(&guard, frames + 40, NET_SEND_MAX - 40), 0);
    ck_assert_uint_eq(passt_guard_take(&guard, frames + 41, NET_SEND_MAX - 41), NET_SEND_MAX - 41);
    for (unsigned i = 41; i < NET_SEND_MAX; i++)
        expect(i - 41, bytes[i], FRAME_LEN);
}
END_TEST

/* A frame of so many pieces of one byte, after its header. */
static void make_pieces(unsigned i, struct iovec *pieces, unsigned n)
{
    static uint8_t byte;

    pieces[0] = (struct iovec){header, NET_HDR_LEN};
    for (unsigned k = 0; k < n; k++)
        pieces[1 + k] = (struct iovec){&byte, 1};
    frames[i] = (struct net_frame){.iov = pieces, .niov = 1 + n, .len = n};
}

START_TEST(frames_in_many_pieces_are_taken_one_by_one)
{
    static struct iovec pieces[2][NET_IOV_MAX];

    make_pieces(0, pieces[0], NET_IOV_MAX - 1);
    make_pieces(1, pieces[1], NET_IOV_MAX - 1);
    ck_assert_uint_eq(passt_guard_take(&guard, frames, 2), 1);
    ck_assert_uint_le(guard.frames[0].niov, NET_IOV_MAX);
    ck_assert_uint_eq(iov_len(guard.frames[0].iov, guard.frames[0].niov),
                      NET_HDR_LEN + NET_IOV_MAX - 1);
    ck_assert_uint_eq(passt_guard_take(&guard, frames + 1, 1), 1);
    /* One that would be in too many with the copy. */
    memset(bytes[0], 1, FRAME_LEN);
    pieces[0][1] = (struct iovec){bytes[0], FRAME_LEN};
    frames[0].len += FRAME_LEN - 1;
    ck_assert_uint_eq(passt_guard_take(&guard, frames, 1), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "guard", frames_to_the_hosts_loopback_are_not_taken,
              other_frames_are_taken_as_they_are, frames_of_other_kinds_are_taken,
              a_guest_that_changes_a_frame_later_changes_no_address,
              those_before_one_that_may_not_be_sent_are_taken,
              frames_in_many_pieces_are_taken_one_by_one);
}

UNIT_MAIN("passt_guard", add_tests)
