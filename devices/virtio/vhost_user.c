/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/vhost_user.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "devices/virtio/virtio.h"

/* ---- messages -------------------------------------------------------------------------------- */

enum request {
    GET_FEATURES = 1,
    SET_FEATURES = 2,
    SET_OWNER = 3,
    SET_MEM_TABLE = 5,
    SET_VRING_NUM = 8,
    SET_VRING_ADDR = 9,
    SET_VRING_BASE = 10,
    GET_VRING_BASE = 11,
    SET_VRING_KICK = 12,
    SET_VRING_CALL = 13,
    GET_PROTOCOL_FEATURES = 15,
    SET_PROTOCOL_FEATURES = 16,
    SET_VRING_ENABLE = 18,
};

#define FLAG_VERSION 0x1u
#define FLAG_VERSION_MASK 0x3u
#define FLAG_REPLY 0x4u
#define FLAG_NEED_REPLY 0x8u

/* In the features of the device; and a bit of those of the protocol. */
#define F_PROTOCOL_FEATURES VIRTIO_FEATURE(30)
#define PROTOCOL_REPLY_ACK VIRTIO_FEATURE(3)

/* Numbers are in the byte order of the host. */
struct header {
    uint32_t request;
    uint32_t flags;
    uint32_t len; /* of the payload */
};

struct vring_state {
    uint32_t index;
    uint32_t num;
};

struct vring_place {
    uint32_t index;
    uint32_t flags;
    uint64_t desc; /* our addresses, as all of them */
    uint64_t used;
    uint64_t avail;
    uint64_t log;
};

struct memory_place {
    uint64_t gpa;
    uint64_t len;
    uint64_t host;
    uint64_t file_off;
};

struct memory_table {
    uint32_t n;
    uint32_t padding;
    struct memory_place places[GUEST_MEM_REGIONS_MAX];
};

union payload {
    uint64_t u64;
    struct vring_state state;
    struct vring_place place;
    struct memory_table table;
};

struct message {
    struct header header;
    union payload payload;
};

/* ---- the socket ------------------------------------------------------------------------------ */

static int lose(struct vhost_user *user, int error)
{
    user->lost = true;
    return error;
}

/* Wait for `events`, until the deadline. */
static int wait_for(const struct vhost_user *user, short events, uint64_t deadline_ns)
{
    struct pollfd pfd = {.fd = user->sock, .events = events};

    for (;;) {
        uint64_t now = monotonic_ns();
        int n;

        if (now >= deadline_ns)
            return -ETIMEDOUT;
        n = poll(&pfd, 1, (int)((deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS));
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
}

/* Header and payload in one vector, the descriptors with the first byte. */
static ssize_t send_some(const struct vhost_user *user, struct iovec iov[2], const int *fds,
                         unsigned nfds)
{
    union {
        struct cmsghdr header;
        uint8_t room[CMSG_SPACE(GUEST_MEM_REGIONS_MAX * sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

    if (nfds > 0) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, nfds * sizeof(int));
    }
    return sendmsg(user->sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int send_message(struct vhost_user *user, const struct message *message, const int *fds,
                        unsigned nfds, uint64_t deadline_ns)
{
    size_t total = sizeof(message->header) + message->header.len;
    size_t done = 0;

    while (done < total) {
        size_t head = min_u64(done, sizeof(message->header));
        struct iovec iov[] = {
            {(uint8_t *)&message->header + head, sizeof(message->header) - head},
            {(uint8_t *)&message->payload + (done - head),
             total - sizeof(message->header) - (done - head)},
        };
        ssize_t n = send_some(user, iov, fds, done == 0 ? nfds : 0);
        int r = 0;

        if (n >= 0)
            done += (size_t)n;
        else if (errno == EAGAIN)
            r = wait_for(user, POLLOUT, deadline_ns);
        else if (errno != EINTR)
            r = -errno;
        if (r < 0)
            return r;
    }
    return 0;
}

static int receive(struct vhost_user *user, void *buf, size_t len, uint64_t deadline_ns)
{
    size_t done = 0;

    while (done < len) {
        /* Descriptors that come with it are closed: nobody asked for any. */
        ssize_t n = recv(user->sock, (uint8_t *)buf + done, len - done, MSG_DONTWAIT);
        int r = 0;

        if (n > 0)
            done += (size_t)n;
        else if (n == 0)
            r = -ECONNRESET;
        else if (errno == EAGAIN)
            r = wait_for(user, POLLIN, deadline_ns);
        else if (errno != EINTR)
            r = -errno;
        if (r < 0)
            return r;
    }
    return 0;
}

/* The answer to `request`, whose payload has a known length. */
static int receive_answer(struct vhost_user *user, enum request request, void *payload,
                          uint32_t len, uint64_t deadline_ns)
{
    struct header header;
    int r = receive(user, &header, sizeof(header), deadline_ns);

    if (r < 0)
        return r;
    if (header.request != request || (header.flags & FLAG_VERSION_MASK) != FLAG_VERSION ||
        !(header.flags & FLAG_REPLY) || header.len != len) {
        log_guest(LOG_WARN, "vhost-user: to message %u the answer is %u of %u bytes, flags %#x",
                  request, header.request, header.len, header.flags);
        return -EPROTO;
    }
    return receive(user, payload, len, deadline_ns);
}

/* ---- requests -------------------------------------------------------------------------------- */

/* One whose answer has a payload: of `message`, which it replaces. */
static int ask(struct vhost_user *user, struct message *message, uint32_t answer_len)
{
    const uint64_t deadline_ns = monotonic_ns() + user->timeout_ms * NS_PER_MS;
    int r;

    if (user->lost)
        return -EPIPE;
    message->header.flags = FLAG_VERSION;
    r = send_message(user, message, NULL, 0, deadline_ns);
    if (r == 0)
        r = receive_answer(user, message->header.request, &message->payload, answer_len,
                           deadline_ns);
    return r < 0 ? lose(user, r) : 0;
}

/* One that is answered by whether it succeeded, if the process does that. */
static int tell(struct vhost_user *user, struct message *message, const int *fds, unsigned nfds)
{
    const uint64_t deadline_ns = monotonic_ns() + user->timeout_ms * NS_PER_MS;
    uint64_t failed = 0;
    int r;

    if (user->lost)
        return -EPIPE;
    message->header.flags = FLAG_VERSION | (user->acknowledges ? FLAG_NEED_REPLY : 0);
    r = send_message(user, message, fds, nfds, deadline_ns);
    if (r == 0 && user->acknowledges)
        r = receive_answer(user, message->header.request, &failed, sizeof(failed), deadline_ns);
    if (r == 0 && failed != 0) {
        log_guest(LOG_WARN, "vhost-user: message %u is refused", message->header.request);
        r = -EPROTO;
    }
    return r < 0 ? lose(user, r) : 0;
}

static int get_u64(struct vhost_user *user, enum request request, uint64_t *ret_value)
{
    struct message message = {.header = {.request = request}};
    int r = ask(user, &message, sizeof(message.payload.u64));

    if (r == 0)
        *ret_value = message.payload.u64;
    return r;
}

static int set_u64(struct vhost_user *user, enum request request, uint64_t value)
{
    struct message message = {
        .header = {.request = request, .len = sizeof(value)},
        .payload = {.u64 = value},
    };

    return tell(user, &message, NULL, 0);
}

/* With an eventfd of queue `index`. */
static int set_fd(struct vhost_user *user, enum request request, unsigned index, int fd)
{
    struct message message = {
        .header = {.request = request, .len = sizeof(message.payload.u64)},
        .payload = {.u64 = index},
    };

    return tell(user, &message, &fd, 1);
}

static int set_state(struct vhost_user *user, enum request request, unsigned index, uint32_t num)
{
    struct message message = {
        .header = {.request = request, .len = sizeof(message.payload.state)},
        .payload = {.state = {.index = index, .num = num}},
    };

    return tell(user, &message, NULL, 0);
}

/* ---- guest memory and queues ----------------------------------------------------------------- */

static int set_memory(struct vhost_user *user, const struct guest_mem *mem)
{
    struct message message = {
        .header = {.request = SET_MEM_TABLE},
        .payload = {.table = {.n = (uint32_t)mem->nregions}},
    };
    int fds[GUEST_MEM_REGIONS_MAX];

    for (size_t i = 0; i < mem->nregions; i++) {
        const struct mem_region *region = &mem->regions[i];

        message.payload.table.places[i] = (struct memory_place){
            .gpa = region->gpa,
            .len = region->len,
            .host = (uintptr_t)region->host,
        };
        fds[i] = region->fd;
    }
    message.header.len = (uint32_t)(offsetof(struct memory_table, places) +
                                    mem->nregions * sizeof(message.payload.table.places[0]));
    return tell(user, &message, fds, (unsigned)mem->nregions);
}

static int set_place(struct vhost_user *user, unsigned index, const struct virtq *vq)
{
    struct message message = {
        .header = {.request = SET_VRING_ADDR, .len = sizeof(message.payload.place)},
        .payload = {.place = {.index = index,
                              .desc = (uintptr_t)vq->desc,
                              .used = (uintptr_t)vq->used,
                              .avail = (uintptr_t)vq->avail}},
    };

    return tell(user, &message, NULL, 0);
}

static int set_owner(struct vhost_user *user)
{
    struct message message = {.header = {.request = SET_OWNER}};

    return tell(user, &message, NULL, 0);
}

static int get_to_know(struct vhost_user *user, uint64_t features, const struct guest_mem *mem)
{
    uint64_t protocol = 0;
    int r = get_u64(user, GET_FEATURES, &user->features);

    features |= F_PROTOCOL_FEATURES;
    if (r == 0 && (user->features & features) != features)
        r = -EPROTO;
    if (r == 0)
        r = get_u64(user, GET_PROTOCOL_FEATURES, &protocol);
    protocol &= PROTOCOL_REPLY_ACK;
    if (r == 0)
        r = set_u64(user, SET_PROTOCOL_FEATURES, protocol);
    user->acknowledges = protocol != 0;
    if (r == 0)
        r = set_owner(user);
    if (r == 0)
        r = set_memory(user, mem);
    return r;
}

int vhost_user_open(struct vhost_user *user, int sock, unsigned timeout_ms, uint64_t features,
                    const struct guest_mem *mem)
{
    int r;

    *user = (struct vhost_user){.sock = sock, .timeout_ms = timeout_ms};
    r = get_to_know(user, features, mem);
    if (r < 0)
        vhost_user_close(user);
    return r;
}

void vhost_user_close(struct vhost_user *user)
{
    close(user->sock);
}

int vhost_user_set_features(struct vhost_user *user, uint64_t features)
{
    /* With the last one a queue waits for SET_VRING_ENABLE. */
    return set_u64(user, SET_FEATURES, (features & user->features) | F_PROTOCOL_FEATURES);
}

int vhost_user_start(struct vhost_user *user, const struct vhost_user_queue *queue)
{
    const unsigned index = queue->index;
    int r = set_state(user, SET_VRING_NUM, index, queue->vq->size);

    if (r == 0)
        r = set_state(user, SET_VRING_BASE, index, queue->next_avail);
    if (r == 0)
        r = set_place(user, index, queue->vq);
    if (r == 0)
        r = set_fd(user, SET_VRING_CALL, index, queue->call_fd);
    if (r == 0)
        r = set_fd(user, SET_VRING_KICK, index, queue->kick_fd);
    if (r == 0)
        r = set_state(user, SET_VRING_ENABLE, index, 1);
    return r;
}

int vhost_user_stop(struct vhost_user *user, unsigned index, uint16_t *ret_next_avail)
{
    struct message message = {
        .header = {.request = GET_VRING_BASE, .len = sizeof(message.payload.state)},
        .payload = {.state = {.index = index}},
    };
    int r = ask(user, &message, sizeof(message.payload.state));

    if (r < 0)
        return r;
    if (message.payload.state.index != index || message.payload.state.num > UINT16_MAX)
        return lose(user, -EPROTO);
    *ret_next_avail = (uint16_t)message.payload.state.num;
    return 0;
}
