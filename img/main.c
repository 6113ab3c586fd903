/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process: finds the subcommand, and says what there is.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/std_fds.h"
#include "img/args.h"
#include "img/command.h"
#include "img/message.h"

/* In the order of the alphabet, as --help prints them. */
static const struct img_command *const commands[] = {
    &img_amend,   &img_bench,   &img_bitmap, &img_check,  &img_commit,
    &img_compare, &img_convert, &img_create, &img_dd,     &img_info,
    &img_map,     &img_measure, &img_rebase, &img_resize, &img_snapshot,
};

/*
 * Scripts that run qemu-img read the number after these words, to find out what it can: that is
 * the version whose options and output we have.
 */
static void print_version(void)
{
    if (strcmp(img_program, "qemu-img") == 0)
        printf("qemu-img version 7.2.0 (minivmm-img " MINIVMM_VERSION ")\n");
    else
        printf("%s version " MINIVMM_VERSION " (minivmm; like qemu-img 7.2)\n", img_program);
}

static void print_help(void)
{
    print_version();
    printf("usage: %s [standard options] command [command options]\n"
           "Disk images: qcow2 and raw. Options, output and exit codes are qemu-img's.\n"
           "\n"
           "    '-h', '--help'       this help; after a command, its help\n"
           "    '-V', '--version'    the version\n"
           "    '-T', '--trace'      taken and ignored: there is no tracing\n"
           "\n"
           "Command syntax:\n",
           img_program);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        printf("  %s %s\n", commands[i]->name, commands[i]->synopsis);
    printf("\n"
           "`%s COMMAND --help` explains a command.\n"
           "\n"
           "Supported formats: qcow2 raw\n",
           img_program);
}

static const struct img_command *find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

/* Options in front of the command. Returns true if that was all; *ret_status is the exit status. */
static bool standard_options(int argc, char **argv, int *ret_status)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {"trace", required_argument, NULL, 'T'},
        {NULL, 0, NULL, 0},
    };
    int opt;

    *ret_status = 0;
    while ((opt = getopt_long(argc, argv, "+:hVT:", longs, NULL)) >= 0) {
        switch (opt) {
        case 'h':
            print_help();
            return true;
        case 'V':
            print_version();
            return true;
        case 'T':
            break;
        default:
            *ret_status = args_bad_option(opt, argv);
            return true;
        }
    }
    return false;
}

static int run(int argc, char **argv)
{
    const struct img_command *command;
    struct args args;
    int status;

    if (standard_options(argc, argv, &status))
        return status;
    if (optind == argc)
        return img_usage("Not enough arguments");
    command = find_command(argv[optind]);
    if (!command)
        return img_usage("Command not found: %s", argv[optind]);

    args_init(&args, command, argc - optind, argv + optind);
    status = command->run(&args);
    args_done(&args);
    return status;
}

int main(int argc, char **argv)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    int status, r;

    std_fds_fill();
    /* A reader that went away, or a file at its size limit, is an error of the write. */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);

    if (argc > 0)
        img_program = slash ? slash + 1 : argv[0];
    log_set_program(img_program);
    /* The tool says itself what is worth a warning. */
    log_set_level(LOG_ERROR);

    status = run(argc, argv);
    r = std_fds_flush_output();
    if (r < 0) {
        img_error("cannot write to standard output: %s", strerror(-r));
        status = status ? status : EXIT_FAILURE;
    }
    return status;
}
