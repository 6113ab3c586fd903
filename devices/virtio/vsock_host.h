/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is between a virtio-vsock device and the host's programs: two functions. Everything happens
 * on the loop's thread. The host's side outlives the devices of the guests.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VSOCK_HOST_H
#define MINIVMM_DEVICES_VIRTIO_VSOCK_HOST_H

#include <stdint.h>

/* A guest whose driver runs. */
struct vsock_guest {
    /*
     * A program of the host wants to talk to a port of the guest by a stream socket that does not
     * block. 0: the guest owns the descriptor now; -errno: the caller still does.
     */
    int (*connect)(struct vsock_guest *guest, int fd, uint32_t port);
};

/* Atomic, relaxed: any thread reads them. They count from the start of the process. */
struct vsock_counters {
    uint64_t connections; /* that are open now, or being opened */
    uint64_t from_guest_connections;
    uint64_t to_guest_connections;
    uint64_t from_guest_bytes;
    uint64_t to_guest_bytes;
    uint64_t from_guest_packets;
    uint64_t to_guest_packets;
};

struct vsock_host {
    /*
     * The guest wants to talk to a port of the host. A connected stream socket that does not block
     * and is the caller's; -EAGAIN: whoever listens is busy, and may be asked again later; another
     * -errno: nobody is there.
     */
    int (*connect)(struct vsock_host *host, uint32_t port);
    struct vsock_guest *guest; /* NULL: none; the device says so */
    struct vsock_counters counters;
};

static inline void vsock_count(uint64_t *counter, uint64_t n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

#endif
