/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/runner.h"

#include <pthread.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/idle_memory.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/trace.h"
#include "vmm/arch.h"
#include "vmm/runner_private.h"

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

    runner->told_reset = starts_again(runner, code);
    if (runner->told_reset)
        control_tell_reset(runner->control, cause_of(runner, code));
    else
        control_tell_shutdown(runner->control, cause_of(runner, code));
}

/* ---- the end of a guest ---------------------------------------------------------------------- */

/* A guest that has ended, and what waits until that is so. */
struct stopping {
    struct machine *machine;
    struct loop *loop;
    pthread_t thread;
    struct loop_work stopped;
    bool is_over;
};

static void on_stopped(struct loop_work *work)
{
    struct stopping *stopping = container_of(work, struct stopping, stopped);

    stopping->is_over = true;
    loop_stop(stopping->loop);
}

static void *stop_main(void *arg)
{
    struct stopping *stopping = arg;

    machine_wait(stopping->machine);
    loop_post(stopping->loop, &stopping->stopped);
    return NULL;
}

/*
 * A disk of the host that hangs keeps the guest's memory until it answers, or until the time limits
 * of the end are over. Clients are served meanwhile, unless there is no memory for a thread.
 */
static void stop_guest(struct runner *runner)
{
    struct stopping stopping = {
        .machine = runner->remote.machine, .loop = runner->loop, .stopped.run = on_stopped};
    int r = 0;

    runner->remote.ending = true;
    debug_server_freeze(runner->debug_server, true);
    loop_disarm(&runner->repeat_button);
    loop_disarm(&runner->retry_disk);
    machine_stop(stopping.machine);
    if (thread_start(&stopping.thread, "stop", stop_main, &stopping) < 0) {
        machine_wait(stopping.machine);
        return;
    }
    while (r == 0 && !stopping.is_over)
        r = loop_run(runner->loop);
    pthread_join(stopping.thread, NULL);
    loop_cancel(runner->loop, &stopping.stopped);
}

/* Wait for the end of the machine that runs. */
static enum exit_code wait_for_end(struct runner *runner, struct err *err)
{
    int r;

    r = loop_run(runner->loop);
    ending_begin_closing(runner->ending);
    tell_end(runner);
    stop_guest(runner);
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
        .kill = runner_quit_key,
        .opaque = runner,
    };
    int r;

    if (!options.address || runner->debug_server)
        return 0;
    r = debug_server_new(&options, &runner->debug_server, err);
    runner->parts.debug = debug_server_debug(runner->debug_server);
    return r;
}

static int start_consoles(struct runner *runner, struct err *err)
{
    int r = console_start(runner->serial, err);

    runner->consoles_started = true;
    if (r == 0 && runner->console)
        r = console_start(runner->console, err);
    if (r == 0)
        remote_set_ptys(&runner->remote, console_pty_name(runner->serial),
                        runner->console ? console_pty_name(runner->console) : NULL);
    return r;
}

/*
 * The first guest can start: only now touch the sockets for control and gdb, the terminal, the file
 * or socket of the serial port, and the file of the boot trace. A VM that cannot be set up leaves
 * them as they were.
 */
static int start_outputs(struct runner *runner, struct err *err)
{
    const uint64_t begin_ns = trace_begin();
    int r = start_control(runner, err);

    if (r == 0)
        r = start_debug_server(runner, err);
    if (r == 0)
        r = boot_trace_open(&runner->trace, &runner->files, err);
    if (r == 0 && !runner->consoles_started) {
        r = start_consoles(runner, err);
        trace_span("start the consoles", begin_ns);
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
        stop_guest(runner);
    }
    return code;
}

/* What failed is gone with the guest that asked for it. A pause that a client wants goes on. */
static void forget_disk_failure(struct runner *runner)
{
    struct remote *remote = &runner->remote;

    if (remote->io_error && !remote->by_client) {
        remote->wants_pause = false;
        control_tell_resumed(runner->control, remote->paused);
        remote->paused = false;
    }
    remote_forget_io_error(remote);
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
    remote->ending = false;
    control_tell_stopped(runner->control);
    debug_server_freeze(runner->debug_server, false);
    forget_disk_failure(runner);
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
        if (ending_is_asked(runner->ending))
            return EXIT_KILLED;
    }
}

enum exit_code runner_run(const struct config *config, struct err *err)
{
    struct runner runner = {
        .config = config,
        .kvm.fd = -1,
        .killed_by = CONTROL_HOST_SIGNAL,
        .trace = {.path = config->boot_trace, .fd = -1},
        .restart.expired = on_restart,
    };
    enum exit_code code = EXIT_SETUP;
    struct err close_err = {0};
    int r = runner_open(&runner, err);

    if (r == 0)
        code = run_guests(&runner, err);
    else if (r > 0)
        code = EXIT_KILLED;
    if (runner.told_reset) /* the next guest could not be started */
        control_tell_shutdown(runner.control, cause_of(&runner, code));

    debug_server_exited(runner.debug_server, code);
    if (runner_close(&runner, &close_err) < 0) {
        if (err->code == 0)
            *err = close_err;
        else
            log_error("%s", close_err.msg);
        code = EXIT_VMM;
    }
    return code;
}
