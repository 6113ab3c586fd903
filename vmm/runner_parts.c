/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/trace.h"
#include "vmm/attached/kinds.h"
#include "vmm/runner_private.h"

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
        .asked = runner_asked,
        .insisted = runner_insisted,
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

static int open_attachments(struct runner *runner, struct err *err)
{
    attachments_init(&runner->attachments, runner->config, &runner->files, runner->loop);
    runner->attachments.console = runner->console ? console_chardev(runner->console) : NULL;
    return kinds_attach(&runner->attachments, err);
}

static int check_outputs(struct runner *runner, struct err *err)
{
    return boot_trace_check(&runner->trace, &runner->files, err);
}

static int make_consoles(struct runner *runner, struct err *err)
{
    const struct config *config = runner->config;
    struct console_options options = {
        .name = "serial port",
        .kind = config_serial_kind(config),
        .path = config->serial.path,
        .files = &runner->files,
        .loop = runner->loop,
        .events =
            {
                .quit = runner_quit_key,
                .is_hurried = runner_is_hurried,
                .opaque = runner,
            },
    };
    int r = console_new(&options, &runner->serial, err);

    if (r < 0 || !config->console.given)
        return r;
    options.name = "console";
    options.kind = config->console.kind;
    options.path = config->console.path;
    options.is_sized = true;
    return console_new(&options, &runner->console, err);
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
    {open_kvm, "open KVM"},           {open_boot, "open the kernel"},
    {open_disks, "open disks"},       {make_consoles, "make the consoles"},
    {check_outputs, "check outputs"}, {open_attachments, "open what is attached"},
};

/* 0; a negative errno with *err filled; 1: the end was asked for meanwhile. */
int runner_open(struct runner *runner, struct err *err)
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
        .serial = console_chardev(runner->serial),
        .disks = runner->disks,
        .ndisks = runner->ndisks,
        .attached = runner->attachments.list,
        .nattached = runner->attachments.n,
    };
    r = remote_init(&runner->remote, &runner->parts, &runner_client_actions, err);
    if (r < 0)
        return r;
    runner->remote.vm.serial.shown = console_shown(runner->serial);
    if (runner->console)
        runner->remote.vm.console.shown = console_shown(runner->console);
    runner->remote.balloon = runner->attachments.balloon;
    runner->remote.vsock = runner->attachments.vsock;
    runner->remote.nics = runner->attachments.nics;
    runner->remote.vm.nnics = (unsigned)runner->attachments.nnics;
    runner_watch_guests(runner);
    return 0;
}

static void close_consoles(struct runner *runner)
{
    const uint64_t begin_ns = trace_begin();

    runner->remote.vm.serial.shown = NULL;
    runner->remote.vm.console.shown = NULL;
    console_close(runner->console);
    console_close(runner->serial);
    trace_span("close the consoles", begin_ns);
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

/* Everything that was opened, however far that came. The terminal first: flushing may take long. */
static int close_parts(struct runner *runner, struct err *err)
{
    int result;

    if (runner->ending)
        ending_begin_closing(runner->ending);
    control_stop(runner->control);
    remote_end_questions(&runner->remote);
    close_consoles(runner);
    runner->remote.balloon = NULL;
    runner->remote.vsock = NULL;
    runner->remote.vm.nnics = 0;
    attachments_close(&runner->attachments);
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
int runner_close(struct runner *runner, struct err *err)
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
