/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process: options, signals, the one error line, the exit code.
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/std_fds.h"
#include "base/text.h"
#include "base/thread.h"
#include "base/trace.h"
#include "base/vm_names.h"
#include "boot/prepare.h"
#include "vmm/config/options.h"
#include "vmm/process/crash.h"
#include "vmm/process/ending.h"
#include "vmm/process/inherited.h"
#include "vmm/runner.h"

/* How long the end of the process waits until its last log lines are written. */
#define LAST_WORDS_MS 2000u

static void set_up_signals(void)
{
    sigset_t blocked;

    /* A reader that went away, or a file at its size limit, is an error of the write. */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    crash_set_up();

    /* Threads inherit this: the signals are read from a descriptor, whichever thread runs. */
    ending_get_signals(&blocked);
    (void)sigprocmask(SIG_BLOCK, &blocked, NULL);
}

/*
 * What --help and --version print is all that was asked for, so a failure to write it is an error.
 */
static enum exit_code end_of_output(struct err *err)
{
    int r = std_fds_flush_output();

    if (r == 0)
        return EXIT_POWER_OFF;
    err_set_errno(err, r, "cannot write to standard output");
    return EXIT_SETUP;
}

/* All of it is written at once, at the end, so that a failure has its reason. */
static enum exit_code print_help(struct err *err)
{
    const size_t len = 16384; /* the text has more than the 4 KiB that stdio has by itself */
    char *room = malloc(len); /* for the rest of the process: stdio uses it to the end */

    if (room)
        (void)setvbuf(stdout, room, _IOFBF, len); /* of an unused stream: cannot fail */
    options_print_help();
    // cppcheck-suppress memleak
    return end_of_output(err);
}

/*
 * Disks of many images on top of each other need more descriptors than the usual limit, which is
 * there for programs that use select.
 */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* else whoever needs more says so */
}

static enum exit_code prepare(const struct config *config, struct err *err)
{
    char *cache = config_kernel_cache(config);
    enum exit_code code = EXIT_SETUP;
    bool made;

    if (!cache) {
        err_set(err, -EINVAL, "--prepare-kernel without a cache: expected --kernel-cache FOLDER");
        return EXIT_USAGE;
    }
    if (prepare_kernel(config->kernel, cache, &made, err) == 0) {
        text_replace_control(cache);
        printf("%s %s\n", made ? "unpacked into" : "unpacked before, and unchanged, in", cache);
        code = end_of_output(err);
    }
    free(cache);
    return code;
}

/* Those who run fifty of them see which one speaks, and which one a thread belongs to. */
static void use_name(const char *name)
{
    static char program[sizeof("minivmm ") + VM_NAME_MAX];

    (void)snprintf(program, sizeof(program), "minivmm %s", name); /* no longer than VM_NAME_MAX */
    log_set_program(program);
    thread_set_prefix(name);
}

static enum exit_code run(int argc, char **argv, struct config *config, struct err *err)
{
    const uint64_t begin_ns = monotonic_ns();
    enum options_action action;

    if (options_parse(argc, argv, config, &action, err) < 0)
        return EXIT_USAGE;
    if (action == OPTIONS_HELP)
        return print_help(err);
    if (action == OPTIONS_VERSION) {
        puts("minivmm " MINIVMM_VERSION);
        return end_of_output(err);
    }
    if (action == OPTIONS_PREPARE_KERNEL) {
        log_set_level(config->log_level);
        return prepare(config, err);
    }
    if (config_check(config, err) < 0)
        return EXIT_USAGE;

    if (inherited_close(config, err) < 0)
        return EXIT_SETUP;
    raise_descriptor_limit();
    log_set_level(config->log_level);
    if (config->name)
        use_name(config->name);
    set_up_signals();
    if (config->boot_trace)
        trace_switch_on();
    trace_span("read the options", begin_ns);
    return runner_run(config, err);
}

int main(int argc, char **argv)
{
    struct config config;
    struct err err = {0};
    enum exit_code code;

    std_fds_fill();
    log_start_thread();
    /* One heap for all threads: an arena for each would cost an idle VM more than it saves. */
    (void)mallopt(M_ARENA_MAX, 1);

    config_init(&config);
    code = run(argc, argv, &config, &err);
    if (err.code != 0)
        log_say("%s", err.msg);
    config_done(&config);
    (void)log_flush(LAST_WORDS_MS); /* whoever does not read them does not want them */
    return code;
}
