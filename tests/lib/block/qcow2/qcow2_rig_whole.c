/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of a rig's whole image: longer and shorter disks, commit, repair.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/mem_file.h"
#include "tests/lib/block/qcow2/qcow2_rig.h"

#define SECTOR BLOCK_SECTOR_SIZE

/* ---- resize ---------------------------------------------------------------------------------- */

static void resize(struct qcow2_rig *rig, uint64_t nsectors, enum block_prealloc prealloc)
{
    struct block_resize_options options = {
        .len = nsectors * SECTOR, .prealloc = prealloc, .shrink = true};
    struct qcow2_rig_change change;
    struct err err = {0};

    if (nsectors == rig->nsectors)
        return; /* which makes nothing durable */
    change = qcow2_rig_change_begin(rig, nsectors);
    qcow2_rig_change_end(rig, &change, block_resize(rig->block, &options, &err) == 0);
}

/* Version 2 does not say how long the disk was when a snapshot was taken. */
static bool can_resize(const struct qcow2_rig *rig)
{
    return rig->layout.version == 3 || !qcow2_rig_has_snapshot(rig);
}

bool qcow2_rig_can_shrink(const struct qcow2_rig *rig)
{
    return can_resize(rig) && rig->nsectors > 1;
}

bool qcow2_rig_can_grow(const struct qcow2_rig *rig)
{
    return can_resize(rig) && rig->nsectors < rig->max_sectors;
}

void qcow2_rig_grow(struct qcow2_rig *rig)
{
    uint64_t more = 1 + qcow2_rig_random(rig, (unsigned)(rig->max_sectors - rig->nsectors));

    resize(rig, rig->nsectors + more, (enum block_prealloc)qcow2_rig_random(rig, 4));
}

/* Not by much as a rule, so that there is something left to work with. */
void qcow2_rig_shrink(struct qcow2_rig *rig)
{
    unsigned most = (unsigned)rig->nsectors - 1;

    if (qcow2_rig_random(rig, 4))
        most = most / 4 + 1;
    resize(rig, rig->nsectors - 1 - qcow2_rig_random(rig, most), BLOCK_PREALLOC_OFF);
}

/* ---- what needs the image opened in another way ---------------------------------------------- */

/* False if that fails; the image is closed then. */
static bool open_again(struct qcow2_rig *rig, struct block_options options)
{
    struct err err = {0};

    if (rig->block)
        (void)qcow2_rig_close(rig); /* counts in rig->failures */
    options.path = rig->disks[QCOW2_RIG_TOP].name;
    options.format = BLOCK_FORMAT_QCOW2;
    options.discard = true;
    if (block_open_in(&rig->env.env, &options, &rig->block, &err) == 0)
        return true;
    rig->failures++;
    return false;
}

static void open_as_usual(struct qcow2_rig *rig)
{
    if (rig->block)
        (void)qcow2_rig_close(rig); /* counts in rig->failures */
    qcow2_rig_reopen(rig);
}

/* Snapshots show what the backing file has, and that changes. */
bool qcow2_rig_can_commit(const struct qcow2_rig *rig)
{
    return rig->layout.backing != QCOW2_ALONE && !qcow2_rig_has_snapshot(rig);
}

/* The disk shows the same all the time. */
void qcow2_rig_commit(struct qcow2_rig *rig)
{
    struct block_commit_options options = {.keep = qcow2_rig_random(rig, 4) == 0};
    struct err err = {0};

    if (open_again(rig, (struct block_options){.write_backing = 1}) &&
        block_commit(rig->block, &options, &err) < 0)
        rig->failures++;
    open_as_usual(rig);
}

/*
 * Count a cluster that nobody uses. To the disk this is an operation like others, so a power cut
 * may undo it.
 */
static void leak_cluster(struct qcow2_rig *rig)
{
    struct mem_disk *disk = &rig->disks[QCOW2_RIG_TOP];
    struct file *file = mem_file_new(disk, true);
    uint8_t byte;
    uint64_t at;

    if (qcow2_image_find_leak(disk, &at, &byte) && file_write(file, at, &byte, 1) < 0)
        rig->failures++;
    file_free(file);
}

void qcow2_rig_repair(struct qcow2_rig *rig)
{
    struct block_check_result result = {0};
    struct err err = {0};

    (void)qcow2_rig_close(rig); /* counts in rig->failures */
    leak_cluster(rig);
    if (open_again(rig, (struct block_options){.flags = BLOCK_OPEN_CHECK}) &&
        (block_check(rig->block, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS, NULL, &result, &err) < 0 ||
         result.leaks > 0 || result.corruptions > 0))
        rig->failures++;
    open_as_usual(rig);
}
