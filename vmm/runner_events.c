/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "vmm/runner_private.h"

/* How often a guest is told again of its power button, until it looks. */
#define REPEAT_BUTTON_S 1u

/* After so long the user is told that the guest has not looked: its kernel may still be booting. */
#define BUTTON_UNNOTICED_S 5u

/* After so long a VM whose disk failed goes on, where no client could say so. */
#define RETRY_DISK_S 5u

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
void runner_insisted(void *opaque)
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

void runner_quit_key(void *opaque)
{
    insist(opaque, CONTROL_HOST_UI);
}

/* The disks are closed after the console: no slow reader of it may leave them unflushed. */
bool runner_is_hurried(void *opaque)
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
    if (!runner->remote.wants_pause && debug_server_hold(runner->debug_server) == DEBUG_RUNS &&
        ++runner->nrepeats == BUTTON_UNNOTICED_S / REPEAT_BUTTON_S)
        log_say("the guest has not noticed its power button so far: it is told again");
    loop_arm(runner->loop, &runner->repeat_button, REPEAT_BUTTON_S * NS_PER_S);
}

/* False: there is none. */
static bool press_power_button(struct runner *runner)
{
    if (!machine_press_power_button(runner->remote.machine))
        return false;
    control_tell_powerdown(runner->control);
    runner->nrepeats = 0;
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
    remote->by_client = false;
    remote_forget_io_error(remote);
    remote->prelaunch = false;
    machine_resume(remote->machine);
    control_tell_resumed(runner->control, remote->paused);
    remote->paused = false;
}

/* Say what happens next, because whoever sent the signal may want something else. */
void runner_asked(void *opaque, unsigned signo)
{
    struct runner *runner = opaque;
    enum debug_hold hold = debug_server_hold(runner->debug_server);

    if (runner->remote.ending) { /* it ended meanwhile, and no other one begins */
        log_say("signal %u: the guest has ended, its disks are being closed", signo);
        return;
    }
    runner->asked_to_power_off = true;
    if (runner->remote.prelaunch || hold == DEBUG_WAITS) {
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
    if (hold == DEBUG_HOLDS)
        log_say("signal %u: gdb holds the guest: `continue` lets it power off", signo);
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
    if (!failure->kept || runner->remote.ending)
        return;
    disk_set_io_error(disk, failure->error);
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

static void on_balloon_changed(void *opaque)
{
    struct runner *runner = opaque;

    control_tell_balloon(runner->control, balloon_get_memory(runner->remote.balloon));
}

/* ---- what clients of the control sockets ask for --------------------------------------------- */

static struct runner *runner_of(struct control_vm *vm)
{
    return container_of(vm, struct runner, remote.vm);
}

static bool press_for_client(struct control_vm *vm)
{
    struct runner *runner = runner_of(vm);

    return runner->remote.machine && !runner->remote.ending && press_power_button(runner);
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

    remote->by_client = true;
    remote->wants_pause = true;
    machine_pause(remote->machine);
}

static void resume_for_client(struct control_vm *vm)
{
    resume(runner_of(vm));
}

static void set_link_for_client(struct control_vm *vm, unsigned nic, bool up)
{
    nic_set_link(runner_of(vm)->remote.nics[nic], up);
}

static void announce_for_client(struct control_vm *vm, unsigned nic)
{
    nic_announce(runner_of(vm)->remote.nics[nic]);
}

static bool set_balloon_for_client(struct control_vm *vm, uint64_t memory)
{
    struct balloon *balloon = runner_of(vm)->remote.balloon;

    if (balloon)
        balloon_set_memory(balloon, memory);
    return balloon;
}

const struct vm_actions runner_client_actions = {
    .press_power_button = press_for_client,
    .reset = reset_for_client,
    .quit = quit_for_client,
    .pause = pause_for_client,
    .resume = resume_for_client,
    .set_balloon = set_balloon_for_client,
    .set_link = set_link_for_client,
    .announce = announce_for_client,
};

void runner_watch_guests(struct runner *runner)
{
    runner->repeat_button.expired = on_repeat_button;
    runner->retry_disk.expired = on_retry_disk;
    runner->parts.ended = on_machine_end;
    runner->parts.paused = on_paused;
    runner->parts.disk_failed = on_disk_failed;
    runner->parts.panicked = on_panicked;
    if (runner->remote.balloon)
        balloon_watch(runner->remote.balloon, on_balloon_changed, runner);
}
