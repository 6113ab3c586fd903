#include "vmm/runner.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "boot/boot.h"
#include "vmm/base/log.h"
#include "vmm/base/loop.h"
#include "vmm/console.h"
#include "vmm/disk.h"
#include "vmm/kvm.h"
#include "vmm/machine.h"
#include "vmm/startup.h"

#define NS_PER_S 1000000000ull

struct runner {
    const struct config *config;
    struct loop *loop;
    struct kvm kvm;
    struct boot *boot;
    char *cmdline;
    struct open_files files;
    struct disk **disks;
    size_t ndisks;
    struct console *console;
    bool console_started;
    struct machine_parts parts;

    struct machine *machine; /* NULL between two guests */
    struct loop_fd signals;
    struct loop_timer power_off_timer;
    bool asked_to_power_off; /* a guest that resets instead is not started again */

    bool killed;
    enum machine_end how; /* unless killed: how the last machine ended */
};

/* ---- events on the main loop ----------------------------------------------------------------- */

static void kill_guest(struct runner *runner)
{
    runner->killed = true;
    loop_stop(runner->loop);
}

static void on_machine_end(const struct machine_parts *parts, enum machine_end how)
{
    struct runner *runner = container_of(parts, struct runner, parts);

    runner->how = how;
    loop_stop(runner->loop);
}

static void on_quit_key(void *opaque)
{
    kill_guest(opaque);
}

static void on_power_off_timeout(struct loop_timer *timer)
{
    struct runner *runner = container_of(timer, struct runner, power_off_timer);

    log_warn("the guest did not power off in %u s: it is stopped", RUNNER_POWER_OFF_TIMEOUT_S);
    kill_guest(runner);
}

/* The first signal asks the guest to power off; the second, or one without a button, insists. */
static void on_signal(struct loop_fd *watch, uint32_t events)
{
    struct runner *runner = container_of(watch, struct runner, signals);
    struct signalfd_siginfo info;

    if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (runner->asked_to_power_off || !machine_press_power_button(runner->machine)) {
        kill_guest(runner);
        return;
    }
    log_info("signal %u: power button pressed", info.ssi_signo);
    runner->asked_to_power_off = true;
    loop_arm(runner->loop, &runner->power_off_timer, RUNNER_POWER_OFF_TIMEOUT_S * NS_PER_S);
}

void runner_get_signals(sigset_t *ret_set)
{
    struct sigaction hangup;

    sigemptyset(ret_set);
    sigaddset(ret_set, SIGTERM);
    sigaddset(ret_set, SIGINT);
    /* nohup: a blocked signal would arrive at the signalfd although it is ignored. */
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(ret_set, SIGHUP);
}

static int watch_signals(struct runner *runner, struct err *err)
{
    sigset_t set;
    int r;

    runner_get_signals(&set);
    runner->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (runner->signals.fd < 0)
        return err_set_errno(err, -errno, "cannot make a signalfd");
    runner->signals.events = EPOLLIN;
    runner->signals.ready = on_signal;
    r = loop_add_fd(runner->loop, &runner->signals);
    return r < 0 ? err_set_errno(err, r, "cannot watch a signalfd") : 0;
}

/* ---- what outlives a guest ------------------------------------------------------------------- */

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
    const struct boot_config files = {
        .kernel = config->kernel,
        .initrds = (const char *const *)config->initrds,
        .ninitrds = config->ninitrds,
    };
    int r;

    runner->cmdline = config_kernel_cmdline(config);
    if (!runner->cmdline)
        return err_set(err, -ENOMEM, "out of memory");
    r = boot_open(&files, &runner->boot, err);
    return r < 0 ? r : note_boot_files(runner, err);
}

static int open_disks(struct runner *runner, struct err *err)
{
    const struct config *config = runner->config;

    runner->disks = calloc(config->ndisks + 1, sizeof(struct disk *));
    if (!runner->disks)
        return err_set(err, -ENOMEM, "out of memory");
    for (unsigned i = 0; i < config->ndisks; i++) {
        int r = disk_open(&config->disks[i], i, &runner->files, &runner->disks[i], err);

        if (r < 0)
            return r;
        runner->ndisks++;
    }
    return 0;
}

static int make_console(struct runner *runner, struct err *err)
{
    const struct console_events events = {.quit = on_quit_key, .opaque = runner};

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

/* In the order in which it is most useful to fail. */
static int open_parts(struct runner *runner, struct err *err)
{
    int r;

    r = loop_new(&runner->loop);
    if (r < 0)
        return err_set_errno(err, r, "cannot make an event loop");
    r = watch_signals(runner, err);
    if (r < 0)
        return r;
    r = kvm_open(&runner->kvm, err);
    if (r < 0)
        return r;
    r = check_ncpus(runner, err);
    if (r < 0)
        return r;
    startup_step("KVM opened");
    r = open_boot(runner, err);
    if (r < 0)
        return r;
    startup_step("kernel opened");
    r = open_disks(runner, err);
    if (r < 0)
        return r;
    startup_step("disks opened");
    r = make_console(runner, err);
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
    };
    return 0;
}

/*
 * Everything open_parts opened, however far it came. The terminal first: flushing may take long.
 * All disks are closed, whatever fails; the first failure is returned.
 */
static int close_parts(struct runner *runner, struct err *err)
{
    int result = 0;

    loop_disarm(&runner->power_off_timer);
    console_close(runner->console);
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
    while (runner->ndisks > 0)
        disk_free(runner->disks[--runner->ndisks]);
    free(runner->disks);
    open_files_done(&runner->files);
    boot_close(runner->boot);
    free(runner->cmdline);
    if (runner->kvm.fd >= 0)
        kvm_close(&runner->kvm);
    if (runner->signals.fd >= 0) {
        loop_remove_fd(&runner->signals);
        close(runner->signals.fd);
    }
    loop_free(runner->loop);
    return result;
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

/* Wait for the end of the machine that runs. */
static enum exit_code wait_for_end(struct runner *runner, struct err *err)
{
    int r;

    r = loop_run(runner->loop);
    machine_stop(runner->machine);
    if (r < 0) {
        err_set_errno(err, r, "the event loop failed");
        return EXIT_VMM;
    }
    if (!runner->killed && runner->how == MACHINE_FAILED)
        *err = *machine_failure(runner->machine);
    return exit_code_of(runner);
}

/*
 * The first guest can start: only now touch the terminal, and the file or socket of the serial
 * port. A VM that cannot be set up leaves them as they were.
 */
static int start_console(struct runner *runner, struct err *err)
{
    int r = 0;

    if (!runner->console_started) {
        r = console_start(runner->console, err);
        runner->console_started = true;
        startup_step("console started");
    }
    return r;
}

static enum exit_code run_guest(struct runner *runner, struct err *err)
{
    enum exit_code code = EXIT_SETUP;

    if (machine_new(&runner->parts, &runner->machine, err) < 0)
        return EXIT_SETUP;
    if (start_console(runner, err) == 0 && machine_start(runner->machine, err) == 0)
        code = wait_for_end(runner, err);
    else
        machine_stop(runner->machine);
    machine_free(runner->machine);
    runner->machine = NULL;
    return code;
}

/* Asked to power off, a guest may have been on its way into a reset, or take it for one. */
static bool starts_again(const struct runner *runner, enum exit_code code)
{
    return code == EXIT_REBOOT && runner->config->restart_on_reboot && !runner->asked_to_power_off;
}

enum exit_code runner_run(const struct config *config, struct err *err)
{
    struct runner runner = {
        .config = config,
        .kvm.fd = -1,
        .signals.fd = -1,
        .power_off_timer.expired = on_power_off_timeout,
    };
    enum exit_code code = EXIT_SETUP;
    struct err close_err = {0};

    if (open_parts(&runner, err) == 0) {
        do
            code = run_guest(&runner, err);
        while (starts_again(&runner, code));
    }

    if (close_parts(&runner, &close_err) < 0) {
        if (err->code == 0)
            *err = close_err;
        else
            log_error("%s", close_err.msg);
        code = EXIT_VMM;
    }
    return code;
}
