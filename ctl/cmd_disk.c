/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-ctl NAME resize, snapshot, throttle: disks.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "ctl/amount.h"
#include "ctl/answer.h"
#include "ctl/command.h"
#include "ctl/facts.h"
#include "ctl/limits.h"
#include "ctl/message.h"
#include "ctl/table.h"
#include "ctl/target.h"

/* A VM that is connected to, and one of its disks. */
struct session {
    const struct args *args;
    const char *disk;
    struct link *link;
    struct err err;
};

/* Connect, do it, and say what went wrong. */
static int with_disk(const struct args *args, int (*act)(struct session *session))
{
    struct session session = {.args = args, .disk = args->operands[0]};
    int r = target_open(args->target, args->timeout_ms ? args->timeout_ms : WORK_MS, &session.link,
                        &session.err);

    if (r < 0)
        return ctl_fail(&session.err);
    r = act(&session);
    link_close(session.link);
    if (r < 0) {
        err_prefix(&session.err, "%s", args->target);
        return ctl_fail(&session.err);
    }
    return CTL_OK;
}

/* Have a command carried out that returns nothing. */
static int order(struct session *session, const char *command, json_t *arguments)
{
    int r = link_ask(session->link, command, arguments, NULL, &session->err);

    if (r == 0 && session->args->json)
        puts("{}");
    return r;
}

/* What query-block says of the disk's medium, to be freed. */
static int find_medium(struct session *session, json_t **ret_inserted)
{
    json_t *blocks = NULL;
    size_t i;
    json_t *entry;
    int r = link_ask(session->link, "query-block", NULL, &blocks, &session->err);

    if (r < 0)
        return r;
    *ret_inserted = NULL;
    json_array_foreach(blocks, i, entry)
    {
        const char *name = facts_disk_name(entry);

        if (!*ret_inserted && name && strcmp(name, session->disk) == 0)
            *ret_inserted = json_incref(json_object_get(entry, "inserted"));
    }
    json_decref(blocks);
    if (!*ret_inserted)
        return err_set(&session->err, CTL_REMOTE_ERROR, "%s: there is no such disk", session->disk);
    return 0;
}

/* ---- resize ---------------------------------------------------------------------------------- */

/* The length that the operand asks for, which may be relative. */
static int new_size(struct session *session, uint64_t *ret_size)
{
    const char *text = session->args->operands[1];
    bool more = text[0] == '+';
    json_t *inserted;
    uint64_t size;
    int r;

    if (parse_size(text + more, &size) < 0)
        return err_set(&session->err, -EINVAL, "%s: expected a size such as 20G or +5G", text);
    if (more) {
        r = find_medium(session, &inserted);
        if (r < 0)
            return r;
        more =
            add_u64(size, answer_number(json_object_get(inserted, "image"), "virtual-size"), &size);
        json_decref(inserted);
        if (!more)
            size = UINT64_MAX;
    }
    if (size > INT64_MAX)
        return err_set(&session->err, -EINVAL, "%s: expected less than 8 EiB", text);
    *ret_size = size;
    return 0;
}

static int resize(struct session *session)
{
    uint64_t size = 0;
    int r = new_size(session, &size);

    if (r < 0)
        return r;
    return order(session, "block_resize",
                 json_pack("{s:s,s:I}", "device", session->disk, "size", (json_int_t)size));
}

static int run_resize(const struct args *args)
{
    return with_disk(args, resize);
}

/* ---- snapshot -------------------------------------------------------------------------------- */

/* A name of the client's folder is to mean the same to the VM. To be freed. */
static char *absolute(const char *path)
{
    char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);
    char *whole = NULL;

    if (path[0] == '/')
        return strdup(path);
    if (!here || asprintf(&whole, "%s/%s", here, path) < 0)
        whole = NULL;
    free(here);
    return whole;
}

static int snapshot_to_file(struct session *session)
{
    char *path = absolute(session->args->operands[1]);
    json_t *arguments = path ? json_pack("{s:s,s:s,s:s}", "device", session->disk, "snapshot-file",
                                         path, "format", "qcow2")
                             : NULL;
    int r;

    if (!path)
        return err_set(&session->err, -EIO,
                       "%s: expected a whole path, as the folder here has none: %s",
                       session->args->operands[1], strerror(errno));
    free(path);
    if (!arguments)
        return err_set(&session->err, -EINVAL, "%s: expected a path in UTF-8",
                       session->args->operands[1]);
    r = order(session, "blockdev-snapshot-sync", arguments);
    if (r == 0 && !session->args->json)
        printf("%s is in the new image: name that at the next start\n", session->disk);
    return r;
}

static int snapshot_inside(struct session *session, const char *command, const char *name)
{
    json_t *arguments = json_pack("{s:s,s:s}", "device", session->disk, "name", name);

    if (!arguments)
        return err_set(&session->err, -EINVAL, "%s: expected a name in UTF-8", name);
    return order(session, command, arguments);
}

static void print_snapshots(const json_t *list)
{
    struct table table;
    const json_t *entry;
    size_t i;

    table_init(&table, 2, ">ID NAME");
    json_array_foreach(list, i, entry)
    {
        table_add(&table, "%s", answer_shown(entry, "id"));
        table_add(&table, "%s", answer_shown(entry, "name"));
    }
    if (table_nrows(&table) > 0)
        table_print(&table, 0, stdout);
    else
        puts("no snapshots");
    table_done(&table);
}

/* An image without snapshots has no list of them. */
static int list_snapshots(struct session *session)
{
    json_t *none = json_array();
    const json_t *list;
    json_t *inserted;
    int r = find_medium(session, &inserted);

    if (r == 0) {
        list = json_object_get(json_object_get(inserted, "image"), "snapshots");
        if (!json_is_array(list))
            list = none;
        if (session->args->json)
            answer_print(list, stdout);
        else
            print_snapshots(list);
        json_decref(inserted);
    }
    json_decref(none);
    return r;
}

static int snapshot(struct session *session)
{
    const struct args *args = session->args;

    if (args->options & OPTION_INTERNAL)
        return snapshot_inside(session, "blockdev-snapshot-internal-sync", args->internal);
    if (args->options & OPTION_DELETE)
        return snapshot_inside(session, "blockdev-snapshot-delete-internal-sync", args->delete);
    return args->noperands > 1 ? snapshot_to_file(session) : list_snapshots(session);
}

static int run_snapshot(const struct args *args)
{
    int nways = (args->noperands > 1) + !!(args->options & OPTION_INTERNAL) +
                !!(args->options & OPTION_DELETE);

    if (nways > 1)
        return ctl_usage("snapshot: expected one of FILE, --internal and --delete");
    return with_disk(args, snapshot);
}

/* ---- throttle -------------------------------------------------------------------------------- */

static void show_limits(const struct session *session, const json_t *limits)
{
    struct table table;
    size_t n;

    if (session->args->json) {
        answer_print(limits, stdout);
        return;
    }
    table_init(&table, 2, "");
    for (size_t i = 0; limits_keys[i]; i++) {
        char buf[AMOUNT_MAX];

        if (!limits_is_set(limits, limits_keys[i]))
            continue;
        table_add(&table, "%s", limits_keys[i]);
        if (limits_keys[i][0] == 'b' && !strstr(limits_keys[i], "length"))
            table_add(&table, "%s", amount_size(answer_number(limits, limits_keys[i]), buf));
        else
            table_add(&table, "%" PRIu64, answer_number(limits, limits_keys[i]));
    }
    n = table_nrows(&table);
    if (n > 0)
        table_print(&table, 0, stdout);
    else
        puts("no limits");
    table_done(&table);
}

static int change_limits(struct session *session, json_t *limits)
{
    const struct args *args = session->args;

    for (int i = 1; i < args->noperands; i++) {
        int r = 0;

        if (strcmp(args->operands[i], "off") == 0)
            limits_clear(limits);
        else
            r = limits_set(limits, args->operands[i], &session->err);
        if (r < 0)
            return r;
    }
    (void)json_object_set_new(limits, "device", json_string(session->disk));
    return order(session, "block_set_io_throttle", json_incref(limits));
}

static int throttle(struct session *session)
{
    json_t *inserted;
    json_t *limits;
    int r = find_medium(session, &inserted);

    if (r < 0)
        return r;
    limits = limits_of(inserted);
    json_decref(inserted);
    if (session->args->noperands > 1)
        r = change_limits(session, limits);
    else
        show_limits(session, limits);
    json_decref(limits);
    return r;
}

static int run_throttle(const struct args *args)
{
    return with_disk(args, throttle);
}

/* ---------------------------------------------------------------------------------------------- */

const struct command command_resize = {
    .name = "resize",
    .run = run_resize,
    .min = 2,
    .max = 2,
    .takes_disk = true,
    .synopsis = "DISK [+]SIZE",
    .help = "make a disk longer: SIZE in all, or with + by that much",
};

const struct command command_snapshot = {
    .name = "snapshot",
    .run = run_snapshot,
    .min = 1,
    .max = 2,
    .options = OPTION_INTERNAL | OPTION_DELETE,
    .takes_disk = true,
    .synopsis = "DISK [FILE | --internal TAG | --delete TAG]",
    .help = "go on in a new overlay FILE, or keep or delete a snapshot inside the image; without\n"
            "      any, list those",
};

const struct command command_throttle = {
    .name = "throttle",
    .run = run_throttle,
    .min = 1,
    .max = -1,
    .takes_disk = true,
    .synopsis = "DISK [KEY=VALUE... | off]",
    .help =
        "change limits (bps, iops, bps_rd, iops_wr_max, ... as of --disk; 0: none), or show them",
};
