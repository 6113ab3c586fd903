/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/vhost_net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The forms of rings and headers that drivers may agree on; Linux has had them all since 4.0. */
#define NEEDED                                                                                     \
    (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC |                            \
     1ull << VIRTIO_RING_F_EVENT_IDX | 1ull << VIRTIO_NET_F_MRG_RXBUF)

static int tell(const struct vhost_net *vhost, unsigned long request, const void *argument)
{
    return ioctl(vhost->fd, request, argument) < 0 ? -errno : 0;
}

static int refuse(int r, struct err *err)
{
    if (r == -ENOENT || r == -ENODEV)
        return err_set(err, r,
                       VHOST_NET_DEVICE ": there is none: load the module vhost_net, or leave "
                                        "vhost=on out");
    if (r == -EACCES || r == -EPERM)
        return err_set(err, r,
                       VHOST_NET_DEVICE ": may not be opened: give this user access (often by the "
                                        "group kvm), or leave vhost=on out");
    return err_set_errno(err, r, VHOST_NET_DEVICE ": cannot be used");
}

static int get_to_know(struct vhost_net *vhost, struct err *err)
{
    int r = tell(vhost, VHOST_SET_OWNER, NULL);

    if (r == 0)
        r = tell(vhost, VHOST_GET_FEATURES, &vhost->features);
    if (r < 0)
        return refuse(r, err);
    if ((vhost->features & NEEDED) != NEEDED)
        return err_set(err, -ENOTSUP,
                       VHOST_NET_DEVICE ": has features %#llx, expected %#llx: the kernel is too "
                                        "old for vhost=on",
                       (unsigned long long)vhost->features, NEEDED);
    return 0;
}

int vhost_net_open(struct vhost_net *vhost, struct err *err)
{
    int r;

    *vhost = (struct vhost_net){.fd = open(VHOST_NET_DEVICE, O_RDWR | O_CLOEXEC)};
    if (vhost->fd < 0)
        return refuse(-errno, err);
    r = get_to_know(vhost, err);
    if (r < 0)
        vhost_net_close(vhost);
    return r;
}

void vhost_net_close(struct vhost_net *vhost)
{
    close(vhost->fd);
}

int vhost_net_set_memory(struct vhost_net *vhost, const struct guest_mem *mem)
{
    union {
        struct vhost_memory table;
        char room[sizeof(struct vhost_memory) +
                  GUEST_MEM_REGIONS_MAX * sizeof(struct vhost_memory_region)];
    } message = {.table = {.nregions = (uint32_t)mem->nregions}};

    for (size_t i = 0; i < mem->nregions; i++)
        message.table.regions[i] = (struct vhost_memory_region){
            .guest_phys_addr = mem->regions[i].gpa,
            .memory_size = mem->regions[i].len,
            .userspace_addr = (uintptr_t)mem->regions[i].host,
        };
    return tell(vhost, VHOST_SET_MEM_TABLE, &message.table);
}

int vhost_net_set_features(struct vhost_net *vhost, uint64_t features)
{
    features &= NEEDED; /* of others that the kernel has, some are no driver's */
    return tell(vhost, VHOST_SET_FEATURES, &features);
}

static int set_state(const struct vhost_net *vhost, unsigned long request, unsigned index,
                     unsigned num)
{
    const struct vhost_vring_state state = {.index = index, .num = num};

    return tell(vhost, request, &state);
}

static int set_fd(const struct vhost_net *vhost, unsigned long request, unsigned index, int fd)
{
    const struct vhost_vring_file file = {.index = index, .fd = fd};

    return tell(vhost, request, &file);
}

static int set_place(const struct vhost_net *vhost, unsigned index, const struct virtq *vq)
{
    const struct vhost_vring_addr place = {
        .index = index,
        .desc_user_addr = (uintptr_t)vq->desc,
        .used_user_addr = (uintptr_t)vq->used,
        .avail_user_addr = (uintptr_t)vq->avail,
    };

    return tell(vhost, VHOST_SET_VRING_ADDR, &place);
}

int vhost_net_start(struct vhost_net *vhost, const struct vhost_net_queue *queue)
{
    const unsigned index = queue->index;
    int r = set_state(vhost, VHOST_SET_VRING_NUM, index, queue->vq->size);

    if (r == 0)
        r = set_state(vhost, VHOST_SET_VRING_BASE, index, queue->vq->next_avail);
    if (r == 0)
        r = set_place(vhost, index, queue->vq);
    if (r == 0)
        r = set_fd(vhost, VHOST_SET_VRING_CALL, index, queue->call_fd);
    if (r == 0)
        r = set_fd(vhost, VHOST_SET_VRING_ERR, index, queue->error_fd);
    if (r == 0)
        r = set_fd(vhost, VHOST_SET_VRING_KICK, index, queue->kick_fd);
    if (r == 0)
        r = set_fd(vhost, VHOST_NET_SET_BACKEND, index, queue->tap_fd);
    if (r < 0)
        (void)set_fd(vhost, VHOST_SET_VRING_KICK, index, -1); /* or it was never bound */
    return r;
}

int vhost_net_stop(struct vhost_net *vhost, unsigned index, uint16_t *ret_position)
{
    struct vhost_vring_state state = {.index = index};
    int r = set_fd(vhost, VHOST_NET_SET_BACKEND, index, -1);

    /* Nor does it look at the kicks of what comes after. */
    if (r == 0)
        r = set_fd(vhost, VHOST_SET_VRING_KICK, index, -1);
    if (r == 0)
        r = tell(vhost, VHOST_GET_VRING_BASE, &state);
    if (r == 0)
        *ret_position = (uint16_t)state.num;
    return r;
}
