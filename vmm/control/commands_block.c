/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/commands_block.h"

#include <stdio.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "block/image_ops.h"
#include "vmm/control/disk_survey.h"
#include "vmm/control/snapshot_info.h"

/* What is built here on disks' threads belongs to nobody else until it is handed over. */

/* ---- images: the disk's thread --------------------------------------------------------------- */

/* Images are named by their place: "#vda" is on top, "#vda.1" its backing file. */
static json_t *node_name(const struct vm_disk *disk, unsigned depth)
{
    return depth == 0 ? json_sprintf("#%s", disk->device)
                      : json_sprintf("#%s.%u", disk->device, depth);
}

static unsigned chain_depth(const struct block *block)
{
    unsigned depth = 0;

    for (struct block_details details; block; block = details.backing, depth++)
        block_get_details(block, &details);
    return depth - 1;
}

static json_t *qcow2_json(const struct block_details *details)
{
    return json_pack("{s:s,s:{s:s,s:b,s:i,s:b,s:b,s:s}}", "type", "qcow2", "data", "compat",
                     details->version == 2 ? "0.10" : "1.1", "lazy-refcounts",
                     details->lazy_refcounts, "refcount-bits", (int)details->refcount_bits,
                     "corrupt", details->corrupt, "extended-l2", details->extended_l2,
                     "compression-type", details->zstd ? "zstd" : "zlib");
}

static json_t *snapshots_json(const struct block_details *details)
{
    json_t *snapshots = json_array();

    for (unsigned i = 0; i < details->nsnapshots; i++)
        json_array_append_new(snapshots, snapshot_info(&details->snapshots[i]));
    return snapshots;
}

/* An image, and with `chain` its backing files, as qemu-img info has them. */
static json_t *image_json(const struct block *block, bool chain)
{
    struct block_details details;
    struct block_info info;
    json_t *image;

    block_get_details(block, &details);
    block_get_info(block, &info);
    image = json_pack("{s:o,s:s,s:I}", "filename", qmp_text(details.path), "format", info.format,
                      "virtual-size", (json_int_t)info.len);
    if (details.version > 0) {
        json_object_set_new(image, "cluster-size", json_integer(details.cluster_size));
        json_object_set_new(image, "dirty-flag", json_boolean(details.dirty));
        json_object_set_new(image, "format-specific", qcow2_json(&details));
    }
    if (details.backing_name)
        json_object_set_new(image, "backing-filename", qmp_text(details.backing_name));
    if (details.backing_format)
        json_object_set_new(image, "backing-filename-format", qmp_text(details.backing_format));
    if (details.nsnapshots > 0)
        json_object_set_new(image, "snapshots", snapshots_json(&details));
    if (chain && details.backing)
        json_object_set_new(image, "backing-image", image_json(details.backing, true));
    return image;
}

static void add_limits(json_t *node, const struct throttle_limits *limits)
{
    for (size_t i = 0; i < THROTTLE_KINDS; i++) {
        const struct throttle_limit *limit = &limits->kinds[i];
        const char *kind = throttle_kind_names[i];
        char name[32];

        json_object_set_new(node, kind, json_integer((json_int_t)limit->avg));
        if (limit->max == 0)
            continue;
        (void)snprintf(name, sizeof(name), "%s_max", kind);
        json_object_set_new(node, name, json_integer((json_int_t)limit->max));
        (void)snprintf(name, sizeof(name), "%s_max_length", kind);
        json_object_set_new(node, name, json_integer((json_int_t)limit->max_length));
    }
    if (limits->iops_size > 0)
        json_object_set_new(node, "iops_size", json_integer((json_int_t)limits->iops_size));
}

/* QEMU's BlockDeviceInfo: an image that is open. */
static json_t *node_json(const struct vm_disk *disk, const struct block_port *port,
                         const struct block *block, unsigned depth, bool chain)
{
    static const struct throttle_limits none;
    struct block_details details;
    struct block_info info;
    json_t *node;

    block_get_details(block, &details);
    block_get_info(block, &info);
    node = json_pack("{s:o,s:o,s:b,s:s,s:i,s:b,s:s,s:i,s:{s:b,s:b,s:b},s:o}", "node-name",
                     node_name(disk, depth), "file", qmp_text(details.path), "ro",
                     depth > 0 || info.readonly, "drv", info.format, "backing_file_depth",
                     (int)chain_depth(block), "encrypted", 0, "detect_zeroes", "off",
                     "write_threshold", 0, "cache", "writeback", 1, "direct", disk->direct,
                     "no-flush", disk->no_flush, "image", image_json(block, chain));
    if (details.backing)
        json_object_set_new(node, "backing_file", qmp_text(details.backing_name));
    add_limits(node, depth == 0 ? &port->throttle.limits : &none);
    return node;
}

static json_t *look_at_device(const struct vm_disk *disk, const struct block_port *port)
{
    return json_pack("{s:s,s:s,s:b,s:b,s:s*,s:o}", "device", disk->device, "type", "unknown",
                     "locked", 0, "removable", 0, "io-status", disk->io_status, "inserted",
                     node_json(disk, port, port->block, 0, true));
}

static json_t *look_at_chain(const struct vm_disk *disk, const struct block_port *port)
{
    json_t *nodes = json_array();
    const struct block *block = port->block;

    for (unsigned depth = 0; block; depth++) {
        struct block_details details;

        json_array_append_new(nodes, node_json(disk, port, block, depth, false));
        block_get_details(block, &details);
        block = details.backing;
    }
    return nodes;
}

/* ---- counters: the disk's thread ------------------------------------------------------------- */

static void add_counters(json_t *stats, const struct account *account)
{
    static const char names[][8] = {
        [ACCOUNT_READ] = "rd",
        [ACCOUNT_WRITE] = "wr",
        [ACCOUNT_FLUSH] = "flush",
        [ACCOUNT_UNMAP] = "unmap",
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const struct account_counters *counters = &account->kinds[i];
        const struct {
            const char *before;
            const char *after;
            uint64_t value;
        } members[] = {
            {"", "_operations", counters->done},
            {"failed_", "_operations", counters->failed},
            {"invalid_", "_operations", counters->refused},
            {"", "_total_time_ns", counters->total_ns},
            {"", "_bytes", counters->bytes},
        };

        for (size_t k = 0; k < ARRAY_SIZE(members) - (i == ACCOUNT_FLUSH); k++) {
            char name[40];

            (void)snprintf(name, sizeof(name), "%s%s%s", members[k].before, names[i],
                           members[k].after);
            json_object_set_new(stats, name, json_integer((json_int_t)members[k].value));
        }
    }
}

static json_t *look_at_counters(const struct vm_disk *disk, const struct block_port *port)
{
    const struct account *account = &port->account;
    json_t *stats =
        json_pack("{s:I,s:b,s:b,s:[]}", "wr_highest_offset", (json_int_t)account->highest,
                  "account_failed", 1, "account_invalid", 0, "timed_stats");

    add_counters(stats, account);
    if (account->last_ns > 0)
        json_object_set_new(stats, "idle_time_ns",
                            json_integer((json_int_t)(monotonic_ns() - account->last_ns)));
    return json_pack("{s:s,s:o,s:o}", "device", disk->device, "node-name", node_name(disk, 0),
                     "stats", stats);
}

/* ---- the commands ---------------------------------------------------------------------------- */

static void run_query_block(struct qmp_request *request)
{
    disk_survey(request, look_at_device, qmp_return);
}

/*
 * All chains in one list. Each image is in it, so none is inside of another one, as with "flat" of
 * QEMU: the list of a long chain would be too long for a connection otherwise.
 */
static void return_nodes(struct qmp_request *request, json_t *chains)
{
    json_t *nodes = json_array();
    json_t *element;
    size_t i;

    json_array_foreach(chains, i, element) json_array_extend(nodes, element);
    json_decref(chains);
    qmp_return(request, nodes);
}

static void run_query_nodes(struct qmp_request *request)
{
    disk_survey(request, look_at_chain, return_nodes);
}

static void run_query_blockstats(struct qmp_request *request)
{
    disk_survey(request, look_at_counters, qmp_return);
}

static const struct qmp_arg nodes_args[] = {{"flat", QMP_BOOLEAN, true}};

static const struct qmp_command commands[] = {
    {"query-block", run_query_block, NULL, 0},
    {"query-named-block-nodes", run_query_nodes, nodes_args, ARRAY_SIZE(nodes_args)},
    {"query-blockstats", run_query_blockstats, NULL, 0},
};

const struct qmp_commands commands_block = {commands, ARRAY_SIZE(commands)};
