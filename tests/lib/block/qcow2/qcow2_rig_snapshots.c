/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of a rig's image: taken, applied, deleted, and looked for after a power cut.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "tests/lib/block/qcow2/qcow2_rig.h"

#define SECTOR BLOCK_SECTOR_SIZE

static void die(const char *what)
{
    fprintf(stderr, "snapshots: %s\n", what);
    abort();
}

uint64_t *qcow2_rig_read_stamps(struct block *block)
{
    uint64_t n = block->len / SECTOR;
    uint8_t *data = malloc(n * SECTOR);
    uint64_t *stamps = calloc(n, sizeof(*stamps));

    if (!data || !stamps)
        die("no memory");
    if (mem_block_read(block, 0, data, n * SECTOR) < 0) {
        free(stamps);
        stamps = NULL;
    }
    for (uint64_t i = 0; stamps && i < n; i++)
        if (!history_read_stamp(data + i * SECTOR, &stamps[i]))
            die("a sector is a mixture");
    free(data);
    return stamps;
}

static bool is_there(const struct qcow2_rig_snapshot *snapshot)
{
    return snapshot->created != SIZE_MAX && snapshot->deleted == SIZE_MAX;
}

static unsigned count(const struct qcow2_rig *rig)
{
    unsigned n = 0;

    for (unsigned i = 0; i < rig->nsnapshots; i++)
        n += is_there(&rig->snapshots[i]);
    return n;
}

static struct qcow2_rig_snapshot *pick(struct qcow2_rig *rig)
{
    struct qcow2_rig_snapshot *snapshot;

    do {
        snapshot = &rig->snapshots[qcow2_rig_random(rig, rig->nsnapshots)];
    } while (!is_there(snapshot));
    return snapshot;
}

bool qcow2_rig_has_snapshot(const struct qcow2_rig *rig)
{
    return count(rig) > 0;
}

/* Snapshots need counts that hold all owners of a cluster, and the data inside the image. */
bool qcow2_rig_can_take_snapshot(const struct qcow2_rig *rig)
{
    return rig->nsnapshots < QCOW2_RIG_SNAPSHOTS_MAX && count(rig) < 3 &&
           rig->layout.refcount_order >= 3 && rig->layout.data == QCOW2_DATA_INSIDE;
}

void qcow2_rig_take_snapshot(struct qcow2_rig *rig)
{
    struct qcow2_rig_snapshot *snapshot = &rig->snapshots[rig->nsnapshots];
    struct block_snapshot options = {.name = snapshot->name};
    struct err err = {0};
    size_t begin;

    *snapshot = (struct qcow2_rig_snapshot){.created = SIZE_MAX, .deleted = SIZE_MAX};
    snprintf(snapshot->name, sizeof(snapshot->name), "name%u", rig->first_name + rig->nsnapshots);
    snapshot->nsectors = rig->nsectors;
    snapshot->stamps = qcow2_rig_read_stamps(rig->block);
    if (!snapshot->stamps) {
        rig->failures++;
        return;
    }
    rig->nsnapshots++;
    begin = qcow2_rig_now(rig);
    if (block_snapshot_create(rig->block, &options, &err) < 0) {
        rig->failures++;
        return;
    }
    snapshot->created = qcow2_rig_now(rig);
    qcow2_rig_flushed(rig, begin);
}

void qcow2_rig_apply_snapshot(struct qcow2_rig *rig)
{
    const struct qcow2_rig_snapshot *snapshot = pick(rig);
    struct qcow2_rig_change change = qcow2_rig_change_begin(rig, snapshot->nsectors);
    struct err err = {0};

    for (uint64_t i = 0; i < snapshot->nsectors; i++)
        history_put(&rig->history, change.event, i, snapshot->stamps[i]);
    qcow2_rig_change_end(rig, &change, block_snapshot_apply(rig->block, snapshot->name, &err) == 0);
}

void qcow2_rig_delete_snapshot(struct qcow2_rig *rig)
{
    struct qcow2_rig_snapshot *snapshot = pick(rig);
    size_t begin = qcow2_rig_now(rig);
    struct err err = {0};

    snapshot->deleted = begin;
    if (block_snapshot_delete(rig->block, snapshot->name, &err) < 0)
        rig->failures++;
    else
        qcow2_rig_flushed(rig, begin);
}

void qcow2_rig_find_snapshots(struct qcow2_rig *rig, struct block *block, struct mem_disk *disks)
{
    struct block_snapshot *list = NULL;
    struct err err = {0};
    unsigned n = 0;

    if (rig->layout.data == QCOW2_DATA_INSIDE && block_snapshot_list(block, &list, &n, &err) < 0)
        die(err.msg);
    if (n > QCOW2_RIG_SNAPSHOTS_MAX)
        die("too many");
    for (; rig->nsnapshots < n; rig->nsnapshots++) {
        struct qcow2_rig_snapshot *snapshot = &rig->snapshots[rig->nsnapshots];
        struct mem_env env;
        struct block *shown = qcow2_rig_open(&env, disks, true);

        *snapshot = (struct qcow2_rig_snapshot){.deleted = SIZE_MAX};
        snprintf(snapshot->name, sizeof(snapshot->name), "%s", list[rig->nsnapshots].name);
        if (block_snapshot_show(shown, snapshot->name, &err) < 0)
            die(err.msg);
        snapshot->nsectors = shown->len / SECTOR;
        snapshot->stamps = qcow2_rig_read_stamps(shown);
        if (!snapshot->stamps || block_close(shown) < 0)
            die("cannot be read");
    }
    block_snapshot_list_free(list, n);
}

static const char *verify_one(const struct qcow2_rig_snapshot *snapshot, struct mem_disk *disks)
{
    static char text[128];
    struct mem_env env;
    struct block *block = qcow2_rig_open(&env, disks, true);
    uint64_t *stamps = NULL;
    struct err err = {0};

    text[0] = '\0';
    if (block_snapshot_show(block, snapshot->name, &err) < 0)
        snprintf(text, sizeof(text), "snapshot %s: %.80s", snapshot->name, err.msg);
    else if (block->len / SECTOR != snapshot->nsectors)
        snprintf(text, sizeof(text), "snapshot %s has another length", snapshot->name);
    else
        stamps = qcow2_rig_read_stamps(block);
    if (text[0] == '\0' &&
        (!stamps || memcmp(stamps, snapshot->stamps, snapshot->nsectors * sizeof(*stamps)) != 0))
        snprintf(text, sizeof(text), "snapshot %s shows other contents", snapshot->name);
    free(stamps);
    if (block_close(block) < 0)
        die("cannot close an image that was only read");
    return text[0] ? text : NULL;
}

const char *qcow2_rig_verify_snapshots(struct qcow2_rig *rig, struct mem_disk *disks, size_t at)
{
    const char *wrong = NULL;

    for (unsigned i = 0; i < rig->nsnapshots && !wrong; i++)
        if (rig->snapshots[i].created <= at && rig->snapshots[i].deleted > at)
            wrong = verify_one(&rig->snapshots[i], disks);
    return wrong;
}
