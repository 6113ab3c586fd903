/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rig's images in files of the host, for the engine's own ways to read and write them.
 */
#include <stdlib.h>

#include "tests/lib/block/qcow2/qcow2_rig.h"
#include "tests/lib/scratch.h"

static void die(const char *what)
{
    fprintf(stderr, "a rig in files: %s\n", what);
    abort();
}

void qcow2_rig_move_to_files(struct qcow2_rig *rig, struct block_options *options)
{
    struct err err = {0};

    if (qcow2_rig_close(rig) < 0)
        die("cannot close the image");
    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++)
        mem_disk_save(&rig->disks[i], scratch_path(rig->disks[i].name));
    options->path = scratch_path(rig->disks[QCOW2_RIG_TOP].name);
    if (block_open(options, &rig->block, &err) < 0)
        die(err.msg);
    rig->in_files = true;
}

void qcow2_rig_move_back(struct qcow2_rig *rig)
{
    if (qcow2_rig_close(rig) < 0)
        die("cannot close the image");
    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++)
        mem_disk_load(&rig->disks[i], scratch_path(rig->disks[i].name));
    rig->in_files = false;
}
