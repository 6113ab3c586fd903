/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/vm_names.h"
#include "vmm/control/commands_balloon.h"
#include "vmm/control/commands_block.h"
#include "vmm/control/commands_disk.h"
#include "vmm/control/commands_job.h"
#include "vmm/control/commands_machine.h"
#include "vmm/control/commands_monitor.h"
#include "vmm/control/commands_net.h"
#include "vmm/control/commands_stats.h"
#include "vmm/control/listener.h"
#include "vmm/control/qmp.h"
#include "vmm/control/qmp_builtin.h"

/* One for each subject. */
static const struct qmp_commands *const tables[] = {
    &qmp_builtin_commands, &commands_machine, &commands_block,   &commands_stats, &commands_monitor,
    &commands_disk,        &commands_job,     &commands_balloon, &commands_net,
};

struct control {
    struct control_vm *vm;
    struct qmp *qmp;
    struct listener *qmp_listener;  /* NULL: none */
    struct listener *name_listener; /* the same */
    struct loop *loop;
    struct loop_work next;
    struct loop_timer slow; /* armed while a guest stops */
};

/* How long a client that is stuck keeps its place from another one. */
#define PATIENCE_NS (5 * NS_PER_S)

/* Who asks while a guest is reset is told of the next one, unless that takes longer. */
#define SOON_NS (500 * NS_PER_MS)

static int on_client_of_address(int fd, void *opaque)
{
    const struct control *control = opaque;

    return qmp_add_client(control->qmp, QMP_DOOR_ADDRESS, fd);
}

static int on_client_of_name(int fd, void *opaque)
{
    const struct control *control = opaque;

    return qmp_add_client(control->qmp, QMP_DOOR_NAME, fd);
}

#define RUNS_ALREADY "a VM with this name runs already: %s"

/* A VM may have been started with another value of the variable that the folder depends on. */
static int check_other_folders(const char *name, struct err *err)
{
    char *other = vm_names_other_socket(name);

    if (!other)
        return 0;
    err_set(err, -EADDRINUSE, RUNS_ALREADY, other);
    free(other);
    return -EADDRINUSE;
}

static int listen_by_name(struct control *control, const struct control_options *options,
                          struct err *err)
{
    char *path;
    int r = vm_names_new_socket(options->name, &path, err);

    if (r < 0)
        return r;
    r = listener_new_unix(options->loop, path, options->name, on_client_of_name, control,
                          &control->name_listener, err);
    if (r == 0)
        r = check_other_folders(options->name, err);
    else if (r == -EADDRINUSE)
        err_set(err, r, RUNS_ALREADY, path);
    free(path);
    return r;
}

static int start(struct control *control, const struct control_options *options, struct err *err)
{
    const struct qmp_options served = {
        .loop = options->loop,
        .tables = tables,
        .ntables = ARRAY_SIZE(tables),
        .opaque = control->vm,
        .patience_ns = PATIENCE_NS,
    };
    int r;

    r = qmp_new(&served, &control->qmp);
    if (r < 0)
        return err_set(err, r, "out of memory");
    if (options->name)
        r = listen_by_name(control, options, err);
    if (r < 0) {
        err_prefix(err, "--name %s", options->name);
        return r;
    }
    if (options->qmp)
        r = listener_new(options->loop, options->qmp, on_client_of_address, control,
                         &control->qmp_listener, err);
    if (r < 0)
        err_prefix(err, "--qmp");
    return r;
}

static void on_next(struct loop_work *work)
{
    commands_machine_go_on(container_of(work, struct control, next)->vm);
}

static void on_slow(struct loop_timer *timer)
{
    struct control *control = container_of(timer, struct control, slow);

    control->vm->stops_long = true;
    commands_machine_go_on(control->vm);
}

int control_new(const struct control_options *options, struct control **ret_control,
                struct err *err)
{
    struct control *control = calloc(1, sizeof(*control));
    int r;

    if (!control)
        return err_set(err, -ENOMEM, "out of memory");
    control->vm = options->vm;
    control->loop = options->loop;
    control->next.run = on_next;
    control->slow.expired = on_slow;
    list_init(&control->vm->stopping);
    list_init(&control->vm->waiting);
    list_init(&control->vm->asking);
    list_init(&control->vm->jobs);
    r = start(control, options, err);
    if (r < 0) {
        control_free(control);
        return r;
    }
    *ret_control = control;
    return 0;
}

/* ---- events ---------------------------------------------------------------------------------- */

static const struct {
    char reason[24];
    bool guest; /* it did that itself */
} causes[] = {
    [CONTROL_GUEST_SHUTDOWN] = {"guest-shutdown", true},
    [CONTROL_GUEST_RESET] = {"guest-reset", true},
    [CONTROL_HOST_SIGNAL] = {"host-signal", false},
    [CONTROL_HOST_UI] = {"host-ui", false},
    [CONTROL_HOST_QUIT] = {"host-qmp-quit", false},
    [CONTROL_HOST_RESET] = {"host-qmp-system-reset", false},
    [CONTROL_HOST_ERROR] = {"host-error", false},
};

static void tell_end(struct control *control, const char *event, enum control_cause cause)
{
    if (!control)
        return;
    qmp_event(control->qmp, event,
              json_pack("{s:b,s:s}", "guest", causes[cause].guest, "reason", causes[cause].reason));
}

void control_tell_shutdown(struct control *control, enum control_cause cause)
{
    control_stop(control);
    tell_end(control, "SHUTDOWN", cause);
}

/* Who waits for a pause goes on to wait: the next guest is paused, too. */

void control_tell_reset(struct control *control, enum control_cause cause)
{
    tell_end(control, "RESET", cause);
    if (control)
        loop_arm(control->loop, &control->slow, SOON_NS);
}

void control_tell_stopped(struct control *control)
{
    if (!control)
        return;
    loop_disarm(&control->slow);
    control->vm->stops_long = false;
    loop_post(control->loop, &control->next);
}

void control_tell_powerdown(struct control *control)
{
    if (control)
        qmp_event(control->qmp, "POWERDOWN", NULL);
}

void control_tell_paused(struct control *control)
{
    if (!control)
        return;
    qmp_event(control->qmp, "STOP", NULL);
    commands_machine_end_stopping(control->vm, NULL);
}

void control_tell_resumed(struct control *control, bool was_paused)
{
    if (!control)
        return;
    commands_machine_end_stopping(control->vm, "the guest goes on: somebody else wants that");
    if (was_paused)
        qmp_event(control->qmp, "RESUME", NULL);
}

void control_tell_disk_failed(struct control *control, const struct control_disk_failure *failure)
{
    if (!control)
        return;
    qmp_event(control->qmp, "BLOCK_IO_ERROR",
              json_pack("{s:s,s:o,s:s,s:s,s:b,s:s}", "device", failure->disk, "node-name",
                        json_sprintf("#%s", failure->disk), "operation",
                        failure->read ? "read" : "write", "action",
                        failure->stops ? "stop" : "report", "nospace", failure->error == -ENOSPC,
                        "reason", strerror(-failure->error)));
}

void control_tell_balloon(struct control *control, uint64_t memory)
{
    if (control)
        qmp_event(control->qmp, "BALLOON_CHANGE", json_pack("{s:I}", "actual", (json_int_t)memory));
}

void control_tell_panicked(struct control *control, bool crash_loaded)
{
    if (control)
        qmp_event(control->qmp, crash_loaded ? "GUEST_CRASHLOADED" : "GUEST_PANICKED",
                  json_pack("{s:s}", "action", "run"));
}

/* ---- the end --------------------------------------------------------------------------------- */

void control_stop(struct control *control)
{
    if (!control)
        return;
    qmp_stop(control->qmp);
    commands_machine_end_stopping(control->vm, "the guest has ended");
    commands_machine_end_waiting(control->vm);
}

void control_free(struct control *control)
{
    if (!control)
        return;
    control_stop(control);
    loop_cancel(control->loop, &control->next);
    loop_disarm(&control->slow);
    listener_free(control->name_listener);
    listener_free(control->qmp_listener);
    qmp_free(control->qmp);
    free(control);
}
