/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vcpu.h"

static struct remote *remote_of(struct control_vm *vm)
{
    return container_of(vm, struct remote, vm);
}

static enum vm_state get_state(struct control_vm *vm)
{
    const struct remote *remote = remote_of(vm);

    if (!remote->machine)
        return VM_NO_GUEST;
    if (!remote->wants_pause)
        return VM_RUNNING;
    if (!remote->paused)
        return VM_PAUSING;
    return remote->io_error ? VM_IO_ERROR : VM_PAUSED;
}

static bool get_cpu(struct control_vm *vm, unsigned index, struct vm_cpu *ret_cpu)
{
    const struct remote *remote = remote_of(vm);

    if (!remote->machine)
        return false;
    ret_cpu->thread_id = vcpu_thread_id(machine_vcpu(remote->machine, index));
    return true;
}

static const struct vm_queries queries = {
    .state = get_state,
    .get_cpu = get_cpu,
};

static char *serial_port_of(const struct config *config)
{
    char *text = NULL;
    int n = 0;

    switch (config->serial) {
    case SERIAL_STDIO:
        return strdup("stdio");
    case SERIAL_NULL:
        return strdup("null");
    case SERIAL_PTY:
        return strdup("pty");
    case SERIAL_FILE:
        n = asprintf(&text, "file:%s", config->serial_path);
        break;
    case SERIAL_UNIX:
        n = asprintf(&text, "unix:%s,server=on", config->serial_path);
        break;
    }
    return n < 0 ? NULL : text;
}

int remote_init(struct remote *remote, const struct machine_parts *parts,
                const struct vm_actions *actions, struct err *err)
{
    const struct config *config = parts->config;

    remote->parts = parts;
    remote->serial_port = serial_port_of(config);
    if (!remote->serial_port)
        return err_set(err, -ENOMEM, "out of memory");
    remote->vm = (struct control_vm){
        .queries = &queries,
        .actions = actions,
        .name = config->name,
        .ncpus = config->ncpus,
        .memory = config->memory,
        .serial_port = remote->serial_port,
    };
    return 0;
}

void remote_done(struct remote *remote)
{
    free(remote->serial_port);
}
