/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/qcow2/qemu_oracle.h"

#include "base/bytes.h"
#include "tests/lib/scratch.h"

/* What `qemu-img check` says of an image with leaked clusters and nothing worse. */
#define QEMU_LEAKS 3

const char *qemu_oracle_check(const struct mem_disk *disks, unsigned ndisks,
                              const uint8_t *contents, uint64_t len)
{
    const char *image = disks[0].name;
    bool dirty = load_be32(disks[0].data + 4) == 3 && (disks[0].data[79] & 1);
    int status;

    for (unsigned i = 0; i < ndisks; i++)
        scratch_save(disks[i].name, disks[i].data, disks[i].len);
    if (dirty && scratch_shell("qemu-img check -q -f qcow2 -r all %s >> log 2>&1", image) != 0)
        return "qemu-img cannot repair a dirty image";
    status = scratch_shell("qemu-img check -q -f qcow2 %s >> log 2>&1", image);
    if (status != 0 && status != QEMU_LEAKS)
        return "qemu-img check finds errors";
    if (!contents)
        return NULL;
    scratch_save("contents", contents, len);
    if (scratch_shell("qemu-img compare -q -f raw -F qcow2 contents %s >> log 2>&1", image) != 0)
        return "qemu-img compare finds other contents";
    return NULL;
}
