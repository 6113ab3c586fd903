/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "memory/guest_mem.h"
#include "vmm/remote_show.h"
#include "vmm/vcpu.h"

_Static_assert(VIRTIO_BALLOON_NSTATS <= VM_COUNTERS_MAX, "there is room for all figures");
_Static_assert((unsigned)VCPU_EXITS <= VM_COUNTERS_MAX, "there is room for all counters");

static struct remote *remote_of(struct control_vm *vm)
{
    return container_of(vm, struct remote, vm);
}

/* The machine of a guest that has not ended. Main thread: what CPUs look at goes on until then. */
static struct machine *guest_of(const struct remote *remote)
{
    return remote->ending ? NULL : remote->machine;
}

static bool is_debugged(const struct remote *remote)
{
    return remote->parts->debug && debug_hold(remote->parts->debug) != DEBUG_RUNS;
}

static enum vm_state get_state(struct control_vm *vm)
{
    const struct remote *remote = remote_of(vm);

    if (remote->ending)
        return VM_STOPPING;
    if (!remote->machine)
        return VM_NO_GUEST;
    if (!remote->wants_pause)
        return is_debugged(remote) ? VM_DEBUG : VM_RUNNING;
    if (!remote->paused)
        return VM_PAUSING;
    if (remote->prelaunch)
        return VM_PRELAUNCH;
    return remote->io_error ? VM_IO_ERROR : VM_PAUSED;
}

static bool get_cpu(struct control_vm *vm, unsigned index, struct vm_cpu *ret_cpu)
{
    const struct remote *remote = remote_of(vm);

    if (!guest_of(remote))
        return false;
    ret_cpu->thread_id = vcpu_thread_id(machine_vcpu(remote->machine, index));
    return true;
}

/* Of the guest that runs: they begin anew with the next one. */
static unsigned get_cpu_counters(struct control_vm *vm, unsigned index,
                                 struct vm_counter ret_counters[VM_COUNTERS_MAX])
{
    static const char names[VCPU_EXITS][20] = {
        [VCPU_EXIT_PORT_READ] = "exits-port-read", [VCPU_EXIT_PORT_WRITE] = "exits-port-write",
        [VCPU_EXIT_MMIO_READ] = "exits-mmio-read", [VCPU_EXIT_MMIO_WRITE] = "exits-mmio-write",
        [VCPU_EXIT_CALLED] = "exits-called",       [VCPU_EXIT_OTHER] = "exits-other",
    };
    const struct machine *machine = remote_of(vm)->machine;

    for (unsigned i = 0; i < VCPU_EXITS; i++)
        ret_counters[i] = (struct vm_counter){
            .name = names[i],
            .value = machine ? vcpu_exits(machine_vcpu(machine, index), i) : 0,
        };
    return VCPU_EXITS;
}

static bool get_kvm_stats(struct control_vm *vm, int cpu,
                          void (*each)(void *opaque, const struct kvm_stat *stat), void *opaque)
{
    const struct machine *machine = guest_of(remote_of(vm));
    int fd;
    int r;

    if (!machine)
        return false;
    if (cpu >= 0)
        return kvm_stats_read(vcpu_stats_fd(machine_vcpu(machine, (unsigned)cpu)), each, opaque) ==
               0;
    fd = kvm_stats_open(machine_view(machine).vm->fd);
    r = kvm_stats_read(fd, each, opaque);
    if (fd >= 0)
        close(fd);
    return r == 0;
}

static bool show(struct control_vm *vm, enum vm_topic topic, unsigned cpu, FILE *out)
{
    const struct remote *remote = remote_of(vm);

    if (remote->machine)
        remote_show(remote->parts, remote->machine, topic, cpu, out);
    return remote->machine != NULL;
}

static bool read_memory(struct control_vm *vm, uint64_t gpa, void *buf, size_t len)
{
    const struct remote *remote = remote_of(vm);
    void *host;

    if (!remote->machine || guest_mem_at(machine_view(remote->machine).mem, gpa, len, &host) < 0)
        return false;
    guest_mem_fetch(buf, host, len);
    return true;
}

static bool translate(struct control_vm *vm, unsigned cpu, uint64_t va, uint64_t *ret_gpa)
{
    const struct remote *remote = remote_of(vm);

    return remote->machine && remote_translate(remote->machine, cpu, va, ret_gpa);
}

static void ask_cpu(struct control_vm *vm, unsigned cpu, struct cpu_question *question)
{
    struct remote *remote = remote_of(vm);

    if (guest_of(remote))
        cpu_questions_ask(&remote->cpu_questions,
                          vcpu_gate_thread(machine_vcpu(remote->machine, cpu)), question);
    else
        question->answered(question);
}

static struct disk *find_disk(struct control_vm *vm, unsigned index)
{
    return remote_of(vm)->parts->disks[index];
}

void remote_forget_io_error(struct remote *remote)
{
    for (size_t i = 0; i < remote->parts->ndisks; i++)
        disk_set_io_error(remote->parts->disks[i], 0);
    remote->io_error = false;
}

/* QEMU's BlockDeviceIoStatus, for disks that can let the guest wait. */
static const char *io_status_of(const struct disk *disk)
{
    const struct config_disk *config = disk_config(disk);
    int error = disk_io_error(disk);

    if (config->on_write_error == VIRTIO_BLK_ERROR_REPORT &&
        config->on_read_error == VIRTIO_BLK_ERROR_REPORT)
        return NULL;
    if (error == 0)
        return "ok";
    return error == -ENOSPC || error == -EDQUOT ? "nospace" : "failed";
}

static void get_disk(struct control_vm *vm, unsigned index, struct vm_disk *ret_disk)
{
    const struct config_disk *config = disk_config(remote_of(vm)->parts->disks[index]);

    *ret_disk = (struct vm_disk){
        .direct = config->cache == BLOCK_CACHE_NONE,
        .no_flush = config->cache == BLOCK_CACHE_UNSAFE,
        .io_status = io_status_of(remote_of(vm)->parts->disks[index]),
    };
    (void)snprintf(ret_disk->device, sizeof(ret_disk->device), "%s",
                   disk_name(remote_of(vm)->parts->disks[index]));
}

static void ask_disk(struct control_vm *vm, unsigned index, struct disk_question *question)
{
    disk_ask(remote_of(vm)->parts->disks[index], question);
}

static bool get_balloon(struct control_vm *vm, uint64_t *ret_memory)
{
    const struct balloon *balloon = remote_of(vm)->balloon;

    if (balloon)
        *ret_memory = balloon_get_memory(balloon);
    return balloon;
}

static int get_balloon_stats(struct control_vm *vm, struct vm_counter ret_counters[VM_COUNTERS_MAX],
                             uint64_t *ret_age_ms)
{
    struct balloon *balloon = remote_of(vm)->balloon;
    struct virtio_balloon_stats stats;
    int n = 0;

    _Static_assert(VIRTIO_BALLOON_NSTATS <= VM_COUNTERS_MAX, "there is room for all");
    if (!balloon)
        return -1;
    if (!balloon_get_stats(balloon, &stats))
        return 0;
    for (unsigned tag = 0; tag < VIRTIO_BALLOON_NSTATS; tag++)
        if (stats.known & 1u << tag)
            ret_counters[n++] = (struct vm_counter){
                .name = balloon_stat_name(tag),
                .value = stats.value[tag],
            };
    *ret_age_ms = (monotonic_ns() - stats.told_ns) / NS_PER_MS;
    return n;
}

static void get_nic(struct control_vm *vm, unsigned index, struct nic_info *ret_info)
{
    nic_get_info(remote_of(vm)->nics[index], ret_info);
}

static unsigned name_vsock_counters(const struct vsock_counters *counted,
                                    struct vm_counter ret_counters[VM_COUNTERS_MAX])
{
    const struct vm_counter counters[] = {
        {"from-guest-connections", counted->from_guest_connections},
        {"from-guest-packets", counted->from_guest_packets},
        {"from-guest-bytes", counted->from_guest_bytes},
        {"to-guest-connections", counted->to_guest_connections},
        {"to-guest-packets", counted->to_guest_packets},
        {"to-guest-bytes", counted->to_guest_bytes},
    };

    memcpy(ret_counters, counters, sizeof(counters));
    return ARRAY_SIZE(counters);
}

static unsigned get_vsock_counters(struct control_vm *vm,
                                   struct vm_counter ret_counters[VM_COUNTERS_MAX])
{
    const struct vsock *vsock = remote_of(vm)->vsock;
    struct vsock_counters counted;

    if (!vsock)
        return 0;
    vsock_get_counters(vsock, &counted);
    return name_vsock_counters(&counted, ret_counters);
}

static const struct vm_queries queries = {
    .state = get_state,
    .get_cpu = get_cpu,
    .get_cpu_counters = get_cpu_counters,
    .get_kvm_stats = get_kvm_stats,
    .show = show,
    .read_memory = read_memory,
    .translate = translate,
    .ask_cpu = ask_cpu,
    .disk = find_disk,
    .get_disk = get_disk,
    .ask_disk = ask_disk,
    .get_balloon = get_balloon,
    .get_balloon_stats = get_balloon_stats,
    .get_vsock_counters = get_vsock_counters,
    .get_nic = get_nic,
};

/* To be freed; NULL: there is no memory. */
static char *place_of(enum serial_kind kind, const char *path)
{
    char *text = NULL;
    int n = 0;

    switch (kind) {
    case SERIAL_STDIO:
        return strdup("stdio");
    case SERIAL_NULL:
        return strdup("null");
    case SERIAL_PTY:
        return strdup("pty");
    case SERIAL_FILE:
        n = asprintf(&text, "file:%s", path);
        break;
    case SERIAL_UNIX:
        n = asprintf(&text, "unix:%s,server=on", path);
        break;
    }
    return n < 0 ? NULL : text;
}

static int find_places(struct remote *remote, const struct config *config)
{
    remote->serial_place = place_of(config_serial_kind(config), config->serial.path);
    if (config->console.given)
        remote->console_place = place_of(config->console.kind, config->console.path);
    return remote->serial_place && (remote->console_place || !config->console.given) ? 0 : -ENOMEM;
}

int remote_init(struct remote *remote, const struct machine_parts *parts,
                const struct vm_actions *actions, struct err *err)
{
    const struct config *config = parts->config;

    remote->parts = parts;
    cpu_questions_init(&remote->cpu_questions, parts->loop);
    /* Whoever wants that knows it: it is not told as a pause. */
    remote->prelaunch = remote->wants_pause = remote->paused = config->paused;
    remote->by_client = config->paused;
    if (find_places(remote, config) < 0)
        return err_set(err, -ENOMEM, "out of memory");
    remote->vm = (struct control_vm){
        .queries = &queries,
        .actions = actions,
        .name = config->name,
        .ncpus = config->ncpus,
        .ndisks = config->ndisks,
        .memory = config->memory,
        .serial.where = remote->serial_place,
        .console.where = remote->console_place,
    };
    return 0;
}

/* Without memory it stays "pty". */
static void set_pty(struct vm_port *port, char **place, const char *name)
{
    char *text = NULL;

    if (!name || asprintf(&text, "pty:%s", name) < 0)
        return;
    free(*place);
    *place = text;
    port->where = text;
}

void remote_set_ptys(struct remote *remote, const char *serial, const char *console)
{
    set_pty(&remote->vm.serial, &remote->serial_place, serial);
    set_pty(&remote->vm.console, &remote->console_place, console);
}

void remote_end_questions(struct remote *remote)
{
    if (remote->parts)
        cpu_questions_end(&remote->cpu_questions);
}

void remote_done(struct remote *remote)
{
    free(remote->serial_place);
    free(remote->console_place);
}
