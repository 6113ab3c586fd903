/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock: how connections begin, talk and end. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/devices/virtio/virtio_vsock_rig.h"

#define NO_RECEIVE VIRTIO_VSOCK_SHUTDOWN_RCV
#define NO_SEND VIRTIO_VSOCK_SHUTDOWN_SEND

static struct got_packet got;

static void write_all(int fd, const char *text)
{
    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void expect_text(int fd, const char *text)
{
    char buf[64] = "";

    vs_read_exactly(fd, buf, strlen(text));
    ck_assert_str_eq(buf, text);
}

static void expect_bytes(uint32_t guest_port, uint32_t host_port, const char *text)
{
    vs_receive(&got);
    ck_assert_uint_eq(got.packet.op, RW);
    ck_assert_uint_eq(got.packet.dst_port, guest_port);
    ck_assert_uint_eq(got.packet.src_port, host_port);
    ck_assert_uint_eq(got.len, strlen(text));
    ck_assert_mem_eq(got.payload, text, got.len);
}

/* Of a socket that is closed, the device may see the end of the data before the rest. */
static void expect_shutdown(uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
    vs_receive(&got);
    if (flags == (NO_SEND | NO_RECEIVE) && got.packet.op == SHUTDOWN && got.packet.flags == NO_SEND)
        vs_receive(&got);
    ck_assert_uint_eq(got.packet.op, SHUTDOWN);
    ck_assert_uint_eq(got.packet.dst_port, guest_port);
    ck_assert_uint_eq(got.packet.src_port, host_port);
    ck_assert_uint_eq(got.packet.flags, flags);
}

/* ---- beginnings ------------------------------------------------------------------------------ */

START_TEST(driver_finds_a_device_with_its_address)
{
    ck_assert_uint_eq(driver_read32(rig.mmio, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_VSOCK);
    ck_assert_uint_eq(driver_read32(rig.mmio, VIRTIO_MMIO_CONFIG), GUEST_CID);
    ck_assert_uint_eq(driver_read32(rig.mmio, VIRTIO_MMIO_CONFIG + 4), 0);
    ck_assert_uint_eq(driver_features(rig.mmio), VIRTIO_FEATURES_COMMON);
}
END_TEST

START_TEST(guest_connects_and_both_talk)
{
    int fd;

    for (int event_idx = 0; event_idx < 2; event_idx++) {
        vs_bring_up_with(event_idx ? driver_features(rig.mmio) : VERSION_1, 64, 32);
        fd = vs_open(1000, 52);
        vs_send_bytes(1000, 52, "hello", 5);
        expect_text(fd, "hello");
        write_all(fd, "good day");
        expect_bytes(1000, 52, "good day");
        ck_assert_uint_eq(got.packet.fwd_cnt, 5);
        ck_assert_uint_eq(got.packet.buf_alloc, 256 * KIB);
    }
    ck_assert_uint_eq(vs.host.counters.from_guest_connections, 2);
    ck_assert_uint_eq(vs.host.counters.from_guest_bytes, 10);
    ck_assert_uint_eq(vs.host.counters.to_guest_bytes, 16);
}
END_TEST

START_TEST(connection_to_nobody_is_reset_at_once)
{
    vs_bring_up();
    vs_set_mood(HOST_REFUSES);
    vs_send(REQUEST, 1000, 52);
    vs_expect(RST, 1000, 52);
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(busy_listener_is_asked_again)
{
    vs_bring_up();
    vs_set_mood(HOST_IS_BUSY);
    vs_send(REQUEST, 1000, 52);
    vs_send(REQUEST, 1001, 52);
    vs_expect_nothing();
    vs_send(RST, 1001, 52); /* the guest does not want to wait */
    ck_assert_uint_eq(vs_connections(), 1);
    vs_set_mood(HOST_ACCEPTS);
    vs_expect(RESPONSE, 1000, 52);
    write_all(vs.host_fds[0], "at last");
    expect_bytes(1000, 52, "at last");
}
END_TEST

START_TEST(listener_that_stays_busy_is_nobody)
{
    vs_bring_up();
    vs_set_mood(HOST_IS_BUSY);
    vs_send(REQUEST, 1000, 52);
    vs_expect(RST, 1000, 52); /* within two seconds */
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(host_connects_and_both_talk)
{
    uint32_t port;
    int fd;

    vs_bring_up();
    fd = vs_open_from_host(22, &port);
    /* systemd's ssh proxy reads five digits. */
    ck_assert_uint_ge(port, 10000);
    ck_assert_uint_le(port, 65535);
    write_all(fd, "hello");
    expect_bytes(22, port, "hello");
    vs_send_bytes(22, port, "good day", 8);
    expect_text(fd, "good day");
    ck_assert_uint_eq(vs.host.counters.to_guest_connections, 1);
}
END_TEST

START_TEST(connections_to_one_port_have_ports_of_their_own)
{
    uint32_t ports[3];

    vs_bring_up();
    for (unsigned i = 0; i < 3; i++)
        (void)vs_open_from_host(22, &ports[i]);
    ck_assert_uint_ne(ports[0], ports[1]);
    ck_assert_uint_ne(ports[1], ports[2]);
    ck_assert_uint_ne(ports[0], ports[2]);
}
END_TEST

START_TEST(bytes_sent_before_the_answer_are_kept)
{
    uint32_t port;
    int fd;

    vs_bring_up();
    fd = vs_ask(22, NULL);
    write_all(fd, "early");
    vs_receive(&got);
    ck_assert_uint_eq(got.packet.op, REQUEST);
    port = got.packet.src_port;
    vs_expect_nothing();
    vs_send(RESPONSE, 22, port);
    expect_bytes(22, port, "early");
}
END_TEST

START_TEST(port_of_the_guest_where_nobody_listens)
{
    int fd;

    vs_bring_up();
    fd = vs_ask(22, NULL);
    vs_receive(&got);
    vs_send(RST, 22, got.packet.src_port);
    vs_expect_eof(fd); /* without "OK" */
    vs_expect_nothing();
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(without_a_driver_nobody_can_connect)
{
    int r;

    (void)vs_ask(22, &r);
    ck_assert_int_eq(r, -ENOTCONN);
    vs_bring_up();
    (void)vs_ask(22, &r);
    ck_assert_int_eq(r, 0);
    vs_reset();
    (void)vs_ask(22, &r);
    ck_assert_int_eq(r, -ENOTCONN);
}
END_TEST

START_TEST(client_that_leaves_before_the_answer)
{
    uint32_t port;
    int fd;

    vs_bring_up();
    fd = vs_ask(22, NULL);
    vs_receive(&got);
    port = got.packet.src_port;
    vs_close(fd);
    vs_expect(RST, 22, port);
    vs_send(RESPONSE, 22, port); /* was under way */
    vs_expect(RST, 22, port);
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(client_that_leaves_before_the_guest_is_asked)
{
    vs_bring_up_with(VERSION_1, 64, 0);
    vs_close(vs_ask(22, NULL));
    ck_assert_uint_eq(vs_connections(), 0);
    vs_add_rx(8);
    vs_expect_nothing();
}
END_TEST

/* ---- ends ------------------------------------------------------------------------------------ */

START_TEST(host_ends_its_direction)
{
    int fd = vs_start();

    write_all(fd, "last words");
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    expect_bytes(1000, 52, "last words");
    expect_shutdown(1000, 52, NO_SEND);
    vs_send_bytes(1000, 52, "answer", 6);
    expect_text(fd, "answer");
    vs_send_shutdown(1000, 52, NO_SEND | NO_RECEIVE);
    vs_expect(RST, 1000, 52);
    vs_expect_eof(fd);
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(guest_ends_its_direction)
{
    int fd = vs_start();

    vs_send_bytes(1000, 52, "last words", 10);
    vs_send_shutdown(1000, 52, NO_SEND);
    expect_text(fd, "last words");
    vs_expect_eof(fd);
    write_all(fd, "answer");
    expect_bytes(1000, 52, "answer");
    vs_close(fd);
    expect_shutdown(1000, 52, NO_SEND | NO_RECEIVE);
    vs_send(RST, 1000, 52);
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(guest_reads_no_more)
{
    int fd = vs_start();

    vs_send_shutdown(1000, 52, NO_RECEIVE);
    rig_settle();
    ck_assert_int_eq(send(fd, "x", 1, MSG_NOSIGNAL), -1);
    ck_assert_int_eq(errno, EPIPE);
    vs_send_bytes(1000, 52, "still here", 10);
    expect_text(fd, "still here");
    vs_close(fd);
    expect_shutdown(1000, 52, NO_SEND | NO_RECEIVE);
}
END_TEST

START_TEST(host_reads_no_more)
{
    int fd = vs_start();

    ck_assert_int_eq(shutdown(fd, SHUT_RD), 0);
    vs_send_bytes(1000, 52, "unheard", 7);
    expect_shutdown(1000, 52, NO_RECEIVE);
    ck_assert_uint_eq(got.packet.fwd_cnt, 7);
    vs_send_bytes(1000, 52, "unheard", 7); /* was under way: not a fault */
    rig_settle();
    write_all(fd, "still here");
    expect_bytes(1000, 52, "still here");
    ck_assert_uint_eq(got.packet.fwd_cnt, 14);
}
END_TEST

START_TEST(host_closes)
{
    int fd = vs_start();

    write_all(fd, "bye");
    vs_close(fd);
    expect_bytes(1000, 52, "bye");
    expect_shutdown(1000, 52, NO_SEND | NO_RECEIVE);
    ck_assert_uint_eq(vs_connections(), 1); /* until the guest has answered */
    vs_send(RST, 1000, 52);
    ck_assert_uint_eq(vs_connections(), 0);
    vs_expect_nothing();
}
END_TEST

START_TEST(host_closes_without_having_read)
{
    int fd = vs_start();

    vs_send_bytes(1000, 52, "unread", 6);
    rig_settle();
    vs_close(fd); /* the socket fails by ECONNRESET */
    expect_shutdown(1000, 52, NO_SEND | NO_RECEIVE);
}
END_TEST

START_TEST(guest_closes)
{
    int fd = vs_start();

    vs_send_bytes(1000, 52, "bye", 3);
    vs_send_shutdown(1000, 52, NO_SEND | NO_RECEIVE);
    vs_expect(RST, 1000, 52);
    expect_text(fd, "bye");
    vs_expect_eof(fd);
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(guest_resets)
{
    int fd = vs_start();

    vs_send(RST, 1000, 52);
    vs_expect_eof(fd);
    vs_expect_nothing();
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(ports_are_free_again_once_a_connection_is_over)
{
    vs_bring_up();
    for (unsigned turn = 0; turn < 3; turn++) {
        int fd = vs_open(1000, 52);

        vs_send_bytes(1000, 52, "again", 5);
        expect_text(fd, "again");
        vs_send_shutdown(1000, 52, NO_SEND | NO_RECEIVE);
        vs_expect(RST, 1000, 52);
    }
}
END_TEST

/* Two time limits side by side: 5 s for an answer, 8 s for a goodbye. */
START_TEST(guest_that_never_answers)
{
    uint32_t port;
    int client;

    vs_bring_up();
    client = vs_ask(22, NULL); /* first, so that its time is over first however long this takes */
    vs_receive(&got);
    port = got.packet.src_port;
    vs_close(vs_open(1000, 52));
    expect_shutdown(1000, 52, NO_SEND | NO_RECEIVE);
    vs_expect(RST, 22, port);
    vs_expect_eof(client);
    vs_expect(RST, 1000, 52);
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    vsock_case(suite, "beginnings", driver_finds_a_device_with_its_address,
               guest_connects_and_both_talk, connection_to_nobody_is_reset_at_once,
               busy_listener_is_asked_again, listener_that_stays_busy_is_nobody,
               host_connects_and_both_talk, connections_to_one_port_have_ports_of_their_own,
               bytes_sent_before_the_answer_are_kept, port_of_the_guest_where_nobody_listens,
               without_a_driver_nobody_can_connect, client_that_leaves_before_the_answer,
               client_that_leaves_before_the_guest_is_asked);
    vsock_case(suite, "ends", host_ends_its_direction, guest_ends_its_direction,
               guest_reads_no_more, host_reads_no_more, host_closes,
               host_closes_without_having_read, guest_closes, guest_resets,
               ports_are_free_again_once_a_connection_is_over, guest_that_never_answers);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_vsock", add_tests)
