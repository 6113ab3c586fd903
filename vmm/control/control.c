/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/control.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "vmm/control/listener.h"
#include "vmm/control/qmp.h"
#include "vmm/control/qmp_builtin.h"

#define NTABLES 1

struct control {
    struct qmp_commands tables[NTABLES];
    struct qmp *qmp;
    struct listener *listener; /* NULL: none */
};

static int on_client(int fd, void *opaque)
{
    struct control *control = opaque;

    return qmp_add_client(control->qmp, fd);
}

static int start(struct control *control, const struct control_options *options, struct err *err)
{
    int r;

    control->tables[0] = qmp_builtin_commands;
    r = qmp_new(options->loop, control->tables, ARRAY_SIZE(control->tables), NULL, &control->qmp);
    if (r < 0)
        return err_set(err, r, "out of memory");
    if (!options->qmp)
        return 0;
    r = listener_new(options->loop, options->qmp, on_client, control, &control->listener, err);
    if (r < 0)
        err_prefix(err, "--qmp");
    return r;
}

int control_new(const struct control_options *options, struct control **ret_control,
                struct err *err)
{
    struct control *control = calloc(1, sizeof(*control));
    int r;

    if (!control)
        return err_set(err, -ENOMEM, "out of memory");
    r = start(control, options, err);
    if (r < 0) {
        control_free(control);
        return r;
    }
    *ret_control = control;
    return 0;
}

void control_free(struct control *control)
{
    if (!control)
        return;
    listener_free(control->listener);
    qmp_free(control->qmp);
    free(control);
}
