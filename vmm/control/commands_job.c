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

/* A job that was begun by a client; on control_vm.jobs until it ends. */
struct client_job {
    struct list link;
    struct qmp *qmp;
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

static void ended(void *opaque, int result, const struct err *err)
{
    struct client_job *client = opaque;
    json_t *data = describe(client, disk_job(client->disk));

    if (result < 0 && result != -ECANCELED) {
        log_warn("%s of disk %s failed: %s", client->type, disk_name(client->disk), err->msg);
        json_object_set_new(data, "error", qmp_text(err->msg));
    }
    qmp_event(client->qmp, result == -ECANCELED ? "BLOCK_JOB_CANCELLED" : "BLOCK_JOB_COMPLETED",
              data);
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
    client->disk = disk;
    client->type = type;
    client->id = strdup(id);
    if (client->id)
        return client;
    free(client);
    return NULL;
}

/* What a client wants done. */
struct wish {
    const char *type;
    const char *id;
    const char *base; /* of a commit; NULL: not said */
    uint64_t speed;
};

static int ask_for(struct disk *disk, const struct wish *wish, struct client_job *client)
{
    const struct disk_done done = {ended, client};

    return strcmp(wish->type, "stream") == 0 ? disk_stream(disk, wish->speed, done)
                                             : disk_commit(disk, wish->base, wish->speed, done);
}

static void begin_job(struct qmp_request *request, struct disk *disk, const struct wish *wish)
{
    struct client_job *client = new_job(request, disk, wish->type, wish->id);
    int r = client ? ask_for(disk, wish, client) : -ENOMEM;

    if (r == 0) {
        list_add_tail(&vm_of(request)->jobs, &client->link);
        qmp_done(request);
        return;
    }
    if (client)
        free_job(client);
    disk_asked(request, disk, r);
}

/* True, and the request has failed. */
static bool fail_speed(struct qmp_request *request, json_int_t speed)
{
    if (speed >= 0)
        return false;
    qmp_fail(request, QMP_GENERIC_ERROR, "Parameter 'speed' expects a non-negative value");
    return true;
}

static void run_job(struct qmp_request *request, const char *type, const char *base)
{
    const char *id = qmp_string(request, "job-id");
    const char *device = qmp_string(request, "device");
    const char *on_error = qmp_string(request, "on-error");
    json_int_t speed = qmp_integer(request, "speed", 0);
    const struct wish wish = {
        .type = type, .id = id ? id : device, .base = base, .speed = (uint64_t)speed};
    struct disk *disk = disk_find(request, device[0] == '#' ? device + 1 : device);

    if (!disk || fail_speed(request, speed))
        return;
    if (on_error && strcmp(on_error, "report") != 0)
        qmp_fail(request, QMP_GENERIC_ERROR, "on-error '%.64s': expected report", on_error);
    else if (find_job(vm_of(request), wish.id))
        qmp_fail(request, QMP_GENERIC_ERROR, "Job ID '%.64s' already in use", wish.id);
    else
        begin_job(request, disk, &wish);
}

static void run_stream(struct qmp_request *request)
{
    run_job(request, "stream", NULL);
}

static void run_commit(struct qmp_request *request)
{
    run_job(request, "commit", qmp_string(request, "base"));
}

/* ---- jobs that are there --------------------------------------------------------------------- */

static json_t *job_json(const struct client_job *client)
{
    const struct block_job *job = disk_job(client->disk);
    json_t *json = describe(client, job);
    bool paused = block_job_is(&job->paused);
    json_t *more = json_pack("{s:b,s:b,s:b,s:s,s:s,s:b,s:b}", "busy", !paused, "paused", paused,
                             "ready", 0, "io-status", "ok", "status", paused ? "paused" : "running",
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
        json_array_append_new(jobs, job_json(job_of(link)));
    qmp_return(request, jobs);
}

/* The job that the request names; NULL: it has failed. */
static struct block_job *named_job(struct qmp_request *request)
{
    const char *id = qmp_string(request, "device");
    struct client_job *client = find_job(vm_of(request), id);

    if (client)
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
    block_job_set(&job->speed, (uint64_t)speed);
    qmp_done(request);
}

static void set_flag(struct qmp_request *request, size_t flag, bool value)
{
    struct block_job *job = named_job(request);

    if (!job)
        return;
    block_job_let((bool *)((char *)job + flag), value);
    qmp_done(request);
}

/* BLOCK_JOB_CANCELLED follows, unless the job was done already. */
static void run_cancel(struct qmp_request *request)
{
    set_flag(request, offsetof(struct block_job, cancelled), true);
}

static void run_pause(struct qmp_request *request)
{
    set_flag(request, offsetof(struct block_job, paused), true);
}

static void run_resume(struct qmp_request *request)
{
    set_flag(request, offsetof(struct block_job, paused), false);
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct qmp_arg stream_args[] = {
    {"job-id", QMP_STRING, true},
    {"device", QMP_STRING, false},
    {"speed", QMP_INTEGER, true},
    {"on-error", QMP_STRING, true},
};
static const struct qmp_arg commit_args[] = {
    {"job-id", QMP_STRING, true}, {"device", QMP_STRING, false},  {"base", QMP_STRING, true},
    {"speed", QMP_INTEGER, true}, {"on-error", QMP_STRING, true},
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
    {"block-job-pause", run_pause, device_args, ARRAY_SIZE(device_args)},
    {"block-job-resume", run_resume, device_args, ARRAY_SIZE(device_args)},
};

const struct qmp_commands commands_job = {commands, ARRAY_SIZE(commands)};
