/* SPDX-License-Identifier: Apache-2.0 */
#include "img/args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "img/message.h"
#include "img/opts.h"

void args_init(struct args *args, const struct img_command *command, int argc, char **argv)
{
    *args = (struct args){.command = command, .argc = argc, .argv = argv};
    optind = 0; /* starts getopt again */
}

void args_done(struct args *args)
{
    free(args->options);
}

int args_bad_option(int opt, char **argv)
{
    if (opt == ':')
        return img_usage("missing argument for option '%s'", argv[optind - 1]);
    return img_usage("unrecognized option '%s'", argv[optind - 1]);
}

static int stop(struct args *args, int status)
{
    args->status = status;
    return -1;
}

static void print_help(const struct img_command *command)
{
    printf("usage: %s %s %s\n\n%s", img_program, command->name, command->synopsis, command->help);
}

static int set_output(struct args *args, const char *how)
{
    args->json = strcmp(how, "json") == 0;
    if (args->json || strcmp(how, "human") == 0)
        return 0;
    img_error("--output must be used with human or json as argument.");
    return stop(args, EXIT_FAILURE);
}

/*
 * Secrets are for encryption and network protocols. What they are given for is refused, if it is
 * used; the secret itself is not wrong.
 */
static int check_object(struct args *args, const char *text)
{
    struct opts opts = {0};
    struct err err;
    const char *type;
    int r = opts_parse(&opts, text, "qom-type", &err);

    type = r < 0 ? NULL : opts_get(&opts, "qom-type");
    if (r < 0)
        img_error("%s", err.msg);
    else if (!type)
        img_error("Parameter 'qom-type' is missing");
    else if (strcmp(type, "secret") != 0)
        img_error("--object %s: not supported: expected a secret", type);
    else if (!opts_get(&opts, "id"))
        img_error("Parameter 'id' is missing");
    else
        r = 1;
    opts_done(&opts);
    return r == 1 ? 0 : stop(args, EXIT_FAILURE);
}

static int add_options(struct args *args, const char *text)
{
    char *joined = NULL;

    if (!opts_list_is_valid(text)) {
        img_error("Invalid option list: %s", text);
        return stop(args, EXIT_FAILURE);
    }
    if (asprintf(&joined, "%s%s%s", args->options ? args->options : "", args->options ? "," : "",
                 text) < 0) {
        img_error("out of memory");
        return stop(args, EXIT_FAILURE);
    }
    free(args->options);
    args->options = joined;
    return 0;
}

/* A common option: 0 or < 0; others are returned. */
static int common_option(struct args *args, int opt)
{
    switch (opt) {
    case 'f':
        args->format = optarg;
        return 0;
    case 'O':
        args->out_format = optarg;
        return 0;
    case 't':
        args->cache = optarg;
        return 0;
    case 'T':
        args->src_cache = optarg;
        return 0;
    case 'o':
        return args->command->own_o ? opt : add_options(args, optarg);
    case 'U':
        args->share = true;
        return 0;
    case 'q':
        args->quiet = true;
        return 0;
    case 'p':
        args->progress = true;
        return 0;
    case ARGS_IMAGE_OPTS:
        args->image_opts = true;
        return 0;
    case ARGS_OUTPUT:
        return set_output(args, optarg);
    case ARGS_OBJECT:
        return check_object(args, optarg);
    default:
        return opt;
    }
}

/* `shorts` as getopt wants it, which puts a ':' in front to keep it from printing. */
static int next_option(const struct args *args)
{
    char shorts[64];

    (void)snprintf(shorts, sizeof(shorts), ":%s", args->command->shorts);
    return getopt_long(args->argc, args->argv, shorts, args->command->longs, NULL);
}

/* All options were looked at. */
static int finish(struct args *args)
{
    args->operands = args->argv + optind;
    args->noperands = args->argc - optind;
    args->progress = args->progress && !args->quiet;
    if (args->command->one_image && args->noperands != 1)
        return stop(args, img_usage("Expecting one image file name"));
    return 0;
}

int args_next(struct args *args)
{
    int r = 0;

    while (r == 0) {
        int opt = next_option(args);

        switch (opt) {
        case -1:
            return finish(args);
        case ':':
        case '?':
            return stop(args, args_bad_option(opt, args->argv));
        case 'h':
            print_help(args->command);
            return stop(args, EXIT_SUCCESS);
        default:
            r = common_option(args, opt);
        }
    }
    args->value = optarg;
    return r;
}

bool args_options_help(const struct args *args)
{
    return args->options && opts_list_asks_help(args->options);
}

int args_check_cache(const struct args *args)
{
    enum block_cache cache;
    bool writethrough;

    if (args->cache && img_cache_parse(args->cache, &cache, &writethrough) < 0) {
        img_error("Invalid cache option: %s", args->cache);
        return -EINVAL;
    }
    if (args->src_cache && img_cache_parse(args->src_cache, &cache, &writethrough) < 0) {
        img_error("Invalid source cache option: %s", args->src_cache);
        return -EINVAL;
    }
    return 0;
}

struct img_open_options args_open_options(const struct args *args, const char *name, unsigned flags)
{
    return (struct img_open_options){
        .name = name,
        .image_opts = args->image_opts,
        .format = args->format,
        .flags = flags | (args->share ? IMG_OPEN_SHARE : 0),
    };
}
