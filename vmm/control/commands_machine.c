/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/commands_machine.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define SERIAL "serial0"
#define CONSOLE "console0"

/* ---- what it is ------------------------------------------------------------------------------ */

static void run_query_status(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);
    enum vm_state state = vm->queries->state(vm);

    if (state == VM_STOPPING && !vm->stops_long) {
        qmp_wait(&vm->asking, request);
        return;
    }
    qmp_return(request, json_pack("{s:s,s:b}", "status", vm_state_name(state), "running",
                                  state == VM_RUNNING || state == VM_PAUSING));
}

static void run_query_name(struct qmp_request *request)
{
    qmp_return(request, json_pack("{s:s*}", "name", vm_of(request)->name));
}

/* None is shown to the guest, and QEMU has this one then. */
static void run_query_uuid(struct qmp_request *request)
{
    qmp_return(request, json_pack("{s:s}", "UUID", "00000000-0000-0000-0000-000000000000"));
}

static void run_query_kvm(struct qmp_request *request)
{
    qmp_return(request, json_pack("{s:b,s:b}", "enabled", 1, "present", 1));
}

static json_t *cpu_json(unsigned index, const struct vm_cpu *cpu)
{
    char path[VM_CPU_PATH_MAX];

    vm_cpu_path(index, path);
    return json_pack("{s:i,s:s,s:i,s:s,s:{s:i,s:i,s:i}}", "cpu-index", (int)index, "qom-path", path,
                     "thread-id", cpu->thread_id, "target", "x86_64", "props", "socket-id", 0,
                     "core-id", (int)index, "thread-id", 0);
}

static void run_query_cpus(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);
    json_t *cpus = json_array();

    for (unsigned i = 0; i < vm->ncpus; i++) {
        struct vm_cpu cpu;

        if (vm->queries->get_cpu(vm, i, &cpu))
            json_array_append_new(cpus, cpu_json(i, &cpu));
    }
    qmp_return(request, cpus);
}

static void run_query_memory(struct qmp_request *request)
{
    qmp_return(request, json_pack("{s:I,s:i}", "base-memory", (json_int_t)vm_of(request)->memory,
                                  "plugged-memory", 0));
}

static void add_port(json_t *list, const char *label, const struct vm_port *port)
{
    if (port->where)
        json_array_append_new(list, json_pack("{s:s,s:o,s:b}", "label", label, "filename",
                                              qmp_text(port->where), "frontend-open", 1));
}

static void run_query_chardev(struct qmp_request *request)
{
    const struct control_vm *vm = vm_of(request);
    json_t *list = json_array();

    add_port(list, SERIAL, &vm->serial);
    add_port(list, CONSOLE, &vm->console);
    qmp_return(request, list);
}

/* NULL: there is no such port. */
static const struct vm_port *find_port(const struct control_vm *vm, const char *label)
{
    if (strcmp(label, SERIAL) == 0)
        return &vm->serial;
    return strcmp(label, CONSOLE) == 0 && vm->console.where ? &vm->console : NULL;
}

/* What a terminal would not show is left out: zeroes, which C takes for an end. */
static json_t *latest_text(const struct byte_queue *queue, size_t max)
{
    size_t len = queue ? min_u64(queue->len, max) : 0;
    const uint8_t *data = len > 0 ? byte_queue_front(queue) + (queue->len - len) : NULL;
    char *text = malloc(len + 1);
    json_t *json;
    size_t n = 0;

    if (!text)
        return NULL;
    for (size_t i = 0; i < len; i++)
        if (data[i] != '\0')
            text[n++] = (char)data[i];
    text[n] = '\0';
    json = qmp_text(text);
    free(text);
    return json;
}

/* Nothing is taken away by that, because there are others who may ask. */
static void run_ringbuf_read(struct qmp_request *request)
{
    const char *device = qmp_string(request, "device");
    const char *format = qmp_string(request, "format");
    json_int_t size = qmp_integer(request, "size", 0);
    const struct vm_port *port = find_port(vm_of(request), device);

    if (!port)
        qmp_fail(request, QMP_GENERIC_ERROR, "Device '%s' not found", device);
    else if (size <= 0)
        qmp_fail(request, QMP_GENERIC_ERROR, "size must be greater than zero");
    else if (format && strcmp(format, "utf8") != 0)
        qmp_fail(request, QMP_GENERIC_ERROR, "ringbuf-read: 'format' must be \"utf8\"");
    else
        qmp_return(request, latest_text(port->shown, (size_t)size));
}

/* ---- whether it runs ------------------------------------------------------------------------- */

static void fail_without_guest(struct qmp_request *request)
{
    qmp_fail(request, QMP_GENERIC_ERROR,
             "no guest runs: one has ended, and the next one is not "
             "there yet");
}

/*
 * What is to be done to a guest that is stopping is meant for the next one: a client that resets
 * the guest and lets it go on need not wait in between. True: it is done later.
 */
static bool waits_for_the_next(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);

    if (vm->queries->state(vm) != VM_STOPPING)
        return false;
    qmp_wait(&vm->waiting, request);
    return true;
}

void commands_machine_go_on(struct control_vm *vm)
{
    struct qmp_request *request;

    while ((vm->stops_long || vm->queries->state(vm) != VM_STOPPING) &&
           (request = qmp_next_waiting(&vm->asking)))
        qmp_again(request);
    /* One of them may make the guest stop: those behind it wait for the one after that. */
    while (vm->queries->state(vm) != VM_STOPPING && (request = qmp_next_waiting(&vm->waiting)))
        qmp_again(request);
}

static void run_stop(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);

    if (waits_for_the_next(request))
        return;
    switch (vm->queries->state(vm)) {
    case VM_STOPPING: /* dealt with above */
    case VM_NO_GUEST:
        fail_without_guest(request);
        return;
    case VM_PAUSED:
    case VM_PRELAUNCH:
        qmp_done(request);
        return;
    case VM_IO_ERROR: /* it stays paused when the disk's failure is no reason any more */
        vm->actions->pause(vm);
        qmp_done(request);
        return;
    case VM_RUNNING:
    case VM_DEBUG:
    case VM_PAUSING:
        qmp_wait(&vm->stopping, request);
        vm->actions->pause(vm);
        return;
    }
}

static void run_cont(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);

    if (waits_for_the_next(request))
        return;
    switch (vm->queries->state(vm)) {
    case VM_NO_GUEST:
        fail_without_guest(request);
        return;
    case VM_DEBUG:
        qmp_fail(request, QMP_GENERIC_ERROR, "a debugger holds the guest: it has to let it go on");
        return;
    default:
        vm->actions->resume(vm);
        qmp_done(request);
        return;
    }
}

void commands_machine_end_waiting(struct control_vm *vm)
{
    struct qmp_request *request;

    while ((request = qmp_next_waiting(&vm->waiting)))
        qmp_fail(request, QMP_GENERIC_ERROR, "the guest has ended");
    vm->stops_long = true;
    while ((request = qmp_next_waiting(&vm->asking)))
        qmp_again(request);
}

void commands_machine_end_stopping(struct control_vm *vm, const char *why_not)
{
    struct qmp_request *request;

    while ((request = qmp_next_waiting(&vm->stopping))) {
        if (why_not)
            qmp_fail(request, QMP_GENERIC_ERROR, "%s", why_not);
        else
            qmp_done(request);
    }
}

/* ---- its power ------------------------------------------------------------------------------- */

static void run_powerdown(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);

    if (waits_for_the_next(request))
        return;
    if (vm->queries->state(vm) == VM_NO_GUEST)
        fail_without_guest(request);
    else if (vm->actions->press_power_button(vm))
        qmp_done(request);
    else
        qmp_fail(request, QMP_GENERIC_ERROR, "the guest has no power button, for want of ACPI");
}

/* Answered first: what is done next may end the connection. */
static void run_reset(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);

    if (waits_for_the_next(request))
        return;
    qmp_done(request);
    vm->actions->reset(vm);
}

static void run_quit(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);
    struct qmp *qmp = qmp_of(request);

    qmp_done(request);
    vm->actions->quit(vm);
    qmp_stop(qmp); /* a reset, say, which would come to its end first */
}

static const struct qmp_arg ringbuf_read_args[] = {
    {"device", QMP_STRING, false}, {"size", QMP_INTEGER, false}, {"format", QMP_STRING, true}};

static const struct qmp_command commands[] = {
    {"query-status", run_query_status, NULL, 0},
    {"query-name", run_query_name, NULL, 0},
    {"query-uuid", run_query_uuid, NULL, 0},
    {"query-kvm", run_query_kvm, NULL, 0},
    {"query-cpus-fast", run_query_cpus, NULL, 0},
    {"query-memory-size-summary", run_query_memory, NULL, 0},
    {"query-chardev", run_query_chardev, NULL, 0},
    {"ringbuf-read", run_ringbuf_read, ringbuf_read_args, ARRAY_SIZE(ringbuf_read_args)},
    {"stop", run_stop, NULL, 0},
    {"cont", run_cont, NULL, 0},
    {"system_powerdown", run_powerdown, NULL, 0},
    {"system_reset", run_reset, NULL, 0},
    {"quit", run_quit, NULL, 0},
};

const struct qmp_commands commands_machine = {commands, ARRAY_SIZE(commands)};
