/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of a subcommand. Options that several subcommands take mean the same everywhere;
 * args_next deals with them, as far as the subcommand says in its `shorts` and `longs` that it
 * takes them, and returns the others:
 *
 *     while ((opt = args_next(args)) > 0)
 *         switch (opt) { … args->value … }
 *     if (opt < 0)
 *         return args->status;
 *     … args->operands[0 … args->noperands - 1]
 */
#ifndef MINIVMM_IMG_ARGS_H
#define MINIVMM_IMG_ARGS_H

#include <getopt.h>
#include <stdbool.h>

#include "img/command.h"
#include "img/open.h"

enum {
    /* Long options that args_next deals with. */
    ARGS_OUTPUT = 256,
    ARGS_OBJECT,
    ARGS_IMAGE_OPTS,
    ARGS_OWN = 512, /* the subcommand's own ones from here on */
};

/* Elements for struct img_command.longs. */
#define ARGS_LONG_HELP                                                                             \
    {                                                                                              \
        "help", no_argument, NULL, 'h'                                                             \
    }
#define ARGS_LONG_OBJECT                                                                           \
    {                                                                                              \
        "object", required_argument, NULL, ARGS_OBJECT                                             \
    }
#define ARGS_LONG_IMAGE_OPTS                                                                       \
    {                                                                                              \
        "image-opts", no_argument, NULL, ARGS_IMAGE_OPTS                                           \
    }
#define ARGS_LONG_OUTPUT                                                                           \
    {                                                                                              \
        "output", required_argument, NULL, ARGS_OUTPUT                                             \
    }
#define ARGS_LONG_SHARE                                                                            \
    {                                                                                              \
        "force-share", no_argument, NULL, 'U'                                                      \
    }

/* For an image that is an operand. */
#define ARGS_LONGS_IMAGE ARGS_LONG_HELP, ARGS_LONG_OBJECT, ARGS_LONG_IMAGE_OPTS

/* For an image about which a subcommand tells something: info, map and the like. */
#define ARGS_LONGS_TELL                                                                            \
    ARGS_LONGS_IMAGE, ARGS_LONG_OUTPUT, ARGS_LONG_SHARE,                                           \
    {                                                                                              \
        "format", required_argument, NULL, 'f'                                                     \
    }

#define ARGS_LONG_END                                                                              \
    {                                                                                              \
        NULL, 0, NULL, 0                                                                           \
    }

struct args {
    const struct img_command *command;
    int argc;
    char **argv;

    const char *value; /* of the option returned last */
    int status;        /* for the shell, after args_next returned < 0 */

    char **operands; /* after args_next returned 0; ends with NULL */
    int noperands;

    /* Common options; NULL or false if not given. */
    const char *format;     /* -f */
    const char *out_format; /* -O */
    char *options;          /* -o, all of them, with ',' between them */
    const char *cache;      /* -t */
    const char *src_cache;  /* -T */
    bool share;             /* -U */
    bool quiet;             /* -q */
    bool progress;          /* -p, without -q */
    bool json;              /* --output=json */
    bool image_opts;
};

void args_init(struct args *args, const struct img_command *command, int argc, char **argv);
void args_done(struct args *args);

/* The next option that is the subcommand's own; 0 at their end; < 0 if the program is to end. */
int args_next(struct args *args);

/* What getopt's ':' or '?' stand for. Prints it and returns the exit status. */
int args_bad_option(int opt, char **argv);

/* Does -o ask for help? */
bool args_options_help(const struct args *args);

/* Are -t and -T modes that there are? Prints what is wrong: < 0 then. */
int args_check_cache(const struct args *args) MUST_CHECK;

/*
 * How to open an image that the command line names: -f, --image-opts and -U are for it. `flags` are
 * IMG_OPEN_…; the cache mode is the subcommand's to say.
 */
struct img_open_options args_open_options(const struct args *args, const char *name,
                                          unsigned flags);

#endif
