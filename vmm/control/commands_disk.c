/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/commands_disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/throttle.h"
#include "vmm/control/disk_find.h"
#include "vmm/control/snapshot_info.h"
#include "vmm/disk.h"
#include "vmm/disk_ops.h"

/* ---- length ---------------------------------------------------------------------------------- */

static void run_resize(struct qmp_request *request)
{
    json_int_t size = qmp_integer(request, "size", 0);
    struct disk *disk = disk_find_node(request);

    if (!disk)
        return;
    if (size < 0) {
        qmp_fail(request, QMP_GENERIC_ERROR, "Parameter 'size' expects a >0 size");
        return;
    }
    disk_asked(request, disk, disk_resize(disk, (uint64_t)size, disk_answers(request)));
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* Negative numbers become some that are too large. */
static uint64_t number(const struct qmp_request *request, const char *kind, const char *suffix,
                       json_int_t otherwise)
{
    char name[32];

    (void)snprintf(name, sizeof(name), "%s%s", kind, suffix);
    return (uint64_t)qmp_integer(request, name, otherwise);
}

static void run_throttle(struct qmp_request *request)
{
    const char *id = qmp_string(request, "id");
    const char *device = qmp_string(request, "device");
    struct throttle_limits limits;
    struct disk *disk;
    struct err err;

    if (!id == !device) {
        qmp_fail(request, QMP_GENERIC_ERROR, "expected either 'device' or 'id'");
        return;
    }
    disk = disk_find(request, id ? id : device);
    if (!disk)
        return;
    for (unsigned i = 0; i < THROTTLE_KINDS; i++) {
        const char *kind = throttle_kind_names[i];

        limits.kinds[i] = (struct throttle_limit){
            .avg = number(request, kind, "", 0),
            .max = number(request, kind, "_max", 0),
            .max_length = number(request, kind, "_max_length", 1),
        };
    }
    limits.iops_size = (uint64_t)qmp_integer(request, "iops_size", 0);
    if (throttle_limits_check(&limits, &err) < 0) {
        qmp_fail(request, QMP_GENERIC_ERROR, "%s", err.msg);
        return;
    }
    disk_asked(request, disk, disk_set_limits(disk, &limits, disk_answers(request)));
}

/* ---- snapshots ------------------------------------------------------------------------------- */

static void run_snapshot(struct qmp_request *request)
{
    const char *path = qmp_string(request, "snapshot-file");
    const char *format = qmp_string(request, "format");
    const char *mode = qmp_string(request, "mode");
    struct disk *disk;

    if (format && strcmp(format, "qcow2") != 0) {
        qmp_fail(request, QMP_GENERIC_ERROR, "format '%.64s': expected qcow2: an overlay is one",
                 format);
        return;
    }
    if (mode && strcmp(mode, "absolute-paths") != 0) {
        qmp_fail(request, QMP_GENERIC_ERROR,
                 "mode '%.64s': expected absolute-paths: the file is made", mode);
        return;
    }
    disk = disk_find_node(request);
    if (disk)
        disk_asked(request, disk, disk_snapshot_overlay(disk, path, disk_answers(request)));
}

static void run_internal(struct qmp_request *request)
{
    const char *name = qmp_string(request, "name");
    struct disk *disk = disk_find(request, qmp_string(request, "device"));

    if (!disk)
        return;
    if (!*name)
        qmp_fail(request, QMP_GENERIC_ERROR, "Name is empty");
    else
        disk_asked(request, disk, disk_snapshot_create(disk, name, disk_answers(request)));
}

struct deletion {
    struct qmp_request *request;
    struct block_snapshot deleted;
};

static void answer_deletion(void *opaque, int result, const struct err *err)
{
    struct deletion *deletion = opaque;

    if (result < 0) {
        qmp_fail(deletion->request, QMP_GENERIC_ERROR, "%s", err->msg);
    } else {
        qmp_return(deletion->request, snapshot_info(&deletion->deleted));
        free(deletion->deleted.id);
        free(deletion->deleted.name);
    }
    free(deletion);
}

static void run_delete_internal(struct qmp_request *request)
{
    const char *id = qmp_string(request, "id");
    const char *name = qmp_string(request, "name");
    struct disk *disk = disk_find(request, qmp_string(request, "device"));
    struct deletion *deletion;
    int r = -ENOMEM;

    if (!disk)
        return;
    if (!id && !name) {
        qmp_fail(request, QMP_GENERIC_ERROR, "Name or id must be provided");
        return;
    }
    deletion = calloc(1, sizeof(*deletion));
    if (deletion) {
        deletion->request = request;
        r = disk_snapshot_delete(disk, id, name, &deletion->deleted,
                                 (struct disk_done){answer_deletion, deletion});
    }
    if (r < 0)
        free(deletion);
    disk_asked(request, disk, r);
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct qmp_arg resize_args[] = {
    {"device", QMP_STRING, true}, {"node-name", QMP_STRING, true}, {"size", QMP_INTEGER, false}};

static const struct qmp_arg throttle_args[] = {
    {"device", QMP_STRING, true},
    {"id", QMP_STRING, true},
    {"bps", QMP_INTEGER, false},
    {"bps_rd", QMP_INTEGER, false},
    {"bps_wr", QMP_INTEGER, false},
    {"iops", QMP_INTEGER, false},
    {"iops_rd", QMP_INTEGER, false},
    {"iops_wr", QMP_INTEGER, false},
    {"bps_max", QMP_INTEGER, true},
    {"bps_rd_max", QMP_INTEGER, true},
    {"bps_wr_max", QMP_INTEGER, true},
    {"iops_max", QMP_INTEGER, true},
    {"iops_rd_max", QMP_INTEGER, true},
    {"iops_wr_max", QMP_INTEGER, true},
    {"bps_max_length", QMP_INTEGER, true},
    {"bps_rd_max_length", QMP_INTEGER, true},
    {"bps_wr_max_length", QMP_INTEGER, true},
    {"iops_max_length", QMP_INTEGER, true},
    {"iops_rd_max_length", QMP_INTEGER, true},
    {"iops_wr_max_length", QMP_INTEGER, true},
    {"iops_size", QMP_INTEGER, true},
};

static const struct qmp_arg snapshot_args[] = {
    {"device", QMP_STRING, true},         {"node-name", QMP_STRING, true},
    {"snapshot-file", QMP_STRING, false}, {"format", QMP_STRING, true},
    {"mode", QMP_STRING, true},
};

static const struct qmp_arg internal_args[] = {{"device", QMP_STRING, false},
                                               {"name", QMP_STRING, false}};

static const struct qmp_arg delete_args[] = {
    {"device", QMP_STRING, false}, {"id", QMP_STRING, true}, {"name", QMP_STRING, true}};

static const struct qmp_command commands[] = {
    {"block_resize", run_resize, resize_args, ARRAY_SIZE(resize_args)},
    {"block_set_io_throttle", run_throttle, throttle_args, ARRAY_SIZE(throttle_args)},
    {"blockdev-snapshot-sync", run_snapshot, snapshot_args, ARRAY_SIZE(snapshot_args)},
    {"blockdev-snapshot-internal-sync", run_internal, internal_args, ARRAY_SIZE(internal_args)},
    {"blockdev-snapshot-delete-internal-sync", run_delete_internal, delete_args,
     ARRAY_SIZE(delete_args)},
};

const struct qmp_commands commands_disk = {commands, ARRAY_SIZE(commands)};
