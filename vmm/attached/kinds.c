/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/attached/kinds.h"

#include "base/trace.h"
#include "vmm/attached/balloon.h"
#include "vmm/attached/console.h"
#include "vmm/attached/nic.h"
#include "vmm/attached/rng.h"
#include "vmm/attached/share.h"
#include "vmm/attached/vsock.h"

/* One line for each kind, in the order in which the guest finds their devices. */
static const struct kind {
    const char *name;
    int (*attach)(struct attachments *attachments, struct err *err);
} kinds[] = {
    {"attach virtio-net", nic_attach},
    {"attach virtio-console", console_attach},
    {"attach virtio-rng", rng_attach},
    {"attach virtio-balloon", balloon_attach},
    {"attach virtio-vsock", vsock_attach},
    {"attach shares", share_attach},
    {NULL, NULL},
};

int kinds_attach(struct attachments *attachments, struct err *err)
{
    int r = 0;

    for (const struct kind *kind = kinds; r == 0 && kind->name; kind++) {
        const uint64_t begin_ns = trace_begin();

        r = kind->attach(attachments, err);
        trace_span(kind->name, begin_ns);
    }
    return r;
}
