/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/attached/nic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/random.h"
#include "net/open.h"

struct nic {
    struct attached attached;
    char name[16];
    struct loop_thread thread;
    struct net *net;
    bool has_vhost;
    struct vhost_net vhost;
    bool is_ready; /* the back end works: it was waited for */
    struct mac mac;
    struct virtio_net_limits limits;
    struct virtio_net_counters counters;
    bool link_wanted;
    struct virtio_dev *dev; /* NULL: no guest is there */
};

/* ---- guests ---------------------------------------------------------------------------------- */

static void forget_device(void *opaque)
{
    struct nic *nic = opaque;

    nic->dev = NULL;
}

static int wait_ready(struct nic *nic, struct err *err)
{
    const struct net_ops *ops = nic->net->ops;
    int r = ops->wait_ready && !nic->is_ready ? ops->wait_ready(nic->net, err) : 0;

    nic->is_ready = r == 0;
    return r;
}

static int make_device(struct attached *attached, const struct guest_mem *mem,
                       struct virtio_dev **ret_dev, struct err *err)
{
    struct nic *nic = container_of(attached, struct nic, attached);
    const struct virtio_net_options options = {
        .net = nic->net,
        .loop = nic->thread.loop,
        .counters = &nic->counters,
        .vhost = nic->has_vhost ? &nic->vhost : NULL,
        .mac = nic->mac,
        .limits = nic->limits,
        .link_up = nic->link_wanted,
        .freed = forget_device,
        .opaque = nic,
    };
    int r = wait_ready(nic, err);

    if (r < 0) {
        err_prefix(err, "net %s", nic->name);
        return r;
    }
    r = virtio_net_new(&options, mem, &nic->dev);
    if (r < 0)
        return err_set_errno(err, r, "net %s: cannot make its device", nic->name);
    *ret_dev = nic->dev;
    return 0;
}

/* The kernel's work goes first, for it may be on the tap. */
static void close_back_end(struct nic *nic)
{
    if (nic->has_vhost)
        vhost_net_close(&nic->vhost);
    nic->net->ops->close(nic->net);
}

static void close_nic(struct attached *attached)
{
    struct nic *nic = container_of(attached, struct nic, attached);

    loop_thread_stop(&nic->thread);
    close_back_end(nic);
    loop_thread_free(&nic->thread);
    free(nic);
}

static const struct attached_ops nic_ops = {
    .make_device = make_device,
    .close = close_nic,
};

/* ---- setting up ------------------------------------------------------------------------------ */

/* The file of the first disk that the guest can write to, to be freed; NULL: there is none. */
static char *own_disk(const struct config *config)
{
    for (size_t i = 0; i < config->ndisks; i++)
        if (!config->disks[i].readonly)
            return realpath(config->disks[i].path, NULL);
    return NULL;
}

/*
 * An address that the guest finds again: from the VM's name, or else from that of its first disk,
 * which is where a guest would remember it. One that has neither remembers nothing, and disks that
 * it only reads may be other VMs' too.
 */
static struct mac make_up_mac(const struct config *config, unsigned index)
{
    char random[sizeof(uint64_t) * 2 + 1] = "";
    char *disk = config->name ? NULL : own_disk(config);
    uint64_t number;
    struct mac mac;

    if (!config->name && !disk && random_bytes(&number, sizeof(number)))
        (void)snprintf(random, sizeof(random), "%016llx", (unsigned long long)number);
    mac = mac_of_name(config->name ? config->name : disk ? disk : random, index);
    free(disk);
    return mac;
}

static int open_back_end(struct nic *nic, const struct config_net *config, struct err *err)
{
    struct net_options options;
    int r = config_net_options(config, &options, err);

    options.user.card = nic->name;
    if (r == 0)
        r = net_open(&options, &nic->net, err);
    if (r < 0 || !options.vhost)
        return r;
    r = vhost_net_open(&nic->vhost, err);
    nic->has_vhost = r == 0;
    if (r < 0)
        nic->net->ops->close(nic->net);
    return r;
}

static int start(struct nic *nic, const struct config_net *config, struct err *err)
{
    int r = open_back_end(nic, config, err);

    if (r < 0)
        return r;
    r = loop_thread_start(&nic->thread, nic->name, err);
    if (r < 0)
        close_back_end(nic);
    return r;
}

static int add(struct attachments *attachments, struct nic *nic, struct err *err)
{
    struct nic **nics = realloc(attachments->nics, (attachments->nnics + 1) * sizeof(struct nic *));

    if (!nics)
        return err_set(err, -ENOMEM, "out of memory");
    attachments->nics = nics;
    nics[attachments->nnics] = nic;
    return attachments_add(attachments, &nic->attached, err);
}

/* `index` is the card's number among those of --net, and `number` among the guest's. */
static int attach_one(struct attachments *attachments, unsigned index, struct err *err)
{
    const struct config_net *config = &attachments->config->nets[index];
    struct nic *nic = calloc(1, sizeof(*nic));
    int r;

    if (!nic)
        return err_set(err, -ENOMEM, "out of memory");
    nic->attached.ops = &nic_ops;
    nic->link_wanted = true;
    nic->limits = (struct virtio_net_limits){.bps = config->bps, .pps = config->pps};
    nic->mac = mac_is_zero(&config->mac)
                   ? make_up_mac(attachments->config, (unsigned)attachments->nnics)
                   : config->mac;
    (void)snprintf(nic->name, sizeof(nic->name), "eth%zu", attachments->nnics);
    r = start(nic, config, err);
    if (r < 0) {
        err_prefix(err, "net %s", nic->name);
        free(nic);
        return r;
    }
    r = add(attachments, nic, err);
    if (r < 0)
        close_nic(&nic->attached);
    else
        attachments->nnics++;
    return r;
}

static bool is_none(const struct config_net *config)
{
    struct net_options options;

    return config_net_options(config, &options, NULL) == 0 && options.kind == NET_NONE;
}

int nic_attach(struct attachments *attachments, struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < attachments->config->nnets; i++)
        if (!is_none(&attachments->config->nets[i]))
            r = attach_one(attachments, i, err);
    return r;
}

/* ---- for clients ----------------------------------------------------------------------------- */

static void read_traffic(const struct virtio_net_traffic *from, struct virtio_net_traffic *to)
{
    to->frames = net_counted(&from->frames);
    to->bytes = net_counted(&from->bytes);
    to->dropped = net_counted(&from->dropped);
}

static void read_counters(const struct virtio_net_counters *from, struct virtio_net_counters *to)
{
    read_traffic(&from->received, &to->received);
    read_traffic(&from->sent, &to->sent);
    to->filtered = net_counted(&from->filtered);
    to->starved = net_counted(&from->starved);
    to->full = net_counted(&from->full);
    to->rings.kicks = net_counted(&from->rings.kicks);
    to->rings.interrupts = net_counted(&from->rings.interrupts);
}

void nic_get_info(struct nic *nic, struct nic_info *ret_info)
{
    *ret_info = (struct nic_info){
        .name = nic->name,
        .kind = nic->net->kind,
        .label = nic->net->label,
        .mac = nic->mac,
        .mtu = nic->net->mtu,
        .link_wanted = nic->link_wanted,
    };
    read_counters(&nic->counters, &ret_info->counters);
    net_filter_reset(&ret_info->guest.filter, &nic->mac);
    if (nic->dev)
        virtio_net_get_state(nic->dev, &ret_info->guest);
}

void nic_set_link(struct nic *nic, bool up)
{
    nic->link_wanted = up;
    if (nic->dev)
        virtio_net_set_link(nic->dev, up);
}

void nic_announce(struct nic *nic)
{
    if (nic->dev)
        virtio_net_announce(nic->dev);
}
