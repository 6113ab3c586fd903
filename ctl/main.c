/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-ctl: a client of the control sockets of VMs.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/std_fds.h"
#include "ctl/args.h"
#include "ctl/commands.h"
#include "ctl/complete.h"
#include "ctl/message.h"

static void print_help(void)
{
    printf("usage: minivmm-ctl [--json] [--timeout SECONDS] list\n"
           "       minivmm-ctl [--json] [--timeout SECONDS] NAME|SOCKET COMMAND [ARGUMENTS]\n"
           "\n"
           "Looks after running VMs, by QMP: those started with --name NAME, or with --qmp, whose\n"
           "SOCKET is a path with a slash in it, or tcp:127.0.0.1:PORT.\n"
           "\n");
    for (size_t i = 0; commands[i]; i++)
        printf("  %s%s%s\n      %s\n", commands[i]->name, commands[i]->synopsis[0] ? " " : "",
               commands[i]->synopsis, commands[i]->help);
    printf(
        "\n"
        "  --json             the result as JSON\n"
        "  --timeout SECONDS  how long an answer may take; all of a VM's for list and status; the\n"
        "                     guest for power-off\n"
        "  --help, --version\n"
        "\n"
        "Exit status: 0 done; 1 the VM refused; 2 usage; 3 no such VM; 4 no answer, or not in\n"
        "time; 5 something failed on this side.\n");
}

static int run(int argc, char **argv)
{
    const struct command *command = NULL;
    enum args_what what;
    struct args args;
    int status;

    if (argc > 1 && strcmp(argv[1], "--complete") == 0)
        return complete(argc - 2, argv + 2);
    status = args_parse(argc, argv, &what, &command, &args);
    if (status != 0)
        return status;
    if (what == ARGS_RUN)
        return command->run(&args);
    if (what == ARGS_HELP)
        print_help();
    else
        puts("minivmm-ctl version " MINIVMM_VERSION);
    return CTL_OK;
}

int main(int argc, char **argv)
{
    int status, r;

    std_fds_fill();
    /* A reader that went away is an error of the write. */
    (void)signal(SIGPIPE, SIG_IGN);

    status = run(argc, argv);
    r = std_fds_flush_output();
    if (r < 0) {
        ctl_note("cannot write to standard output: %s", strerror(-r));
        status = status ? status : CTL_FAILED;
    }
    return status;
}
