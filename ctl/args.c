/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/args.h"

#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "ctl/commands.h"
#include "ctl/message.h"

/* A day. */
#define SECONDS_MAX 86400.0

enum {
    LONG_JSON = 0x100,
    LONG_TIMEOUT,
    LONG_FORCE,
    LONG_INTERNAL,
    LONG_DELETE,
    LONG_INTERVAL,
    LONG_COUNT,
    LONG_DETACH,
    LONG_FOLLOW,
};

static const struct option longs[] = {
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {"json", no_argument, NULL, LONG_JSON},
    {"timeout", required_argument, NULL, LONG_TIMEOUT},
    {"force", no_argument, NULL, LONG_FORCE},
    {"internal", required_argument, NULL, LONG_INTERNAL},
    {"delete", required_argument, NULL, LONG_DELETE},
    {"interval", required_argument, NULL, LONG_INTERVAL},
    {"count", required_argument, NULL, LONG_COUNT},
    {"detach-key", required_argument, NULL, LONG_DETACH},
    {"follow", no_argument, NULL, LONG_FOLLOW},
    {NULL, 0, NULL, 0},
};

/* A number of seconds, maybe with a fraction. */
static int parse_seconds(const char *what, const char *text, unsigned *ret_ms)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end || !(seconds >= 0.001 && seconds <= SECONDS_MAX))
        return ctl_usage("--%s %s: expected seconds, from 0.001 to %.0f", what, text, SECONDS_MAX);
    *ret_ms = (unsigned)(seconds * 1000 + 0.5);
    return 0;
}

static int parse_count(const char *text, unsigned *ret_count)
{
    uint64_t count;

    if (parse_u64(text, &count) < 0 || count == 0 || count > UINT_MAX)
        return ctl_usage("--count %s: expected a number from 1 on", text);
    *ret_count = (unsigned)count;
    return 0;
}

/* "^]": what Ctrl and that key send. */
static int parse_key(const char *text, char *ret_key)
{
    char key = text[0] == '^' && text[1] ? text[1] : '\0';

    if (key >= 'a' && key <= 'z')
        key = (char)(key - 0x20);
    if (key < 'A' || key > '_' || text[2])
        return ctl_usage("--detach-key %s: expected ^A to ^Z, ^[, ^\\, ^], ^^ or ^_", text);
    *ret_key = (char)(key & 0x1f);
    return 0;
}

/* One option. 0 or CTL_USAGE. */
static int take(int opt, char **argv, struct args *args)
{
    switch (opt) {
    case LONG_JSON:
        args->json = true;
        return 0;
    case LONG_TIMEOUT:
        return parse_seconds("timeout", optarg, &args->timeout_ms);
    case LONG_FORCE:
        args->options |= OPTION_FORCE;
        return 0;
    case LONG_FOLLOW:
        args->options |= OPTION_FOLLOW;
        return 0;
    case LONG_INTERNAL:
        args->options |= OPTION_INTERNAL;
        args->internal = optarg;
        return 0;
    case LONG_DELETE:
        args->options |= OPTION_DELETE;
        args->delete = optarg;
        return 0;
    case LONG_INTERVAL:
        args->options |= OPTION_INTERVAL;
        return parse_seconds("interval", optarg, &args->interval_ms);
    case LONG_COUNT:
        args->options |= OPTION_COUNT;
        return parse_count(optarg, &args->count);
    case LONG_DETACH:
        args->options |= OPTION_DETACH;
        return parse_key(optarg, &args->detach_key);
    case ':':
        return ctl_usage("%s: expected a value", argv[optind - 1]);
    default:
        return ctl_usage("%s: there is no such option", argv[optind - 1]);
    }
}

/* What the VM is told is JSON, which is UTF-8. */
static int check_operands(const struct args *args)
{
    for (int i = 0; i < args->noperands; i++) {
        json_t *text = json_string(args->operands[i]);

        if (!text)
            return ctl_usage("%s: expected UTF-8", args->operands[i]);
        json_decref(text);
    }
    return 0;
}

/* What is left: list, or a VM, a command and its operands. */
static int take_words(int nwords, char **words, const struct command **ret_command,
                      struct args *args)
{
    bool lists = nwords > 0 && strcmp(words[0], command_list.name) == 0;
    int nskipped = lists ? 1 : 2;
    const struct command *command;

    if (nwords == 0)
        return ctl_usage("expected list, or a VM and a command");
    if (nwords < nskipped)
        return ctl_usage("%s: expected a command for this VM", words[0]);
    command = lists ? &command_list : commands_find(words[1]);
    if (!command || (!lists && command == &command_list))
        return ctl_usage("%s: there is no such command", words[1]);
    args->target = lists ? NULL : words[0];
    args->operands = words + nskipped;
    args->noperands = nwords - nskipped;
    if (args->noperands < command->min || (command->max >= 0 && args->noperands > command->max))
        return ctl_usage("%s: expected %s", command->name,
                         command->max == 0 ? "no arguments" : command->synopsis);
    if (args->options & ~command->options)
        return ctl_usage("%s: takes no such option", command->name);
    *ret_command = command;
    return check_operands(args);
}

int args_parse(int argc, char **argv, enum args_what *ret_what, const struct command **ret_command,
               struct args *ret_args)
{
    struct args args = {0};
    int opt;

    optind = 0; /* from the beginning, also if it was used before */
    while ((opt = getopt_long(argc, argv, ":hV", longs, NULL)) >= 0) {
        int status;

        if (opt == 'h' || opt == 'V') {
            *ret_what = opt == 'h' ? ARGS_HELP : ARGS_VERSION;
            return 0;
        }
        status = take(opt, argv, &args);
        if (status != 0)
            return status;
    }
    *ret_what = ARGS_RUN;
    *ret_args = args;
    return take_words(argc - optind, argv + optind, ret_command, ret_args);
}
