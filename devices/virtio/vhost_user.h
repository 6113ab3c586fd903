/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front end of vhost-user (QEMU's docs/interop/vhost-user.rst): queues of a device that another
 * process works on, which has guest memory mapped.
 *
 * Nothing that the other process says is trusted, and it may be gone or hang: each message and its
 * answer are bounded in length and time. After the first that fails the connection is lost: all
 * calls fail at once then, and what the process does with guest memory is not known any more.
 *
 * One thread at a time.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VHOST_USER_H
#define MINIVMM_DEVICES_VIRTIO_VHOST_USER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "devices/virtio/virtq.h"
#include "memory/guest_mem.h"

struct vhost_user {
    int sock; /* owned; a stream */
    unsigned timeout_ms;
    uint64_t features; /* that the process offers */
    bool acknowledges; /* it answers each message that is to be answered */
    bool lost;
};

/*
 * Get to know the process at the other end, which must be able to do `features` (of the ring) and
 * shall see all of `mem`, which is shared. Takes `sock`, also on failure. 0 or -errno: -EPROTO: it
 * does not speak this protocol, or not enough of it; -ETIMEDOUT; -ECONNRESET.
 */
int vhost_user_open(struct vhost_user *user, int sock, unsigned timeout_ms, uint64_t features,
                    const struct guest_mem *mem) MUST_CHECK;
void vhost_user_close(struct vhost_user *user);

/* The driver agreed on these features; no queue runs. The rest of these: 0 or -errno. */
int vhost_user_set_features(struct vhost_user *user, uint64_t features) MUST_CHECK;

/* A queue that the process is given, and that it was given before. */
struct vhost_user_queue {
    unsigned index;
    const struct virtq *vq; /* enabled */
    int kick_fd;            /* eventfds */
    int call_fd;
    uint16_t next_avail; /* where it begins */
};

int vhost_user_start(struct vhost_user *user, const struct vhost_user_queue *queue) MUST_CHECK;

/*
 * Take the queue away: waits until no request of it is in flight. *ret_next_avail is where it can
 * go on.
 */
int vhost_user_stop(struct vhost_user *user, unsigned index, uint16_t *ret_next_avail) MUST_CHECK;

#endif
