/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the process at the other end of vhost-user says: the input is all that it ever sends, after
 * which it closes its side. Nothing waits for a time-out, and every call ends.
 */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "devices/virtio/vhost_user.h"
#include "devices/virtio/virtio.h"

#define INPUT_MAX 65536u
#define TIMEOUT_MS 10000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct guest_mem *mem;
static int event;

static void make_world(void)
{
    const struct mem_range range = {.gpa = 0, .len = 64 * KIB};

    log_set_level(LOG_ERROR);
    event = eventfd(0, EFD_CLOEXEC);
    if (event < 0 || guest_mem_new_shared(&range, 1, &mem, NULL) < 0)
        abort();
}

static void use(struct vhost_user *user)
{
    struct virtq vq = {.size = 8, .desc_gpa = 0, .avail_gpa = 4096, .used_gpa = 8192};
    const struct vhost_user_queue queue = {.vq = &vq, .kick_fd = event, .call_fd = event};
    uint16_t next = 0;

    if (virtq_enable(&vq, mem) < 0)
        abort();
    for (unsigned i = 0; i < 4; i++) {
        int r = vhost_user_set_features(user, VIRTIO_FEATURES_COMMON);

        if (r == 0)
            r = vhost_user_start(user, &queue);
        if (r == 0)
            r = vhost_user_stop(user, 0, &next);
        if ((r < 0) != user->lost)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vhost_user user;
    int pair[2];

    if (size > INPUT_MAX)
        return 0;
    if (!mem)
        make_world();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
        send(pair[1], data, size, MSG_NOSIGNAL) != (ssize_t)size || shutdown(pair[1], SHUT_WR) < 0)
        abort();
    if (vhost_user_open(&user, pair[0], TIMEOUT_MS, VIRTIO_FEATURE(VIRTIO_F_VERSION_1), mem) == 0) {
        use(&user);
        vhost_user_close(&user);
    }
    close(pair[1]);
    return 0;
}
