/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/commands_stats.h"

#include <string.h>

#include "base/bytes.h"
#include "vmm/control/disk_survey.h"
#include "vmm/control/nic_counters.h"

/* Who counts: this program, and KVM. */
#define OURS "minivmm"
#define KVMS "kvm"

/* ---- what is asked for ----------------------------------------------------------------------- */

static bool has_text(const json_t *texts, const char *text)
{
    const json_t *element;
    size_t i;

    json_array_foreach(texts, i,
                       element) if (json_is_string(element) &&
                                    strcmp(json_string_value(element), text) == 0) return true;
    return false;
}

/* Are all elements strings? NULL is fine. */
static bool are_texts(const json_t *texts)
{
    const json_t *element;
    size_t i;

    if (texts && !json_is_array(texts))
        return false;
    json_array_foreach(texts, i, element) if (!json_is_string(element)) return false;
    return true;
}

static bool are_providers(const json_t *providers)
{
    const json_t *element;
    size_t i;

    if (providers && !json_is_array(providers))
        return false;
    json_array_foreach(providers, i,
                       element) if (!json_is_string(json_object_get(element, "provider")) ||
                                    !are_texts(json_object_get(element, "names"))) return false;
    return true;
}

/* Are a provider's counters wanted? And if so, which: *ret_names; NULL: all. */
static bool wants(const struct qmp_request *request, const char *provider, const json_t **ret_names)
{
    const json_t *providers = qmp_any(request, "providers");
    const json_t *element;
    size_t i;

    *ret_names = NULL;
    json_array_foreach(providers, i, element)
    {
        if (strcmp(json_string_value(json_object_get(element, "provider")), provider) == 0) {
            *ret_names = json_object_get(element, "names");
            return true;
        }
    }
    return providers == NULL;
}

/* Take away what is not wanted of a list of {name, value}. */
static void filter_names(json_t *stats, const json_t *names)
{
    for (size_t i = json_array_size(stats); names && i-- > 0;) {
        const json_t *name = json_object_get(json_array_get(stats, i), "name");

        if (!has_text(names, json_string_value(name)))
            json_array_remove(stats, i);
    }
}

/* ---- counters -------------------------------------------------------------------------------- */

static void add(json_t *stats, const char *name, uint64_t value)
{
    json_array_append_new(stats, json_pack("{s:s,s:I}", "name", name, "value", (json_int_t)value));
}

static json_t *result_json(const char *provider, const char *path, json_t *stats)
{
    return json_pack("{s:s,s:s*,s:o}", "provider", provider, "qom-path", path, "stats", stats);
}

static json_t *cpu_stats(struct control_vm *vm, unsigned index)
{
    struct vm_counter counters[VM_COUNTERS_MAX];
    unsigned n = vm->queries->get_cpu_counters(vm, index, counters);
    json_t *stats = json_array();

    for (unsigned i = 0; i < n; i++)
        add(stats, counters[i].name, counters[i].value);
    return stats;
}

/* Of a network card. */
static json_t *nic_stats(struct control_vm *vm, unsigned index, struct nic_info *ret_info)
{
    struct vm_counter counters[VM_COUNTERS_MAX];
    json_t *stats = json_array();
    unsigned n;

    vm->queries->get_nic(vm, index, ret_info);
    n = nic_counters(ret_info, counters);
    for (unsigned i = 0; i < n; i++)
        add(stats, counters[i].name, counters[i].value);
    return stats;
}

static json_t *nic_result(struct control_vm *vm, unsigned index)
{
    struct nic_info info;
    json_t *stats = nic_stats(vm, index, &info);
    char path[64];

    (void)snprintf(path, sizeof(path), "/machine/net[%s]", info.name);
    return result_json(OURS, path, stats);
}

/* Of a vsock device; empty if there is none. */
static json_t *vsock_stats(struct control_vm *vm)
{
    struct vm_counter counters[VM_COUNTERS_MAX];
    unsigned n = vm->queries->get_vsock_counters(vm, counters);
    json_t *stats = json_array();

    for (unsigned i = 0; i < n; i++)
        add(stats, counters[i].name, counters[i].value);
    return stats;
}

static void add_vsock(struct control_vm *vm, json_t *results)
{
    json_t *stats = vsock_stats(vm);

    if (json_array_size(stats) > 0)
        json_array_append_new(results, result_json(OURS, "/machine/vsock", stats));
    else
        json_decref(stats);
}

/* On the disk's thread. */
static json_t *look_at_disk(const struct vm_disk *disk, const struct block_port *port)
{
    const struct account *account = &port->account;
    const struct block_stats *engine = block_get_stats(port->block);
    const struct vm_counter counters[] = {
        {"queue-kicks", account->kicks},
        {"queue-interrupts", account->interrupts},
        {"requests-merged", engine->merged_reqs},
        {"data-reads", engine->data_reads},
        {"data-read-bytes", engine->data_read_bytes},
        {"data-writes", engine->data_writes},
        {"data-write-bytes", engine->data_write_bytes},
        {"metadata-reads", engine->meta_reads},
        {"metadata-read-bytes", engine->meta_read_bytes},
        {"metadata-writes", engine->meta_writes},
        {"metadata-write-bytes", engine->meta_write_bytes},
        {"fallocates", engine->fallocates},
        {"barriers", engine->barriers},
        {"cow-copied-bytes", engine->cow_copied_bytes},
        {"cow-zeroed-bytes", engine->cow_zeroed_bytes},
        {"cow-saved-bytes", engine->cow_saved_bytes},
    };
    json_t *stats = json_array();
    char path[64];

    for (size_t i = 0; i < ARRAY_SIZE(counters); i++)
        add(stats, counters[i].name, counters[i].value);
    (void)snprintf(path, sizeof(path), "/machine/disk[%s]", disk->device);
    return result_json(OURS, path, stats);
}

/* A histogram has a list of values. */
static void add_kvm_value(void *opaque, const struct kvm_stat *stat)
{
    json_t *values;

    if (stat->type < KVM_STAT_LINEAR_HISTOGRAM) {
        add(opaque, stat->name, stat->values[0]);
        return;
    }
    values = json_array();
    for (size_t i = 0; i < stat->nvalues; i++)
        json_array_append_new(values, json_integer((json_int_t)stat->values[i]));
    json_array_append_new(opaque, json_pack("{s:s,s:o}", "name", stat->name, "value", values));
}

/* ---- query-stats ----------------------------------------------------------------------------- */

static void add_ours(struct qmp_request *request, unsigned cpu, const char *path, json_t *results)
{
    const json_t *names;
    json_t *stats;

    if (!wants(request, OURS, &names))
        return;
    stats = cpu_stats(vm_of(request), cpu);
    filter_names(stats, names);
    json_array_append_new(results, result_json(OURS, path, stats));
}

/* Of a CPU, or, with -1 and no path, of the VM. */
static void add_kvms(struct qmp_request *request, int cpu, const char *path, json_t *results)
{
    struct control_vm *vm = vm_of(request);
    const json_t *names;
    json_t *stats;

    if (!wants(request, KVMS, &names))
        return;
    stats = json_array();
    if (vm->queries->get_kvm_stats(vm, cpu, add_kvm_value, stats)) {
        filter_names(stats, names);
        json_array_append_new(results, result_json(KVMS, path, stats));
    } else {
        json_decref(stats);
    }
}

static void return_cpus(struct qmp_request *request)
{
    const json_t *vcpus = qmp_any(request, "vcpus");
    json_t *results = json_array();

    for (unsigned i = 0; i < vm_of(request)->ncpus; i++) {
        char path[VM_CPU_PATH_MAX];

        vm_cpu_path(i, path);
        if (vcpus && !has_text(vcpus, path))
            continue;
        add_ours(request, i, path, results);
        add_kvms(request, (int)i, path, results);
    }
    qmp_return(request, results);
}

/* `ours` is of all disks; network cards and a vsock come to it. */
static void return_vm(struct qmp_request *request, json_t *ours)
{
    struct control_vm *vm = vm_of(request);
    const json_t *names;
    json_t *results = json_array();
    json_t *part;
    size_t i;

    for (unsigned nic = 0; nic < vm->nnics; nic++)
        json_array_append_new(ours, nic_result(vm, nic));
    add_vsock(vm, ours);
    if (wants(request, OURS, &names)) {
        json_array_foreach(ours, i, part) filter_names(json_object_get(part, "stats"), names);
        json_array_extend(results, ours);
    }
    json_decref(ours);
    add_kvms(request, -1, NULL, results);
    qmp_return(request, results);
}

static void run_query_stats(struct qmp_request *request)
{
    const json_t *vcpus = qmp_any(request, "vcpus");
    const char *target = qmp_string(request, "target");
    bool of_cpus = strcmp(target, "vcpu") == 0;

    qmp_advise(request, "ask for some 'vcpus' at a time, or for some 'names' of the 'providers'");
    if (!of_cpus && strcmp(target, "vm") != 0)
        qmp_fail(request, QMP_GENERIC_ERROR, "query-stats: 'target' must be \"vm\" or \"vcpu\"");
    else if (!are_providers(qmp_any(request, "providers")))
        qmp_fail(request, QMP_GENERIC_ERROR,
                 "query-stats: 'providers' must be an array of objects with 'provider', a string, "
                 "and 'names', an array of strings");
    else if (!are_texts(vcpus) || (vcpus && !of_cpus))
        qmp_fail(request, QMP_GENERIC_ERROR,
                 "query-stats: 'vcpus' must be an array of strings, with 'target' \"vcpu\"");
    else if (of_cpus)
        return_cpus(request);
    else
        disk_survey(request, look_at_disk, return_vm);
}

/* ---- query-stats-schemas --------------------------------------------------------------------- */

/* The names in a list of {name, value}. */
static json_t *our_schema(const char *target, const json_t *stats)
{
    json_t *values = json_array();
    const json_t *element;
    size_t i;

    json_array_foreach(stats, i, element)
    {
        const char *name = json_string_value(json_object_get(element, "name"));
        json_t *value =
            json_pack("{s:s,s:s,s:i}", "name", name, "type", "cumulative", "exponent", 0);

        if (name && strstr(name, "-bytes"))
            json_object_set_new(value, "unit", json_string("bytes"));
        json_array_append_new(values, value);
    }
    return json_pack("{s:s,s:s,s:o}", "provider", OURS, "target", target, "stats", values);
}

static void add_kvm_schema_value(void *opaque, const struct kvm_stat *stat)
{
    static const char types[][20] = {
        [KVM_STAT_CUMULATIVE] = "cumulative",
        [KVM_STAT_INSTANT] = "instant",
        [KVM_STAT_PEAK] = "peak",
        [KVM_STAT_LINEAR_HISTOGRAM] = "linear-histogram",
        [KVM_STAT_LOG2_HISTOGRAM] = "log2-histogram",
    };
    json_t *value = json_pack("{s:s,s:s,s:i,s:s*}", "name", stat->name, "type", types[stat->type],
                              "exponent", stat->exponent, "unit", stat->unit);

    if (stat->exponent != 0)
        json_object_set_new(value, "base", json_integer(stat->base));
    if (stat->type == KVM_STAT_LINEAR_HISTOGRAM)
        json_object_set_new(value, "bucket-size", json_integer(stat->bucket_size));
    json_array_append_new(opaque, value);
}

static void add_kvm_schema(struct control_vm *vm, const char *target, int cpu, json_t *schemas)
{
    json_t *values = json_array();

    if (vm->queries->get_kvm_stats(vm, cpu, add_kvm_schema_value, values))
        json_array_append_new(schemas, json_pack("{s:s,s:s,s:o}", "provider", KVMS, "target",
                                                 target, "stats", values));
    else
        json_decref(values);
}

/* What is counted of a VM: all disks have the same counters, and all network cards. */
static json_t *vm_stats(struct control_vm *vm, const json_t *disks)
{
    json_t *stats = json_array();
    struct nic_info info;
    json_t *of_vsock;
    json_t *of_nic;

    json_array_extend(stats, json_object_get(json_array_get(disks, 0), "stats"));
    if (vm->nnics > 0) {
        of_nic = nic_stats(vm, 0, &info);
        json_array_extend(stats, of_nic);
        json_decref(of_nic);
    }
    of_vsock = vsock_stats(vm);
    json_array_extend(stats, of_vsock);
    json_decref(of_vsock);
    return stats;
}

static void return_schemas(struct qmp_request *request, json_t *disks)
{
    const char *provider = qmp_string(request, "provider");
    struct control_vm *vm = vm_of(request);
    json_t *schemas = json_array();
    json_t *of_cpu = cpu_stats(vm, 0);
    json_t *of_vm = vm_stats(vm, disks);

    if (!provider || strcmp(provider, OURS) == 0) {
        json_array_append_new(schemas, our_schema("vcpu", of_cpu));
        json_array_append_new(schemas, our_schema("vm", of_vm));
    }
    if (!provider || strcmp(provider, KVMS) == 0) {
        add_kvm_schema(vm, "vcpu", 0, schemas);
        add_kvm_schema(vm, "vm", -1, schemas);
    }
    json_decref(of_cpu);
    json_decref(of_vm);
    json_decref(disks);
    qmp_return(request, schemas);
}

static void run_query_schemas(struct qmp_request *request)
{
    disk_survey(request, look_at_disk, return_schemas);
}

static const struct qmp_arg stats_args[] = {
    {"target", QMP_STRING, false}, {"providers", QMP_ANY, true}, {"vcpus", QMP_ANY, true}};
static const struct qmp_arg schemas_args[] = {{"provider", QMP_STRING, true}};

static const struct qmp_command commands[] = {
    {"query-stats", run_query_stats, stats_args, ARRAY_SIZE(stats_args)},
    {"query-stats-schemas", run_query_schemas, schemas_args, ARRAY_SIZE(schemas_args)},
};

const struct qmp_commands commands_stats = {commands, ARRAY_SIZE(commands)};
