/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets of a guest to the connections of virtio-vsock, and programs of the host that do anything
 * at any moment.
 *
 * Input: instructions of 8 bytes: what to do, three bytes for it, a little-endian value. After a
 * raw packet its header follows.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "devices/virtio/virtq.h"
#include "devices/virtio/vsock_mux.h"

#define INSTRUCTION_LEN 8u
#define INSTRUCTIONS_MAX 2048u
#define HOST_FDS 48u
#define BUF_LEN 8192u
#define PAYLOAD_MAX (128 * KIB)
#define GUEST_CID 3u

enum {
    DO_PACKET,
    DO_RAW_PACKET,
    DO_ASK,
    DO_WRITE,
    DO_READ,
    DO_SHUT_DOWN,
    DO_CLOSE,
    DO_FILL,
    DO_TURN,
    DO_MOOD,
    DO_PAUSE,
    DO_CLEAR,
    NDOS,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;
static struct loop_work stop;
static struct vsock_mux mux;
static struct vsock_host host;
static bool paused;
static int mood;
static int host_fds[HOST_FDS];
static unsigned nhost_fds;
static uint8_t packet_bytes[VSOCK_HEADER_LEN + PAYLOAD_MAX];

static void stop_loop(struct loop_work *work)
{
    loop_stop(loop);
}

static void turn(void)
{
    loop_post(loop, &stop);
    if (loop_run(loop) < 0)
        abort();
}

static void wake(struct vsock_mux *m)
{
}

/* The other end for a connection; -1: there are enough. */
static int new_pair(void)
{
    int fds[2];

    if (nhost_fds == HOST_FDS)
        return -ENOENT;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        abort();
    host_fds[nhost_fds++] = fds[1];
    return fds[0];
}

static int host_connect(struct vsock_host *h, uint32_t port)
{
    return mood == 0 ? new_pair() : mood;
}

static void send_packet(const uint8_t *instruction, uint32_t value)
{
    static const uint32_t guest_ports[] = {22, 1000, 1001, UINT32_MAX};
    static const uint32_t host_ports[] = {52, 49152, 49153, 49154};
    static const uint32_t credits[] = {256 * KIB, 0, 1, 4096, UINT32_MAX, 65536, 100, 1 * MIB};
    const struct vsock_packet packet = {
        .src_cid = GUEST_CID,
        .dst_cid = VSOCK_HOST_CID,
        .src_port = guest_ports[instruction[1] / 16 % 4],
        .dst_port = host_ports[instruction[1] / 64 % 4],
        .type = VIRTIO_VSOCK_TYPE_STREAM,
        .op = instruction[1] % 16,
        .flags = instruction[2] % 4,
        .buf_alloc = credits[instruction[2] / 4 % 8],
        .fwd_cnt = value / 65536,
        .len = value % (uint32_t)PAYLOAD_MAX,
    };
    struct iovec iov[2] = {{packet_bytes, VSOCK_HEADER_LEN},
                           {packet_bytes + VSOCK_HEADER_LEN, packet.len}};

    if (instruction[3] & 1)
        iov[1].iov_len = instruction[3]; /* not what the header says */
    vsock_packet_write(&packet, iov, 1);
    vsock_mux_packet(&mux, iov, 2);
}

/* The header is the next bytes of the input, or those of the packet before. */
static void send_raw_packet(const uint8_t *header, size_t len, uint32_t payload_len)
{
    const struct iovec iov = {packet_bytes, VSOCK_HEADER_LEN + payload_len % PAYLOAD_MAX};

    memcpy(packet_bytes, header, min_u64(len, VSOCK_HEADER_LEN));
    vsock_mux_packet(&mux, &iov, 1);
}

static void ask(uint32_t port)
{
    int fd = new_pair();

    if (fd >= 0 && vsock_mux_connect(&mux, fd, port % 2 ? 22 : port) < 0)
        close(fd);
}

static void fill(const uint8_t *instruction, uint32_t value)
{
    static uint8_t room[VSOCK_FILL_MAX][BUF_LEN];
    struct iovec pieces[VSOCK_FILL_MAX][2];
    struct vsock_buf bufs[VSOCK_FILL_MAX];
    unsigned n = 1 + instruction[1] % VSOCK_FILL_MAX;
    uint32_t len = VSOCK_HEADER_LEN + 1 + value % (BUF_LEN - VSOCK_HEADER_LEN);
    uint32_t first = 1 + value / BUF_LEN % (len - 1);

    for (unsigned i = 0; i < n; i++) {
        pieces[i][0] = (struct iovec){room[i], first};
        pieces[i][1] = (struct iovec){room[i] + first, len - first};
        bufs[i] = (struct vsock_buf){.iov = pieces[i], .niov = 2, .len = len};
    }
    if (!vsock_mux_has_news(&mux))
        return;
    n = vsock_mux_fill(&mux, bufs, n);
    for (unsigned i = 0; i < n; i++)
        if (bufs[i].written < VSOCK_HEADER_LEN || bufs[i].written > len)
            abort();
}

static void execute(const uint8_t *instruction, const uint8_t *rest, size_t rest_len)
{
    static const int moods[] = {0, -ECONNREFUSED, -EAGAIN};
    static uint8_t bytes[PAYLOAD_MAX];
    const uint32_t value = load_le32(instruction + 4);
    int *fd = &host_fds[nhost_fds ? instruction[1] % nhost_fds : 0];

    switch (instruction[0] % NDOS) {
    case DO_PACKET:
        send_packet(instruction, value);
        break;
    case DO_RAW_PACKET:
        send_raw_packet(rest, rest_len, value);
        break;
    case DO_ASK:
        ask(value);
        break;
    case DO_WRITE:
        (void)send(*fd, bytes, value % PAYLOAD_MAX, MSG_NOSIGNAL | MSG_DONTWAIT);
        break;
    case DO_READ:
        (void)recv(*fd, bytes, value % PAYLOAD_MAX, MSG_DONTWAIT);
        break;
    case DO_SHUT_DOWN:
        (void)shutdown(*fd, (int)(value % 3));
        break;
    case DO_CLOSE:
        if (*fd >= 0)
            close(*fd);
        *fd = -1;
        break;
    case DO_FILL:
        fill(instruction, value);
        break;
    case DO_TURN:
        turn();
        break;
    case DO_MOOD:
        mood = moods[value % ARRAY_SIZE(moods)];
        break;
    case DO_PAUSE:
        paused = value & 1;
        break;
    case DO_CLEAR:
        vsock_mux_clear(&mux);
        break;
    }
}

static void close_host(void)
{
    while (nhost_fds > 0)
        if (host_fds[--nhost_fds] >= 0)
            close(host_fds[nhost_fds]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct iovec scratch[VIRTQ_CHAIN_MAX];

    log_set_level(LOG_ERROR);
    stop.run = stop_loop;
    if (loop_new(&loop) < 0)
        abort();
    mood = 0;
    paused = false;
    host_fds[0] = -1;
    host = (struct vsock_host){.connect = host_connect};
    mux = (struct vsock_mux){.host = &host, .wake = wake};
    mux.env = (struct vsock_env){
        .loop = loop,
        .guest_cid = GUEST_CID,
        .paused = &paused,
        .counters = &host.counters,
        .iov = scratch,
        .niov = ARRAY_SIZE(scratch),
    };
    vsock_mux_init(&mux);
    for (size_t i = 0; i < INSTRUCTIONS_MAX; i++) {
        size_t end = (i + 1) * INSTRUCTION_LEN;

        if (end > size)
            break;
        execute(data + i * INSTRUCTION_LEN, data + end, size - end);
    }
    close_host(); /* so that nobody is waited for */
    vsock_mux_done(&mux);
    if (host.counters.connections != 0)
        abort();
    loop_free(loop);
    return 0;
}
