/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/attached/console.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "devices/virtio/virtio_console.h"

struct terminal {
    struct attached attached;
    struct virtio_console_options options;
};

static int make_device(struct attached *attached, const struct guest_mem *mem,
                       struct virtio_dev **ret_dev, struct err *err)
{
    const struct terminal *terminal = container_of(attached, struct terminal, attached);
    int r = virtio_console_new(&terminal->options, mem, ret_dev);

    return r < 0 ? err_set_errno(err, r, "console: cannot make its device") : 0;
}

static void close_terminal(struct attached *attached)
{
    free(container_of(attached, struct terminal, attached));
}

static const struct attached_ops terminal_ops = {
    .make_device = make_device,
    .close = close_terminal,
};

int console_attach(struct attachments *attachments, struct err *err)
{
    struct terminal *terminal;
    int r = -ENOMEM;

    if (!attachments->console)
        return 0;
    terminal = calloc(1, sizeof(*terminal));
    if (!terminal)
        return err_set(err, -ENOMEM, "out of memory");
    terminal->attached.ops = &terminal_ops;
    terminal->options.chardev = attachments->console;
    terminal->options.loop = attachments_loop(attachments, err);
    if (terminal->options.loop)
        r = attachments_add(attachments, &terminal->attached, err);
    if (r < 0)
        free(terminal);
    return r;
}
