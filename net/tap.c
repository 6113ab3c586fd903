/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* After that of the interfaces, which defines some of its names too. */
#include <linux/if_tun.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "base/log.h"

#define TUN_DEVICE "/dev/net/tun"
#define MTU_DEFAULT 1500

/* What the kernel does with frames that it is given, whatever it was told. */
#define HOST_OFFLOADS                                                                              \
    (1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_HOST_TSO4 | 1ull << VIRTIO_NET_F_HOST_TSO6)

struct tap {
    struct net net;
    int fd;
    char name[IFNAMSIZ];
    bool has_header; /* frames have a header here, too */
    struct loop *loop;
    struct net_user *user;
    struct loop_fd watch;
    struct loop_work gone; /* to tell that the link is down, not inside a call */
    bool wanted;
    bool refused;
    bool is_gone; /* the interface was removed */
    uint64_t agreed;
    struct iovec vec[NET_IOV_MAX]; /* of a frame that is read, and a byte that nobody needs */
};

static struct tap *tap_of(struct net *net)
{
    return container_of(net, struct tap, net);
}

/* ---- events ---------------------------------------------------------------------------------- */

/* Is the interface gone, by what a call on it returns? -ENOLINK is a macvtap's word for it. */
static bool tells_gone(int r)
{
    return r == -EBADFD || r == -ENOLINK;
}

/* Inside a call: the user is told after it. The interface does not come back. */
static void note_gone(struct tap *tap)
{
    if (tap->is_gone)
        return;
    tap->is_gone = true;
    loop_remove_fd(&tap->watch);
    loop_post(tap->loop, &tap->gone);
}

static void take_link_down(struct tap *tap)
{
    if (!tap->net.link_up)
        return;
    log_warn("net %s: the interface is gone: the link is down", tap->name);
    tap->net.link_up = false;
}

static void tell_gone(struct loop_work *work)
{
    struct tap *tap = container_of(work, struct tap, gone);

    take_link_down(tap);
    tap->user->link_changed(tap->user);
}

static void update_events(struct tap *tap)
{
    uint32_t events = (tap->wanted ? EPOLLIN : 0) | (tap->refused ? EPOLLOUT : 0);

    if (tap->watch.loop && loop_set_events(&tap->watch, events) < 0)
        note_gone(tap);
}

static void tap_ready(struct loop_fd *watch, uint32_t events)
{
    struct tap *tap = container_of(watch, struct tap, watch);

    if (events & EPOLLERR) {
        note_gone(tap);
        return;
    }
    if (events & EPOLLOUT && tap->refused) {
        tap->refused = false;
        update_events(tap);
        tap->user->writable(tap->user);
    }
    if (events & EPOLLIN && tap->wanted && tap->watch.loop)
        tap->user->readable(tap->user);
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* Returns 1: sent; 0: there is no room; or -errno: lost. */
static int send_frame(const struct tap *tap, const struct net_frame *frame)
{
    const unsigned skipped = !tap->has_header;
    ssize_t r;

    do
        r = writev(tap->fd, frame->iov + skipped, (int)(frame->niov - skipped));
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return errno == EAGAIN ? 0 : -errno;
    return 1;
}

/* EIO: the interface is not up. Other errors are about the frame. */
static unsigned send_frames(struct net *net, struct net_frame *frames, unsigned nframes)
{
    struct tap *tap = tap_of(net);

    for (unsigned i = 0; i < nframes; i++) {
        int r = send_frame(tap, &frames[i]);

        if (r == 0) {
            tap->refused = true;
            update_events(tap);
            return i;
        }
        frames[i].dropped = r < 0;
        if (tells_gone(r))
            note_gone(tap);
    }
    return nframes;
}

/* The offloads that a frame with this header needs. */
static uint64_t needed_offloads(const struct virtio_net_hdr_v1 *header)
{
    const bool has_no_sum = header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
    const uint64_t needed = has_no_sum ? 1ull << VIRTIO_NET_F_GUEST_CSUM : 0;

    switch (header->gso_type) {
    case VIRTIO_NET_HDR_GSO_NONE:
        return needed;
    case VIRTIO_NET_HDR_GSO_TCPV4:
        return needed | 1ull << VIRTIO_NET_F_GUEST_TSO4;
    case VIRTIO_NET_HDR_GSO_TCPV6:
        return needed | 1ull << VIRTIO_NET_F_GUEST_TSO6;
    default:
        return UINT64_MAX; /* of a kind that nobody asked for */
    }
}

/* Is the frame in the form that was agreed on? False: it is from before that. */
static bool is_as_agreed(const struct tap *tap, const struct virtio_net_hdr_v1 *header)
{
    return !(needed_offloads(header) & ~tap->agreed);
}

/*
 * Read a frame. The kernel cuts off what does not fit, and does not say so: one byte of that is
 * asked for. Returns the length, header included, 0: there is none, or -errno.
 */
static ssize_t read_frame(struct tap *tap, const struct iovec *iov, unsigned niov)
{
    const unsigned skipped = !tap->has_header;
    char excess;
    ssize_t r;

    memcpy(tap->vec, iov, niov * sizeof(*iov));
    if (niov < ARRAY_SIZE(tap->vec))
        tap->vec[niov++] = (struct iovec){&excess, sizeof(excess)};
    do
        r = readv(tap->fd, tap->vec + skipped, (int)(niov - skipped));
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return errno == EAGAIN ? 0 : -errno;
    if (!tap->has_header)
        memset(iov->iov_base, 0, NET_HDR_LEN);
    return tap->has_header ? r : r + (ssize_t)NET_HDR_LEN;
}

static ssize_t receive(struct net *net, const struct iovec *iov, unsigned niov)
{
    struct tap *tap = tap_of(net);
    ssize_t r = tap->is_gone ? 0 : read_frame(tap, iov, niov);

    if (tells_gone((int)r))
        note_gone(tap);
    if (r <= 0)
        return 0;
    if ((size_t)r > iov_len(iov, niov) || (size_t)r < NET_HDR_LEN + NET_FRAME_MIN ||
        (size_t)r > NET_HDR_LEN + NET_FRAME_MAX || !is_as_agreed(tap, iov->iov_base))
        return -EMSGSIZE;
    return r - (ssize_t)NET_HDR_LEN;
}

static void watch(struct net *net, bool on)
{
    struct tap *tap = tap_of(net);

    tap->wanted = on;
    update_events(tap);
}

/* ---- offloads -------------------------------------------------------------------------------- */

static unsigned tun_offloads(uint64_t offloads)
{
    unsigned flags = 0;

    if (offloads & 1ull << VIRTIO_NET_F_GUEST_CSUM)
        flags |= TUN_F_CSUM;
    if (offloads & 1ull << VIRTIO_NET_F_GUEST_TSO4)
        flags |= TUN_F_TSO4;
    if (offloads & 1ull << VIRTIO_NET_F_GUEST_TSO6)
        flags |= TUN_F_TSO6;
    return flags;
}

static int set_kernel_offloads(const struct tap *tap, uint64_t offloads)
{
    if (!tap->has_header)
        return 0;
    return ioctl(tap->fd, TUNSETOFFLOAD, (unsigned long)tun_offloads(offloads)) < 0 ? -errno : 0;
}

/* An interface that is gone gives no frames, in whatever form: only the link is down. */
static int set_offloads(struct net *net, uint64_t offloads)
{
    struct tap *tap = tap_of(net);
    int r = set_kernel_offloads(tap, offloads);

    if (tells_gone(r)) {
        note_gone(tap);
        r = 0;
    }
    if (r == 0)
        tap->agreed = offloads;
    return r;
}

/* ---- guests ---------------------------------------------------------------------------------- */

static int attach(struct net *net, struct loop *loop, struct net_user *user)
{
    struct tap *tap = tap_of(net);
    int r = set_kernel_offloads(tap, 0);

    tap->agreed = 0;
    if (tells_gone(r)) {
        tap->is_gone = true;
        take_link_down(tap);
        r = 0;
    }
    tap->watch = (struct loop_fd){.fd = tap->fd, .events = 0, .ready = tap_ready};
    if (r == 0 && !tap->is_gone)
        r = loop_add_fd(loop, &tap->watch);
    if (r < 0)
        return r;
    tap->loop = loop;
    tap->user = user;
    tap->wanted = tap->refused = false;
    return 0;
}

static void detach(struct net *net)
{
    struct tap *tap = tap_of(net);

    loop_remove_fd(&tap->watch);
    loop_cancel(tap->loop, &tap->gone);
    if (tap->is_gone)
        take_link_down(tap);
    tap->loop = NULL;
    tap->user = NULL;
}

static int tap_fd(struct net *net)
{
    const struct tap *tap = tap_of(net);

    return tap->has_header ? tap->fd : -1;
}

static void close_net(struct net *net)
{
    struct tap *tap = tap_of(net);

    close(tap->fd);
    free(tap);
}

static const struct net_ops ops = {
    .attach = attach,
    .detach = detach,
    .set_offloads = set_offloads,
    .send = send_frames,
    .receive = receive,
    .watch = watch,
    .tap_fd = tap_fd,
    .close = close_net,
};

/* ---- opening --------------------------------------------------------------------------------- */

/*
 * What it is, as the kernel says. Whether it was opened with IFF_NO_PI cannot be told: when it is
 * asked for, a flag of the same number says that there is no filter.
 */
static int look_at(struct tap *tap, struct err *err)
{
    struct ifreq ifr = {0};

    if (ioctl(tap->fd, TUNGETIFF, &ifr) < 0)
        return err_set(err, -EINVAL, "fd %d: expected an open tap or macvtap interface", tap->fd);
    if (!(ifr.ifr_flags & IFF_TAP))
        return err_set(err, -EINVAL,
                       "fd %d: expected a tap, which carries Ethernet frames, not a "
                       "tun",
                       tap->fd);
    tap->has_header = ifr.ifr_flags & IFF_VNET_HDR;
    (void)snprintf(tap->name, sizeof(tap->name), "%.*s", IFNAMSIZ - 1, ifr.ifr_name);
    return 0;
}

/* The longest header, which our frames have; and to begin with, no offloads. */
static int set_up_header(struct tap *tap, struct err *err)
{
    int len = (int)NET_HDR_LEN;

    if (!tap->has_header)
        return 0;
    if (ioctl(tap->fd, TUNSETVNETHDRSZ, &len) < 0)
        return err_set_errno(err, -errno, "%s: cannot set the length of headers", tap->name);
    tap->net.offloads = HOST_OFFLOADS;
    /* Linux has had these for ever, but it is the one to say so. */
    if (set_kernel_offloads(tap, NET_OFFLOADS) == 0)
        tap->net.offloads = NET_OFFLOADS;
    if (set_kernel_offloads(tap, 0) < 0)
        return err_set_errno(err, -errno, "%s: cannot turn offloads off", tap->name);
    return 0;
}

/* The guest's MTU is the interface's, if that is known and says something. */
static void find_mtu(struct tap *tap)
{
    struct ifreq ifr = {0};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return;
    memcpy(ifr.ifr_name, tap->name, sizeof(ifr.ifr_name));
    if (ioctl(fd, SIOCGIFMTU, &ifr) == 0 && ifr.ifr_mtu != MTU_DEFAULT && ifr.ifr_mtu > 0)
        tap->net.mtu = (uint16_t)min_u64((uint64_t)ifr.ifr_mtu, UINT16_MAX);
    close(fd);
}

static int set_up(struct tap *tap, int fd, struct err *err)
{
    int r;

    tap->fd = fd;
    r = look_at(tap, err);
    if (r == 0)
        r = set_up_header(tap, err);
    if (r < 0)
        return r;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || ioctl(fd, FIONBIO, &(int){1}) < 0)
        return err_set_errno(err, -errno, "%s: cannot be used", tap->name);
    find_mtu(tap);
    tap->gone.run = tell_gone;
    tap->net.ops = &ops;
    tap->net.kind = "tap";
    tap->net.label = tap->name;
    tap->net.link_up = true;
    return 0;
}

int tap_open_fd(int fd, struct net **ret_net, struct err *err)
{
    struct tap *tap = calloc(1, sizeof(*tap));
    int r;

    if (!tap)
        return err_set(err, -ENOMEM, "tap: out of memory");
    r = set_up(tap, fd, err);
    if (r < 0) {
        free(tap);
        return r;
    }
    *ret_net = &tap->net;
    return 0;
}

/* Root would make a new interface by TUNSETIFF, to which nothing is connected. */
static bool is_missing(const char *name)
{
    return if_nametoindex(name) == 0 && errno == ENODEV;
}

/* One that was made for several queues wants to be opened so; one of them is used. */
static int attach_to(int fd, const char *name)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int r;

    memcpy(ifr.ifr_name, name, strlen(name));
    r = ioctl(fd, TUNSETIFF, &ifr);
    if (r < 0 && errno == EINVAL) {
        ifr.ifr_flags |= IFF_MULTI_QUEUE;
        r = ioctl(fd, TUNSETIFF, &ifr);
    }
    return r < 0 ? -errno : 0;
}

static int refuse(const char *name, int r, struct err *err)
{
    if (r == -EBUSY)
        return err_set(err, r, "%s: another process uses this interface", name);
    if (r == -EPERM)
        return err_set(err, r,
                       "%s: may not be used: make it for this user (ip tuntap add %s mode tap "
                       "user NAME), or use --net user",
                       name, name);
    if (r == -EINVAL)
        return err_set(err, r, "%s: expected a tap interface", name);
    return err_set_errno(err, r, "%s: cannot be used", name);
}

int tap_open(const char *name, struct net **ret_net, struct err *err)
{
    size_t len = strlen(name);
    int fd;
    int r;

    if (len == 0 || len >= IFNAMSIZ || strchr(name, '%') || strchr(name, '/'))
        return err_set(err, -EINVAL, "'%.200s': expected the name of a tap interface", name);
    if (is_missing(name))
        return err_set(err, -ENODEV,
                       "%s: there is no such interface: make it by `ip tuntap add dev %s mode tap "
                       "user NAME`",
                       name, name);
    fd = open(TUN_DEVICE, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(err, -errno, TUN_DEVICE ": cannot be opened");
    r = attach_to(fd, name);
    if (r < 0)
        refuse(name, r, err);
    else
        r = tap_open_fd(fd, ret_net, err);
    if (r < 0)
        close(fd);
    return r;
}
