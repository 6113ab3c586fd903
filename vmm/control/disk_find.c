/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/disk_find.h"

#include <errno.h>
#include <string.h>

#include "vmm/control/vm.h"
#include "vmm/disk.h"

/* NULL: there is none. */
static struct disk *find(struct control_vm *vm, const char *name)
{
    for (unsigned i = 0; i < vm->ndisks; i++) {
        struct disk *disk = vm->queries->disk(vm, i);

        if (strcmp(disk_name(disk), name) == 0)
            return disk;
    }
    return NULL;
}

struct disk *disk_find(struct qmp_request *request, const char *device)
{
    struct disk *disk = find(vm_of(request), device);

    if (!disk)
        qmp_fail(request, QMP_DEVICE_NOT_FOUND, "Device '%.64s' not found", device);
    return disk;
}

struct disk *disk_find_node(struct qmp_request *request)
{
    const char *device = qmp_string(request, "device");
    const char *node = qmp_string(request, "node-name");
    struct disk *disk;

    if (!device == !node) {
        qmp_fail(request, QMP_GENERIC_ERROR, "expected either 'device' or 'node-name'");
        return NULL;
    }
    if (device)
        return disk_find(request, device);
    disk = node[0] == '#' ? find(vm_of(request), node + 1) : NULL;
    if (!disk)
        qmp_fail(request, QMP_DEVICE_NOT_FOUND,
                 "Cannot find device='' nor node-name='%.64s' with a disk on top", node);
    return disk;
}

static void answer(void *opaque, int result, const struct err *err)
{
    struct qmp_request *request = opaque;

    if (result < 0)
        qmp_fail(request, QMP_GENERIC_ERROR, "%s", err->msg);
    else
        qmp_done(request);
}

struct disk_done disk_answers(struct qmp_request *request)
{
    return (struct disk_done){.fn = answer, .opaque = request};
}

void disk_asked(struct qmp_request *request, const struct disk *disk, int result)
{
    if (result == -EBUSY)
        qmp_fail(request, QMP_GENERIC_ERROR,
                 "Node '#%s' is busy: block device is in use by a block job", disk_name(disk));
    else if (result < 0)
        qmp_fail(request, QMP_GENERIC_ERROR, "out of memory");
}
