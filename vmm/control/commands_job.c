/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/commands_job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "vmm/control/disk_find.h"
#include "vmm/control/vm.h"
#include "vmm/disk.h"
#include "vmm/disk_jobs.h"

/* A job that a client asked for; on control_vm.jobs until it ends. */
struct client_job {
    struct list link;
    struct qmp *qmp;
    struct qmp_request *request; /* that asked for it; NULL: it has begun */
    struct disk *disk;
    const char *type;
    char *id; /* what clients call it */
};

static struct client_job *job_of(struct list *link)
{
    return container_of(link, struct client_job, link);
}

static struct client_job *find_job(struct control_vm *vm, const char *id)
{
    for (struct list *link = vm->jobs.next; link != &vm->jobs; link = link->next)
        if (strcmp(job_of(link)->id, id) == 0)
            return job_of(link);
    return NULL;
}

/* What all answers and events have; `job` is how far it is. */
static json_t *describe(const struct client_job *client, const struct block_job *job)
{
    return json_pack("{s:s,s:o,s:I,s:I,s:I}", "type", client->type, "device", qmp_text(client->id),
                     "len", (json_int_t)block_job_get(&job->len), "offset",
                     (json_int_t)block_job_get(&job->offset), "speed",
                     (json_int_t)block_job_get(&job->speed));
}

/* ---- beginning and end ----------------------------------------------------------------------- */

static void free_job(struct client_job *client)
{
    free(client->id);
    free(client);
}

static void begun(void *opaque)
{
    struct client_job *client = opaque;

    qmp_done(client->request);
    client->request = NULL;
}

static void ready(void *opaque)
{
    struct client_job *client = opaque;

    qmp_event(client->qmp, "BLOCK_JOB_READY", describe(client, disk_job(client->disk)));
}

/* What the host refused to a job. */
static void tell_failure(const struct client_job *client, enum block_job_failure failure)
{
    if (failure != BLOCK_JOB_NO_FAILURE)
        qmp_event(client->qmp, "BLOCK_JOB_ERROR",
                  json_pack("{s:o,s:s,s:s}", "device", qmp_text(client->id), "operation",
                            failure == BLOCK_JOB_READ_FAILED ? "read" : "write", "action",
                            "report"));
}

static void tell_end(const struct client_job *client, int result, const struct err *err)
{
    const struct block_job *job = disk_job(client->disk);
    json_t *data = describe(client, job);

    if (result < 0 && result != -ECANCELED) {
        log_warn("%s of disk %s failed: %s", client->type, disk_name(client->disk), err->msg);
        tell_failure(client, job->failure);
        json_object_set_new(data, "error", qmp_text(err->msg));
    }
    qmp_event(client->qmp, result == -ECANCELED ? "BLOCK_JOB_CANCELLED" : "BLOCK_JOB_COMPLETED",
              data);
}

static void ended(void *opaque, int result, const struct err *err)
{
    struct client_job *client = opaque;

    if (client->request)
        qmp_fail(client->request, QMP_GENERIC_ERROR, "%s", err->msg);
    else
        tell_end(client, result, err);
    list_remove(&client->link);
    free_job(client);
}

static struct client_job *new_job(struct qmp_request *request, struct disk *disk, const char *type,
                                  const char *id)
{
    struct client_job *client = calloc(1, sizeof(*client));

    if (!client)
        return NULL;
    client->qmp = qmp_of(request);
    client->request = request;
    client->disk = disk;
    client->type = type;
    client->id = strdup(id);
    if (client->id)
        return client;
    free(client);
    return NULL;
}

static void begin_job(struct qmp_request *request, struct disk *disk, const char *type,
                      const char *id, const struct disk_job_wish *wish)
{
    struct client_job *client = new_job(request, disk, type, id);
    const struct disk_job_events events = {begun, ready, ended, client};
    int r = -ENOMEM;

    if (client)
        r = strcmp(type, "stream") == 0 ? disk_stream(disk, wish, &events)
                                        : disk_commit(disk, wish, &events);
    if (r == 0)
        list_add_tail(&vm_of(request)->jobs, &client->link);
    else if (client)
        free_job(client);
    disk_asked(request, disk, r);
}

/* ---- what a client wants done ---------------------------------------------------------------- */

/* True, and the request has failed. */
static bool fail_speed(struct qmp_request *request, json_int_t speed)
{
    if (speed >= 0)
        return false;
    qmp_fail(request, QMP_GENERIC_ERROR, "Parameter 'speed' expects a non-negative value");
    return true;
}

/* Likewise. What is wished for, but not what happens here. */
static bool fail_wishes(struct qmp_request *request)
{
    const char *on_error = qmp_string(request, "on-error");

    if (on_error && strcmp(on_error, "report") != 0)
        qmp_fail(request, QMP_GENERIC_ERROR, "on-error '%.64s': expected report", on_error);
    else if (!qmp_boolean(request, "auto-finalize", true))
        qmp_fail(request, QMP_GENERIC_ERROR,
                 "auto-finalize: expected true: jobs end by themselves");
    else if (!qmp_boolean(request, "auto-dismiss", true))
        qmp_fail(request, QMP_GENERIC_ERROR, "auto-dismiss: expected true: no job stays");
    else
        return fail_speed(request, qmp_integer(request, "speed", 0));
    return true;
}

/*
 * The image that a request says by a path, or by the name of a node of the disk. False: the request
 * has failed.
 */
static bool read_layer(struct qmp_request *request, const struct disk *disk, const char *path_arg,
                       const char *node_arg, struct disk_layer *ret_layer)
{
    const char *node = qmp_string(request, node_arg);

    *ret_layer = (struct disk_layer){.path = path_arg ? qmp_string(request, path_arg) : NULL};
    if (!node)
        return true;
    if (ret_layer->path) {
        qmp_fail(request, QMP_GENERIC_ERROR, "'%s' and '%s' are mutually exclusive", node_arg,
                 path_arg);
        return false;
    }
    ret_layer->by_depth = true;
    if (disk_find_depth(disk, node, &ret_layer->depth))
        return true;
    qmp_fail(request, QMP_GENERIC_ERROR, "Cannot find device='' nor node-name='%.64s'", node);
    return false;
}

static void run_job(struct qmp_request *request, struct disk *disk, const char *type,
                    struct disk_job_wish *wish)
{
    const char *id = qmp_string(request, "job-id");

    if (!id)
        id = disk_name(disk);
    wish->backing_file = qmp_string(request, "backing-file");
    wish->speed = (uint64_t)qmp_integer(request, "speed", 0);
    if (fail_wishes(request))
        return;
    if (find_job(vm_of(request), id))
        qmp_fail(request, QMP_GENERIC_ERROR, "Job ID '%.64s' already in use", id);
    else
        begin_job(request, disk, type, id, wish);
}

static void run_stream(struct qmp_request *request)
{
    struct disk *disk = disk_find_top(request, true);
    struct disk_job_wish wish = {0};

    if (!disk || !read_layer(request, disk, "base", "base-node", &wish.base) ||
        !read_layer(request, disk, NULL, "bottom", &wish.bottom))
        return;
    if (wish.bottom.by_depth && (wish.base.path || wish.base.by_depth))
        qmp_fail(request, QMP_GENERIC_ERROR,
                 "'base' and 'bottom' cannot be specified at the same time");
    else
        run_job(request, disk, "stream", &wish);
}

static void run_commit(struct qmp_request *request)
{
    struct disk *disk = disk_find_top(request, false);
    struct disk_job_wish wish = {0};

    if (disk && read_layer(request, disk, "top", "top-node", &wish.top) &&
        read_layer(request, disk, "base", "base-node", &wish.base))
        run_job(request, disk, "commit", &wish);
}

/* ---- jobs that are there --------------------------------------------------------------------- */

static const char *status_of(bool paused, bool ready)
{
    if (ready)
        return paused ? "standby" : "ready";
    return paused ? "paused" : "running";
}

static json_t *job_json(const struct client_job *client)
{
    const struct block_job *job = disk_job(client->disk);
    json_t *json = describe(client, job);
    bool paused = block_job_is(&job->paused);
    bool ready = block_job_get_state(job) == BLOCK_JOB_READY;
    json_t *more = json_pack("{s:b,s:b,s:b,s:s,s:s,s:b,s:b}", "busy", !paused, "paused", paused,
                             "ready", ready, "io-status", "ok", "status", status_of(paused, ready),
                             "auto-finalize", 1, "auto-dismiss", 1);

    json_object_update(json, more);
    json_decref(more);
    return json;
}

static void run_query(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);
    json_t *jobs = json_array();

    for (struct list *link = vm->jobs.next; link != &vm->jobs; link = link->next)
        if (!job_of(link)->request)
            json_array_append_new(jobs, job_json(job_of(link)));
    qmp_return(request, jobs);
}

/* The job that the request names; NULL: it has failed. */
static struct block_job *named_job(struct qmp_request *request)
{
    const char *id = qmp_string(request, "device");
    struct client_job *client = find_job(vm_of(request), id);

    if (client && !client->request)
        return disk_job(client->disk);
    qmp_fail(request, QMP_DEVICE_NOT_ACTIVE, "Block job '%.64s' not found", id);
    return NULL;
}

static void run_set_speed(struct qmp_request *request)
{
    json_int_t speed = qmp_integer(request, "speed", 0);
    struct block_job *job = named_job(request);

    if (!job || fail_speed(request, speed))
        return;
    block_job_set_speed(job, (uint64_t)speed);
    qmp_done(request);
}

/*
 * BLOCK_JOB_CANCELLED follows, unless the job was done already. One that is ready ends as it would
 * otherwise, but the disk stays where it is.
 */
static void run_cancel(struct qmp_request *request)
{
    bool force = qmp_boolean(request, "force", false);
    struct block_job *job = named_job(request);

    if (!job)
        return;
    if (!force && block_job_get_state(job) == BLOCK_JOB_READY) {
        block_job_let(job, &job->stay, true);
        block_job_let(job, &job->complete, true);
    } else {
        block_job_let(job, &job->cancelled, true);
    }
    qmp_done(request);
}

static void run_complete(struct qmp_request *request)
{
    struct block_job *job = named_job(request);

    if (!job)
        return;
    if (block_job_get_state(job) != BLOCK_JOB_READY) {
        qmp_fail(request, QMP_GENERIC_ERROR,
                 "Job '%.64s' in state '%s' cannot accept command verb 'complete'",
                 qmp_string(request, "device"), status_of(block_job_is(&job->paused), false));
        return;
    }
    block_job_let(job, &job->complete, true);
    qmp_done(request);
}

static void pause_job(struct qmp_request *request, bool pause, const char *already)
{
    struct block_job *job = named_job(request);

    if (!job)
        return;
    if (block_job_is(&job->paused) == pause) {
        qmp_fail(request, QMP_GENERIC_ERROR, "%s", already);
        return;
    }
    block_job_let(job, &job->paused, pause);
    qmp_done(request);
}

static void run_pause(struct qmp_request *request)
{
    pause_job(request, true, "Job is already paused");
}

static void run_resume(struct qmp_request *request)
{
    pause_job(request, false, "Can't resume a job that was not paused");
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct qmp_arg stream_args[] = {
    {"job-id", QMP_STRING, true},         {"device", QMP_STRING, false},
    {"base", QMP_STRING, true},           {"base-node", QMP_STRING, true},
    {"bottom", QMP_STRING, true},         {"backing-file", QMP_STRING, true},
    {"speed", QMP_INTEGER, true},         {"on-error", QMP_STRING, true},
    {"auto-finalize", QMP_BOOLEAN, true}, {"auto-dismiss", QMP_BOOLEAN, true},
};
static const struct qmp_arg commit_args[] = {
    {"job-id", QMP_STRING, true},        {"device", QMP_STRING, false},
    {"top", QMP_STRING, true},           {"top-node", QMP_STRING, true},
    {"base", QMP_STRING, true},          {"base-node", QMP_STRING, true},
    {"backing-file", QMP_STRING, true},  {"speed", QMP_INTEGER, true},
    {"on-error", QMP_STRING, true},      {"auto-finalize", QMP_BOOLEAN, true},
    {"auto-dismiss", QMP_BOOLEAN, true},
};
static const struct qmp_arg speed_args[] = {{"device", QMP_STRING, false},
                                            {"speed", QMP_INTEGER, false}};
static const struct qmp_arg cancel_args[] = {{"device", QMP_STRING, false},
                                             {"force", QMP_BOOLEAN, true}};
static const struct qmp_arg device_args[] = {{"device", QMP_STRING, false}};

static const struct qmp_command commands[] = {
    {"block-stream", run_stream, stream_args, ARRAY_SIZE(stream_args)},
    {"block-commit", run_commit, commit_args, ARRAY_SIZE(commit_args)},
    {"query-block-jobs", run_query, NULL, 0},
    {"block-job-set-speed", run_set_speed, speed_args, ARRAY_SIZE(speed_args)},
    {"block-job-cancel", run_cancel, cancel_args, ARRAY_SIZE(cancel_args)},
    {"block-job-complete", run_complete, device_args, ARRAY_SIZE(device_args)},
    {"block-job-pause", run_pause, device_args, ARRAY_SIZE(device_args)},
    {"block-job-resume", run_resume, device_args, ARRAY_SIZE(device_args)},
};

const struct qmp_commands commands_job = {commands, ARRAY_SIZE(commands)};
