/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dgram.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/lib/net/card.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

/* The other side, as gvproxy is: it learns from the first frame where to answer. */
static int peer;
static struct sockaddr_un guest;
static socklen_t guest_len;

static struct card card;
static struct net *net;
static struct err err;
static uint8_t bytes[100000];
static unsigned nexposed;

/* In the C library's place: is the socket known by a name before it is connected? */
int connect(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
    struct sockaddr_un name;
    socklen_t name_len = sizeof(name);

    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&name, &name_len), 0);
    nexposed += name_len > sizeof(name.sun_family);
    return (int)syscall(SYS_connect, fd, addr.__sockaddr__, len);
}

static void peer_open(void)
{
    const struct timeval patience = {20, 0};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", scratch_path("peer"));
    (void)unlink(addr.sun_path); /* it may be there from before */
    peer = socket(AF_UNIX, SOCK_DGRAM, 0);
    ck_assert_int_eq(bind(peer, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
}

static void peer_expect(uint32_t len)
{
    guest_len = sizeof(guest);
    ck_assert_int_eq(recvfrom(peer, bytes, sizeof(bytes), 0, (struct sockaddr *)&guest, &guest_len),
                     len);
    ck_assert(card_is_filled(bytes, len));
}

static void peer_send(uint32_t len)
{
    int size = 4 << 20;

    ck_assert_int_eq(setsockopt(peer, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
    card_fill(bytes, len);
    ck_assert_int_eq(sendto(peer, bytes, len, 0, (struct sockaddr *)&guest, guest_len),
                     (ssize_t)len);
}

static unsigned send_one(uint32_t len)
{
    unsigned dropped;

    ck_assert_uint_eq(card_send(&card, &len, 1, &dropped), 1);
    return dropped;
}

static void set_up(void)
{
    scratch_set_up();
    memset(&err, 0, sizeof(err));
    card_init(&card);
    peer_open();
    ck_assert_msg(dgram_open(scratch_path("peer"), &net, &err) == 0, "%s", err.msg);
    ck_assert(net->link_up);
    card_attach(&card, net);
}

static void tear_down(void)
{
    card_done(&card);
    net->ops->close(net);
    close(peer);
    scratch_tear_down();
}

START_TEST(frames_are_sent_and_answered)
{
    const uint32_t lens[] = {14, 60, 1514, 65535, 65550};
    unsigned dropped;

    ck_assert_uint_eq(card_send(&card, lens, 5, &dropped), 5);
    ck_assert_uint_eq(dropped, 0);
    for (unsigned i = 0; i < 5; i++) {
        peer_expect(lens[i]);
        peer_send(lens[i]);
        card_wait(&card, &card.nreceived, i + 1);
        ck_assert_uint_eq(card.last_len, lens[i]);
        ck_assert_uint_eq(card.last_flags, 0);
    }
    ck_assert_uint_eq(card.nbad, 0);
}
END_TEST

START_TEST(frames_that_cannot_be_are_dropped)
{
    const uint32_t lens[] = {1, 13, 65551, 70000};

    (void)send_one(60); /* tells where we are */
    peer_expect(60);
    for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
        peer_send(lens[i]);
        card_wait(&card, &card.nreadable, i + 1);
        ck_assert_uint_eq(card.ndropped, i + 1);
    }
    card.room = 2000;
    peer_send(2001);
    peer_send(2000);
    card_wait(&card, &card.nreceived, 1);
    ck_assert_uint_eq(card.ndropped, 5);
    ck_assert_uint_eq(card.last_len, 2000);
}
END_TEST

START_TEST(a_full_peer_loses_nothing)
{
    uint32_t lens[16];
    unsigned total = 0, taken, dropped;

    for (unsigned i = 0; i < ARRAY_SIZE(lens); i++)
        lens[i] = 1514;
    do {
        taken = card_send(&card, lens, ARRAY_SIZE(lens), &dropped);
        ck_assert_uint_eq(dropped, 0);
        total += taken;
    } while (taken == ARRAY_SIZE(lens));
    card_turn(&card, 20);
    ck_assert_uint_eq(card.nwritable, 0);
    for (unsigned i = 0; i < total; i++)
        peer_expect(1514);
    card_wait(&card, &card.nwritable, 1);
    card_turn(&card, 20);
    ck_assert_uint_eq(card.nwritable, 1);
    ck_assert_uint_eq(send_one(60), 0);
    peer_expect(60);
}
END_TEST

static void give_frame(void)
{
    peer_send(60);
}

START_TEST(a_card_that_does_not_watch_is_not_woken)
{
    (void)send_one(60); /* tells where we are */
    peer_expect(60);
    card_check_watch(&card, give_frame);
}
END_TEST

/* Its name is known to everybody on the host, who must never be able to send it frames. */
START_TEST(nobody_but_the_peer_can_send_frames)
{
    int stranger = socket(AF_UNIX, SOCK_DGRAM, 0);

    ck_assert_uint_eq(nexposed, 0);
    (void)send_one(60); /* tells where we are */
    peer_expect(60);
    ck_assert_int_eq(sendto(stranger, bytes, 60, 0, (struct sockaddr *)&guest, guest_len), -1);
    ck_assert_int_eq(errno, EPERM);
    close(stranger);
}
END_TEST

START_TEST(a_peer_that_is_gone_is_noticed_when_a_frame_is_sent)
{
    close(peer);
    ck_assert_uint_eq(send_one(60), 1);
    ck_assert_uint_eq(send_one(60), 1);
    ck_assert_int_eq(card_receive(&card), 0);
    card_wait_link(&card, false);
    peer_open();
    card_wait_link(&card, true);
    ck_assert_uint_eq(send_one(60), 0);
    peer_expect(60);
    peer_send(70);
    card_wait(&card, &card.nreceived, 1);
}
END_TEST

START_TEST(the_next_guest_finds_that_the_peer_was_lost)
{
    close(peer);
    ck_assert_uint_eq(send_one(60), 1);
    card_detach(&card);
    ck_assert(!net->link_up);
    peer_open();
    card_attach(&card, net);
    card_wait_link(&card, true);
    ck_assert_uint_eq(send_one(60), 0);
    peer_expect(60);
}
END_TEST

START_TEST(nobody_need_be_there_at_first)
{
    struct net *second;
    char path[200];

    ck_assert_int_eq(dgram_open(scratch_path("nobody"), &second, &err), 0);
    ck_assert(!second->link_up);
    second->ops->close(second);
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    ck_assert_int_eq(dgram_open(path, &second, &err), -ENAMETOOLONG);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "dgram", set_up, tear_down, frames_are_sent_and_answered,
                   frames_that_cannot_be_are_dropped, a_full_peer_loses_nothing,
                   a_card_that_does_not_watch_is_not_woken, nobody_but_the_peer_can_send_frames,
                   a_peer_that_is_gone_is_noticed_when_a_frame_is_sent,
                   the_next_guest_finds_that_the_peer_was_lost, nobody_need_be_there_at_first);
}

UNIT_MAIN("dgram", add_tests)
