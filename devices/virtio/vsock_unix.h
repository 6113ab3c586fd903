/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of virtio-vsock on Unix sockets, by the wire that Firecracker has made known:
 *
 *   A program of the host connects to PATH and says "CONNECT PORT\n". Once the guest has accepted
 *   it reads "OK HOSTPORT\n", and then talks to the guest. Where nobody listens in the guest, or
 *   no driver runs there, the socket is closed.
 *
 *   A program of the host that listens on PATH_PORT is what the guest reaches at that port. A map
 *   names other sockets for some ports; without `listen`, those in the map are all there are.
 *
 * PATH can be connected to by its owner only, and is removed at the end.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VSOCK_UNIX_H
#define MINIVMM_DEVICES_VIRTIO_VSOCK_UNIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"
#include "devices/virtio/vsock_host.h"

/* Programs that have connected and did not say yet where to; more wait in the socket's queue. */
#define VSOCK_UNIX_CLIENTS_MAX 64u

struct vsock_unix_map {
    uint32_t port;
    const char *path;
};

struct vsock_unix_options {
    const char *path;
    bool listen; /* PATH_PORT is what the guest reaches */
    const struct vsock_unix_map *maps;
    size_t nmaps;
    struct loop *loop; /* runs on another thread */
};

struct vsock_unix;

/* The options' strings and maps are the caller's, and stay. 0 or a negative errno. */
int vsock_unix_new(const struct vsock_unix_options *options, struct vsock_unix **ret_host,
                   struct err *err) MUST_CHECK;

/* No device uses it any more; the loop runs. NULL is fine. */
void vsock_unix_free(struct vsock_unix *un);

/* For the devices of guests, one after the other. */
struct vsock_host *vsock_unix_host(struct vsock_unix *un);

#endif
