/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/disk_find.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/bytes.h"
#include "base/parse.h"
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

bool disk_find_depth(const struct disk *disk, const char *node, unsigned *ret_depth)
{
    const char *name = disk_name(disk);
    const char *rest;
    uint64_t depth = 0;

    if (node[0] != '#' || strncmp(node + 1, name, strlen(name)) != 0)
        return false;
    rest = node + 1 + strlen(name);
    if (*rest && (*rest != '.' || parse_u64(rest + 1, &depth) < 0 || depth == 0))
        return false;
    *ret_depth = (unsigned)min_u64(depth, UINT_MAX);
    return true;
}

/* Any image of any disk. */
static bool is_node(struct control_vm *vm, const char *node)
{
    unsigned depth;

    for (unsigned i = 0; i < vm->ndisks; i++)
        if (disk_find_depth(vm->queries->disk(vm, i), node, &depth))
            return true;
    return false;
}

struct disk *disk_find_top(struct qmp_request *request, bool streams)
{
    const char *device = qmp_string(request, "device");
    struct disk *disk = find(vm_of(request), device[0] == '#' ? device + 1 : device);

    if (disk)
        return disk;
    if (is_node(vm_of(request), device))
        qmp_fail(request, QMP_GENERIC_ERROR,
                 streams ? "Node '%.64s': only the image on top of a disk takes over others"
                         : "Need a root block node: '%.64s' is not on top of a disk",
                 device);
    else if (streams)
        qmp_fail(request, QMP_GENERIC_ERROR, "Cannot find device='%.64s' nor node-name='%.64s'",
                 device, device);
    else
        qmp_fail(request, QMP_DEVICE_NOT_FOUND, "Device '%.64s' not found", device);
    return NULL;
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
