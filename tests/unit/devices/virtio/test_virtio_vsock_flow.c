/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock: credit both ways, slow readers, pauses, resets, and many connections at once. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "devices/virtio/vsock_conn.h"
#include "devices/virtio/vsock_mux.h"
#include "tests/lib/devices/virtio/virtio_vsock_rig.h"
#include "tests/lib/dice.h"

#define BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

/* Rounds of the loop that nothing would have caused. */
#define FEW_ROUNDS 20u

static struct got_packet got;
static uint8_t pattern[1 * MIB];
static uint8_t copy[1 * MIB];

static void make_pattern(void)
{
    uint64_t state = 1;

    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)dice_next(&state);
}

static void sleep_ms(unsigned ms)
{
    (void)poll(NULL, 0, (int)ms);
}

/* Rounds of the loop during some time in which nothing happens. */
static unsigned rounds_of_idle_loop(void)
{
    unsigned before = vs_rounds();

    sleep_ms(100);
    return vs_rounds() - before;
}

static void send_credit(uint32_t guest_port, uint32_t host_port, uint32_t fwd_cnt)
{
    struct vsock_packet packet = vs_packet(CREDIT_UPDATE, guest_port, host_port);

    packet.fwd_cnt = fwd_cnt;
    vs_send_raw(&packet, NULL, 0);
}

/* Write as much of the pattern from `off` on as the socket takes. */
static size_t write_some(int fd, size_t off)
{
    ssize_t n = send(fd, pattern + off, sizeof(pattern) - off, MSG_NOSIGNAL | MSG_DONTWAIT);

    return n > 0 ? (size_t)n : 0;
}

/* ---- to the guest ---------------------------------------------------------------------------- */

/* Let the host write and the guest take until the guest has `want` bytes of the pattern in all. */
static void pump_to_guest(int fd, size_t *written, size_t *taken, size_t want)
{
    while (*taken < want) {
        *written += write_some(fd, *written);
        vs_receive(&got);
        if (got.packet.op == RW) {
            ck_assert_mem_eq(got.payload, pattern + *taken, got.len);
            *taken += got.len;
        }
    }
}

START_TEST(host_keeps_to_the_credit_of_the_guest)
{
    size_t written = 0;
    size_t taken = 0;
    int fd;

    make_pattern();
    fd = vs_start();
    pump_to_guest(fd, &written, &taken, GUEST_CREDIT);
    ck_assert_uint_eq(taken, GUEST_CREDIT);
    vs_receive(&got);
    ck_assert_uint_eq(got.packet.op, CREDIT_REQUEST);
    written += write_some(fd, written);
    vs_expect_nothing();
    ck_assert_uint_le(rounds_of_idle_loop(), FEW_ROUNDS);

    send_credit(1000, 52, 1000); /* so much has been read */
    pump_to_guest(fd, &written, &taken, GUEST_CREDIT + 1000);
    ck_assert_uint_eq(taken, GUEST_CREDIT + 1000);
    send_credit(1000, 52, GUEST_CREDIT);
    pump_to_guest(fd, &written, &taken, 2 * GUEST_CREDIT);
    ck_assert_uint_eq(taken, 2 * GUEST_CREDIT);
}
END_TEST

START_TEST(guest_with_nonsense_credit_gets_nothing)
{
    struct vsock_packet packet = vs_packet(CREDIT_UPDATE, 1000, 52);
    int fd;

    make_pattern();
    fd = vs_start();
    packet.buf_alloc = 0;
    vs_send_raw(&packet, NULL, 0);
    rig_settle();
    (void)write_some(fd, 0);
    vs_expect_nothing();
    packet.buf_alloc = 4096;
    packet.fwd_cnt = 5; /* more than it was ever sent */
    vs_send_raw(&packet, NULL, 0);
    vs_expect_nothing();
    packet.fwd_cnt = 0;
    vs_send_raw(&packet, NULL, 0);
    vs_receive(&got);
    ck_assert_uint_eq(got.packet.op, RW);
}
END_TEST

START_TEST(one_look_at_a_socket_fills_many_buffers)
{
    size_t taken = 0;

    make_pattern();
    vs.rx_len = 300;
    vs_bring_up();
    (void)write_some(vs_open(1000, 52), 0);
    while (taken < 16 * KIB) {
        vs_receive(&got);
        ck_assert_uint_eq(got.len, 300 - VSOCK_HEADER_LEN);
        ck_assert_mem_eq(got.payload, pattern + taken, got.len);
        taken += got.len;
    }
}
END_TEST

START_TEST(scattered_buffers_are_filled_in_order)
{
    const uint64_t gpa = 200 * MIB;
    struct driver_buf bufs[100];
    struct vring_used_elem elem;
    int fd;

    make_pattern();
    vs_bring_up_with(VERSION_1, 256, 1);
    vs.keep_rx = true;
    fd = vs_open(1000, 52);
    for (unsigned i = 0; i < 100; i++) /* one byte each, with a gap after it */
        bufs[i] = (struct driver_buf){gpa + 2ull * i, 1, true};
    (void)driver_add(&rig.rings[RX], bufs, 100);
    rig_kick(RX);
    ck_assert_int_eq(send(fd, pattern, 50, 0), 50);
    ck_assert(driver_wait_irq(&rig.irq, RIG_TIMEOUT_MS));
    rig_settle();
    ck_assert(driver_take(&rig.rings[RX], &elem));
    ck_assert_uint_eq(elem.len, VSOCK_HEADER_LEN + 50);
    for (unsigned i = 0; i < 50; i++)
        ck_assert_uint_eq(*(uint8_t *)rig_guest(gpa + 2ull * (VSOCK_HEADER_LEN + i), 1),
                          pattern[i]);
}
END_TEST

/* A guest that has bytes to read and no buffer for them costs nothing. */
START_TEST(guest_without_buffers_wakes_nobody)
{
    int fd;

    make_pattern();
    vs_bring_up_with(driver_features(rig.mmio), 64, 1);
    vs.keep_rx = true;
    fd = vs_open(1000, 52);
    (void)write_some(fd, 0);
    ck_assert_uint_le(rounds_of_idle_loop(), FEW_ROUNDS);
    vs_add_rx(1);
    vs_receive(&got);
    ck_assert_uint_eq(got.packet.op, RW);
    ck_assert_mem_eq(got.payload, pattern, got.len);
    ck_assert_uint_le(rounds_of_idle_loop(), FEW_ROUNDS);
}
END_TEST

/* ---- from the guest -------------------------------------------------------------------------- */

/* The guest sends [off, off + len) of the pattern in packets of 32 KiB. */
static void send_pattern(uint32_t guest_port, uint32_t host_port, size_t off, size_t len)
{
    while (len > 0) {
        uint32_t part = (uint32_t)min_u64(len, 32 * KIB);

        vs_send_bytes(guest_port, host_port, pattern + off, part);
        rig_settle();
        off += part;
        len -= part;
    }
}

START_TEST(slow_reader_delays_nobody_else)
{
    int slow;
    int quick;

    make_pattern();
    vs_bring_up();
    slow = vs_open(1000, 52);
    quick = vs_open(1001, 53);
    send_pattern(1000, 52, 0, 256 * KIB); /* all the credit there is */
    send_pattern(1001, 53, 0, 64 * KIB);
    vs_read_exactly(quick, copy, 64 * KIB);
    ck_assert_mem_eq(copy, pattern, 64 * KIB);
    ck_assert_uint_le(rounds_of_idle_loop(), FEW_ROUNDS);

    vs_read_exactly(slow, copy, 256 * KIB);
    ck_assert_mem_eq(copy, pattern, 256 * KIB);
    do {
        vs_receive(&got);
    } while (got.packet.dst_port != 1000 || got.packet.fwd_cnt < 128 * KIB);
    ck_assert_uint_eq(got.packet.op, CREDIT_UPDATE);
}
END_TEST

/* A socket that has room is of no interest. */
START_TEST(reads_of_the_host_wake_nobody)
{
    unsigned before;
    int fd = vs_start();

    for (unsigned i = 0; i < 50; i++)
        vs_send_bytes(1000, 52, "x", 1);
    before = vs_rounds();
    for (unsigned i = 0; i < 50; i++) {
        vs_read_exactly(fd, copy, 1);
        sleep_ms(1);
    }
    ck_assert_uint_le(vs_rounds() - before, FEW_ROUNDS);
}
END_TEST

/* Twice the credit and more, of which the socket takes a part at once. */
static size_t overfill(uint32_t guest_port, uint32_t host_port)
{
    size_t sent = 0;

    do {
        send_pattern(guest_port, host_port, sent % (512 * KIB), 32 * KIB);
        sent += 32 * KIB;
    } while (!vs_poll(&got) || got.packet.op != RST);
    return sent;
}

START_TEST(guest_that_sends_beyond_its_credit_is_reset)
{
    (void)vs_start();
    ck_assert_uint_le(overfill(1000, 52), 1 * MIB);
    ck_assert_uint_eq(got.packet.dst_port, 1000);
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

START_TEST(connections_beyond_the_first_have_less_credit)
{
    vs_bring_up();
    for (unsigned i = 0; i < VSOCK_FULL_CREDITS; i++) {
        vs_send(REQUEST, 2000 + i, 52);
        vs_receive(&got);
        ck_assert_uint_eq(got.packet.buf_alloc, VSOCK_CREDIT);
    }
    vs_send(REQUEST, 1000, 52);
    vs_receive(&got);
    ck_assert_uint_eq(got.packet.buf_alloc, VSOCK_LITTLE_CREDIT);
    ck_assert_uint_le(overfill(1000, 52), 512 * KIB);
}
END_TEST

START_TEST(credit_is_told_when_asked_for)
{
    int fd = vs_start();

    vs_send_bytes(1000, 52, "abc", 3);
    vs_expect_nothing();
    vs_send(CREDIT_REQUEST, 1000, 52);
    vs_receive(&got);
    ck_assert_uint_eq(got.packet.op, CREDIT_UPDATE);
    ck_assert_uint_eq(got.packet.fwd_cnt, 3);
    vs_read_exactly(fd, copy, 3);
}
END_TEST

START_TEST(what_a_guest_sent_before_it_closed_is_read_later)
{
    int fd;

    make_pattern();
    fd = vs_start();
    send_pattern(1000, 52, 0, 256 * KIB);
    vs_send_shutdown(1000, 52, BOTH);
    do {
        vs_receive(&got);
    } while (got.packet.op != RST); /* the guest need not wait for that */
    vs_send(REQUEST, 1000, 52);     /* its port is free */
    vs_expect(RESPONSE, 1000, 52);
    vs_read_exactly(fd, copy, 256 * KIB);
    ck_assert_mem_eq(copy, pattern, 256 * KIB);
    vs_expect_eof(fd);
    ck_assert_uint_eq(vs_connections(), 1);
}
END_TEST

START_TEST(reader_that_leaves_ends_what_waits_for_it)
{
    int fd;

    make_pattern();
    fd = vs_start();
    send_pattern(1000, 52, 0, 256 * KIB);
    vs_send_shutdown(1000, 52, BOTH);
    rig_settle();
    ck_assert_uint_eq(vs_connections(), 1);
    vs_close(fd);
    ck_assert_uint_eq(vs_connections(), 0);
}
END_TEST

/* ---- pauses ---------------------------------------------------------------------------------- */

START_TEST(bytes_that_came_during_a_pause_arrive_after_it)
{
    uint32_t port;
    int fd;

    make_pattern();
    fd = vs_start();
    for (unsigned turn = 0; turn < 3; turn++) {
        rig_pause();
        ck_assert_int_eq(send(fd, pattern, 10, 0), 10);
        vs_expect_nothing();
        ck_assert_uint_le(rounds_of_idle_loop(), FEW_ROUNDS);
        rig_resume(); /* and nothing else: no kick */
        vs_receive(&got);
        ck_assert_uint_eq(got.packet.op, RW);
        ck_assert_uint_eq(got.len, 10);
    }
    rig_pause();
    fd = vs_ask(22, NULL);
    vs_expect_nothing();
    rig_resume();
    vs_receive(&got);
    ck_assert_uint_eq(got.packet.op, REQUEST);
    port = got.packet.src_port;
    vs_send(RESPONSE, 22, port);
    vs_read_exactly(fd, copy, strlen("OK 49152\n"));
}
END_TEST

START_TEST(packets_that_were_sent_during_a_pause_go_out_after_it)
{
    struct pollfd pfd = {.events = POLLIN};

    vs_bring_up();
    pfd.fd = vs_open(1000, 52);
    rig_pause();
    vs_send_bytes(1000, 52, "later", 5);
    rig_settle();
    ck_assert_int_eq(poll(&pfd, 1, 0), 0);
    rig_resume();
    vs_read_exactly(pfd.fd, copy, 5);
}
END_TEST

START_TEST(paused_guest_does_not_run_out_of_time)
{
    unsigned before;
    int asked;

    vs_bring_up();
    vs_set_mood(HOST_IS_BUSY);
    vs_send(REQUEST, 1000, 52);
    asked = vs_ask(22, NULL);
    vs_receive(&got);
    rig_pause();
    before = vs_rounds();
    sleep_ms(5500); /* a guest has 5 s for an answer, a busy host 2 */
    ck_assert_uint_le(vs_rounds() - before, FEW_ROUNDS);
    ck_assert_uint_eq(vs_connections(), 2);
    vs_set_mood(HOST_ACCEPTS);
    rig_resume();
    vs_expect(RESPONSE, 1000, 52);
    ck_assert_uint_eq(vs_connections(), 2);
    vs_expect_eof(asked); /* it has no more time than before */
}
END_TEST

/* ---- resets ---------------------------------------------------------------------------------- */

START_TEST(reset_ends_all_connections)
{
    int fd;
    int asked;

    make_pattern();
    for (unsigned turn = 0; turn < 3; turn++) {
        vs_bring_up();
        fd = vs_open(1000, 52);
        asked = vs_ask(22, NULL);
        (void)write_some(fd, 0);
        vs_send_bytes(1000, 52, "x", 1);
        rig_settle();
        vs_reset();
        ck_assert_uint_eq(vs_connections(), 0);
        vs_expect_eof(asked);
    }
}
END_TEST

START_TEST(slow_reader_gets_all_after_a_reset)
{
    int fd;

    make_pattern();
    fd = vs_start();
    send_pattern(1000, 52, 0, 256 * KIB);
    vs_reset();
    (void)vs_start();
    ck_assert_uint_eq(vs_connections(), 2);
    vs_read_exactly(fd, copy, 256 * KIB);
    ck_assert_mem_eq(copy, pattern, 256 * KIB);
    vs_expect_eof(fd);
    ck_assert_uint_eq(vs_connections(), 1);
}
END_TEST

/* Begin late, but take no longer than needed: half a second is all that a reader has. */
static void *read_later(void *arg)
{
    const int *fd = arg;

    sleep_ms(10);
    vs_read_exactly(*fd, copy, 256 * KIB);
    vs_expect_eof(*fd);
    return NULL;
}

START_TEST(end_waits_a_little_for_readers)
{
    pthread_t reader;
    int fd;

    make_pattern();
    fd = vs_start();
    send_pattern(1000, 52, 0, 256 * KIB);
    ck_assert_int_eq(pthread_create(&reader, NULL, read_later, &fd), 0);
    vs_end();
    ck_assert_int_eq(pthread_join(reader, NULL), 0);
    ck_assert_mem_eq(copy, pattern, 256 * KIB);
}
END_TEST

START_TEST(end_does_not_wait_for_ever)
{
    uint64_t begin;

    make_pattern();
    (void)vs_start();
    (void)vs_open(1001, 52);
    send_pattern(1000, 52, 0, 256 * KIB);
    send_pattern(1001, 52, 0, 256 * KIB);
    begin = monotonic_ns();
    vs_end();
    ck_assert_uint_lt(monotonic_ns() - begin, 5 * NS_PER_S);
}
END_TEST

START_TEST(last_words_before_a_reset_are_heard)
{
    int fd;

    vs_bring_up_with(VERSION_1, 1024, 8);
    fd = vs_open(1000, 52);
    vs.no_kicks = true; /* or it did not get to them yet */
    for (unsigned i = 0; i < 400; i++) {
        const struct vsock_packet packet = {
            .src_cid = GUEST_CID,
            .dst_cid = HOST_CID,
            .src_port = 1000,
            .dst_port = 52,
            .len = 10,
            .type = VIRTIO_VSOCK_TYPE_STREAM,
            .op = RW,
        };

        vs_send_raw(&packet, "last words", 10);
    }
    vs_reset();
    vs_read_exactly(fd, copy, 4000);
    ck_assert_mem_eq(copy + 3990, "last words", 10);
}
END_TEST

/* More descriptors than are looked at in two rounds. */
START_TEST(last_words_in_many_pieces_are_heard)
{
    enum { PACKETS = 120, PIECES = 100, LEN = PIECES - sizeof(struct virtio_vsock_hdr) };
    struct vsock_packet packet = vs_packet(RW, 1000, 52);
    struct driver_buf bufs[PIECES];
    int fd;

    packet.len = LEN;
    make_pattern();
    vs_bring_up_with(VERSION_1 | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC), 128, 8);
    fd = vs_open(1000, 52);
    for (unsigned i = 0; i < PACKETS; i++) {
        const uint64_t gpa = 200 * MIB + 256ull * i;
        const struct iovec header = {rig_guest(gpa, VSOCK_HEADER_LEN), VSOCK_HEADER_LEN};

        vsock_packet_write(&packet, &header, 1);
        memcpy(rig_guest(gpa + VSOCK_HEADER_LEN, LEN), pattern + (size_t)LEN * i, LEN);
        for (unsigned piece = 0; piece < PIECES; piece++)
            bufs[piece] = (struct driver_buf){gpa + piece, 1, false};
        (void)driver_add_indirect(&rig.rings[TX], 190 * MIB + 16ull * PIECES * i, bufs, PIECES);
    }
    (void)driver_show(&rig.rings[TX]); /* and no kick */
    vs_reset();
    vs_read_exactly(fd, copy, (size_t)PACKETS * LEN);
    ck_assert_mem_eq(copy, pattern, (size_t)PACKETS * LEN);
}
END_TEST

/* After a reset, guest memory is the guest's, whatever the host sends. */
START_TEST(reset_leaves_memory_alone)
{
    uint64_t state = unit_seed();

    make_pattern();
    for (unsigned turn = 0; turn < 20; turn++) {
        unsigned nconns = 1 + dice_roll(&state, 8);
        int fds[8];

        vs_bring_up();
        for (unsigned i = 0; i < nconns; i++)
            fds[i] = vs_open(1000 + i, 52);
        for (unsigned i = 0; i < nconns; i++)
            (void)write_some(fds[i], 0);
        if (dice_roll(&state, 2))
            rig_settle();
        vs_reset();
        memset(rig_guest(0x10000, 4 * MIB), RIG_UNTOUCHED, 4 * MIB);
        for (unsigned i = 0; i < nconns; i++)
            (void)write_some(fds[i], 0);
        rig_settle();
        ck_assert(rig_is_untouched(0x10000, 4 * MIB));
    }
}
END_TEST

START_TEST(reset_of_one_queue_keeps_connections)
{
    int fd = vs_start();

    driver_write32(rig.mmio, VIRTIO_MMIO_QUEUE_SEL, RX);
    driver_write32(rig.mmio, VIRTIO_MMIO_QUEUE_READY, 0);
    vs_send_bytes(1000, 52, "one way", 7);
    vs_read_exactly(fd, copy, 7);
    ck_assert_int_eq(send(fd, "hello", 5, 0), 5);
    rig_settle();
    driver_ring_init(&rig.rings[RX], rig.mem, 0x10000, 64, true);
    ck_assert(driver_setup_queue(rig.mmio, RX, &rig.rings[RX]));
    vs_add_rx(4);
    vs_receive(&got);
    ck_assert_uint_eq(got.packet.op, RW);
    ck_assert_uint_eq(got.len, 5);
}
END_TEST

static uint32_t take_event(void)
{
    struct vring_used_elem elem;
    uint32_t id = 99;

    rig_settle();
    if (!driver_take(&rig.rings[EVENT], &elem))
        return 99;
    memcpy(&id, rig_guest(vs.gpa_of[EVENT][elem.id], 4), elem.len);
    return id;
}

START_TEST(reset_of_the_transport_is_an_event)
{
    int fd;

    vs_bring_up();
    vs_add_event(4);
    fd = vs_open(1000, 52);
    virtio_vsock_reset_transport(rig.dev);
    ck_assert_uint_eq(take_event(), VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
    vs_expect_eof(fd);
    ck_assert_uint_eq(vs_connections(), 0);
    vs_expect_nothing(); /* the guest forgets its connections by itself */

    /* Without a buffer it waits for one. */
    virtio_vsock_reset_transport(rig.dev);
    ck_assert_uint_eq(take_event(), 99);
    vs_add_event(4);
    ck_assert_uint_eq(take_event(), VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
    vs_add_event(4);
    ck_assert_uint_eq(take_event(), 99);
    (void)vs_open(1000, 52);
}
END_TEST

/* ---- many connections ------------------------------------------------------------------------ */

#define MANY ((size_t)100)
#define MANY_LEN (192 * KIB)

/* One connection that carries MANY_LEN bytes each way, a different part of the pattern each. */
struct many {
    int fd;
    uint32_t guest_port;
    uint32_t host_port;
    size_t base;
    size_t guest_sent;
    size_t guest_got;
    size_t guest_told;
    size_t host_sent;
    size_t host_got;
    uint32_t buf_alloc; /* the device's, as it said last */
    uint32_t fwd_cnt;
};

static struct many many[MANY];

static void host_turn(struct many *conn)
{
    ssize_t n = send(conn->fd, pattern + conn->base + conn->host_sent, MANY_LEN - conn->host_sent,
                     MSG_DONTWAIT | MSG_NOSIGNAL);

    conn->host_sent += n > 0 ? (size_t)n : 0;
    n = recv(conn->fd, copy, sizeof(copy), MSG_DONTWAIT);
    if (n > 0) {
        ck_assert_uint_le(conn->host_got + (size_t)n, MANY_LEN);
        ck_assert_mem_eq(copy, pattern + conn->base + conn->host_got, (size_t)n);
        conn->host_got += (size_t)n;
    }
}

static void guest_turn(struct many *conn)
{
    uint32_t ahead = (uint32_t)conn->guest_sent - conn->fwd_cnt;
    uint32_t len =
        (uint32_t)min_u64(MANY_LEN - conn->guest_sent, min_u64(conn->buf_alloc - ahead, 16 * KIB));
    struct vsock_packet packet = vs_packet(RW, conn->guest_port, conn->host_port);

    packet.fwd_cnt = (uint32_t)conn->guest_got;
    packet.buf_alloc = 64 * KIB;
    packet.len = len;
    if (len == 0 && conn->guest_got - conn->guest_told < 32 * KIB)
        return;
    if (len == 0)
        packet.op = CREDIT_UPDATE;
    conn->guest_told = conn->guest_got;
    vs_send_raw(&packet, pattern + conn->base + conn->guest_sent, len);
    conn->guest_sent += len;
}

static void take_packets(void)
{
    while (vs_poll(&got)) {
        unsigned i = 0;

        while (i < MANY && (many[i].guest_port != got.packet.dst_port ||
                            many[i].host_port != got.packet.src_port))
            i++;
        ck_assert_uint_lt(i, MANY);
        ck_assert_uint_ne(got.packet.op, RST);
        many[i].buf_alloc = got.packet.buf_alloc;
        many[i].fwd_cnt = got.packet.fwd_cnt;
        if (got.packet.op != RW)
            continue;
        ck_assert_uint_le(many[i].guest_got + got.len, MANY_LEN);
        ck_assert_mem_eq(got.payload, pattern + many[i].base + many[i].guest_got, got.len);
        many[i].guest_got += got.len;
    }
}

static bool is_done(const struct many *conn)
{
    return conn->guest_got == MANY_LEN && conn->host_got == MANY_LEN;
}

START_TEST(hundred_connections_at_once)
{
    unsigned ndone = 0;

    make_pattern();
    vs_bring_up_with(driver_features(rig.mmio), 256, 128);
    for (uint32_t i = 0; i < MANY; i++) {
        struct many *conn = &many[i];

        *conn = (struct many){.base = i * 1000ul, .guest_port = 3000 + i, .host_port = 52};
        conn->buf_alloc = VSOCK_CREDIT;
        if (i % 2)
            conn->fd = vs_open(conn->guest_port, conn->host_port);
        else
            conn->fd = vs_open_from_host(conn->guest_port, &conn->host_port);
    }
    while (ndone < MANY) {
        ndone = 0;
        for (uint32_t i = 0; i < MANY; i++) {
            host_turn(&many[i]);
            guest_turn(&many[i]);
            rig_settle();
            take_packets();
            ndone += is_done(&many[i]);
        }
    }
    ck_assert_uint_eq(vs_connections(), MANY);
    ck_assert_uint_eq(vs.host.counters.to_guest_bytes, MANY * MANY_LEN);
    ck_assert_uint_eq(vs.host.counters.from_guest_bytes, MANY * MANY_LEN);
}
END_TEST

static void add_tests(Suite *suite)
{
    vsock_case(suite, "to the guest", host_keeps_to_the_credit_of_the_guest,
               guest_with_nonsense_credit_gets_nothing, one_look_at_a_socket_fills_many_buffers,
               scattered_buffers_are_filled_in_order, guest_without_buffers_wakes_nobody);
    vsock_case(suite, "from the guest", slow_reader_delays_nobody_else,
               reads_of_the_host_wake_nobody, guest_that_sends_beyond_its_credit_is_reset,
               connections_beyond_the_first_have_less_credit, credit_is_told_when_asked_for,
               what_a_guest_sent_before_it_closed_is_read_later,
               reader_that_leaves_ends_what_waits_for_it);
    vsock_case(suite, "pauses", bytes_that_came_during_a_pause_arrive_after_it,
               packets_that_were_sent_during_a_pause_go_out_after_it,
               paused_guest_does_not_run_out_of_time);
    vsock_case(suite, "resets", reset_ends_all_connections, slow_reader_gets_all_after_a_reset,
               end_waits_a_little_for_readers, end_does_not_wait_for_ever,
               last_words_before_a_reset_are_heard, last_words_in_many_pieces_are_heard,
               reset_leaves_memory_alone, reset_of_one_queue_keeps_connections,
               reset_of_the_transport_is_an_event);
    vsock_case(suite, "many", hundred_connections_at_once);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_vsock_flow", add_tests)
