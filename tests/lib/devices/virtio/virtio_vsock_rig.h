/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-vsock device on the rig of virtio devices, and a host that hands out the ends of socket
 * pairs: what the tests of virtio_vsock.c have in common. Each test of a vsock_case has everything
 * of its own.
 */
#ifndef MINIVMM_TESTS_VIRTIO_VSOCK_RIG_H
#define MINIVMM_TESTS_VIRTIO_VSOCK_RIG_H

#include "devices/virtio/virtio_vsock.h"
#include "devices/virtio/vsock_packet.h"
#include "tests/lib/devices/virtio/virtio_rig.h"

#define GUEST_CID 42u
#define HOST_CID VSOCK_HOST_CID
#define GUEST_CREDIT (256 * KIB)
#define VS_HOST_FDS 2048u
#define PAYLOAD_MAX 65536u

/* The operations of packets, by their names in the specification. */
#define REQUEST VIRTIO_VSOCK_OP_REQUEST
#define RESPONSE VIRTIO_VSOCK_OP_RESPONSE
#define RST VIRTIO_VSOCK_OP_RST
#define SHUTDOWN VIRTIO_VSOCK_OP_SHUTDOWN
#define RW VIRTIO_VSOCK_OP_RW
#define CREDIT_UPDATE VIRTIO_VSOCK_OP_CREDIT_UPDATE
#define CREDIT_REQUEST VIRTIO_VSOCK_OP_CREDIT_REQUEST

#define VERSION_1 VIRTIO_FEATURE(VIRTIO_F_VERSION_1)

enum { RX, TX, EVENT };

/* What the host says when the guest asks for a port. */
enum host_mood { HOST_ACCEPTS, HOST_REFUSES, HOST_IS_BUSY };

struct vsock_rig {
    uint64_t gpa_of[3][VIRTQ_SIZE_MAX]; /* of the buffer behind a head */
    uint32_t rx_len;                    /* of the buffers for packets from the host */
    bool keep_rx;                       /* do not give buffers back by themselves */
    bool no_kicks;                      /* of the queue for packets from the guest */

    struct vsock_host host;
    enum host_mood mood;       /* owner: loop thread, as the next */
    int host_fds[VS_HOST_FDS]; /* our ends, in the order of the guest's requests */
    unsigned nhost_fds;
    uint32_t asked_port;
    unsigned rounds; /* of the loop; vs_rounds tells */
};

extern struct vsock_rig vs;

/* A packet that the guest got. */
struct got_packet {
    struct vsock_packet packet;
    uint32_t len; /* of the payload, by the used ring */
    uint8_t payload[PAYLOAD_MAX];
};

/* Negotiate and set up the queues; buffers for packets are offered if `nrx` says how many. */
void vs_bring_up_with(uint64_t features, uint16_t size, unsigned nrx);
void vs_bring_up(void);

/* The same, and a connection from the guest's port 1000 to 52 of the host; returns its end. */
int vs_start(void);

/* Reset the device. */
void vs_reset(void);

/* The end of the device, as that of the test is otherwise. */
void vs_end(void);

/* Rounds of the loop until now. */
unsigned vs_rounds(void);

/* Change what belongs to the loop's thread. */
void vs_set_mood(enum host_mood mood);

/* Offer `n` buffers for packets to the guest, or for events. */
void vs_add_rx(unsigned n);
void vs_add_event(uint32_t len);

/* Send a packet as it is, `avail` bytes of payload with it, in two buffers. Returns at once. */
void vs_send_raw(const struct vsock_packet *packet, const void *payload, uint32_t avail);

/* A packet with the right addresses. */
struct vsock_packet vs_packet(uint16_t op, uint32_t guest_port, uint32_t host_port);
void vs_send(uint16_t op, uint32_t guest_port, uint32_t host_port);
void vs_send_bytes(uint32_t guest_port, uint32_t host_port, const void *bytes, uint32_t len);
void vs_send_shutdown(uint32_t guest_port, uint32_t host_port, uint32_t flags);

/* The next packet, if there is one; or wait for it. Its buffer is offered again. */
bool vs_poll(struct got_packet *ret_packet);
void vs_receive(struct got_packet *ret_packet);

/* Wait for the next packet, which has to be this one, of a connection. */
void vs_expect(uint16_t op, uint32_t guest_port, uint32_t host_port);

/* Nothing comes. */
void vs_expect_nothing(void);

/* A connection that the guest asked for; returns the host's end. */
int vs_open(uint32_t guest_port, uint32_t host_port);

/* A program of the host asks for a port of the guest; returns its end, and 0 or -errno. */
int vs_ask(uint32_t guest_port, int *ret_result);

/* The same until it is open; the host's port by pointer. "OK PORT" has been read. */
int vs_open_from_host(uint32_t guest_port, uint32_t *ret_host_port);

/* Read exactly `len` bytes, or the end (len 0), of the host's end. */
void vs_read_exactly(int fd, void *buf, size_t len);
void vs_expect_eof(int fd);

/* Close the host's end. */
void vs_close(int fd);

/* Open connections of the device. */
uint64_t vs_connections(void);

/* A test case in which each test has a rig of its own. */
#define vsock_case(suite, name, ...)                                                               \
    do {                                                                                           \
        const TTest *const tests_[] = {__VA_ARGS__};                                               \
        vsock_add_case(suite, name, tests_, ARRAY_SIZE(tests_));                                   \
    } while (0)

void vsock_add_case(Suite *suite, const char *name, const TTest *const *tests, size_t ntests);

#endif
