/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/vm.h"

#include <stdio.h>

#include "vmm/control/qmp.h"

struct control_vm *vm_of(const struct qmp_request *request)
{
    return qmp_opaque(request);
}

const char *vm_state_name(enum vm_state state)
{
    switch (state) {
    case VM_RUNNING:
    case VM_PAUSING:
        return "running";
    case VM_DEBUG:
        return "debug";
    case VM_PAUSED:
        return "paused";
    case VM_PRELAUNCH:
        return "prelaunch";
    case VM_IO_ERROR:
        return "io-error";
    case VM_STOPPING:
    case VM_NO_GUEST:
        return "shutdown";
    }
    return "shutdown";
}

void vm_cpu_path(unsigned index, char path[VM_CPU_PATH_MAX])
{
    (void)snprintf(path, VM_CPU_PATH_MAX, "/machine/cpu[%u]", index);
}
