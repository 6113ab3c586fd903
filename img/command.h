/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The subcommands of minivmm-img: one in each cmd_NAME.c, and one line in main.c's table.
 *
 * A subcommand runs on one thread and ends with a status for the shell; the function that knows
 * what went wrong prints it, or fills a struct err for the one that called it.
 */
#ifndef MINIVMM_IMG_COMMAND_H
#define MINIVMM_IMG_COMMAND_H

#include <stdbool.h>

struct args;
struct option;

struct img_command {
    const char *name;

    /* Gets the command line before any option was looked at; returns the exit status. */
    int (*run)(struct args *args);

    const char *shorts;         /* as getopt's, without the leading ':' */
    bool own_o;                 /* -o is no list of options, but the subcommand's own */
    bool one_image;             /* the name of an image is its only operand */
    const struct option *longs; /* up to an element without a name */

    const char *synopsis; /* options and operands */
    const char *help;     /* what it does, and options that are its own; lines */
};

extern const struct img_command img_amend;
extern const struct img_command img_bench;
extern const struct img_command img_bitmap;
extern const struct img_command img_check;
extern const struct img_command img_commit;
extern const struct img_command img_compare;
extern const struct img_command img_convert;
extern const struct img_command img_create;
extern const struct img_command img_dd;
extern const struct img_command img_info;
extern const struct img_command img_map;
extern const struct img_command img_measure;
extern const struct img_command img_rebase;
extern const struct img_command img_resize;
extern const struct img_command img_snapshot;

#endif
