/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that change disks, on a disk that is open as a VM has it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/image.h"
#include "block/stack.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/control/qmp_rig.h"
#include "vmm/config/config.h"
#include "vmm/control/commands_disk.h"
#include "vmm/control/commands_job.h"
#include "vmm/control/vm.h"
#include "vmm/disk.h"

#define LEN (4 * MIB)
#define WAIT_US 500u
#define WAITS_MAX 60000u

static struct {
    struct qmp_rig rig;
    struct qmp_command commands[20];
    struct qmp_commands table;
    struct control_vm vm;
    struct config config;
    struct config_disk disk_config;
    struct open_files files;
    struct disk *disk;
    int fd;
    char *text; /* what came, and was not looked at yet */
} t;

/* ---- the rig --------------------------------------------------------------------------------- */

static struct disk *the_disk(struct control_vm *vm, unsigned index)
{
    ck_assert_uint_eq(index, 0);
    return t.disk;
}

static const struct vm_queries queries = {.disk = the_disk};

static void add_table(const struct qmp_commands *table)
{
    ck_assert_uint_le(t.table.ncommands + table->ncommands, ARRAY_SIZE(t.commands));
    for (size_t i = 0; i < table->ncommands; i++)
        t.commands[t.table.ncommands++] = table->commands[i];
    t.table.commands = t.commands;
}

static void make_image(void)
{
    const struct block_create_options options = {
        .path = scratch_path("a.qcow2"), .format = BLOCK_FORMAT_QCOW2, .len = LEN};
    uint8_t *data = calloc(1, LEN);
    struct block *block;
    struct err err = {0};

    ck_assert_msg(block_create(&options, &err) == 0, "%s", err.msg);
    memset(data, 0x5a, LEN);
    block = image_open("a.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(block_execute(block, &(struct block_req){.op = BLOCK_WRITE,
                                                              .len = LEN,
                                                              .iov = &(struct iovec){data, LEN},
                                                              .niov = 1}),
                     0);
    ck_assert_int_eq(block_close(block), 0);
    free(data);
}

static void set_up(void)
{
    struct err err = {0};

    scratch_set_up();
    memset(&t, 0, sizeof(t));
    make_image();
    add_table(&commands_disk);
    add_table(&commands_job);
    t.vm = (struct control_vm){.queries = &queries, .ndisks = 1};
    list_init(&t.vm.jobs);
    qmp_rig_init(&t.rig, &t.table, &t.vm);
    config_init(&t.config);
    config_disk_init(&t.disk_config);
    t.disk_config.path = strdup(scratch_path("a.qcow2"));
    t.config.disks = &t.disk_config;
    t.config.ndisks = 1;
    ck_assert_msg(disk_open(&t.config, 0, &t.files, t.rig.loop, &t.disk, &err) == 0, "%s", err.msg);
    t.fd = qmp_rig_connect_negotiated(&t.rig);
    t.text = strdup("");
}

static void close_disk(void)
{
    struct err err = {0};

    if (!t.disk)
        return;
    ck_assert_msg(disk_close(t.disk, &err) == 0, "%s", err.msg);
    disk_free(t.disk);
    t.disk = NULL;
}

static void tear_down(void)
{
    close_disk();
    close(t.fd);
    qmp_rig_done(&t.rig);
    open_files_done(&t.files);
    config_disk_done(&t.disk_config);
    free(t.text);
    scratch_tear_down();
}

/* The next message that has a member of this name; others are kept. */
static json_t *wait_for(const char *member)
{
    for (unsigned i = 0; i < WAITS_MAX; i++) {
        const char *more = qmp_rig_receive(&t.rig, t.fd);
        json_error_t error;
        json_t *message;
        char *text;

        ck_assert_int_ge(asprintf(&text, "%s%s", t.text, more), 0);
        free(t.text);
        t.text = text;
        for (char *at = t.text; *at; at += error.position) {
            message = json_loads(at, JSON_DISABLE_EOF_CHECK, &error);
            if (!message)
                break;
            if (json_object_get(message, member)) {
                memmove(at, at + error.position, strlen(at + error.position) + 1);
                return message;
            }
            json_decref(message);
        }
        (void)usleep(WAIT_US);
    }
    ck_abort_msg("no message with '%s': %s", member, t.text);
    return NULL;
}

static void send_command(const char *command, const char *arguments)
{
    char text[1024];

    (void)snprintf(text, sizeof(text), "{\"execute\":\"%s\",\"arguments\":%s}", command, arguments);
    qmp_rig_send(t.fd, text);
}

/* What it returns; to be freed. */
static json_t *ask(const char *command, const char *arguments)
{
    json_t *message;
    json_t *value;

    send_command(command, arguments);
    message = wait_for("return");
    value = json_incref(json_object_get(message, "return"));
    json_decref(message);
    return value;
}

static void do_ask(const char *command, const char *arguments)
{
    json_decref(ask(command, arguments));
}

static void assert_fails(const char *command, const char *arguments, const char *class,
                         const char *text)
{
    json_t *message;
    const json_t *error;

    send_command(command, arguments);
    message = wait_for("error");
    error = json_object_get(message, "error");
    ck_assert_str_eq(json_string_value(json_object_get(error, "class")), class);
    ck_assert_msg(strstr(json_string_value(json_object_get(error, "desc")), text), "%s",
                  json_string_value(json_object_get(error, "desc")));
    json_decref(message);
}

/* Wait for an event; its data, to be freed. */
static json_t *event(const char *name)
{
    json_t *message = wait_for("event");
    json_t *data = json_incref(json_object_get(message, "data"));

    ck_assert_str_eq(json_string_value(json_object_get(message, "event")), name);
    json_decref(message);
    return data;
}

static json_int_t integer(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

/* ---- length, limits -------------------------------------------------------------------------- */

START_TEST(a_disk_becomes_longer)
{
    struct block_info info;
    struct block *block;

    do_ask("block_resize", "{\"device\":\"vda\",\"size\":8388608}");
    do_ask("block_resize", "{\"node-name\":\"#vda\",\"size\":9437184}");
    assert_fails("block_resize", "{\"device\":\"vda\",\"size\":512}", "GenericError",
                 "has 9437184 bytes: 512: it only gets longer");
    assert_fails("block_resize", "{\"device\":\"vda\",\"size\":-1}", "GenericError", ">0 size");
    assert_fails("block_resize", "{\"device\":\"vdb\",\"size\":8388608}", "DeviceNotFound",
                 "Device 'vdb' not found");
    assert_fails("block_resize", "{\"node-name\":\"vda\",\"size\":1}", "DeviceNotFound", "'vda'");
    assert_fails("block_resize", "{\"size\":8388608}", "GenericError", "either");
    assert_fails("block_resize", "{\"device\":\"vda\",\"node-name\":\"#vda\",\"size\":1}",
                 "GenericError", "either");
    close_disk();
    block = image_open("a.qcow2", BLOCK_FORMAT_QCOW2, true);
    block_get_info(block, &info);
    ck_assert_uint_eq(info.len, 9437184);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

#define NO_LIMITS "\"bps_rd\":0,\"bps_wr\":0,\"iops_rd\":0,\"iops_wr\":0"

START_TEST(limits_are_set)
{
    const struct throttle_limits *limits;

    do_ask("block_set_io_throttle",
           "{\"device\":\"vda\",\"bps\":1000,\"iops\":20," NO_LIMITS
           ",\"bps_max\":2000,\"bps_max_length\":3,\"iops_max\":30,\"iops_size\":4096}");
    limits = &disk_port(t.disk)->throttle.limits;
    ck_assert_uint_eq(limits->kinds[THROTTLE_BPS].avg, 1000);
    ck_assert_uint_eq(limits->kinds[THROTTLE_BPS].max, 2000);
    ck_assert_uint_eq(limits->kinds[THROTTLE_BPS].max_length, 3);
    ck_assert_uint_eq(limits->kinds[THROTTLE_IOPS].avg, 20);
    ck_assert_uint_eq(limits->kinds[THROTTLE_IOPS].max, 30);
    ck_assert_uint_eq(limits->kinds[THROTTLE_IOPS].max_length, 1);
    ck_assert_uint_eq(limits->iops_size, 4096);
    do_ask("block_set_io_throttle", "{\"id\":\"vda\",\"bps\":0,\"iops\":0," NO_LIMITS "}");
    ck_assert(!throttle_limits_any(limits));
    assert_fails("block_set_io_throttle",
                 "{\"device\":\"vda\",\"bps\":-5,\"iops\":0," NO_LIMITS "}", "GenericError",
                 "must be within");
    assert_fails("block_set_io_throttle",
                 "{\"device\":\"vda\",\"bps\":0,\"iops\":1,\"iops_size\":-1," NO_LIMITS "}",
                 "GenericError", "iops size must be within");
    assert_fails("block_set_io_throttle",
                 "{\"device\":\"vda\",\"bps\":5,\"iops\":0,\"bps_rd\":1,\"bps_wr\":0,"
                 "\"iops_rd\":0,\"iops_wr\":0}",
                 "GenericError", "cannot be used at the same time");
    assert_fails("block_set_io_throttle", "{\"device\":\"vda\",\"bps\":5}", "GenericError",
                 "is missing");
    ck_assert(!throttle_limits_any(limits));
}
END_TEST

/* ---- snapshots ------------------------------------------------------------------------------- */

START_TEST(snapshots_are_taken_and_deleted)
{
    json_t *deleted;

    do_ask("blockdev-snapshot-internal-sync", "{\"device\":\"vda\",\"name\":\"s\"}");
    assert_fails("blockdev-snapshot-internal-sync", "{\"device\":\"vda\",\"name\":\"s\"}",
                 "GenericError", "Snapshot with name 's' already exists");
    assert_fails("blockdev-snapshot-internal-sync", "{\"device\":\"vda\",\"name\":\"\"}",
                 "GenericError", "Name is empty");
    assert_fails("blockdev-snapshot-delete-internal-sync", "{\"device\":\"vda\"}", "GenericError",
                 "Name or id must be provided");
    assert_fails("blockdev-snapshot-delete-internal-sync",
                 "{\"device\":\"vda\",\"id\":\"7\",\"name\":\"s\"}", "GenericError",
                 "Snapshot with id '7' and name 's' does not exist");
    deleted = ask("blockdev-snapshot-delete-internal-sync", "{\"device\":\"vda\",\"name\":\"s\"}");
    ck_assert_str_eq(json_string_value(json_object_get(deleted, "id")), "1");
    ck_assert_str_eq(json_string_value(json_object_get(deleted, "name")), "s");
    ck_assert_int_eq(integer(deleted, "vm-state-size"), 0);
    ck_assert_int_gt(integer(deleted, "date-sec"), 1000000000);
    json_decref(deleted);
    close_disk();
    image_assert_sound("a.qcow2");
}
END_TEST

/* A disk that goes on in an overlay of this name. */
static void put_overlay(const char *name)
{
    char arguments[512];

    (void)snprintf(arguments, sizeof(arguments),
                   "{\"device\":\"vda\",\"snapshot-file\":\"%s\",\"format\":\"qcow2\","
                   "\"mode\":\"absolute-paths\"}",
                   scratch_path(name));
    do_ask("blockdev-snapshot-sync", arguments);
}

START_TEST(the_disk_goes_on_in_an_overlay)
{
    put_overlay("o.qcow2");
    assert_fails("blockdev-snapshot-sync",
                 "{\"device\":\"vda\",\"snapshot-file\":\"/nowhere/o.qcow2\"}", "GenericError",
                 "No such file");
    assert_fails("blockdev-snapshot-sync",
                 "{\"device\":\"vda\",\"snapshot-file\":\"x\",\"format\":\"raw\"}", "GenericError",
                 "expected qcow2");
    assert_fails("blockdev-snapshot-sync",
                 "{\"device\":\"vda\",\"snapshot-file\":\"x\",\"mode\":\"existing\"}",
                 "GenericError", "expected absolute-paths");
    close_disk();
    image_assert_sound("a.qcow2");
    image_assert_sound("o.qcow2");
}
END_TEST

/* ---- jobs ------------------------------------------------------------------------------------ */

START_TEST(a_job_begins_is_told_of_and_ends)
{
    json_t *jobs;
    json_t *job;

    put_overlay("o.qcow2");
    do_ask("block-stream", "{\"device\":\"vda\",\"job-id\":\"j\",\"speed\":1024}");
    jobs = ask("query-block-jobs", "{}");
    ck_assert_uint_eq(json_array_size(jobs), 1);
    job = json_array_get(jobs, 0);
    ck_assert_str_eq(json_string_value(json_object_get(job, "type")), "stream");
    ck_assert_str_eq(json_string_value(json_object_get(job, "device")), "j");
    ck_assert_int_eq(integer(job, "speed"), 1024);
    ck_assert(!json_is_true(json_object_get(job, "paused")));
    ck_assert(json_is_false(json_object_get(job, "ready")));
    json_decref(jobs);

    assert_fails("block_resize", "{\"device\":\"vda\",\"size\":8388608}", "GenericError",
                 "is busy: block device is in use by a block job");
    assert_fails("block-stream", "{\"device\":\"vda\"}", "GenericError", "is busy");
    assert_fails("block-stream", "{\"device\":\"vda\",\"job-id\":\"j\"}", "GenericError",
                 "Job ID 'j' already in use");
    assert_fails("block-job-set-speed", "{\"device\":\"vda\",\"speed\":1}", "DeviceNotActive",
                 "Block job 'vda' not found");
    do_ask("block-job-pause", "{\"device\":\"j\"}");
    do_ask("block-job-resume", "{\"device\":\"j\"}");
    do_ask("block-job-set-speed", "{\"device\":\"j\",\"speed\":0}");
    job = event("BLOCK_JOB_COMPLETED");
    ck_assert_int_eq(integer(job, "len"), LEN);
    ck_assert_int_eq(integer(job, "offset"), LEN);
    ck_assert_ptr_null(json_object_get(job, "error"));
    json_decref(job);
    jobs = ask("query-block-jobs", "{}");
    ck_assert_uint_eq(json_array_size(jobs), 0);
    json_decref(jobs);
    do_ask("block_resize", "{\"device\":\"vda\",\"size\":8388608}");
}
END_TEST

START_TEST(a_job_is_cancelled)
{
    put_overlay("o.qcow2");
    do_ask("block-stream", "{\"device\":\"vda\",\"speed\":1}");
    do_ask("block-job-cancel", "{\"device\":\"vda\",\"force\":true}");
    json_decref(event("BLOCK_JOB_CANCELLED"));
    assert_fails("block-job-cancel", "{\"device\":\"vda\"}", "DeviceNotActive", "not found");
    do_ask("block-stream", "{\"device\":\"#vda\",\"speed\":1}");
    close_disk(); /* the VM ends */
    json_decref(event("BLOCK_JOB_CANCELLED"));
    image_assert_sound("o.qcow2");
}
END_TEST

static void assert_member(const json_t *object, const char *name, const char *value)
{
    ck_assert_str_eq(json_string_value(json_object_get(object, name)), value);
}

/* The only job. */
static void assert_job(const char *status, bool ready, bool paused)
{
    json_t *jobs = ask("query-block-jobs", "{}");
    const json_t *job = json_array_get(jobs, 0);

    ck_assert_uint_eq(json_array_size(jobs), 1);
    assert_member(job, "status", status);
    ck_assert(json_is_true(json_object_get(job, "ready")) == ready);
    ck_assert(json_is_true(json_object_get(job, "paused")) == paused);
    json_decref(jobs);
}

START_TEST(an_overlay_is_committed)
{
    char arguments[400];
    json_t *data;

    put_overlay("o.qcow2");
    (void)snprintf(arguments, sizeof(arguments), "{\"device\":\"vda\",\"base\":\"%s\"}",
                   scratch_path("a.qcow2"));
    do_ask("block-commit", arguments);
    data = event("BLOCK_JOB_READY");
    assert_member(data, "type", "commit");
    assert_member(data, "device", "vda");
    ck_assert_int_eq(integer(data, "len"), LEN);
    ck_assert_int_eq(integer(data, "offset"), LEN);
    json_decref(data);
    assert_job("ready", true, false);
    do_ask("block-job-pause", "{\"device\":\"vda\"}");
    assert_fails("block-job-pause", "{\"device\":\"vda\"}", "GenericError",
                 "Job is already paused");
    assert_job("standby", true, true);
    do_ask("block-job-resume", "{\"device\":\"vda\"}");
    assert_fails("block-job-resume", "{\"device\":\"vda\"}", "GenericError",
                 "Can't resume a job that was not paused");
    do_ask("block-job-complete", "{\"device\":\"vda\"}");
    data = event("BLOCK_JOB_COMPLETED");
    assert_member(data, "type", "commit");
    ck_assert_ptr_null(json_object_get(data, "error"));
    ck_assert_int_eq(integer(data, "offset"), LEN);
    json_decref(data);
    close_disk();
    image_assert_sound("a.qcow2");
    image_assert_sound("o.qcow2");
}
END_TEST

/* How many images are open. */
static unsigned chain_len(void)
{
    unsigned n = 0;

    while (block_stack_at(disk_port(t.disk)->block, n))
        n++;
    return n;
}

/* It ends by itself. */
static void assert_completed(const char *command, const char *arguments, unsigned left)
{
    json_t *data;

    do_ask(command, arguments);
    data = event("BLOCK_JOB_COMPLETED");
    ck_assert_ptr_null(json_object_get(data, "error"));
    json_decref(data);
    ck_assert_uint_eq(chain_len(), left);
}

START_TEST(any_range_of_a_chain_is_said_by_nodes)
{
    put_overlay("o.qcow2");
    put_overlay("p.qcow2");
    put_overlay("q.qcow2");
    put_overlay("r.qcow2");
    assert_completed("block-commit",
                     "{\"device\":\"#vda\",\"top-node\":\"#vda.2\",\"base-node\":\"#vda.3\"}", 4);
    assert_completed("block-commit", "{\"device\":\"vda\",\"top-node\":\"#vda.2\"}", 3);
    assert_completed("block-stream", "{\"device\":\"vda\",\"base-node\":\"#vda.2\"}", 2);
    put_overlay("s.qcow2");
    assert_completed("block-stream", "{\"device\":\"vda\",\"bottom\":\"#vda.1\"}", 2);
    assert_completed("block-stream", "{\"device\":\"vda\",\"auto-finalize\":true}", 1);
    close_disk();
    image_assert_sound("s.qcow2");
}
END_TEST

START_TEST(a_commit_that_is_ready_can_stay)
{
    put_overlay("o.qcow2");
    do_ask("block-commit", "{\"device\":\"vda\",\"job-id\":\"c\"}");
    json_decref(event("BLOCK_JOB_READY"));
    do_ask("block-job-cancel", "{\"device\":\"c\"}");
    json_decref(event("BLOCK_JOB_COMPLETED"));
    ck_assert_uint_eq(chain_len(), 2);
    do_ask("block-commit", "{\"device\":\"vda\",\"job-id\":\"c\"}");
    json_decref(event("BLOCK_JOB_READY"));
    do_ask("block-job-cancel", "{\"device\":\"c\",\"force\":true}");
    json_decref(event("BLOCK_JOB_CANCELLED"));
    ck_assert_uint_eq(chain_len(), 2);
}
END_TEST

START_TEST(what_cannot_be_is_refused)
{
    static const struct {
        const char *command;
        const char *arguments;
        const char *class;
        const char *text;
    } cases[] = {
        {"block-commit", "{\"device\":\"x\"}", "DeviceNotFound", "'x' not found"},
        {"block-commit", "{\"device\":\"#vda.1\"}", "GenericError", "Need a root block node"},
        {"block-commit", "{\"device\":\"vda\",\"base\":\"/x\"}", "GenericError",
         "Can't find '/x' in the backing chain"},
        {"block-commit", "{\"device\":\"vda\",\"top\":\"/x\"}", "GenericError",
         "Top image file /x not found"},
        {"block-commit", "{\"device\":\"vda\",\"top\":\"x\",\"top-node\":\"#vda\"}", "GenericError",
         "'top-node' and 'top' are mutually exclusive"},
        {"block-commit", "{\"device\":\"vda\",\"top-node\":\"#vda.1\"}", "GenericError",
         "cannot commit an image into itself"},
        {"block-commit", "{\"device\":\"vda\",\"base-node\":\"#vdb\"}", "GenericError",
         "Cannot find device='' nor node-name='#vdb'"},
        {"block-commit", "{\"device\":\"vda\",\"base-node\":\"#vda.0\"}", "GenericError",
         "node-name='#vda.0'"},
        {"block-commit", "{\"device\":\"vda\",\"base-node\":\"#vda.99999999999\"}", "GenericError",
         "Cannot find device=''"},
        {"block-commit", "{\"device\":\"vda\",\"backing-file\":\"x\"}", "GenericError",
         "'backing-file' specified, but 'top' is the active layer"},
        {"block-commit", "{\"device\":\"vda\",\"auto-dismiss\":false}", "GenericError",
         "auto-dismiss: expected true"},
        {"block-commit", "{\"device\":\"vda\",\"top\":5}", "GenericError", "string"},
        {"block-stream", "{\"device\":\"x\"}", "GenericError",
         "Cannot find device='x' nor node-name='x'"},
        {"block-stream", "{\"device\":\"#vda.1\"}", "GenericError", "Node '#vda.1': only"},
        {"block-stream", "{\"device\":\"vda\",\"base-node\":\"#vda\"}", "GenericError",
         "Node '#vda' is not a backing image of 'vda'"},
        {"block-stream", "{\"device\":\"vda\",\"base-node\":\"#vda.2\"}", "GenericError",
         "node-name='#vda.2'"},
        {"block-stream", "{\"device\":\"vda\",\"base\":\"x\",\"bottom\":\"#vda\"}", "GenericError",
         "'base' and 'bottom' cannot be specified at the same time"},
        {"block-stream", "{\"device\":\"vda\",\"bottom\":\"#vda.2\"}", "GenericError",
         "node-name='#vda.2'"},
        {"block-stream", "{\"device\":\"vda\",\"backing-file\":\"x\"}", "GenericError",
         "streaming the entire chain"},
        {"block-stream", "{\"device\":\"vda\",\"speed\":-1}", "GenericError", "non-negative"},
        {"block-stream", "{\"device\":\"vda\",\"on-error\":\"stop\"}", "GenericError",
         "expected report"},
        {"block-stream", "{\"device\":\"vda\",\"auto-finalize\":false}", "GenericError",
         "auto-finalize: expected true"},
        {"block-job-complete", "{\"device\":\"vda\"}", "DeviceNotActive", "not found"},
    };
    json_t *jobs;

    put_overlay("o.qcow2");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_fails(cases[i].command, cases[i].arguments, cases[i].class, cases[i].text);
    jobs = ask("query-block-jobs", "{}");
    ck_assert_uint_eq(json_array_size(jobs), 0);
    json_decref(jobs);
    ck_assert_ptr_null(strstr(t.text, "BLOCK_JOB")); /* no event came */
    do_ask("block-stream", "{\"device\":\"vda\",\"speed\":1}");
    assert_fails("block-job-complete", "{\"device\":\"vda\"}", "GenericError",
                 "Job 'vda' in state 'running' cannot accept command verb 'complete'");
}
END_TEST

/* The host fails it when it has begun. */
START_TEST(a_job_that_fails_says_why)
{
    struct rlimit limit;
    json_t *data;

    put_overlay("o.qcow2");
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = MIB;
    (void)signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    do_ask("block-stream", "{\"device\":\"vda\"}");
    data = event("BLOCK_JOB_ERROR");
    assert_member(data, "device", "vda");
    assert_member(data, "operation", "read");
    assert_member(data, "action", "report");
    json_decref(data);
    data = event("BLOCK_JOB_COMPLETED");
    ck_assert_ptr_nonnull(
        strstr(json_string_value(json_object_get(data, "error")), "cannot copy from the backing"));
    json_decref(data);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    close_disk();
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "disks", set_up, tear_down, a_disk_becomes_longer, limits_are_set,
                   snapshots_are_taken_and_deleted, the_disk_goes_on_in_an_overlay);
    unit_case_with(suite, "jobs", set_up, tear_down, a_job_begins_is_told_of_and_ends,
                   a_job_is_cancelled, an_overlay_is_committed,
                   any_range_of_a_chain_is_said_by_nodes, a_commit_that_is_ready_can_stay,
                   what_cannot_be_is_refused, a_job_that_fails_says_why);
}

UNIT_USES_THREADS;
UNIT_MAIN("commands_disk", add_tests)
