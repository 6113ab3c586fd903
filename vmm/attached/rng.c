/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/attached/rng.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "devices/virtio/virtio_rng.h"

struct rng {
    struct attached attached;
    struct virtio_rng_options options;
};

static int make_device(struct attached *attached, const struct guest_mem *mem,
                       struct virtio_dev **ret_dev, struct err *err)
{
    const struct rng *rng = container_of(attached, struct rng, attached);
    int r = virtio_rng_new(&rng->options, mem, ret_dev);

    return r < 0 ? err_set_errno(err, r, "rng: cannot make its device") : 0;
}

static void close_rng(struct attached *attached)
{
    free(container_of(attached, struct rng, attached));
}

static const struct attached_ops rng_ops = {
    .make_device = make_device,
    .close = close_rng,
};

int rng_attach(struct attachments *attachments, struct err *err)
{
    const struct config *config = attachments->config;
    struct rng *rng;
    int r = -ENOMEM;

    if (config->nrngs == 0 || !config->rngs[0].on)
        return 0;
    rng = calloc(1, sizeof(*rng));
    if (!rng)
        return err_set(err, -ENOMEM, "out of memory");
    rng->attached.ops = &rng_ops;
    rng->options.bps = config->rngs[0].bps;
    rng->options.loop = attachments_loop(attachments, err);
    if (rng->options.loop)
        r = attachments_add(attachments, &rng->attached, err);
    if (r < 0)
        free(rng);
    return r;
}
