/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/runner.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/idle_memory.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/trace.h"
#include "boot/boot.h"
#include "vmm/arch.h"
#include "vmm/console/console.h"
#include "vmm/control/control.h"
#include "vmm/debug_server.h"
#include "vmm/disk.h"
#include "vmm/kvm.h"
#include "vmm/machine.h"
#include "vmm/process/boot_trace.h"
#include "vmm/process/ending.h"
#include "vmm/process/restarts.h"
#include "vmm/remote.h"

/* How often a guest is told again of its power button, until it looks. */
#define REPEAT_BUTTON_S 1u

/* After so long a VM whose disk failed goes on, where no client could say so. */
#define RETRY_DISK_S 5u

/* After so long the user is told that the guest has not looked: its kernel may still be booting. */
#define BUTTON_UNNOTICED_S 5u

struct runner {
    const struct config *config;
    struct loop *loop;
    struct ending *ending;
    struct kvm kvm;
    struct boot *boot;
    char *cmdline;
    struct open_files files;
    struct disk **disks;
    size_t ndisks;
    struct console *console;
    bool console_started;
    struct control *control; /* NULL: nobody wants one, or the first guest cannot start yet */
    struct debug_server *debug_server; /* NULL: as for control */
    struct machine_parts parts;
    struct boot_trace trace;

    struct remote remote;    /* with the machine, NULL between two guests, and its pause */
    bool asked_to_power_off; /* a guest that resets instead is not started again */
    struct loop_timer repeat_button;
    unsigned nrepeats;
    struct loop_timer retry_disk;
    struct restarts restarts;
    struct loop_timer restart;

    bool told_of_retries; /* of a disk that failed */
    bool warned;          /* of a KVM that stock kernels do not run on */
    bool killed;
    enum control_cause killed_by;
    bool ended;           /* the guest that ran last */
    bool reset_by_client; /* if so: it did not do that itself */
    enum machine_end how; /* unless killed: how it ended */
};

/* ---- events on the main loop ----------------------------------------------------------------- */

/* The first to end it wins. */
static bool end_guest(struct runner *runner, enum machine_end how)
{
    bool first = !runner->ended;

    if (first) {
        runner->ended = true;
        runner->how = how;
    }
    loop_stop(runner->loop);
    return first;
}

static void on_machine_end(const struct machine_parts *parts, enum machine_end how)
{
    (void)end_guest(container_of(parts, struct runner, parts), how); /* else it has ended already */
}

/* End now: no guest runs, or it was asked for long enough. */
static void on_insisted(void *opaque)
{
    struct runner *runner = opaque;

    runner->killed = true;
    loop_stop(runner->loop);
}

static void insist(struct runner *runner, enum control_cause cause)
{
    runner->killed_by = cause;
    ending_insist(runner->ending);
}

static void on_quit_key(void *opaque)
{
    insist(opaque, CONTROL_HOST_UI);
}

/* The disks are closed after the console: no slow reader of it may leave them unflushed. */
static bool is_hurried(void *opaque)
{
    struct runner *runner = opaque;

    return ending_is_asked(runner->ending);
}

/* A kernel that boots loses the interrupt of a button for which it has no driver yet. */
static void on_repeat_button(struct loop_timer *timer)
{
    struct runner *runner = container_of(timer, struct runner, repeat_button);

    if (!machine_repeat_power_button(runner->remote.machine))
        return;
    if (!runner->remote.wants_pause && ++runner->nrepeats == BUTTON_UNNOTICED_S / REPEAT_BUTTON_S)
        log_say("the guest has not noticed its power button so far: it is told again");
    loop_arm(runner->loop, &runner->repeat_button, REPEAT_BUTTON_S * NS_PER_S);
}

/* False: there is none. */
static bool press_power_button(struct runner *runner)
{
    if (!machine_press_power_button(runner->remote.machine))
        return false;
    control_tell_powerdown(runner->control);
    loop_arm(runner->loop, &runner->repeat_button, REPEAT_BUTTON_S * NS_PER_S);
    return true;
}

static void resume(struct runner *runner)
{
    struct remote *remote = &runner->remote;

    if (!remote->wants_pause)
        return;
    loop_disarm(&runner->retry_disk);
    remote->wants_pause = false;
    remote->io_error = false;
    remote->prelaunch = false;
    machine_resume(remote->machine);
    control_tell_resumed(runner->control, remote->paused);
    remote->paused = false;
}

/* Say what happens next, because whoever sent the signal may want something else. */
static void on_asked(void *opaque, unsigned signo)
{
    struct runner *runner = opaque;

    runner->asked_to_power_off = true;
    if (runner->remote.prelaunch) {
        log_say("signal %u: ended before the guest ran", signo);
        insist(runner, CONTROL_HOST_SIGNAL);
        return;
    }
    if (!press_power_button(runner)) {
        log_say("signal %u: the guest has no power button: it is ended, and its disks are closed",
                signo);
        insist(runner, CONTROL_HOST_SIGNAL);
        return;
    }
    machine_report_disk_errors(runner->remote.machine);
    if (runner->remote.wants_pause)
        log_say("signal %u: the guest was paused: it goes on, so that it can power off", signo);
    resume(runner);
    log_say("signal %u: power button pressed: the guest has %u s to power off; again to end it at "
            "once",
            signo, runner->config->shutdown_timeout_s);
}

/* A new machine that begins paused was told of when its predecessor was paused. */
static void on_paused(const struct machine_parts *parts)
{
    struct runner *runner = container_of(parts, struct runner, parts);

    if (runner->remote.paused)
        return;
    runner->remote.paused = true;
    control_tell_paused(runner->control);
}

static void on_retry_disk(struct loop_timer *timer)
{
    resume(container_of(timer, struct runner, retry_disk));
}

/* A request was kept: it is tried again when the guest goes on. */
static void pause_for_disk(struct runner *runner, struct disk *disk)
{
    struct remote *remote = &runner->remote;

    if (runner->control) {
        log_say("%s: the guest is paused; `cont` lets it go on", disk_label(disk));
    } else {
        loop_arm(runner->loop, &runner->retry_disk, RETRY_DISK_S * NS_PER_S);
        if (!runner->told_of_retries)
            log_say("%s: the guest is paused, and it is tried again every %u s", disk_label(disk),
                    RETRY_DISK_S);
        runner->told_of_retries = true;
    }
    remote->io_error = true;
    remote->wants_pause = true;
    machine_pause(remote->machine);
}

static void on_disk_failed(const struct machine_parts *parts, struct disk *disk,
                           const struct virtio_blk_failure *failure)
{
    struct runner *runner = container_of(parts, struct runner, parts);
    const struct control_disk_failure told = {
        .disk = disk_name(disk),
        .read = failure->read,
        .stops = failure->kept,
        .error = failure->error,
    };

    control_tell_disk_failed(runner->control, &told);
    if (!failure->kept)
        return;
    if (runner->asked_to_power_off) /* it failed before the guest was asked */
        machine_report_disk_errors(runner->remote.machine);
    else if (!runner->remote.io_error)
        pause_for_disk(runner, disk);
}

static void on_panicked(const struct machine_parts *parts, enum machine_panic panic)
{
    struct runner *runner = container_of(parts, struct runner, parts);
    bool crash_loaded = panic == MACHINE_CRASH_LOADED;

    log_guest(LOG_WARN, "the guest's kernel panicked%s",
              crash_loaded ? ", and starts another one that saves its memory" : "");
    control_tell_panicked(runner->control, crash_loaded);
}

/* ---- what clients of the control sockets ask for --------------------------------------------- */

static struct runner *runner_of(struct control_vm *vm)
{
    return container_of(vm, struct runner, remote.vm);
}

static bool press_for_client(struct control_vm *vm)
{
    struct runner *runner = runner_of(vm);

    return runner->remote.machine && press_power_button(runner);
}

/* Whatever --on-reboot says, which is about resets by the guest. */
static void reset_for_client(struct control_vm *vm)
{
    struct runner *runner = runner_of(vm);

    if (end_guest(runner, MACHINE_RESET))
        runner->reset_by_client = true;
}

static void quit_for_client(struct control_vm *vm)
{
    insist(runner_of(vm), CONTROL_HOST_QUIT);
}

static void pause_for_client(struct control_vm *vm)
{
    struct remote *remote = &runner_of(vm)->remote;

    remote->wants_pause = true;
    machine_pause(remote->machine);
}

static void resume_for_client(struct control_vm *vm)
{
    resume(runner_of(vm));
}

static const struct vm_actions client_actions = {
    .press_power_button = press_for_client,
    .reset = reset_for_client,
    .quit = quit_for_client,
    .pause = pause_for_client,
    .resume = resume_for_client,
};

/* ---- what outlives a guest ------------------------------------------------------------------- */

/* Called on the thread of ending.c, while the main thread hangs. */
static void report_disks(void *opaque)
{
    const struct runner *runner = opaque;

    for (size_t i = 0; i < runner->ndisks; i++) {
        struct disk *disk = runner->disks[i];
        unsigned n = disk_in_flight(disk);

        if (n > 0 || disk_is_closing(disk))
            log_error("%s: the host does not answer: %u request%s in flight%s", disk_label(disk), n,
                      n == 1 ? "" : "s", disk_is_closing(disk) ? ", and it is not flushed" : "");
    }
}

static int listen_for_the_end(struct runner *runner, struct err *err)
{
    const struct ending_options options = {
        .shutdown_timeout_s = runner->config->shutdown_timeout_s,
        .loop = runner->loop,
        .asked = on_asked,
        .insisted = on_insisted,
        .report = report_disks,
        .opaque = runner,
    };

    return ending_new(&options, &runner->ending, err);
}

/* The disks and the serial port shall not write to them. */
static int note_boot_files(struct runner *runner, struct err *err)
{
    const struct config *config = runner->config;
    int r = 0;

    if (config->file) {
        const struct open_file_use use = {.path = config->file, .role = "the configuration file"};

        r = open_files_add_path(&runner->files, &use, err);
    }
    for (size_t i = 0; r == 0 && i <= config->ninitrds; i++) {
        struct open_file_use use = {.path = config->kernel, .role = "the kernel"};

        if (i > 0)
            use = (struct open_file_use){.path = config->initrds[i - 1], .role = "an initrd"};
        r = open_files_add_fd(&runner->files, boot_file_fd(runner->boot, i), &use, err);
    }
    return r;
}

static int open_boot(struct runner *runner, struct err *err)
{
    const struct config *config = runner->config;
    char *kernel_cache = config_may_map_files(config) ? config_kernel_cache(config) : NULL;
    const struct boot_options options = {
        .kernel = config->kernel,
        .kernel_named_by = config->kernel_in_file ? config->file : NULL,
        .initrds = (const char *const *)config->initrds,
        .ninitrds = config->ninitrds,
        .kernel_cache = kernel_cache,
    };
    int r;

    r = boot_open(&options, &runner->boot, err);
    free(kernel_cache);
    if (r < 0)
        return r;

    runner->cmdline = config_kernel_cmdline(config);
    if (!runner->cmdline)
        return err_set(err, -ENOMEM, "out of memory");
    return note_boot_files(runner, err);
}

static int open_disks(struct runner *runner, struct err *err)
{
    const struct config *config = runner->config;

    runner->disks = calloc(config->ndisks + 1, sizeof(struct disk *));
    if (!runner->disks)
        return err_set(err, -ENOMEM, "out of memory");
    for (unsigned i = 0; i < config->ndisks; i++) {
        int r = disk_open(config, i, &runner->files, runner->loop, &runner->disks[i], err);

        if (r < 0)
            return r;
        runner->ndisks++;
    }
    return 0;
}

static int check_outputs(struct runner *runner, struct err *err)
{
    return boot_trace_check(&runner->trace, &runner->files, err);
}

static int make_console(struct runner *runner, struct err *err)
{
    const struct console_events events = {
        .quit = on_quit_key, .is_hurried = is_hurried, .opaque = runner};

    return console_new(runner->config->serial, runner->config->serial_path, &runner->files,
                       runner->loop, &events, &runner->console, err);
}

static int check_ncpus(const struct runner *runner, struct err *err)
{
    if (runner->config->ncpus <= runner->kvm.max_vcpus)
        return 0;
    return err_set(err, -EINVAL, "%u CPUs: this host's KVM allows up to %u", runner->config->ncpus,
                   runner->kvm.max_vcpus);
}

static int open_kvm(struct runner *runner, struct err *err)
{
    int r = kvm_open(&runner->kvm, err);

    return r < 0 ? r : check_ncpus(runner, err);
}

/* In the order in which it is most useful to fail. */
static const struct part {
    int (*open)(struct runner *runner, struct err *err);
    const char *name;
} parts[] = {
    {open_kvm, "open KVM"},
    {open_boot, "open the kernel"},
    {open_disks, "open disks"},
    {check_outputs, "check outputs"},
    {make_console, "make the console"},
};

/* 0; a negative errno with *err filled; 1: the end was asked for meanwhile. */
static int open_parts(struct runner *runner, struct err *err)
{
    int r;

    r = loop_new(&runner->loop);
    if (r < 0)
        return err_set_errno(err, r, "cannot make an event loop");
    r = listen_for_the_end(runner, err);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(parts); i++) {
        uint64_t begin_ns = trace_begin();

        if (ending_is_asked(runner->ending))
            return 1;
        r = parts[i].open(runner, err);
        trace_span(parts[i].name, begin_ns);
    }
    if (r < 0)
        return r;

    runner->parts = (struct machine_parts){
        .config = runner->config,
        .kvm = &runner->kvm,
        .boot = runner->boot,
        .cmdline = runner->cmdline,
        .loop = runner->loop,
        .serial = console_chardev(runner->console),
        .disks = runner->disks,
        .ndisks = runner->ndisks,
        .ended = on_machine_end,
        .paused = on_paused,
        .disk_failed = on_disk_failed,
        .panicked = on_panicked,
    };
    return remote_init(&runner->remote, &runner->parts, &client_actions, err);
}

static void close_console(struct runner *runner)
{
    const uint64_t begin_ns = trace_begin();

    console_close(runner->console);
    trace_span("close the console", begin_ns);
}

/* All are closed, whatever fails; the first failure is returned. */
static int close_disks(struct runner *runner, struct err *err)
{
    const uint64_t begin_ns = trace_begin();
    int result = 0;

    for (size_t i = runner->ndisks; i-- > 0;) {
        struct err disk_err = {0};

        if (disk_close(runner->disks[i], &disk_err) == 0)
            continue;
        if (result == 0)
            *err = disk_err;
        else
            log_error("%s", disk_err.msg);
        result = disk_err.code;
    }
    trace_span("close disks", begin_ns);
    return result;
}

/* Everything open_parts opened, however far it came. The terminal first: flushing may take long. */
static int close_parts(struct runner *runner, struct err *err)
{
    int result;

    if (runner->ending)
        ending_begin_closing(runner->ending);
    close_console(runner);
    result = close_disks(runner, err);
    boot_close(runner->boot);
    if (runner->kvm.fd >= 0)
        kvm_close(&runner->kvm);

    /* From here on nothing takes long. */
    ending_free(runner->ending);
    control_free(runner->control);
    remote_done(&runner->remote);
    debug_server_free(runner->debug_server);
    while (runner->ndisks > 0)
        disk_free(runner->disks[--runner->ndisks]);
    free(runner->disks);
    open_files_done(&runner->files);
    free(runner->cmdline);
    loop_free(runner->loop);
    return result;
}

/* Last of all the timeline, which shows the rest. */
static int close_all(struct runner *runner, struct err *err)
{
    struct err trace_err = {0};
    int r = close_parts(runner, err);

    if (boot_trace_close(&runner->trace, &trace_err) == 0)
        return r;
    if (r < 0)
        log_error("%s", trace_err.msg);
    else
        *err = trace_err;
    return trace_err.code;
}

/* ---- guests ---------------------------------------------------------------------------------- */

static enum exit_code exit_code_of(const struct runner *runner)
{
    if (runner->killed)
        return EXIT_KILLED;
    switch (runner->how) {
    case MACHINE_POWER_OFF:
        return EXIT_POWER_OFF;
    case MACHINE_RESET:
        return EXIT_REBOOT;
    case MACHINE_FAILED:
        return EXIT_VMM;
    }
    return EXIT_VMM;
}

/* Asked to power off, a guest may have been on its way into a reset, or take it for one. */
static bool starts_again(const struct runner *runner, enum exit_code code)
{
    return code == EXIT_REBOOT && !runner->asked_to_power_off &&
           (runner->config->restart_on_reboot || runner->reset_by_client);
}

static enum control_cause cause_of(const struct runner *runner, enum exit_code code)
{
    switch (code) {
    case EXIT_POWER_OFF:
        return CONTROL_GUEST_SHUTDOWN;
    case EXIT_REBOOT:
        return runner->reset_by_client ? CONTROL_HOST_RESET : CONTROL_GUEST_RESET;
    case EXIT_KILLED:
        return runner->killed_by;
    default:
        return CONTROL_HOST_ERROR;
    }
}

static void tell_end(struct runner *runner)
{
    enum exit_code code = exit_code_of(runner);

    if (starts_again(runner, code))
        control_tell_reset(runner->control, cause_of(runner, code));
    else
        control_tell_shutdown(runner->control, cause_of(runner, code));
}

/* Wait for the end of the machine that runs. */
static enum exit_code wait_for_end(struct runner *runner, struct err *err)
{
    int r;

    r = loop_run(runner->loop);
    ending_begin_closing(runner->ending);
    tell_end(runner);
    machine_stop(runner->remote.machine);
    if (r < 0) {
        err_set_errno(err, r, "the event loop failed");
        return EXIT_VMM;
    }
    if (!runner->killed && runner->how == MACHINE_FAILED)
        *err = *machine_failure(runner->remote.machine);
    return exit_code_of(runner);
}

static int start_control(struct runner *runner, struct err *err)
{
    const struct control_options options = {
        .loop = runner->loop,
        .vm = &runner->remote.vm,
        .qmp = runner->config->qmp,
        .name = runner->config->name,
    };

    if (runner->control || (!options.qmp && !options.name))
        return 0;
    return control_new(&options, &runner->control, err);
}

static int start_debug_server(struct runner *runner, struct err *err)
{
    const struct debug_server_options options = {
        .kvm = &runner->kvm,
        .loop = runner->loop,
        .address = runner->config->gdb,
        .waits = runner->config->wait_gdb,
        .kill = on_quit_key,
        .opaque = runner,
    };
    int r;

    if (!options.address || runner->debug_server)
        return 0;
    r = debug_server_new(&options, &runner->debug_server, err);
    runner->parts.debug = debug_server_debug(runner->debug_server);
    return r;
}

/*
 * The first guest can start: only now touch the control sockets, the terminal, the file or socket
 * of the serial port, and that of the boot trace. A VM that cannot be set up leaves them as they
 * were.
 */
static int start_outputs(struct runner *runner, struct err *err)
{
    const uint64_t begin_ns = trace_begin();
    int r = start_control(runner, err);

    if (r == 0)
        r = start_debug_server(runner, err);
    if (r == 0)
        r = boot_trace_open(&runner->trace, &runner->files, err);
    if (r == 0 && !runner->console_started) {
        r = console_start(runner->console, err);
        runner->console_started = true;
        if (r == 0 && console_pty_name(runner->console))
            remote_set_pty(&runner->remote, console_pty_name(runner->console));
        trace_span("start the console", begin_ns);
    }
    return r;
}

/* Else a stock kernel would stop after minutes, with a message about one instruction. */
static void warn_of_software_kvm(struct runner *runner)
{
    if (runner->warned || arch_has_virtualization() || !boot_is_bzimage(runner->boot))
        return;
    log_warn("this host's KVM works without VT-x or SVM and does not know all instructions: Linux "
             "runs on it only if it was built for such a KVM, and else stops, maybe after minutes");
    runner->warned = true;
}

/* The guest is loaded: let it run to its end. */
static enum exit_code start_and_wait(struct runner *runner, struct err *err)
{
    enum exit_code code = EXIT_SETUP;

    if (start_outputs(runner, err) < 0)
        return EXIT_SETUP;
    if (!ending_begin_guest(runner->ending))
        return EXIT_KILLED;
    if (machine_start(runner->remote.machine, err) == 0) {
        warn_of_software_kvm(runner);
        idle_memory_release();
        code = wait_for_end(runner, err);
    } else {
        machine_stop(runner->remote.machine);
    }
    loop_disarm(&runner->repeat_button);
    loop_disarm(&runner->retry_disk);
    return code;
}

static enum exit_code run_guest(struct runner *runner, struct err *err)
{
    struct remote *remote = &runner->remote;
    enum exit_code code;

    runner->ended = false;
    runner->reset_by_client = false;
    if (machine_new(&runner->parts, &remote->machine, err) < 0)
        return EXIT_SETUP;
    if (remote->wants_pause) /* as the guest before it was */
        machine_pause(remote->machine);
    code = start_and_wait(runner, err);
    machine_free(remote->machine);
    remote->machine = NULL;
    return code;
}

static void on_restart(struct loop_timer *timer)
{
    struct runner *runner = container_of(timer, struct runner, restart);

    loop_stop(runner->loop);
}

/* Before a guest that ran for `lived_ns` starts again. 0, or a negative errno with *err filled. */
static int pause_before_restart(struct runner *runner, uint64_t lived_ns, struct err *err)
{
    unsigned pause_s;
    int r;

    if (runner->reset_by_client)
        return 0;
    pause_s = restarts_next_pause_s(&runner->restarts, lived_ns);
    if (pause_s == 0)
        return 0;
    log_guest(LOG_WARN, "the guest resets soon after each start: it starts again in %u s", pause_s);
    loop_arm(runner->loop, &runner->restart, pause_s * NS_PER_S);
    r = loop_run(runner->loop);
    loop_disarm(&runner->restart);
    return r < 0 ? err_set_errno(err, r, "the event loop failed") : 0;
}

static enum exit_code run_guests(struct runner *runner, struct err *err)
{
    for (;;) {
        uint64_t start_ns = monotonic_ns();
        enum exit_code code = run_guest(runner, err);

        if (!starts_again(runner, code))
            return code;
        ending_begin_set_up(runner->ending);
        if (!ending_is_asked(runner->ending) &&
            pause_before_restart(runner, monotonic_ns() - start_ns, err) < 0)
            return EXIT_VMM;
        if (ending_is_asked(runner->ending)) {
            control_tell_shutdown(runner->control, runner->killed_by);
            return EXIT_KILLED;
        }
    }
}

enum exit_code runner_run(const struct config *config, struct err *err)
{
    struct runner runner = {
        .config = config,
        .kvm.fd = -1,
        .killed_by = CONTROL_HOST_SIGNAL,
        .trace = {.path = config->boot_trace, .fd = -1},
        .repeat_button.expired = on_repeat_button,
        .retry_disk.expired = on_retry_disk,
        .restart.expired = on_restart,
    };
    enum exit_code code = EXIT_SETUP;
    struct err close_err = {0};
    int r = open_parts(&runner, err);

    if (r == 0)
        code = run_guests(&runner, err);
    else if (r > 0)
        code = EXIT_KILLED;

    debug_server_exited(runner.debug_server, code);
    if (close_all(&runner, &close_err) < 0) {
        if (err->code == 0)
            *err = close_err;
        else
            log_error("%s", close_err.msg);
        code = EXIT_VMM;
    }
    return code;
}
