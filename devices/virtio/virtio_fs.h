/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-fs (virtio 1.2, 5.11): a file system that another process provides, to which the queues
 * are given by vhost-user. There is one for requests, and one for those that go first.
 *
 * The loop's thread alone speaks with the process, and may wait for it: seconds, if it hangs. So a
 * loop should have nothing else to do. When the process is dead, each request fails with EIO, and
 * those that it had do, too. When it is lost otherwise, the driver is told that the device needs a
 * reset, and no request is answered any more.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_FS_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_FS_H

#include "base/compiler.h"
#include "base/loop.h"
#include "devices/virtio/virtio.h"

#define VIRTIO_FS_TAG_MAX 36u /* bytes (5.11.4) */

/*
 * How long the process may take for its first answer, which it gives when it has started; and for
 * later ones, a queue's requests in flight included.
 */
#define VIRTIO_FS_START_MS 30000u
#define VIRTIO_FS_TIMEOUT_MS 10000u

struct virtio_fs_options {
    struct loop *loop; /* runs */
    const char *tag;   /* up to VIRTIO_FS_TAG_MAX bytes */
    int sock;          /* to the process; taken, also on failure */
    unsigned start_ms; /* VIRTIO_FS_START_MS, but in tests; the same below */
    unsigned timeout_ms;
    /*
     * The process is lost, and was told to end by closing the connection: it closed it itself
     * (-ECONNRESET), did not answer (-ETIMEDOUT), or said something wrong (-EPROTO). It must not
     * run any longer when this returns. On the loop's thread, once; that may be before
     * virtio_fs_new returns, which succeeds nevertheless.
     */
    void (*lost)(void *opaque, int error);
    /* The device is freed, and the connection closed. On the thread that freed it. */
    void (*freed)(void *opaque);
    void *opaque;
};

/*
 * Get to know the process, which may take a while. 0, or as vhost_user_open. `mem` is shared.
 */
int virtio_fs_new(const struct virtio_fs_options *options, const struct guest_mem *mem,
                  struct virtio_dev **ret_dev) MUST_CHECK;

/* Nobody wants answers any more: whatever waits for the process fails at once. Any thread. */
void virtio_fs_cancel(struct virtio_dev *dev);

#endif
