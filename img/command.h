/*
 * minivmm-img: what its subcommands share.
 *
 * The program takes qemu-img's options, prints what qemu-img 7.2 prints and ends with its exit
 * codes, so that scripts for one work with the other. Messages begin with the name it was started
 * by.
 *
 *   main            finds the subcommand
 *   args            command lines: options that several subcommands have in common
 *   opts            "key=value,…" lists
 *   size            sizes
 *   name            names of images: paths, json:, --image-opts
 *   open            opening images, and why they cannot be opened
 *   create_options  the options of a new image, from -o and others
 *   json            output as JSON
 *   shown           texts from images, for a terminal
 *   progress        -p
 *   target          what becomes of a half-written image
 *   crew            coroutines that work on images together
 *   copy, compare   copying and comparing disks: the cores of convert and compare
 *   rebase          what an image has to keep for itself
 *   measure         the size of new images
 *   bitmaps         dirty bitmaps, copied
 *   bench           how fast requests are
 *   zero_scan       finding zeroes in memory
 *   snapshot_name   snapshots, as -l names them
 *   cmd_…           one subcommand each
 *
 * A subcommand runs on one thread and ends with a status for the shell; the function that knows
 * what went wrong prints it, or fills a struct err for the one that called it.
 */
#ifndef MINIVMM_IMG_COMMAND_H
#define MINIVMM_IMG_COMMAND_H

#include <stdbool.h>

#include "base/compiler.h"

struct args;
struct option;

/* A subcommand; each is one line in main.c's table. */
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

/* The name that the program was started by, without folders. */
extern const char *img_program;

/* Prints on stderr what is found and repaired. */
extern struct block_check_report img_check_report;

/* A line on stderr, behind the name of the program. */
void img_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
void img_warn(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* What is wrong with the command line. Returns the exit status. */
int img_usage(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
