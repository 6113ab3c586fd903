/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/devices/virtio/virtio_vsock_rig.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/iov.h"

/* Where things are in guest memory. A buffer's place follows from the descriptor at its head. */
#define MEM_LEN (256 * MIB)
#define SLOT_LEN (PAYLOAD_MAX + 4 * KIB)
#define SLOT_GPA(queue, i) (1 * MIB + (queue) * (80 * MIB) + (uint64_t)(i)*SLOT_LEN)

struct vsock_rig vs;

static bool count_round(void *opaque)
{
    vs.rounds++;
    return false;
}

static void count_rounds(void *opaque)
{
    loop_set_before_sleep(rig.loop, count_round, NULL);
}

/* Two ends, of which the device's takes as much as it would with the usual settings of a host. */
static void make_pair(int fds[2])
{
    const int half = 104 * KIB; /* Linux doubles it */

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    ck_assert_int_eq(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &half, sizeof(half)), 0);
}

static int host_connect(struct vsock_host *host, uint32_t port)
{
    int fds[2];

    vs.asked_port = port;
    if (vs.mood != HOST_ACCEPTS)
        return vs.mood == HOST_REFUSES ? -ECONNREFUSED : -EAGAIN;
    ck_assert_uint_lt(vs.nhost_fds, VS_HOST_FDS);
    make_pair(fds);
    vs.host_fds[vs.nhost_fds++] = fds[1];
    return fds[0];
}

/* Two descriptors for each connection are more than the usual limit allows. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void set_up(void)
{
    struct virtio_vsock_options options = {.host = &vs.host, .cid = GUEST_CID};
    struct virtio_dev *dev;

    raise_descriptor_limit();
    rig_set_up_with(MEM_LEN);
    loop_call(rig.loop, count_rounds, NULL);
    vs.host.connect = host_connect;
    options.loop = rig.loop;
    ck_assert_int_eq(virtio_vsock_new(&options, rig.mem, &dev), 0);
    rig_add(dev);
    vs.rx_len = 4096;
}

void vs_end(void)
{
    virtio_mmio_free(rig.mmio);
    rig.mmio = NULL;
    ck_assert_ptr_null(vs.host.guest);
    ck_assert_uint_eq(vs.host.counters.connections, 0);
}

static void tear_down(void)
{
    vs_end();
    rig_tear_down();
    for (unsigned i = 0; i < vs.nhost_fds; i++)
        if (vs.host_fds[i] >= 0)
            close(vs.host_fds[i]);
}

void vs_bring_up_with(uint64_t features, uint16_t size, unsigned nrx)
{
    rig_bring_up_with(features, size);
    vs_add_rx(nrx);
}

void vs_bring_up(void)
{
    vs_bring_up_with(driver_features(rig.mmio), 128, 64);
}

void vs_reset(void)
{
    driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
}

static void get_rounds(void *opaque)
{
    *(unsigned *)opaque = vs.rounds;
}

unsigned vs_rounds(void)
{
    unsigned rounds;

    rig_settle();
    loop_call(rig.loop, get_rounds, &rounds);
    return rounds;
}

static void set_mood(void *opaque)
{
    vs.mood = *(const enum host_mood *)opaque;
}

void vs_set_mood(enum host_mood mood)
{
    loop_call(rig.loop, set_mood, &mood);
}

/* ---- the guest ------------------------------------------------------------------------------- */

static void show(unsigned queue)
{
    if (driver_show(&rig.rings[queue]) && !(queue == TX && vs.no_kicks))
        driver_kick(rig.mmio, queue);
}

/* A buffer at the place that belongs to the descriptor which is going to be the head. */
static uint64_t next_slot(unsigned queue, size_t ndescs)
{
    const struct driver_ring *ring = &rig.rings[queue];

    return SLOT_GPA(queue, ring->free[ring->nfree - ndescs]);
}

static void add_writable(unsigned queue, uint32_t len)
{
    const struct driver_buf buf = {next_slot(queue, 1), len, true};

    vs.gpa_of[queue][driver_add(&rig.rings[queue], &buf, 1)] = buf.gpa;
}

void vs_add_rx(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        add_writable(RX, vs.rx_len);
    if (n > 0)
        show(RX);
}

void vs_add_event(uint32_t len)
{
    add_writable(EVENT, len);
    show(EVENT);
}

/* Descriptors of packets that were sent. */
static void reclaim_tx(void)
{
    struct vring_used_elem elem;

    while (driver_take(&rig.rings[TX], &elem))
        ck_assert_uint_eq(elem.len, 0);
}

void vs_send_raw(const struct vsock_packet *packet, const void *payload, uint32_t avail)
{
    const uint64_t gpa = (reclaim_tx(), next_slot(TX, 2));
    const struct driver_buf bufs[] = {{gpa, VSOCK_HEADER_LEN, false},
                                      {gpa + VSOCK_HEADER_LEN, avail, false}};
    const struct iovec header = {rig_guest(gpa, VSOCK_HEADER_LEN), VSOCK_HEADER_LEN};

    ck_assert_uint_le(avail, PAYLOAD_MAX);
    vsock_packet_write(packet, &header, 1);
    if (payload)
        memcpy(rig_guest(bufs[1].gpa, avail), payload, avail);
    (void)driver_add(&rig.rings[TX], bufs, 2);
    show(TX);
}

struct vsock_packet vs_packet(uint16_t op, uint32_t guest_port, uint32_t host_port)
{
    return (struct vsock_packet){
        .src_cid = GUEST_CID,
        .dst_cid = HOST_CID,
        .src_port = guest_port,
        .dst_port = host_port,
        .type = VIRTIO_VSOCK_TYPE_STREAM,
        .op = op,
        .buf_alloc = GUEST_CREDIT,
    };
}

void vs_send(uint16_t op, uint32_t guest_port, uint32_t host_port)
{
    const struct vsock_packet packet = vs_packet(op, guest_port, host_port);

    vs_send_raw(&packet, NULL, 0);
}

void vs_send_bytes(uint32_t guest_port, uint32_t host_port, const void *bytes, uint32_t len)
{
    struct vsock_packet packet = vs_packet(VIRTIO_VSOCK_OP_RW, guest_port, host_port);

    packet.len = len;
    vs_send_raw(&packet, bytes, len);
}

void vs_send_shutdown(uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
    struct vsock_packet packet = vs_packet(VIRTIO_VSOCK_OP_SHUTDOWN, guest_port, host_port);

    packet.flags = flags;
    vs_send_raw(&packet, NULL, 0);
}

static void read_packet(const struct vring_used_elem *elem, struct got_packet *ret_packet)
{
    const struct iovec iov = {rig_guest(vs.gpa_of[RX][elem->id], vs.rx_len), elem->len};

    ck_assert_uint_le(elem->len, vs.rx_len);
    ck_assert_int_eq(vsock_packet_read(&iov, 1, &ret_packet->packet), 0);
    ret_packet->len = elem->len - VSOCK_HEADER_LEN;
    ck_assert_uint_eq(ret_packet->len, ret_packet->packet.len);
    ck_assert_uint_eq(ret_packet->packet.dst_cid, GUEST_CID);
    (void)iov_to_buf(&iov, 1, VSOCK_HEADER_LEN, ret_packet->payload, ret_packet->len);
    if (!vs.keep_rx)
        vs_add_rx(1);
}

bool vs_poll(struct got_packet *ret_packet)
{
    struct vring_used_elem elem;

    if (!driver_take(&rig.rings[RX], &elem))
        return false;
    read_packet(&elem, ret_packet);
    return true;
}

void vs_receive(struct got_packet *ret_packet)
{
    const struct vring_used_elem elem = rig_wait_used(RX);

    read_packet(&elem, ret_packet);
}

static struct got_packet expected;

void vs_expect(uint16_t op, uint32_t guest_port, uint32_t host_port)
{
    vs_receive(&expected);
    ck_assert_uint_eq(expected.packet.op, op);
    ck_assert_uint_eq(expected.packet.src_cid, HOST_CID);
    ck_assert_uint_eq(expected.packet.dst_port, guest_port);
    ck_assert_uint_eq(expected.packet.src_port, host_port);
    ck_assert_uint_eq(expected.packet.type, VIRTIO_VSOCK_TYPE_STREAM);
    if (op != VIRTIO_VSOCK_OP_RW)
        ck_assert_uint_eq(expected.len, 0);
}

void vs_expect_nothing(void)
{
    rig_settle();
    ck_assert(!vs_poll(&expected));
}

/* ---- both ------------------------------------------------------------------------------------ */

int vs_open(uint32_t guest_port, uint32_t host_port)
{
    vs_send(VIRTIO_VSOCK_OP_REQUEST, guest_port, host_port);
    vs_expect(VIRTIO_VSOCK_OP_RESPONSE, guest_port, host_port);
    rig_settle();
    ck_assert_uint_eq(vs.asked_port, host_port);
    return vs.host_fds[vs.nhost_fds - 1];
}

int vs_start(void)
{
    vs_bring_up();
    return vs_open(1000, 52);
}

struct ask_call {
    uint32_t port;
    int fd;
    int result;
};

static void ask_on_loop(void *opaque)
{
    struct ask_call *call = opaque;

    call->result =
        vs.host.guest ? vs.host.guest->connect(vs.host.guest, call->fd, call->port) : -ENOTCONN;
}

int vs_ask(uint32_t guest_port, int *ret_result)
{
    struct ask_call call = {.port = guest_port};
    int fds[2];

    make_pair(fds);
    call.fd = fds[0];
    rig_settle(); /* the table of our ends is not the loop's then */
    loop_call(rig.loop, ask_on_loop, &call);
    if (call.result < 0)
        close(fds[0]);
    if (ret_result)
        *ret_result = call.result;
    ck_assert_uint_lt(vs.nhost_fds, VS_HOST_FDS);
    vs.host_fds[vs.nhost_fds++] = fds[1];
    return fds[1];
}

int vs_open_from_host(uint32_t guest_port, uint32_t *ret_host_port)
{
    char want[32];
    char line[32] = "";
    int fd = vs_ask(guest_port, NULL);

    vs_receive(&expected);
    ck_assert_uint_eq(expected.packet.op, VIRTIO_VSOCK_OP_REQUEST);
    ck_assert_uint_eq(expected.packet.dst_port, guest_port);
    *ret_host_port = expected.packet.src_port;
    vs_send(VIRTIO_VSOCK_OP_RESPONSE, guest_port, *ret_host_port);
    (void)snprintf(want, sizeof(want), "OK %u\n", *ret_host_port);
    vs_read_exactly(fd, line, strlen(want));
    ck_assert_str_eq(line, want);
    return fd;
}

static void wait_readable(int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};

    ck_assert_int_eq(poll(&pfd, 1, RIG_TIMEOUT_MS), 1);
}

void vs_read_exactly(int fd, void *buf, size_t len)
{
    while (len > 0) {
        ssize_t n;

        wait_readable(fd);
        n = read(fd, buf, len);
        ck_assert_int_gt(n, 0);
        buf = (uint8_t *)buf + n;
        len -= (size_t)n;
    }
}

void vs_expect_eof(int fd)
{
    char c;

    wait_readable(fd);
    ck_assert_int_eq(read(fd, &c, 1), 0);
}

void vs_close(int fd)
{
    for (unsigned i = 0; i < vs.nhost_fds; i++)
        if (vs.host_fds[i] == fd)
            vs.host_fds[i] = -1;
    close(fd);
}

uint64_t vs_connections(void)
{
    rig_settle();
    return __atomic_load_n(&vs.host.counters.connections, __ATOMIC_RELAXED);
}

void vsock_add_case(Suite *suite, const char *name, const TTest *const *tests, size_t ntests)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60); /* sanitizers on a busy machine */
    suite_add_tcase(suite, tcase);
    for (size_t i = 0; i < ntests; i++)
        tcase_add_test(tcase, tests[i]);
}
