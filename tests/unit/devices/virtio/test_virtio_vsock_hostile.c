/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock: packets, buffers and rings that make no sense, and too many of all of them. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/vsock_mux.h"
#include "tests/lib/devices/virtio/virtio_vsock_rig.h"
#include "tests/lib/dice.h"

static struct got_packet got;

/* ---- packets --------------------------------------------------------------------------------- */

START_TEST(packets_for_no_connection)
{
    static const struct {
        uint16_t op;
        bool answered;
    } cases[] = {
        {VIRTIO_VSOCK_OP_INVALID, true},
        {RESPONSE, true},
        {RST, false},
        {SHUTDOWN, true},
        {RW, true},
        {CREDIT_UPDATE, true},
        {CREDIT_REQUEST, true},
        {8, true},
        {UINT16_MAX, true},
    };

    vs_bring_up();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        vs_send(cases[i].op, 1000, 52);
        if (cases[i].answered)
            vs_expect(RST, 1000, 52);
    }
    vs_expect_nothing();
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(packet_from_another_address_is_dropped)
{
    static const uint64_t cids[] = {0, 1, 2, 3, GUEST_CID + 1, GUEST_CID + (1ull << 32)};

    (void)vs_start();
    for (size_t i = 0; i < ARRAY_SIZE(cids); i++) {
        struct vsock_packet packet = vs_packet(RST, 1000, 52);

        packet.src_cid = cids[i];
        vs_send_raw(&packet, NULL, 0);
        packet.op = REQUEST;
        packet.src_port = 1001;
        vs_send_raw(&packet, NULL, 0);
    }
    vs_expect_nothing();
    ck_assert_uint_eq(vs_connections(), 1);
}
END_TEST

/* Nobody is there, and the guest learns so at once. */
START_TEST(packet_to_another_address_is_refused)
{
    static const uint64_t cids[] = {0, 1, 3, GUEST_CID, UINT32_MAX, HOST_CID + (1ull << 32)};

    vs_bring_up();
    for (size_t i = 0; i < ARRAY_SIZE(cids); i++) {
        struct vsock_packet packet = vs_packet(REQUEST, 1000, 52);

        packet.dst_cid = cids[i];
        vs_send_raw(&packet, NULL, 0);
        vs_receive(&got);
        ck_assert_uint_eq(got.packet.op, RST);
        ck_assert_uint_eq(got.packet.src_cid, cids[i]);
        ck_assert_uint_eq(got.packet.src_port, 52);
        ck_assert_uint_eq(got.packet.dst_port, 1000);
    }
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(packet_of_unknown_type_is_refused)
{
    static const uint16_t types[] = {0, VIRTIO_VSOCK_TYPE_SEQPACKET, 3, UINT16_MAX};

    vs_bring_up();
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        struct vsock_packet packet = vs_packet(REQUEST, 1000, 52);

        packet.type = types[i];
        vs_send_raw(&packet, NULL, 0);
        vs_receive(&got);
        ck_assert_uint_eq(got.packet.op, RST);
        ck_assert_uint_eq(got.packet.type, types[i]);
    }
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

/* What an open connection is reset for. */
START_TEST(wrong_packets_of_an_open_connection)
{
    static const uint16_t ops[] = {VIRTIO_VSOCK_OP_INVALID, REQUEST, RESPONSE, 8, UINT16_MAX};

    vs_bring_up();
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        int fd = vs_open(1000, 52);

        vs_send(ops[i], 1000, 52);
        vs_expect(RST, 1000, 52);
        vs_expect_eof(fd);
        ck_assert_uint_eq(vs_connections(), 0);
    }
}
END_TEST

START_TEST(wrong_packets_before_the_answer)
{
    static const uint16_t ops[] = {VIRTIO_VSOCK_OP_INVALID, REQUEST, RW, SHUTDOWN, 8};

    vs_bring_up();
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        int fd = vs_ask(22, NULL);
        uint32_t port;

        vs_receive(&got);
        port = got.packet.src_port;
        vs_send(ops[i], 22, port);
        vs_expect(RST, 22, port);
        vs_expect_eof(fd);
    }
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(answer_to_a_question_that_was_not_asked_yet)
{
    vs_bring_up_with(VIRTIO_FEATURES_COMMON, 64, 0);
    (void)vs_ask(22, NULL);
    vs_send(RESPONSE, 22, 49152);
    ck_assert_uint_eq(vs_connections(), 0);
    vs_add_rx(8);
    vs_expect(RST, 22, 49152);
}
END_TEST

START_TEST(wrong_packets_while_the_host_is_busy)
{
    static const uint16_t ops[] = {REQUEST, RW, SHUTDOWN, RESPONSE};

    vs_bring_up();
    vs_set_mood(HOST_IS_BUSY);
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        vs_send(REQUEST, 1000, 52);
        vs_send(CREDIT_UPDATE, 1000, 52);
        vs_send(CREDIT_REQUEST, 1000, 52);
        vs_send(ops[i], 1000, 52);
        vs_expect(RST, 1000, 52);
    }
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(payload_that_is_shorter_than_it_says)
{
    struct vsock_packet packet = vs_packet(RW, 1000, 52);
    char bytes[16];
    int fd;

    vs_bring_up();
    for (unsigned i = 0; i < 2; i++) {
        fd = vs_open(1000, 52);
        packet.len = i ? UINT32_MAX : 11;
        vs_send_raw(&packet, "0123456789", 10);
        vs_expect(RST, 1000, 52);
        vs_expect_eof(fd);
    }

    /* One that is longer is cut off, and one of 0 bytes is none. */
    fd = vs_open(1000, 52);
    packet.len = 5;
    vs_send_raw(&packet, "0123456789", 10);
    packet.len = 0;
    vs_send_raw(&packet, "0123456789", 10);
    vs_send_shutdown(1000, 52, VIRTIO_VSOCK_SHUTDOWN_SEND);
    vs_read_exactly(fd, bytes, 5);
    ck_assert_mem_eq(bytes, "01234", 5);
    vs_expect_eof(fd);
}
END_TEST

START_TEST(bytes_after_the_end_of_the_bytes)
{
    (void)vs_start();
    vs_send_shutdown(1000, 52, VIRTIO_VSOCK_SHUTDOWN_SEND);
    vs_send_bytes(1000, 52, "x", 1);
    vs_expect(RST, 1000, 52);
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(shutdown_without_or_with_unknown_flags)
{
    int fd = vs_start();

    vs_send_shutdown(1000, 52, 0);
    vs_send_shutdown(1000, 52, 0xfffffffc);
    vs_expect_nothing();
    ck_assert_int_eq(send(fd, "x", 1, 0), 1);
    vs_expect(RW, 1000, 52);
}
END_TEST

/* ---- buffers and rings ----------------------------------------------------------------------- */

static void add_tx(const struct driver_buf *bufs, size_t nbufs)
{
    (void)driver_add(&rig.rings[TX], bufs, nbufs);
    rig_kick(TX);
}

START_TEST(packets_shorter_than_a_header_are_dropped)
{
    struct vring_used_elem elem;

    vs_bring_up();
    for (uint32_t len = 0; len < VSOCK_HEADER_LEN; len++) {
        const struct driver_buf buf = {200 * MIB, len, false};

        memset(rig_guest(buf.gpa, 64), 0xff, 64);
        add_tx(&buf, 1);
        rig_settle();
        ck_assert(driver_take(&rig.rings[TX], &elem));
        ck_assert_uint_eq(elem.len, 0);
    }
    (void)vs_open(1000, 52);
}
END_TEST

START_TEST(packet_in_pieces_of_one_byte)
{
    const struct vsock_packet packet = vs_packet(REQUEST, 1000, 52);
    const uint64_t gpa = 200 * MIB;
    const struct iovec iov = {rig_guest(gpa, VSOCK_HEADER_LEN), VSOCK_HEADER_LEN};
    struct driver_buf bufs[VIRTQ_SIZE_MAX];

    vs_bring_up();
    vsock_packet_write(&packet, &iov, 1);
    for (unsigned i = 0; i < VSOCK_HEADER_LEN; i++)
        bufs[i] = (struct driver_buf){gpa + i, 1, false};
    bufs[VSOCK_HEADER_LEN] = (struct driver_buf){gpa, 16, true}; /* which nobody fills */
    add_tx(bufs, VSOCK_HEADER_LEN + 1);
    vs_expect(RESPONSE, 1000, 52);
}
END_TEST

static void expect_breakdown(void)
{
    ck_assert(rig_needs_reset());
    (void)vs_start();
    vs_reset();
}

START_TEST(buffer_without_room_for_a_packet)
{
    for (uint32_t len = 1; len <= VSOCK_HEADER_LEN; len += VSOCK_HEADER_LEN - 1) {
        vs_bring_up_with(VIRTIO_FEATURES_COMMON, 64, 0);
        vs.rx_len = len;
        vs_add_rx(1);
        vs_send(RESPONSE, 1000, 52);
        vs.rx_len = 4096;
        expect_breakdown();
    }
}
END_TEST

START_TEST(smallest_buffers_do)
{
    int fd;

    vs.rx_len = VSOCK_HEADER_LEN + 1;
    fd = vs_start();
    ck_assert_int_eq(send(fd, "abc", 3, 0), 3);
    for (unsigned i = 0; i < 3; i++) {
        vs_receive(&got);
        ck_assert_uint_eq(got.len, 1);
        ck_assert_uint_eq(got.payload[0], (unsigned)"abc"[i]);
    }
}
END_TEST

START_TEST(broken_rings)
{
    for (unsigned queue = 0; queue < 3; queue++) {
        vs_bring_up_with(VIRTIO_FEATURES_COMMON, 64, 0);
        driver_offer(&rig.rings[queue], 999);
        rig_kick(queue);
        if (queue == RX)
            vs_send(RESPONSE, 1000, 52); /* nobody looks at buffers before they are needed */
        if (queue == EVENT)
            virtio_vsock_reset_transport(rig.dev);
        expect_breakdown();
    }
}
END_TEST

/* ---- too many -------------------------------------------------------------------------------- */

START_TEST(connections_beyond_the_limit_are_refused)
{
    int r;

    vs_bring_up();
    for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++) {
        vs_send(REQUEST, 2000 + i, 52);
        vs_expect(RESPONSE, 2000 + i, 52);
    }
    vs_send(REQUEST, 1000, 52);
    vs_expect(RST, 1000, 52);
    (void)vs_ask(22, &r);
    ck_assert_int_eq(r, -ENOBUFS);
    vs_send(RST, 2000, 52);
    (void)vs_open(1000, 52);
    ck_assert_uint_eq(vs_connections(), VSOCK_CONNS_MAX);
}
END_TEST

/* Packets from ports 1000 on that want an answer, of a guest that has no buffers for any. */
static void flood(unsigned n)
{
    vs_bring_up_with(VIRTIO_FEATURES_COMMON, 1024, 0);
    for (unsigned i = 0; i < n; i++) {
        const struct vsock_packet packet = vs_packet(RESPONSE, 1000 + i, 52);
        const uint64_t gpa = 200 * MIB + 64ull * i;
        const struct iovec iov = {rig_guest(gpa, VSOCK_HEADER_LEN), VSOCK_HEADER_LEN};
        const struct driver_buf buf = {gpa, VSOCK_HEADER_LEN, false};

        vsock_packet_write(&packet, &iov, 1);
        add_tx(&buf, 1);
    }
}

/* Packets that were taken since the last look. */
static unsigned count_taken(void)
{
    struct vring_used_elem elem;
    unsigned n = 0;

    rig_settle();
    while (driver_take(&rig.rings[TX], &elem))
        n++;
    return n;
}

/* With no buffers for answers, packets stay in the ring, and nobody turns in circles over it. */
START_TEST(flood_without_buffers_for_answers)
{
    unsigned before;

    flood(500);
    ck_assert_uint_eq(count_taken(), VSOCK_RESETS_MAX);
    before = vs_rounds();
    ck_assert_uint_le(vs_rounds() - before, 20);

    vs_add_rx(100);
    for (unsigned i = 0; i < 500; i++)
        vs_expect(RST, 1000 + i, 52);
    ck_assert_uint_eq(count_taken(), 500 - VSOCK_RESETS_MAX);
}
END_TEST

/* Answers that nobody wants any more keep no packet waiting. */
START_TEST(reset_of_the_transport_in_a_flood)
{
    flood(500);
    ck_assert_uint_eq(count_taken(), VSOCK_RESETS_MAX);
    virtio_vsock_reset_transport(rig.dev);
    ck_assert_uint_eq(count_taken(), 500 - VSOCK_RESETS_MAX);
    vs_add_rx(1);
    vs_expect(RST, 1000 + VSOCK_RESETS_MAX, 52);
}
END_TEST

/* Packets with likely values in all fields, in any order; then an orderly one is served. */
START_TEST(random_packets)
{
    static const uint32_t values[] = {0, 1, 5, 22, 52, 4096, 65536, 49152, 0x7fffffff, UINT32_MAX};
    uint64_t state = unit_seed();
    uint32_t ports[4];

    vs_bring_up();
    for (unsigned i = 0; i < 4; i++)
        (void)vs_open_from_host(22, &ports[i]);
    for (unsigned i = 0; i < 20000; i++) {
        struct vsock_packet packet =
            vs_packet((uint16_t)dice_roll(&state, 9), dice_roll(&state, 2) ? 22 : 1000,
                      dice_roll(&state, 2) ? ports[dice_roll(&state, 4)] : 52);

        packet.len = values[dice_roll(&state, ARRAY_SIZE(values))];
        packet.flags = dice_roll(&state, 4);
        packet.buf_alloc = values[dice_roll(&state, ARRAY_SIZE(values))];
        packet.fwd_cnt = values[dice_roll(&state, ARRAY_SIZE(values))];
        if (i % 200 == 0) {
            (void)vs_ask(22, NULL);
            if (vs.nhost_fds > VS_HOST_FDS / 2)
                break;
            vs_set_mood((enum host_mood)dice_roll(&state, 3));
        }
        vs_send_raw(&packet, NULL, values[dice_roll(&state, 7)]);
        if (rig.rings[TX].nfree < 8)
            rig_settle();
        while (vs_poll(&got))
            ;
    }
    rig_settle();
    vs_reset();
    vs_set_mood(HOST_ACCEPTS);
    (void)vs_start();
}
END_TEST

static void add_tests(Suite *suite)
{
    vsock_case(suite, "packets", packets_for_no_connection, packet_from_another_address_is_dropped,
               packet_to_another_address_is_refused, packet_of_unknown_type_is_refused,
               wrong_packets_of_an_open_connection, wrong_packets_before_the_answer,
               answer_to_a_question_that_was_not_asked_yet, wrong_packets_while_the_host_is_busy,
               payload_that_is_shorter_than_it_says, bytes_after_the_end_of_the_bytes,
               shutdown_without_or_with_unknown_flags);
    vsock_case(suite, "buffers and rings", packets_shorter_than_a_header_are_dropped,
               packet_in_pieces_of_one_byte, buffer_without_room_for_a_packet, smallest_buffers_do,
               broken_rings);
    vsock_case(suite, "too many", connections_beyond_the_limit_are_refused,
               flood_without_buffers_for_answers, reset_of_the_transport_in_a_flood,
               random_packets);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_vsock_hostile", add_tests)
