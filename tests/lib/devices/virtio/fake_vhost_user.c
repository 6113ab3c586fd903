/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/devices/virtio/fake_vhost_user.h"

#include <endian.h>
#include <fcntl.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"

#define PAYLOAD_MAX 512u
#define BUFFER_MAX 65536u

struct header {
    uint32_t request, flags, len;
};

struct message {
    struct header header;
    uint8_t payload[PAYLOAD_MAX];
    int fds[FAKE_VHOST_REGIONS];
    unsigned nfds;
};

static void die(const char *what)
{
    fprintf(stderr, "fake vhost-user: %s\n", what);
    abort();
}

/* ---- guest memory ---------------------------------------------------------------------------- */

static void *at(struct fake_vhost_user *fake, uint64_t addr, uint64_t len, bool is_gpa)
{
    for (uint32_t i = 0; i < fake->nregions; i++) {
        uint64_t begin = is_gpa ? fake->regions[i].gpa : fake->regions[i].host;

        if (addr >= begin && range_fits(addr - begin, len, fake->regions[i].len))
            return fake->regions[i].map + (addr - begin);
    }
    die("an address outside of memory");
    return NULL;
}

static void map_memory(struct fake_vhost_user *fake, struct message *message)
{
    fake->nregions = (uint32_t)load_le32(message->payload);
    if (fake->nregions > FAKE_VHOST_REGIONS || message->nfds != fake->nregions ||
        message->header.len != 8 + 32 * fake->nregions)
        die("a bad table of memory");
    for (uint32_t i = 0; i < fake->nregions; i++) {
        const uint8_t *place = message->payload + 8 + (size_t)32 * i;

        fake->regions[i].gpa = load_le64(place);
        fake->regions[i].len = load_le64(place + 8);
        fake->regions[i].host = load_le64(place + 16);
        fake->regions[i].map = mmap(NULL, fake->regions[i].len, PROT_READ | PROT_WRITE, MAP_SHARED,
                                    message->fds[i], (off_t)load_le64(place + 24));
        if (fake->regions[i].map == MAP_FAILED)
            die("memory cannot be mapped");
        close(message->fds[i]);
    }
}

/* ---- queues ---------------------------------------------------------------------------------- */

static void echo(struct fake_vhost_user *fake, const struct vring_desc *desc, uint16_t head,
                 uint32_t *ret_written)
{
    static uint8_t text[BUFFER_MAX];
    uint32_t len = 0, written = 0;

    for (uint16_t index = head;; index = le16toh(desc[index].next)) {
        uint32_t n = (uint32_t)min_u64(le32toh(desc[index].len), BUFFER_MAX);
        uint8_t *buf = at(fake, le64toh(desc[index].addr), n, true);

        if (!(le16toh(desc[index].flags) & VRING_DESC_F_WRITE)) {
            memcpy(text, buf, n);
            len = n;
        } else {
            written = (uint32_t)min_u64(n, len);
            memcpy(buf, text, written);
        }
        if (!(le16toh(desc[index].flags) & VRING_DESC_F_NEXT))
            break;
    }
    *ret_written = written;
}

static void work(struct fake_vhost_user *fake, struct fake_vhost_queue *queue)
{
    const struct vring_desc *desc = at(fake, queue->desc, 16ull * queue->size, false);
    struct vring_avail *avail = at(fake, queue->avail, 4 + 2ull * queue->size, false);
    struct vring_used *used = at(fake, queue->used, 4 + 8ull * queue->size, false);

    while (queue->next_avail != le16toh(__atomic_load_n(&avail->idx, __ATOMIC_SEQ_CST)) &&
           !fake->deaf) {
        uint16_t head = le16toh(avail->ring[queue->next_avail++ % queue->size]);
        uint16_t idx = le16toh(used->idx);
        uint32_t written;

        echo(fake, desc, head, &written);
        used->ring[idx % queue->size].id = htole32(head);
        used->ring[idx % queue->size].len = htole32(written);
        __atomic_store_n(&used->idx, htole16((uint16_t)(idx + 1)), __ATOMIC_SEQ_CST);
        fake->nchains++;
        (void)eventfd_write(queue->call, 1);
    }
}

static void take_fd(struct message *message, int *fd)
{
    if (message->nfds != 1)
        die("a descriptor is missing");
    if (*fd >= 0)
        close(*fd);
    *fd = message->fds[0];
}

static void stop(struct fake_vhost_queue *queue)
{
    if (queue->kick >= 0)
        close(queue->kick);
    if (queue->call >= 0)
        close(queue->call);
    queue->kick = queue->call = -1;
    queue->enabled = false;
}

/* ---- messages -------------------------------------------------------------------------------- */

static bool receive(struct fake_vhost_user *fake, struct message *message)
{
    union {
        struct cmsghdr header;
        uint8_t room[CMSG_SPACE(FAKE_VHOST_REGIONS * sizeof(int))];
    } control;
    struct iovec iov = {&message->header, sizeof(message->header)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    const struct cmsghdr *cmsg;

    message->nfds = 0;
    if (recvmsg(fake->own, &msg, MSG_WAITALL) != sizeof(message->header))
        return false;
    cmsg = CMSG_FIRSTHDR(&msg);
    if (cmsg) {
        message->nfds = (unsigned)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(message->fds, CMSG_DATA(cmsg), message->nfds * sizeof(int));
    }
    if ((message->header.flags & 3) != 1 || message->header.len > PAYLOAD_MAX)
        die("a bad header");
    return message->header.len == 0 || recv(fake->own, message->payload, message->header.len,
                                            MSG_WAITALL) == (ssize_t)message->header.len;
}

static void send_with_fds(struct fake_vhost_user *fake, const void *buf, size_t len)
{
    union {
        struct cmsghdr header;
        uint8_t room[CMSG_SPACE(3 * sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(3 * sizeof(int)),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    const int fds[] = {0, 1, 2};
    struct iovec iov = {(void *)buf, len};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};

    memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
    (void)sendmsg(fake->own, &msg, MSG_NOSIGNAL);
}

static void answer(struct fake_vhost_user *fake, const struct message *message, const void *payload,
                   uint32_t len, bool faulty)
{
    struct {
        struct header header;
        uint8_t payload[16];
    } reply = {.header = {.request = message->header.request, .flags = 1 | 4, .len = len}};
    enum fake_vhost_fault fault = faulty ? fake->fault : FAKE_VHOST_OBEYS;
    size_t total = sizeof(reply.header) + len;

    memcpy(reply.payload, payload, len);
    if (fault == FAKE_VHOST_WRONG_REQUEST)
        reply.header.request++;
    if (fault == FAKE_VHOST_WRONG_LEN)
        reply.header.len = UINT32_MAX;
    if (fault == FAKE_VHOST_WRONG_FLAGS)
        reply.header.flags = 1;
    if (fault == FAKE_VHOST_GARBAGE || fault == FAKE_VHOST_REFUSES)
        memset(reply.payload, 0xff, len);
    if (fault == FAKE_VHOST_HALF)
        total /= 2;
    if (fault == FAKE_VHOST_MANY_FDS)
        send_with_fds(fake, &reply, total);
    else
        (void)send(fake->own, &reply, total, MSG_NOSIGNAL);
}

/* What is answered, in the payload; 0: nothing is. */
static uint32_t obey(struct fake_vhost_user *fake, struct message *message)
{
    uint32_t index = load_le32(message->payload) & 0xff;
    struct fake_vhost_queue *queue = &fake->queues[index % FAKE_VHOST_QUEUES];
    uint32_t num = load_le32(message->payload + 4);

    switch (message->header.request) {
    case 1:
        store_le64(message->payload, fake->features);
        return 8;
    case 2:
        fake->acked = load_le64(message->payload);
        return 0;
    case 5:
        map_memory(fake, message);
        return 0;
    case 8:
        queue->size = num;
        return 0;
    case 9:
        queue->desc = load_le64(message->payload + 8);
        queue->used = load_le64(message->payload + 16);
        queue->avail = load_le64(message->payload + 24);
        return 0;
    case 10:
        queue->next_avail = (uint16_t)num;
        return 0;
    case 11:
        store_le32(message->payload + 4, queue->next_avail);
        stop(queue);
        return 8;
    case 12:
        take_fd(message, &queue->kick);
        return 0;
    case 13:
        take_fd(message, &queue->call);
        return 0;
    case 15:
        store_le64(message->payload, fake->protocol_features);
        return 8;
    case 18:
        queue->enabled = num;
        return 0;
    }
    return 0;
}

/* False: it has nothing more to do with this connection. */
static bool handle(struct fake_vhost_user *fake, struct message *message)
{
    bool faulty = fake->fault != FAKE_VHOST_OBEYS && message->header.request == fake->at;
    bool acknowledged = message->header.flags & 8;
    const uint64_t done = 0;
    uint32_t len;

    fake->nmessages++;
    fake->last = message->header.request;
    if (faulty && fake->fault == FAKE_VHOST_CLOSES) {
        while (message->nfds > 0)
            close(message->fds[--message->nfds]);
        return false;
    }
    len = obey(fake, message);
    if (faulty && fake->fault == FAKE_VHOST_HANGS)
        return true;
    if (len > 0)
        answer(fake, message, message->payload, len, faulty);
    else if (acknowledged)
        answer(fake, message, &done, sizeof(done), faulty);
    return true;
}

static void *run(void *opaque)
{
    static struct message message;
    struct fake_vhost_user *fake = opaque;

    for (;;) {
        struct pollfd fds[2 + FAKE_VHOST_QUEUES] = {{.fd = fake->quit[0], .events = POLLIN},
                                                    {.fd = fake->own, .events = POLLIN}};
        eventfd_t kicks;

        for (unsigned i = 0; i < FAKE_VHOST_QUEUES; i++) {
            const struct fake_vhost_queue *queue = &fake->queues[i];

            fds[2 + i] = (struct pollfd){.fd = queue->enabled && !fake->deaf ? queue->kick : -1,
                                         .events = POLLIN};
        }
        if (poll(fds, ARRAY_SIZE(fds), -1) < 0 || fds[0].revents)
            break;
        for (unsigned i = 0; i < FAKE_VHOST_QUEUES; i++)
            if (fds[2 + i].revents && !fake->deaf &&
                eventfd_read(fake->queues[i].kick, &kicks) == 0)
                work(fake, &fake->queues[i]);
        if (fds[1].revents && (!receive(fake, &message) || !handle(fake, &message)))
            break;
    }
    (void)shutdown(fake->own, SHUT_RDWR);
    return NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

void fake_vhost_user_init(struct fake_vhost_user *fake)
{
    *fake = (struct fake_vhost_user){
        .features = 1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX |
                    1ull << 32 | 1ull << 30,
        .protocol_features = UINT64_MAX,
    };
    for (unsigned i = 0; i < FAKE_VHOST_QUEUES; i++)
        fake->queues[i].kick = fake->queues[i].call = -1;
}

void fake_vhost_user_start(struct fake_vhost_user *fake)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
        pipe2(fake->quit, O_CLOEXEC) < 0)
        die("no socket");
    fake->sock = pair[0];
    fake->own = pair[1];
    if (pthread_create(&fake->thread, NULL, run, fake) != 0)
        die("no thread");
}

void fake_vhost_user_end(struct fake_vhost_user *fake)
{
    close(fake->quit[1]);
    pthread_join(fake->thread, NULL);
    close(fake->quit[0]);
    close(fake->own);
    for (unsigned i = 0; i < FAKE_VHOST_QUEUES; i++)
        stop(&fake->queues[i]);
    for (uint32_t i = 0; i < fake->nregions; i++)
        munmap(fake->regions[i].map, fake->regions[i].len);
}
