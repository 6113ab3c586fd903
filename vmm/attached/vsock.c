/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/attached/vsock.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "devices/virtio/virtio_vsock.h"
#include "devices/virtio/vsock_unix.h"

struct vsock {
    struct attached attached;
    struct virtio_vsock_options options;
    struct vsock_unix_map *maps;
    struct vsock_unix *un;
};

static int make_device(struct attached *attached, const struct guest_mem *mem,
                       struct virtio_dev **ret_dev, struct err *err)
{
    const struct vsock *vsock = container_of(attached, struct vsock, attached);
    int r = virtio_vsock_new(&vsock->options, mem, ret_dev);

    return r < 0 ? err_set_errno(err, r, "vsock: cannot make its device") : 0;
}

static void free_vsock(struct vsock *vsock)
{
    vsock_unix_free(vsock->un);
    free(vsock->maps);
    free(vsock);
}

static void close_vsock(struct attached *attached)
{
    free_vsock(container_of(attached, struct vsock, attached));
}

static const struct attached_ops vsock_ops = {
    .make_device = make_device,
    .close = close_vsock,
};

/* The socket is there, and its clients are sent away until a guest's driver runs. */
static int open_host(struct vsock *vsock, const struct config_vsock *config, struct err *err)
{
    struct vsock_unix_options options = {
        .path = config->path,
        .listen = config->listen,
        .nmaps = config->nmaps,
        .loop = vsock->options.loop,
    };
    int r;

    vsock->maps = calloc(config->nmaps + 1, sizeof(*vsock->maps));
    if (!vsock->maps)
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < config->nmaps; i++)
        vsock->maps[i] = (struct vsock_unix_map){config->maps[i].port, config->maps[i].path};
    options.maps = vsock->maps;
    r = vsock_unix_new(&options, &vsock->un, err);
    if (r == 0)
        vsock->options.host = vsock_unix_host(vsock->un);
    return r;
}

int vsock_attach(struct attachments *attachments, struct err *err)
{
    const struct config *config = attachments->config;
    struct vsock *vsock;
    int r = -ENOMEM;

    if (config->nvsocks == 0)
        return 0;
    vsock = calloc(1, sizeof(*vsock));
    if (!vsock)
        return err_set(err, -ENOMEM, "out of memory");
    vsock->attached.ops = &vsock_ops;
    vsock->options.cid = config->vsocks[0].cid;
    vsock->options.loop = attachments_loop(attachments, err);
    if (vsock->options.loop)
        r = open_host(vsock, &config->vsocks[0], err);
    if (r >= 0)
        r = attachments_add(attachments, &vsock->attached, err);
    if (r < 0)
        free_vsock(vsock);
    else
        attachments->vsock = vsock;
    return r;
}

static uint64_t load(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

void vsock_get_counters(const struct vsock *vsock, struct vsock_counters *ret_counters)
{
    const struct vsock_counters *counted = &vsock->options.host->counters;

    *ret_counters = (struct vsock_counters){
        .connections = load(&counted->connections),
        .from_guest_connections = load(&counted->from_guest_connections),
        .to_guest_connections = load(&counted->to_guest_connections),
        .from_guest_bytes = load(&counted->from_guest_bytes),
        .to_guest_bytes = load(&counted->to_guest_bytes),
        .from_guest_packets = load(&counted->from_guest_packets),
        .to_guest_packets = load(&counted->to_guest_packets),
    };
}
