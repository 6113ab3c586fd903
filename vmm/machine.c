/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/trace.h"
#include "devices/bus.h"
#include "devices/virtio/virtio_blk.h"
#include "memory/guest_mem.h"
#include "memory/guest_mem_populate.h"
#include "vmm/arch.h"
#include "vmm/board.h"
#include "vmm/disk_failure.h"
#include "vmm/gate.h"
#include "vmm/pause.h"
#include "vmm/vcpu.h"
#include "vmm/virtio_slots.h"

_Static_assert(CONFIG_QUEUES_MAX <= VIRTIO_QUEUES_MAX, "a disk has the queues it is given");
_Static_assert(CONFIG_DISK_SERIAL_MAX <= VIRTIO_BLK_SERIAL_MAX, "nothing is cut off");

/* What a disk reports of its requests. */
struct disk_watch {
    struct machine *machine;
    struct disk *disk;
    struct virtio_dev *dev; /* owner: the slots */
    struct disk_failures failures;
};

struct machine {
    const struct machine_parts *parts;

    struct guest_mem *mem;
    struct kvm_vm vm;
    struct arch_vm *arch;
    struct bus pio;
    struct bus mmio;

    struct board *board;
    struct virtio_slots virtio;
    struct disk_watch *disk_watches;
    size_t ndisk_watches;

    struct gate gate;
    struct pause pause;
    struct arch_clock clock; /* while paused */
    unsigned clock_stops;    /* pauses and debuggers that want it to stand still */
    bool clock_stopped;      /* and it does */
    bool clock_warned;
    struct debug_machine debugged;
    struct vcpu_env vcpu_env;
    struct vcpu **vcpus;
    unsigned nvcpus;

    /* How it ends: the first to report wins, from any thread. */
    struct power_sink power;
    pthread_mutex_t end_lock;
    bool end_reported;        /* end_lock */
    enum machine_end how;     /* written once, before the eventfd; then read by the main thread */
    struct err failure;       /* the same */
    struct loop_fd end_watch; /* eventfd; a watch, since it can be removed at any time */

    struct pvpanic pvpanic;
    struct loop_work panicked;
    atomic_uint panics; /* PVPANIC_…, not told yet */
};

/* ---- the end --------------------------------------------------------------------------------- */

static void report_end(struct machine *machine, enum machine_end how, const struct err *failure)
{
    pthread_mutex_lock(&machine->end_lock);
    if (!machine->end_reported) {
        machine->end_reported = true;
        machine->how = how;
        if (failure)
            machine->failure = *failure;
        (void)eventfd_write(machine->end_watch.fd, 1); /* the first write to it: cannot fail */
    }
    pthread_mutex_unlock(&machine->end_lock);
}

/* Any vCPU thread. */
static void on_power_request(struct power_sink *sink, enum power_request what)
{
    struct machine *machine = container_of(sink, struct machine, power);

    trace_mark(what == POWER_REQUEST_OFF ? "the guest powers off" : "the guest resets");
    report_end(machine, what == POWER_REQUEST_OFF ? MACHINE_POWER_OFF : MACHINE_RESET, NULL);
}

/* Any vCPU thread. */
static void on_vcpu_failed(const struct vcpu_env *env, const struct err *err)
{
    struct machine *machine = container_of(env, struct machine, vcpu_env);

    report_end(machine, MACHINE_FAILED, err);
}

static void on_end(struct loop_fd *watch, uint32_t events)
{
    struct machine *machine = container_of(watch, struct machine, end_watch);
    enum machine_end how;

    loop_remove_fd(watch);
    pthread_mutex_lock(&machine->end_lock);
    how = machine->how;
    pthread_mutex_unlock(&machine->end_lock);
    machine->parts->ended(machine->parts, how);
}

/* Any vCPU thread. */
static void on_pvpanic(struct pvpanic *pvpanic, unsigned event)
{
    struct machine *machine = container_of(pvpanic, struct machine, pvpanic);

    atomic_fetch_or(&machine->panics, event);
    loop_post(machine->parts->loop, &machine->panicked);
}

static void on_panicked(struct loop_work *work)
{
    struct machine *machine = container_of(work, struct machine, panicked);
    unsigned panics = atomic_exchange(&machine->panics, 0);

    if (panics & PVPANIC_CRASH_LOADED)
        machine->parts->panicked(machine->parts, MACHINE_CRASH_LOADED);
    if (panics & PVPANIC_PANICKED)
        machine->parts->panicked(machine->parts, MACHINE_PANICKED);
}

static int watch_end(struct machine *machine, struct err *err)
{
    int r;

    machine->end_watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (machine->end_watch.fd < 0)
        return err_set_errno(err, -errno, "cannot make an eventfd");
    machine->end_watch.events = EPOLLIN;
    machine->end_watch.ready = on_end;
    r = loop_add_fd(machine->parts->loop, &machine->end_watch);
    return r < 0 ? err_set_errno(err, r, "cannot watch an eventfd") : 0;
}

/* ---- pauses ---------------------------------------------------------------------------------- */

/* Any thread, with the gate's lock held. */
static void on_gate_cleared(struct gate *gate)
{
    struct machine *machine = container_of(gate, struct machine, gate);

    pause_cleared(&machine->pause);
    debug_cleared(machine->parts->debug);
}

static void warn_of_clock(struct machine *machine, const struct err *err)
{
    if (!machine->clock_warned)
        log_warn("the guest sees the time jump by the pause: %s", err->msg);
    machine->clock_warned = true;
}

/* Pauses and debuggers stop it, each for itself; it goes on from where the first one did. */
static void stop_clock(struct machine *machine)
{
    struct err err = {0};

    if (machine->clock_stops++ > 0)
        return;
    machine->clock_stopped = arch_clock_stop(&machine->vm, &machine->clock, &err) == 0;
    if (!machine->clock_stopped)
        warn_of_clock(machine, &err);
}

static void start_clock(struct machine *machine)
{
    struct err err = {0};
    int fds[CONFIG_CPUS_MAX];

    if (--machine->clock_stops > 0 || !machine->clock_stopped)
        return;
    for (unsigned i = 0; i < machine->nvcpus; i++)
        fds[i] = vcpu_fd(machine->vcpus[i]);
    if (arch_clock_start(&machine->vm, &machine->clock, fds, machine->nvcpus, &err) < 0)
        warn_of_clock(machine, &err);
}

static void on_pause_stops_clock(struct pause *pause)
{
    stop_clock(container_of(pause, struct machine, pause));
}

static void on_pause_starts_clock(struct pause *pause)
{
    start_clock(container_of(pause, struct machine, pause));
}

static void on_debug_holds(struct debug_machine *debugged, bool holds)
{
    struct machine *machine = container_of(debugged, struct machine, debugged);

    if (holds)
        stop_clock(machine);
    else
        start_clock(machine);
}

static void on_paused(struct pause *pause)
{
    struct machine *machine = container_of(pause, struct machine, pause);

    machine->parts->paused(machine->parts);
}

static int prepare_pauses(struct machine *machine, struct err *err)
{
    machine->pause = (struct pause){
        .gate = &machine->gate,
        .loop = machine->parts->loop,
        .stop_clock = on_pause_stops_clock,
        .start_clock = on_pause_starts_clock,
        .paused = on_paused,
    };
    machine->gate.cleared = on_gate_cleared;
    if (pause_init(&machine->pause, machine->virtio.nplaces) < 0)
        return err_set(err, -ENOMEM, "out of memory");
    return 0;
}

/* ---- devices --------------------------------------------------------------------------------- */

static int add_board(struct machine *machine, struct err *err)
{
    const struct board_options options = {
        .vm = &machine->vm,
        .pio = &machine->pio,
        .serial = machine->parts->serial,
        .power = &machine->power,
        .pvpanic = &machine->pvpanic,
        .acpi = machine->parts->config->acpi,
        .rtc = machine->parts->config->rtc,
    };

    return board_new(&options, &machine->board, err);
}

/* Takes ownership of `dev`, also on failure. */
static int add_virtio(struct machine *machine, struct virtio_dev *dev, struct err *err)
{
    int r = virtio_slots_add(&machine->virtio, dev, &machine->vm, &machine->mmio, err);

    if (r == 0)
        pause_add_device(&machine->pause, dev);
    return r;
}

static void on_disk_failed(struct disk_failures *failures, const struct virtio_blk_failure *failure)
{
    const struct disk_watch *watch = container_of(failures, struct disk_watch, failures);
    const struct machine_parts *parts = watch->machine->parts;

    /* The machine went on since, so that request is tried again: it may succeed. */
    if (!failure->kept || virtio_blk_waits(watch->dev, failure))
        parts->disk_failed(parts, watch->disk, failure);
}

static struct disk_watch *watch_disk(struct machine *machine, struct disk *disk)
{
    struct disk_watch *watch = &machine->disk_watches[machine->ndisk_watches++];

    watch->machine = machine;
    watch->disk = disk;
    disk_failures_init(&watch->failures, machine->parts->loop, on_disk_failed);
    return watch;
}

static int add_disk(struct machine *machine, struct disk *disk, struct err *err)
{
    const struct config_disk *config = disk_config(disk);
    struct disk_watch *watch = watch_disk(machine, disk);
    const struct virtio_blk_options blk = {
        .port = disk_port(disk),
        .label = disk_label_place(disk),
        .serial = config->serial ? config->serial : "",
        .nqueues = config->nqueues,
        .on_write_error = config->on_write_error,
        .on_read_error = config->on_read_error,
        .failed = disk_failures_note,
        .opaque = &watch->failures,
    };
    int r = virtio_blk_new(&blk, machine->mem, &watch->dev);

    if (r < 0)
        return err_set_errno(err, r, "%s: cannot make its device", config->path);
    return add_virtio(machine, watch->dev, err);
}

static int add_disks(struct machine *machine, struct err *err)
{
    for (size_t i = 0; i < machine->parts->ndisks; i++) {
        int r = add_disk(machine, machine->parts->disks[i], err);

        if (r < 0)
            return r;
    }
    return 0;
}

static int add_attached(struct machine *machine, struct attached *attached, struct err *err)
{
    struct virtio_dev *dev;
    int r = attached->ops->make_device(attached, machine->mem, &dev, err);

    return r < 0 ? r : add_virtio(machine, dev, err);
}

static int add_devices(struct machine *machine, struct err *err)
{
    int r = add_disks(machine, err);

    for (size_t i = 0; r == 0 && i < machine->parts->nattached; i++)
        r = add_attached(machine, machine->parts->attached[i], err);
    return r;
}

static int connect_devices(struct machine *machine, struct err *err)
{
    int r = add_board(machine, err);

    return r == 0 ? virtio_slots_connect(&machine->virtio, &machine->vm, err) : r;
}

/* The disks are ready for another machine afterwards. */
static void free_devices(struct machine *machine)
{
    virtio_slots_free_devices(&machine->virtio);
    while (machine->ndisk_watches > 0)
        disk_failures_done(&machine->disk_watches[--machine->ndisk_watches].failures);
    for (size_t i = 0; i < machine->parts->ndisks; i++)
        disk_resume(machine->parts->disks[i]);
    board_free(machine->board);
}

static int plan_devices(struct machine *machine, struct err *err)
{
    size_t ndisks = machine->parts->ndisks;

    machine->disk_watches = calloc(ndisks + 1, sizeof(*machine->disk_watches));
    if (!machine->disk_watches)
        return err_set(err, -ENOMEM, "out of memory");
    return virtio_slots_plan(&machine->virtio, ndisks + machine->parts->nattached, err);
}

/* ---- memory, VM, vCPUs ----------------------------------------------------------------------- */

static int map_memory(struct machine *machine, struct err *err)
{
    const struct config *config = machine->parts->config;
    struct mem_range ranges[ARCH_RAM_RANGES_MAX];
    size_t n = arch_ram_ranges(config->memory, ranges);
    int r = config->nshares > 0 ? guest_mem_new_shared(ranges, n, &machine->mem, err)
                                : guest_mem_new(ranges, n, &machine->mem, err);

    guest_mem_keep_pages(!config_may_map_files(config));
    if (r == 0)
        r = guest_mem_use_pages(machine->mem, config->pages, err);
    if (r == 0 && config->prealloc)
        r = guest_mem_populate(machine->mem, err);
    return r;
}

static int create_vm(struct machine *machine, struct err *err)
{
    const struct machine_parts *parts = machine->parts;
    int r;

    r = kvm_vm_create(parts->kvm, &machine->vm, err);
    if (r < 0)
        return r;
    return kvm_vm_add_memory(&machine->vm, machine->mem, err);
}

static int create_chips(struct machine *machine, struct err *err)
{
    const struct config *config = machine->parts->config;

    return arch_vm_new(&machine->vm, !config->acpi, config->ncpus, &machine->arch, err);
}

static int create_vcpus(struct machine *machine, struct err *err)
{
    unsigned ncpus = machine->parts->config->ncpus;

    machine->vcpu_env = (struct vcpu_env){
        .vm = &machine->vm,
        .mem = machine->mem,
        .pio = &machine->pio,
        .mmio = &machine->mmio,
        .power = &machine->power,
        .gate = &machine->gate,
        .failed = on_vcpu_failed,
    };
    machine->vcpus = calloc(ncpus, sizeof(struct vcpu *));
    if (!machine->vcpus)
        return err_set(err, -ENOMEM, "out of memory");
    for (unsigned i = 0; i < ncpus; i++) {
        int r = vcpu_new(&machine->vcpu_env, i, &machine->vcpus[i], err);

        if (r < 0)
            return r;
        machine->nvcpus++;
        r = arch_vcpu_init(machine->arch, vcpu_fd(machine->vcpus[i]), i, err);
        if (r < 0)
            return r;
    }
    /* What all vCPUs were described from: 10 KiB that nobody needs any more. */
    arch_vm_free(machine->arch);
    machine->arch = NULL;
    return 0;
}

/* ---- loading --------------------------------------------------------------------------------- */

/*
 * Reading the kernel takes most of the start-up time and needs nothing but guest memory, so it
 * has a thread of its own while this one sets up KVM.
 */
struct load_job {
    struct machine *machine;
    pthread_t thread;
    struct boot_plan plan;
    struct err err;
    int result;
};

static void *load_main(void *arg)
{
    const uint64_t begin_ns = trace_begin();
    struct load_job *job = arg;
    const struct machine *machine = job->machine;
    const struct boot_machine description = {
        .ncpus = machine->parts->config->ncpus,
        .acpi = machine->parts->config->acpi,
        .rtc = machine->parts->config->rtc,
        .virtio = machine->virtio.places,
        .nvirtio = machine->virtio.nplaces,
        .kaslr = machine->parts->config->kaslr,
        .cmdline = machine->parts->cmdline,
    };

    job->result =
        boot_load(machine->parts->boot, &description, machine->mem, &job->plan, &job->err);
    trace_span("load the guest", begin_ns);
    return NULL;
}

static int start_loading(struct load_job *job, struct err *err)
{
    int r = thread_start(&job->thread, "load", load_main, job);

    return r < 0 ? err_set_errno(err, r, "cannot start a thread") : 0;
}

static int finish_loading(struct load_job *job, struct err *err)
{
    const uint64_t begin_ns = trace_begin();

    pthread_join(job->thread, NULL);
    trace_span("wait for the load thread", begin_ns);
    if (job->result < 0)
        *err = job->err;
    return job->result;
}

/* A step of it, in the timeline. */
static int make(const char *name, int (*step)(struct machine *machine, struct err *err),
                struct machine *machine, struct err *err)
{
    const uint64_t begin_ns = trace_begin();
    int r = step(machine, err);

    trace_span(name, begin_ns);
    return r;
}

/* In this order: see virtio_slots.h, and KVM wants its chips before vCPUs. */
static const struct step {
    const char *name;
    int (*make)(struct machine *machine, struct err *err);
} steps[] = {
    {"create the VM", create_vm},         {"add devices", add_devices},
    {"create chips", create_chips},       {"create vCPUs", create_vcpus},
    {"connect devices", connect_devices},
};

static int build(struct machine *machine, struct err *err)
{
    struct load_job load = {.machine = machine};
    struct err load_err = {0};
    int r, load_r;

    r = watch_end(machine, err);
    if (r == 0)
        r = plan_devices(machine, err);
    if (r == 0)
        r = prepare_pauses(machine, err);
    if (r == 0)
        r = make("map memory", map_memory, machine, err);
    if (r == 0)
        r = start_loading(&load, err);
    if (r < 0)
        return r;

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(steps); i++)
        r = make(steps[i].name, steps[i].make, machine, err);
    load_r = finish_loading(&load, &load_err);
    if (r == 0 && load_r < 0) {
        *err = load_err;
        r = load_r;
    }
    if (r < 0)
        return r;
    return arch_vcpu_enter(vcpu_fd(machine->vcpus[0]), &load.plan, err);
}

/* ---- life cycle ------------------------------------------------------------------------------ */

int machine_new(const struct machine_parts *parts, struct machine **ret_machine, struct err *err)
{
    struct machine *machine = calloc(1, sizeof(*machine));
    int r;

    if (!machine)
        return err_set(err, -ENOMEM, "out of memory");
    machine->parts = parts;
    machine->vm.fd = -1;
    machine->end_watch.fd = -1;
    machine->power.request = on_power_request;
    machine->pvpanic.panicked = on_pvpanic;
    machine->panicked.run = on_panicked;
    pthread_mutex_init(&machine->end_lock, NULL);
    gate_init(&machine->gate);

    r = build(machine, err);
    if (r < 0) {
        machine_free(machine);
        return r;
    }
    *ret_machine = machine;
    return 0;
}

int machine_start(struct machine *machine, struct err *err)
{
    const uint64_t begin_ns = trace_begin();
    int r;

    machine->debugged = (struct debug_machine){
        .gate = &machine->gate,
        .mem = machine->mem,
        .vcpus = machine->vcpus,
        .nvcpus = machine->nvcpus,
        .holds = on_debug_holds,
    };
    r = debug_attach(machine->parts->debug, &machine->debugged);
    if (r < 0)
        err_set(err, r, "out of memory");
    for (unsigned i = 0; r == 0 && i < machine->nvcpus; i++)
        r = vcpu_start(machine->vcpus[i], err);
    trace_span("start vCPUs", begin_ns);
    return r;
}

static void cancel_attached(struct attached *attached)
{
    if (attached->ops->cancel)
        attached->ops->cancel(attached);
}

/* A vCPU may be waiting for a device's requests; whatever they are, nobody wants them any more. */
void machine_stop(struct machine *machine)
{
    loop_remove_fd(&machine->end_watch);
    pause_give_up(&machine->pause);
    debug_end(machine->parts->debug);
    for (unsigned i = 0; i < machine->nvcpus; i++)
        vcpu_request_stop(machine->vcpus[i]);
    for (size_t i = 0; i < machine->parts->ndisks; i++)
        disk_cancel(machine->parts->disks[i]);
    for (size_t i = 0; i < machine->parts->nattached; i++)
        cancel_attached(machine->parts->attached[i]);
}

void machine_wait(struct machine *machine)
{
    uint64_t begin_ns = trace_begin();

    for (unsigned i = 0; i < machine->nvcpus; i++)
        vcpu_wait(machine->vcpus[i]);
    trace_span("stop vCPUs", begin_ns);
    begin_ns = trace_begin();
    virtio_slots_stop_devices(&machine->virtio);
    trace_span("stop devices", begin_ns);
}

/* Nothing may use what is freed before it: vCPUs, devices, the VM, and last its memory. */
void machine_free(struct machine *machine)
{
    const uint64_t begin_ns = trace_begin();

    if (!machine)
        return;
    if (machine->debugged.gate)
        debug_detach(machine->parts->debug);
    for (unsigned i = 0; i < machine->nvcpus; i++)
        vcpu_free(machine->vcpus[i]);
    free(machine->vcpus);
    free_devices(machine);
    pause_done(&machine->pause);
    free(machine->disk_watches);
    virtio_slots_done(&machine->virtio);
    arch_vm_free(machine->arch);
    if (machine->vm.fd >= 0)
        kvm_vm_close(&machine->vm);
    guest_mem_free(machine->mem);
    loop_cancel(machine->parts->loop, &machine->panicked);
    loop_remove_fd(&machine->end_watch);
    if (machine->end_watch.fd >= 0)
        close(machine->end_watch.fd);
    gate_done(&machine->gate);
    pthread_mutex_destroy(&machine->end_lock);
    free(machine);
    trace_span("free the machine", begin_ns);
}

void machine_pause(struct machine *machine)
{
    if (!pause_is_wanted(&machine->pause))
        pause_begin(&machine->pause);
}

void machine_resume(struct machine *machine)
{
    if (pause_is_wanted(&machine->pause))
        pause_end(&machine->pause);
}

void machine_report_disk_errors(struct machine *machine)
{
    for (size_t i = 0; i < machine->ndisk_watches; i++)
        virtio_blk_report_errors(machine->disk_watches[i].dev);
}

const struct err *machine_failure(const struct machine *machine)
{
    return &machine->failure;
}

struct vcpu *machine_vcpu(const struct machine *machine, unsigned index)
{
    return machine->vcpus[index];
}

struct machine_view machine_view(const struct machine *machine)
{
    return (struct machine_view){
        .vm = &machine->vm,
        .mem = machine->mem,
        .pio = &machine->pio,
        .mmio = &machine->mmio,
    };
}

bool machine_press_power_button(struct machine *machine)
{
    return board_press_power_button(machine->board);
}

bool machine_repeat_power_button(struct machine *machine)
{
    return board_repeat_power_button(machine->board);
}
