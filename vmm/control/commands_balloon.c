/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/commands_balloon.h"

#include "base/bytes.h"
#include "vmm/control/vm.h"

static void fail_without_balloon(struct qmp_request *request)
{
    qmp_fail(request, QMP_DEVICE_NOT_ACTIVE, "No balloon device has been activated");
}

static void run_balloon(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);
    json_int_t value = qmp_integer(request, "value", 0);

    if (value <= 0)
        qmp_fail(request, QMP_GENERIC_ERROR,
                 "balloon: 'value' must be the guest's memory in bytes, more than 0");
    else if (!vm->actions->set_balloon(vm, (uint64_t)value))
        fail_without_balloon(request);
    else
        qmp_done(request);
}

static void run_query_balloon(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);
    uint64_t memory;

    if (!vm->queries->get_balloon(vm, &memory))
        fail_without_balloon(request);
    else
        qmp_return(request, json_pack("{s:I}", "actual", (json_int_t)memory));
}

static void run_query_stats(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);
    struct vm_counter counters[VM_COUNTERS_MAX];
    uint64_t age_ms;
    int n = vm->queries->get_balloon_stats(vm, counters, &age_ms);
    json_t *stats, *answer;

    if (n < 0) {
        fail_without_balloon(request);
        return;
    }
    stats = json_object();
    for (int i = 0; i < n; i++)
        json_object_set_new(stats, counters[i].name, json_integer((json_int_t)counters[i].value));
    answer = json_pack("{s:o}", "stats", stats);
    if (n > 0)
        json_object_set_new(answer, "age-ms", json_integer((json_int_t)age_ms));
    qmp_return(request, answer);
}

static const struct qmp_arg balloon_args[] = {{"value", QMP_INTEGER, false}};

static const struct qmp_command commands[] = {
    {"balloon", run_balloon, balloon_args, ARRAY_SIZE(balloon_args)},
    {"query-balloon", run_query_balloon, NULL, 0},
    {"query-balloon-stats", run_query_stats, NULL, 0},
};

const struct qmp_commands commands_balloon = {commands, ARRAY_SIZE(commands)};
