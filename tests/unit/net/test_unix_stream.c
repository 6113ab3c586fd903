/* SPDX-License-Identifier: Apache-2.0 */
#include "net/unix_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/thread.h"
#include "net/backoff.h"
#include "net/stream_wire.h"
#include "tests/lib/net/card.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

/* The other side: a socket of the test's, which it reads and writes byte by byte if it likes. */
static int peer;
static int listener;
static struct card card;
static struct net *net;
static struct err err;
static uint8_t bytes[4 * (4 + STREAM_FRAME_MAX)];

static struct sockaddr_un address(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", scratch_path("peer"));
    return addr;
}

static void peer_listen(void)
{
    const struct sockaddr_un addr = address();

    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    (void)unlink(addr.sun_path); /* it may be there from before */
    ck_assert_int_eq(bind(listener, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
}

static void peer_accept(void)
{
    const struct timeval patience = {20, 0};

    peer = accept(listener, NULL, NULL);
    ck_assert_int_ge(peer, 0);
    ck_assert_int_eq(setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
}

static void peer_hang_up(void)
{
    close(peer);
    peer = -1;
}

static void peer_write(const void *data, size_t len)
{
    ck_assert_int_eq(send(peer, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* A frame as it is on the wire; returns its length there. */
static size_t put_frame(uint8_t *at, uint32_t len)
{
    store_be32(at, len);
    card_fill(at + 4, len);
    return 4 + len;
}

static void peer_send(uint32_t len)
{
    peer_write(bytes, put_frame(bytes, len));
}

static void peer_expect_bytes(void *data, size_t len)
{
    ck_assert_int_eq(recv(peer, data, len, MSG_WAITALL), (ssize_t)len);
}

static void peer_expect(uint32_t len)
{
    peer_expect_bytes(bytes, 4);
    ck_assert_uint_eq(load_be32(bytes), len);
    peer_expect_bytes(bytes, len);
    ck_assert(card_is_filled(bytes, len));
}

static void set_up(void)
{
    scratch_set_up();
    memset(&err, 0, sizeof(err));
    peer = -1;
    card_init(&card);
    peer_listen();
    ck_assert_msg(unix_stream_open(scratch_path("peer"), false, &net, &err) == 0, "%s", err.msg);
    ck_assert(net->link_up);
    peer_accept();
    card_attach(&card, net);
}

static void tear_down(void)
{
    card_done(&card);
    net->ops->close(net);
    close(listener);
    close(peer);
    scratch_tear_down();
}

/* ---- receiving ------------------------------------------------------------------------------- */

START_TEST(frames_of_all_lengths_arrive_whole)
{
    const uint32_t lens[] = {14, 15, 60, 1514, 4095, 4096, 4097, 9014, 16384, 65534, 65535, 14};

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        peer_send(lens[i]);
        card_wait(&card, &card.nreceived, (unsigned)i + 1);
        ck_assert_uint_eq(card.last_len, lens[i]);
        ck_assert_uint_eq(card.last_flags, 0);
    }
    ck_assert_uint_eq(card.nbad, 0);
}
END_TEST

/* Large and small ones in a row, so that each kind is found behind each. */
START_TEST(frames_in_a_row_arrive_in_order)
{
    const uint32_t lens[] = {60, 60, 65535, 60, 1514, 20000, 30000, 60, 4096, 14};
    size_t len = 0;

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++)
        len += put_frame(bytes + len, lens[i]);
    peer_write(bytes, len);
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        ck_assert_int_eq(card_receive(&card), lens[i]);
        ck_assert_uint_eq(card.nbad, 0);
    }
    ck_assert_int_eq(card_receive(&card), 0);
}
END_TEST

/* A frame stays in the buffers of the card while it is incomplete. */
START_TEST(frames_that_come_byte_by_byte_arrive)
{
    const uint32_t lens[] = {14, 100, 5000};

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        size_t len = put_frame(bytes, lens[i]);

        for (size_t at = 0; at < len; at += lens[i] < 1000 ? 1 : 97) {
            peer_write(bytes + at, lens[i] < 1000 ? 1 : min_u64(97, len - at));
            while (card_receive(&card) > 0)
                ;
        }
        ck_assert_uint_eq(card.nreceived, i + 1);
        ck_assert_uint_eq(card.last_len, lens[i]);
    }
    ck_assert_uint_eq(card.nbad, 0);
}
END_TEST

/* Small frames are read many at once: nobody but the back end knows of those. */
START_TEST(frames_that_were_read_ahead_are_told_of)
{
    size_t len = 0;

    for (uint32_t i = 0; i < 10; i++)
        len += put_frame(bytes + len, 60 + i);
    peer_write(bytes, len);
    card.budget = 3;
    card_wait(&card, &card.nreceived, 10);
    ck_assert_uint_ge(card.nreadable, 4);
    card.nreadable = 0;
    card_turn(&card, 30);
    ck_assert_uint_eq(card.nreadable, 0);
}
END_TEST

START_TEST(frames_that_were_read_ahead_wait_for_the_card)
{
    peer_write(bytes, put_frame(bytes, 60) + put_frame(bytes + 64, 70));
    card.budget = 1;
    card.stops = true;
    card_wait(&card, &card.nreceived, 1);
    card.nreadable = 0;
    card_turn(&card, 30);
    ck_assert_uint_eq(card.nreadable, 0);
    net->ops->watch(net, true);
    card_wait(&card, &card.nreceived, 2);
    ck_assert_uint_eq(card.last_len, 70);
}
END_TEST

static void give_frame(void)
{
    peer_send(60);
}

START_TEST(a_card_that_does_not_watch_is_not_woken)
{
    card_check_watch(&card, give_frame);
}
END_TEST

START_TEST(a_frame_without_room_is_dropped_and_the_next_arrives)
{
    card.room = 2000;
    peer_write(bytes, put_frame(bytes, 2001) + put_frame(bytes + 2005, 2000));
    card_wait(&card, &card.nreceived, 1);
    ck_assert_uint_eq(card.ndropped, 1);
    ck_assert_uint_eq(card.last_len, 2000);
    /* Also one that is larger than what is read in one go. */
    peer_send(65535);
    peer_send(60);
    card_wait(&card, &card.nreceived, 2);
    ck_assert_uint_eq(card.ndropped, 2);
    ck_assert_uint_eq(card.last_len, 60);
    ck_assert_uint_eq(card.nbad, 0);
}
END_TEST

/* The buffers in which it began are not there any more. */
START_TEST(a_frame_that_began_before_a_new_driver_is_dropped)
{
    size_t len = put_frame(bytes, 5000);

    peer_write(bytes, 3000);
    card_wait(&card, &card.nreadable, 1);
    ck_assert_int_eq(net->ops->set_offloads(net, 0), 0);
    memset(card.buffer, 0, sizeof(card.buffer));
    peer_write(bytes + 3000, len - 3000);
    peer_send(60);
    card_wait(&card, &card.nreceived, 1);
    ck_assert_uint_eq(card.last_len, 60);
    ck_assert_uint_eq(card.nbad, 0);
}
END_TEST

START_TEST(a_frame_that_began_before_a_new_guest_is_dropped)
{
    size_t len = put_frame(bytes, 5000);

    peer_write(bytes, 3000);
    card_wait(&card, &card.nreadable, 1);
    card_detach(&card);
    peer_write(bytes + 3000, len - 3000);
    peer_send(60);
    card_attach(&card, net);
    card_wait(&card, &card.nreceived, 1);
    ck_assert_uint_eq(card.last_len, 60);
    ck_assert_uint_eq(card.nbad, 0);
}
END_TEST

/* ---- sending --------------------------------------------------------------------------------- */

START_TEST(sent_frames_arrive)
{
    const uint32_t lens[] = {14, 60, 1514, 65535, 60};
    unsigned dropped;

    ck_assert_uint_eq(card_send(&card, lens, 5, &dropped), 5);
    ck_assert_uint_eq(dropped, 0);
    for (size_t i = 0; i < 5; i++)
        peer_expect(lens[i]);
}
END_TEST

START_TEST(frames_that_the_wire_cannot_carry_are_dropped)
{
    const uint32_t lens[] = {65536, 60, 65550, 70, 65536};
    unsigned dropped;

    ck_assert_uint_eq(card_send(&card, lens, 5, &dropped), 5);
    ck_assert_uint_eq(dropped, 3);
    peer_expect(60);
    peer_expect(70);
    ck_assert_uint_eq(card_send(&card, lens, 1, &dropped), 1);
    ck_assert_uint_eq(dropped, 1);
}
END_TEST

/* Send until it takes no more; how many frames were taken. */
static unsigned fill_up(uint32_t len)
{
    uint32_t lens[16];
    unsigned total = 0;
    unsigned taken;
    unsigned dropped;

    for (unsigned i = 0; i < 16; i++)
        lens[i] = len;
    do {
        taken = card_send(&card, lens, 16, &dropped);
        ck_assert_uint_eq(dropped, 0);
        total += taken;
    } while (taken == 16);
    return total;
}

START_TEST(a_full_peer_loses_nothing)
{
    const uint32_t lens[] = {9014, 61333, 65535};

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        unsigned total = fill_up(lens[i]);
        unsigned taken = 0;

        ck_assert_uint_gt(total, 0);
        card.nwritable = 0;
        for (unsigned n = 0; n < total; n++) {
            peer_expect(lens[i]);
            card_turn(&card, 0);
            /* Told once, and then more is taken. */
            if (card.nwritable && !taken) {
                unsigned dropped;

                taken = card_send(&card, &lens[i], 1, &dropped);
                ck_assert_uint_eq(taken, 1);
            }
        }
        card_wait(&card, &card.nwritable, 1);
        if (taken)
            peer_expect(lens[i]);
        card_turn(&card, 10);
        ck_assert_uint_eq(card.nwritable, 1);
    }
}
END_TEST

/* Whatever the peer reads at once: a frame that went out in pieces is followed by its rest. */
START_TEST(a_peer_that_reads_little_by_little_gets_whole_frames)
{
    const uint32_t len = 30011;
    unsigned total = fill_up(len);
    size_t left = total * (size_t)(4 + len);
    size_t at = 0;

    while (left > 0) {
        ssize_t n = recv(peer, bytes + at, min_u64(7001, min_u64(left, 4 + len - at)), 0);

        ck_assert_int_gt(n, 0);
        left -= (size_t)n;
        at += (size_t)n;
        card_turn(&card, 0);
        if (at < 4 + len)
            continue;
        ck_assert_uint_eq(load_be32(bytes), len);
        ck_assert(card_is_filled(bytes + 4, len));
        at = 0;
    }
}
END_TEST

/* The driver is gone, but what it has begun to send must be ended, or nothing after it counts. */
START_TEST(a_frame_that_went_out_in_part_is_ended_for_the_next_guest)
{
    const uint32_t len = 65535;
    unsigned total = fill_up(len);
    unsigned dropped;

    card_detach(&card);
    card_attach(&card, net);
    for (unsigned n = 0; n + 1 < total; n++) {
        peer_expect(len);
        card_turn(&card, 0);
    }
    peer_expect(len);
    card_turn(&card, 0);
    ck_assert_uint_eq(card_send(&card, (uint32_t[]){60}, 1, &dropped), 1);
    peer_expect(60);
}
END_TEST

/* ---- peers that come and go ------------------------------------------------------------------ */

START_TEST(the_link_is_down_while_there_is_no_peer)
{
    peer_hang_up();
    card_wait_link(&card, false);
    card_wait_link(&card, true);
    peer_accept();
    ck_assert_uint_eq(card.nlink_changes, 2);
    peer_send(60);
    card_wait(&card, &card.nreceived, 1);
}
END_TEST

START_TEST(what_a_peer_sent_before_it_went_arrives)
{
    peer_send(60);
    peer_send(65535);
    peer_send(70);
    peer_hang_up();
    card_wait_link(&card, false);
    ck_assert_uint_eq(card.nreceived, 3);
    ck_assert_uint_eq(card.nbad, 0);
}
END_TEST

START_TEST(a_peer_that_goes_is_noticed_by_a_card_that_takes_nothing)
{
    net->ops->watch(net, false);
    peer_hang_up();
    card_wait_link(&card, false);
}
END_TEST

START_TEST(a_peer_that_goes_in_the_middle_of_a_frame_leaves_nothing)
{
    size_t len = put_frame(bytes, 5000);

    peer_write(bytes, len - 1);
    peer_hang_up();
    card_wait_link(&card, false);
    ck_assert_uint_eq(card.nreceived, 0);
    card_wait_link(&card, true);
    peer_accept();
    peer_send(60);
    card_wait(&card, &card.nreceived, 1);
    ck_assert_uint_eq(card.nbad, 0);
}
END_TEST

/* What the old peer had begun to be sent is not for the new one. */
START_TEST(a_new_peer_gets_whole_frames)
{
    unsigned dropped;

    (void)fill_up(65535); /* however many */
    peer_hang_up();
    card_wait_link(&card, false);
    card_wait_link(&card, true);
    peer_accept();
    ck_assert_uint_eq(card_send(&card, (uint32_t[]){60}, 1, &dropped), 1);
    peer_expect(60);
}
END_TEST

START_TEST(sending_to_a_peer_that_is_gone_drops_frames)
{
    unsigned dropped;

    peer_hang_up();
    ck_assert_uint_eq(card_send(&card, (uint32_t[]){60, 60}, 2, &dropped), 2);
    ck_assert_uint_eq(dropped, 2);
    ck_assert(net->link_up); /* nobody was told yet */
    ck_assert_uint_eq(card_send(&card, (uint32_t[]){60}, 1, &dropped), 1);
    ck_assert_int_eq(card_receive(&card), 0);
    card_wait_link(&card, false);
}
END_TEST

START_TEST(impossible_lengths_end_the_connection)
{
    const uint32_t lens[] = {0, 13, 65536, 0xffffffff};

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        /* Behind a good frame, which is read together with it. */
        size_t len = put_frame(bytes, 60);

        store_be32(bytes + len, lens[i]);
        peer_write(bytes, len + 4);
        card_wait_link(&card, false);
        ck_assert_uint_eq(card.nreceived, i + 1);
        ck_assert_int_eq(recv(peer, bytes, 1, 0), 0); /* we hung up */
        peer_hang_up();
        card_wait_link(&card, true);
        peer_accept();
    }
}
END_TEST

START_TEST(the_next_guest_finds_that_the_peer_was_lost)
{
    unsigned dropped;

    peer_hang_up();
    ck_assert_uint_eq(card_send(&card, (uint32_t[]){60}, 1, &dropped), 1);
    card_detach(&card);
    ck_assert(!net->link_up);
    card_attach(&card, net);
    card_wait_link(&card, true);
    peer_accept();
    peer_send(60);
    card_wait(&card, &card.nreceived, 1);
}
END_TEST

START_TEST(a_peer_that_goes_between_guests_is_noticed_by_the_next)
{
    card_detach(&card);
    peer_hang_up();
    card_attach(&card, net);
    card_wait_link(&card, false);
    card_wait_link(&card, true);
}
END_TEST

/* ---- who is there first ---------------------------------------------------------------------- */

static struct net *second;

static void open_second(const char *name, bool listens)
{
    ck_assert_msg(unix_stream_open(scratch_path(name), listens, &second, &err) == 0, "%s", err.msg);
}

START_TEST(nobody_need_listen_at_first)
{
    open_second("nobody", false);
    ck_assert(!second->link_up);
    second->ops->close(second);
}
END_TEST

START_TEST(a_path_that_is_too_long_is_an_error)
{
    char path[200];

    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    ck_assert_int_eq(unix_stream_open(path, false, &second, &err), -ENAMETOOLONG);
    ck_assert_int_eq(unix_stream_open(path, true, &second, &err), -ENAMETOOLONG);
}
END_TEST

START_TEST(the_socket_of_one_that_listens_is_its_own)
{
    ck_assert_int_eq(unix_stream_open(scratch_path("peer"), true, &second, &err), -EADDRINUSE);
    open_second("ours", true);
    ck_assert(!second->link_up);
    ck_assert_int_eq(access(scratch_path("ours"), F_OK), 0);
    second->ops->close(second);
    ck_assert_int_eq(access(scratch_path("ours"), F_OK), -1);
}
END_TEST

/* Another VM: one listens, the other connects. */
START_TEST(two_of_ours_talk_to_each_other)
{
    struct net *connecting;
    unsigned dropped;

    card_detach(&card);
    open_second("ours", true);
    card_attach(&card, second);
    ck_assert_int_eq(unix_stream_open(scratch_path("ours"), false, &connecting, &err), 0);
    ck_assert(connecting->link_up);
    card_wait_link(&card, true);
    ck_assert_uint_eq(card_send(&card, (uint32_t[]){60, 65535}, 2, &dropped), 2);
    card_detach(&card);
    card_attach(&card, connecting);
    card_wait(&card, &card.nreceived, 2);
    ck_assert_uint_eq(card.nbad, 0);
    card_detach(&card);
    connecting->ops->close(connecting);
    second->ops->close(second);
}
END_TEST

/* The card listens, by a socket of its own. */
static struct sockaddr_un listen_instead(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    card_detach(&card);
    open_second("ours", true);
    card_attach(&card, second);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", scratch_path("ours"));
    return addr;
}

START_TEST(one_that_listens_has_one_peer_after_the_other)
{
    const struct sockaddr_un addr = listen_instead();
    int clients[2];

    for (unsigned i = 0; i < 2; i++) {
        clients[i] = socket(AF_UNIX, SOCK_STREAM, 0);
        ck_assert_int_eq(connect(clients[i], (const struct sockaddr *)&addr, sizeof(addr)), 0);
    }
    card_wait_link(&card, true);
    ck_assert_int_eq(send(clients[1], bytes, put_frame(bytes, 70), 0), 74);
    ck_assert_int_eq(send(clients[0], bytes, put_frame(bytes, 60), 0), 64);
    card_wait(&card, &card.nreceived, 1);
    ck_assert_uint_eq(card.last_len, 60);
    close(clients[0]);
    card_wait(&card, &card.nreceived, 2);
    ck_assert_uint_eq(card.last_len, 70);
    ck_assert_uint_eq(card.nlink_changes, 3);
    close(clients[1]);
    card_detach(&card);
    second->ops->close(second);
}
END_TEST

/* With no descriptor for whoever connects, nothing is done in a circle. */
START_TEST(a_process_without_descriptors_waits_and_accepts_later)
{
    const struct sockaddr_un addr = listen_instead();
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    int last, first;

    first = dup(0);
    for (last = first; dup(0) >= 0; last++)
        ;
    ck_assert_int_eq(connect(client, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    card_turn(&card, 50);
    ck_assert(!second->link_up);
    for (int fd = first; fd <= last; fd++)
        close(fd);
    card_wait_link(&card, true);
    card_detach(&card);
    second->ops->close(second);
    close(client);
}
END_TEST

START_TEST(tries_come_less_and_less_often)
{
    struct backoff backoff = {0};
    uint64_t last = 0;

    for (unsigned i = 0; i < 20; i++) {
        uint64_t wait = backoff_next(&backoff);

        ck_assert_uint_ge(wait, last);
        ck_assert_uint_le(wait, BACKOFF_MAX_NS);
        last = wait;
        /* It works, but not for long. */
        backoff_succeed(&backoff);
    }
    ck_assert_uint_eq(last, BACKOFF_MAX_NS);
    backoff.since_ns -= BACKOFF_MAX_NS + NS_PER_S;
    ck_assert_uint_eq(backoff_next(&backoff), BACKOFF_MIN_NS);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "receive", set_up, tear_down, frames_of_all_lengths_arrive_whole,
                   frames_in_a_row_arrive_in_order, frames_that_come_byte_by_byte_arrive,
                   frames_that_were_read_ahead_are_told_of,
                   frames_that_were_read_ahead_wait_for_the_card,
                   a_card_that_does_not_watch_is_not_woken,
                   a_frame_without_room_is_dropped_and_the_next_arrives,
                   a_frame_that_began_before_a_new_driver_is_dropped,
                   a_frame_that_began_before_a_new_guest_is_dropped);
    unit_case_with(suite, "send", set_up, tear_down, sent_frames_arrive,
                   frames_that_the_wire_cannot_carry_are_dropped, a_full_peer_loses_nothing,
                   a_peer_that_reads_little_by_little_gets_whole_frames,
                   a_frame_that_went_out_in_part_is_ended_for_the_next_guest);
    unit_case_with(suite, "peers", set_up, tear_down, the_link_is_down_while_there_is_no_peer,
                   what_a_peer_sent_before_it_went_arrives,
                   a_peer_that_goes_is_noticed_by_a_card_that_takes_nothing,
                   a_peer_that_goes_in_the_middle_of_a_frame_leaves_nothing,
                   a_new_peer_gets_whole_frames, sending_to_a_peer_that_is_gone_drops_frames,
                   impossible_lengths_end_the_connection,
                   the_next_guest_finds_that_the_peer_was_lost,
                   a_peer_that_goes_between_guests_is_noticed_by_the_next);
    unit_case_with(suite, "open", set_up, tear_down, nobody_need_listen_at_first,
                   a_path_that_is_too_long_is_an_error, the_socket_of_one_that_listens_is_its_own,
                   two_of_ours_talk_to_each_other, one_that_listens_has_one_peer_after_the_other,
                   a_process_without_descriptors_waits_and_accepts_later,
                   tries_come_less_and_less_often);
}

UNIT_MAIN("unix_stream", add_tests)
