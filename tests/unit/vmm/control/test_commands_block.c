/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is told of disks, and counters, on images that nobody uses.
 */
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/create.h"
#include "block/image_ops.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/control/fake_vm.h"
#include "tests/lib/vmm/control/qmp_rig.h"
#include "vmm/config/config.h"
#include "vmm/control/commands_block.h"
#include "vmm/control/commands_stats.h"

static struct qmp_rig rig;
static struct fake_vm fake;
static int fd;
static json_t *answer; /* the last one */

/* ---- the rig --------------------------------------------------------------------------------- */

static void make(const char *name, struct block_create_options options)
{
    struct err err = {0};

    options.path = scratch_path(name);
    options.len = MIB;
    ck_assert_msg(block_create(&options, &err) == 0, "%s", err.msg);
}

static void take_snapshot(const char *name)
{
    char label[] = "before";
    const struct block_snapshot snapshot = {
        .name = label, .date_sec = 1700000000, .icount = UINT64_MAX};
    struct block *block = image_open(name, BLOCK_FORMAT_QCOW2, false);
    struct err err = {0};

    ck_assert_msg(block_snapshot_create(block, &snapshot, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
}

/* vda is a qcow2 overlay, vdb a raw file. */
static void add_disks(void)
{
    make("base.raw", (struct block_create_options){.format = BLOCK_FORMAT_RAW});
    make("b.raw", (struct block_create_options){.format = BLOCK_FORMAT_RAW});
    make("a.qcow2", (struct block_create_options){.format = BLOCK_FORMAT_QCOW2,
                                                  .backing_file = "base.raw",
                                                  .backing_format = BLOCK_FORMAT_RAW});
    fake_vm_add_disk(&fake, rig.loop, scratch_path("a.qcow2"));
    fake_vm_add_disk(&fake, rig.loop, scratch_path("b.raw"));
}

static void set_up(const struct qmp_commands *commands)
{
    scratch_set_up();
    fake_vm_init(&fake);
    qmp_rig_init(&rig, commands, &fake.vm);
    fd = qmp_rig_connect_negotiated(&rig);
    answer = NULL;
}

static void set_up_block(void)
{
    set_up(&commands_block);
}

static void set_up_stats(void)
{
    set_up(&commands_stats);
}

static void tear_down(void)
{
    json_decref(answer);
    fake_vm_done(&fake);
    close(fd);
    qmp_rig_done(&rig);
    scratch_tear_down();
}

static const json_t *ask(const char *command, const char *arguments)
{
    json_error_t error;
    char text[512];

    snprintf(text, sizeof(text), "{\"execute\":\"%s\",\"arguments\":%s}", command,
             arguments ? arguments : "{}");
    json_decref(answer);
    answer = json_loads(qmp_rig_ask(&rig, fd, text), 0, &error);
    ck_assert_ptr_nonnull(answer);
    return json_object_get(answer, "return");
}

/* A member by a path of names and, for elements of arrays, numbers: "0/inserted/drv". */
static const json_t *at(const json_t *json, const char *path)
{
    char copy[200];
    char *rest;

    snprintf(copy, sizeof(copy), "%s", path);
    for (char *name = strtok_r(copy, "/", &rest); name; name = strtok_r(NULL, "/", &rest)) {
        json = json_is_array(json) ? json_array_get(json, strtoul(name, NULL, 10))
                                   : json_object_get(json, name);
        ck_assert_msg(json != NULL, "%s: no %s", path, name);
    }
    return json;
}

static const char *text_at(const json_t *json, const char *path)
{
    return json_string_value(at(json, path));
}

static json_int_t number_at(const json_t *json, const char *path)
{
    return json_integer_value(at(json, path));
}

/* ---- disks ----------------------------------------------------------------------------------- */

START_TEST(disks_are_described_with_their_chains)
{
    const json_t *disks;

    add_disks();
    fake.ports[0].throttle.limits.kinds[THROTTLE_BPS] =
        (struct throttle_limit){.avg = 1000, .max = 2000, .max_length = 3};
    disks = ask("query-block", NULL);
    ck_assert_uint_eq(json_array_size(disks), 2);
    ck_assert_str_eq(text_at(disks, "0/device"), "vda");
    ck_assert_str_eq(text_at(disks, "0/inserted/drv"), "qcow2");
    ck_assert_str_eq(text_at(disks, "0/inserted/file"), scratch_path("a.qcow2"));
    ck_assert_str_eq(text_at(disks, "0/inserted/backing_file"), "base.raw");
    ck_assert_int_eq(number_at(disks, "0/inserted/backing_file_depth"), 1);
    ck_assert_int_eq(number_at(disks, "0/inserted/image/virtual-size"), MIB);
    ck_assert_str_eq(text_at(disks, "0/inserted/image/format-specific/data/compat"), "1.1");
    ck_assert_str_eq(text_at(disks, "0/inserted/image/backing-image/format"), "raw");
    ck_assert_int_eq(number_at(disks, "0/inserted/bps"), 1000);
    ck_assert_int_eq(number_at(disks, "0/inserted/bps_max"), 2000);
    ck_assert_int_eq(number_at(disks, "0/inserted/bps_max_length"), 3);
    ck_assert_int_eq(number_at(disks, "0/inserted/iops_wr"), 0);
    ck_assert(json_is_false(at(disks, "0/inserted/cache/direct")));

    ck_assert_str_eq(text_at(disks, "0/io-status"), "ok");

    ck_assert_str_eq(text_at(disks, "1/device"), "vdb");
    ck_assert_ptr_null(json_object_get(at(disks, "1"), "io-status"));
    ck_assert_str_eq(text_at(disks, "1/inserted/drv"), "raw");
    ck_assert_int_eq(number_at(disks, "1/inserted/backing_file_depth"), 0);
    ck_assert(json_is_true(at(disks, "1/inserted/cache/direct")));
}
END_TEST

START_TEST(snapshots_inside_images_are_told)
{
    const json_t *list;

    make("b.qcow2", (struct block_create_options){.format = BLOCK_FORMAT_QCOW2});
    take_snapshot("b.qcow2");
    make("a.qcow2", (struct block_create_options){.format = BLOCK_FORMAT_QCOW2,
                                                  .backing_file = "b.qcow2",
                                                  .backing_format = BLOCK_FORMAT_QCOW2});
    fake_vm_add_disk(&fake, rig.loop, scratch_path("a.qcow2"));
    list = ask("query-block", NULL);
    ck_assert_ptr_null(json_object_get(at(list, "0/inserted/image"), "snapshots"));
    list = at(list, "0/inserted/image/backing-image/snapshots");
    ck_assert_uint_eq(json_array_size(list), 1);
    ck_assert_str_eq(text_at(list, "0/name"), "before");
    ck_assert_str_eq(text_at(list, "0/id"), "1");
    ck_assert_int_eq(number_at(list, "0/date-sec"), 1700000000);
    ck_assert_int_eq(number_at(list, "0/vm-state-size"), 0);
    list = ask("query-named-block-nodes", NULL);
    ck_assert_ptr_null(json_object_get(at(list, "0/image"), "snapshots"));
    ck_assert_str_eq(text_at(list, "1/image/snapshots/0/name"), "before");
}
END_TEST

START_TEST(nodes_are_all_images_of_all_chains)
{
    const json_t *nodes;

    add_disks();
    nodes = ask("query-named-block-nodes", NULL);
    ck_assert_uint_eq(json_array_size(nodes), 3);
    ck_assert_str_eq(text_at(nodes, "0/node-name"), "#vda");
    ck_assert_str_eq(text_at(nodes, "1/node-name"), "#vda.1");
    ck_assert(json_is_true(at(nodes, "1/ro")));
    ck_assert_str_eq(text_at(nodes, "2/node-name"), "#vdb");
    ck_assert_ptr_null(json_object_get(at(nodes, "0/image"), "backing-image"));

    nodes = ask("query-named-block-nodes", "{\"flat\":true}");
    ck_assert_ptr_null(json_object_get(at(nodes, "0/image"), "backing-image"));
    ck_assert_str_eq(text_at(nodes, "0/image/backing-filename"), "base.raw");
}
END_TEST

START_TEST(vm_without_disks_has_none)
{
    ck_assert_uint_eq(json_array_size(ask("query-block", NULL)), 0);
    ck_assert_uint_eq(json_array_size(ask("query-blockstats", NULL)), 0);
    ck_assert(json_is_array(json_object_get(answer, "return")));
}
END_TEST

START_TEST(counters_of_a_disk_are_told)
{
    struct account *account = &fake.ports[0].account;
    const json_t *disks;

    add_disks();
    account->kinds[ACCOUNT_READ] = (struct account_counters){
        .done = 1, .bytes = 512, .failed = 2, .refused = 3, .total_ns = 4};
    account->kinds[ACCOUNT_FLUSH].done = 5;
    account->kinds[ACCOUNT_UNMAP].bytes = 6;
    account->highest = 7;
    disks = ask("query-blockstats", NULL);
    ck_assert_str_eq(text_at(disks, "0/device"), "vda");
    ck_assert_int_eq(number_at(disks, "0/stats/rd_operations"), 1);
    ck_assert_int_eq(number_at(disks, "0/stats/rd_bytes"), 512);
    ck_assert_int_eq(number_at(disks, "0/stats/failed_rd_operations"), 2);
    ck_assert_int_eq(number_at(disks, "0/stats/invalid_rd_operations"), 3);
    ck_assert_int_eq(number_at(disks, "0/stats/rd_total_time_ns"), 4);
    ck_assert_int_eq(number_at(disks, "0/stats/flush_operations"), 5);
    ck_assert_int_eq(number_at(disks, "0/stats/unmap_bytes"), 6);
    ck_assert_int_eq(number_at(disks, "0/stats/wr_highest_offset"), 7);
    ck_assert_int_eq(number_at(disks, "1/stats/rd_operations"), 0);
    ck_assert_ptr_null(json_object_get(at(disks, "0/stats"), "idle_time_ns"));
    ck_assert_ptr_null(json_object_get(at(disks, "0/stats"), "flush_bytes"));
    account->last_ns = 1;
    ck_assert_int_gt(number_at(ask("query-blockstats", NULL), "0/stats/idle_time_ns"), 0);
}
END_TEST

/* Who asks is gone, and the disk answers when it is closed. */
START_TEST(open_question_is_answered_at_the_end)
{
    add_disks();
    qmp_rig_send(fd, "{\"execute\":\"query-block\"}");
    close(fd);
    fd = qmp_rig_connect(&rig);
}
END_TEST

/* ---- statistics ------------------------------------------------------------------------------ */

START_TEST(exits_are_told_for_each_cpu)
{
    const json_t *results = ask("query-stats", "{\"target\":\"vcpu\"}");

    ck_assert_uint_eq(json_array_size(results), 4);
    ck_assert_str_eq(text_at(results, "2/provider"), "minivmm");
    ck_assert_str_eq(text_at(results, "2/qom-path"), "/machine/cpu[1]");
    ck_assert_str_eq(text_at(results, "2/stats/0/name"), "exits-a");
    ck_assert_int_eq(number_at(results, "2/stats/0/value"), 11);
    ck_assert_str_eq(text_at(results, "3/provider"), "kvm");
    ck_assert_str_eq(text_at(results, "3/qom-path"), "/machine/cpu[1]");
    ck_assert_int_eq(number_at(results, "3/stats/0/value"), 31);
}
END_TEST

START_TEST(statistics_of_all_cpus_there_can_be_fit_into_an_answer)
{
    fake.counts_much = true;
    fake.vm.ncpus = CONFIG_CPUS_MAX;
    ck_assert_uint_eq(json_array_size(ask("query-stats", "{\"target\":\"vcpu\"}")),
                      2ul * CONFIG_CPUS_MAX);
}
END_TEST

START_TEST(statistics_are_filtered)
{
    const json_t *results =
        ask("query-stats", "{\"target\":\"vcpu\",\"vcpus\":[\"/machine/cpu[1]\"],"
                           "\"providers\":[{\"provider\":\"other\"},"
                           "{\"provider\":\"minivmm\",\"names\":[\"exits-b\",\"nothing\"]}]}");

    ck_assert_uint_eq(json_array_size(results), 1);
    ck_assert_uint_eq(json_array_size(at(results, "0/stats")), 1);
    ck_assert_int_eq(number_at(results, "0/stats/0/value"), 21);
    results = ask("query-stats", "{\"target\":\"vcpu\",\"providers\":[{\"provider\":\"other\"}]}");
    ck_assert_uint_eq(json_array_size(results), 0);
    ck_assert(json_is_array(results));
}
END_TEST

START_TEST(statistics_of_the_vm_are_those_of_its_disks_and_kvms)
{
    const json_t *results;

    add_disks();
    fake.ports[1].account.kicks = 9;
    results = ask("query-stats", "{\"target\":\"vm\",\"providers\":[{\"provider\":\"minivmm\","
                                 "\"names\":[\"queue-kicks\"]}]}");
    ck_assert_uint_eq(json_array_size(results), 2);
    ck_assert_str_eq(text_at(results, "1/qom-path"), "/machine/disk[vdb]");
    ck_assert_int_eq(number_at(results, "1/stats/0/value"), 9);
    ck_assert_int_eq(number_at(results, "0/stats/0/value"), 0);

    results = ask("query-stats", "{\"target\":\"vm\",\"providers\":[{\"provider\":\"kvm\"}]}");
    ck_assert_uint_eq(json_array_size(results), 1);
    ck_assert_ptr_null(json_object_get(at(results, "0"), "qom-path"));
    ck_assert_int_eq(number_at(results, "0/stats/1/value/2"), 50);
}
END_TEST

START_TEST(statistics_of_the_vm_are_those_of_its_network_cards_too)
{
    const json_t *results;

    add_disks();
    fake.vm.nnics = 1;
    fake.nics[0] = (struct nic_info){.name = "eth0", .counters.sent.bytes = 77};
    results = ask("query-stats", "{\"target\":\"vm\",\"providers\":[{\"provider\":\"minivmm\","
                                 "\"names\":[\"tx-bytes\"]}]}");
    ck_assert_uint_eq(json_array_size(results), 3);
    ck_assert_str_eq(text_at(results, "2/qom-path"), "/machine/net[eth0]");
    ck_assert_uint_eq(json_array_size(at(results, "2/stats")), 1);
    ck_assert_int_eq(number_at(results, "2/stats/0/value"), 77);
    results = ask("query-stats-schemas", "{\"provider\":\"minivmm\"}");
    ck_assert_str_eq(text_at(results, "1/stats/16/name"), "rx-frames");
    ck_assert_str_eq(text_at(results, "1/stats/17/unit"), "bytes");
}
END_TEST

START_TEST(statistics_of_the_vm_are_those_of_its_vsock_too)
{
    const json_t *results;

    results = ask("query-stats", "{\"target\":\"vm\",\"providers\":[{\"provider\":\"minivmm\"}]}");
    ck_assert_uint_eq(json_array_size(results), 0);
    fake.has_vsock = true;
    results = ask("query-stats", "{\"target\":\"vm\",\"providers\":[{\"provider\":\"minivmm\","
                                 "\"names\":[\"to-guest-bytes\"]}]}");
    ck_assert_uint_eq(json_array_size(results), 1);
    ck_assert_str_eq(text_at(results, "0/qom-path"), "/machine/vsock");
    ck_assert_int_eq(number_at(results, "0/stats/0/value"), 77);
    results = ask("query-stats-schemas", "{\"provider\":\"minivmm\"}");
    ck_assert_str_eq(text_at(results, "1/stats/1/name"), "to-guest-bytes");
    ck_assert_str_eq(text_at(results, "1/stats/1/unit"), "bytes");
}
END_TEST

START_TEST(guest_that_is_not_there_has_no_statistics_of_kvm)
{
    fake.state = VM_NO_GUEST;
    ck_assert_uint_eq(json_array_size(ask("query-stats", "{\"target\":\"vcpu\"}")), 2);
    ck_assert_uint_eq(json_array_size(ask("query-stats", "{\"target\":\"vm\"}")), 0);
    ck_assert_uint_eq(json_array_size(ask("query-stats-schemas", NULL)), 2);
}
END_TEST

START_TEST(schemas_have_the_same_names)
{
    const json_t *schemas;
    json_t *names;

    add_disks();
    schemas = ask("query-stats-schemas", NULL);
    ck_assert_uint_eq(json_array_size(schemas), 4);
    ck_assert_str_eq(text_at(schemas, "0/target"), "vcpu");
    ck_assert_str_eq(text_at(schemas, "0/stats/1/name"), "exits-b");
    ck_assert_str_eq(text_at(schemas, "1/target"), "vm");
    ck_assert_str_eq(text_at(schemas, "1/stats/4/name"), "data-read-bytes");
    ck_assert_str_eq(text_at(schemas, "1/stats/4/unit"), "bytes");
    ck_assert_str_eq(text_at(schemas, "2/provider"), "kvm");
    ck_assert_str_eq(text_at(schemas, "3/stats/1/type"), "linear-histogram");
    ck_assert_str_eq(text_at(schemas, "3/stats/1/unit"), "seconds");
    ck_assert_int_eq(number_at(schemas, "3/stats/1/base"), 10);
    ck_assert_int_eq(number_at(schemas, "3/stats/1/exponent"), -9);
    ck_assert_int_eq(number_at(schemas, "3/stats/1/bucket-size"), 100);
    ck_assert_ptr_null(json_object_get(at(schemas, "2/stats/0"), "base"));
    names = json_incref((json_t *)at(schemas, "1/stats"));
    schemas = ask("query-stats", "{\"target\":\"vm\"}");
    ck_assert_uint_eq(json_array_size(names), json_array_size(at(schemas, "0/stats")));
    json_decref(names);
    ck_assert_uint_eq(json_array_size(ask("query-stats-schemas", "{\"provider\":\"kvm\"}")), 2);
    ck_assert_uint_eq(json_array_size(ask("query-stats-schemas", "{\"provider\":\"no\"}")), 0);
}
END_TEST

START_TEST(wrong_filters_are_errors)
{
    static const char *const wrong[] = {
        "{}",
        "{\"target\":\"disk\"}",
        "{\"target\":\"vcpu\",\"vcpus\":5}",
        "{\"target\":\"vcpu\",\"vcpus\":[5]}",
        "{\"target\":\"vm\",\"vcpus\":[]}",
        "{\"target\":\"vcpu\",\"providers\":{}}",
        "{\"target\":\"vcpu\",\"providers\":[5]}",
        "{\"target\":\"vcpu\",\"providers\":[{}]}",
        "{\"target\":\"vcpu\",\"providers\":[{\"provider\":\"minivmm\",\"names\":[{}]}]}",
    };

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        ck_assert_ptr_null(ask("query-stats", wrong[i]));
        ck_assert_str_eq(text_at(answer, "error/class"), "GenericError");
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "block", set_up_block, tear_down, disks_are_described_with_their_chains,
                   snapshots_inside_images_are_told, nodes_are_all_images_of_all_chains,
                   vm_without_disks_has_none, counters_of_a_disk_are_told,
                   open_question_is_answered_at_the_end);
    unit_case_with(suite, "stats", set_up_stats, tear_down, exits_are_told_for_each_cpu,
                   statistics_of_all_cpus_there_can_be_fit_into_an_answer, statistics_are_filtered,
                   statistics_of_the_vm_are_those_of_its_network_cards_too,
                   statistics_of_the_vm_are_those_of_its_vsock_too,
                   statistics_of_the_vm_are_those_of_its_disks_and_kvms,
                   guest_that_is_not_there_has_no_statistics_of_kvm, schemas_have_the_same_names,
                   wrong_filters_are_errors);
}

UNIT_MAIN("commands_block", add_tests)
