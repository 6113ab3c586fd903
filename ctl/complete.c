/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/complete.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "ctl/answer.h"
#include "ctl/commands.h"
#include "ctl/facts.h"
#include "ctl/limits.h"
#include "ctl/link.h"
#include "ctl/message.h"
#include "ctl/target.h"

/* A person waits. */
#define COMPLETE_MS 500u

static const struct {
    const char *text;
    unsigned option; /* 0: all commands take it */
    bool takes_value;
} options[] = {
    {"--json", 0, false},
    {"--timeout", 0, true},
    {"--force", OPTION_FORCE, false},
    {"--internal", OPTION_INTERNAL, true},
    {"--delete", OPTION_DELETE, true},
    {"--interval", OPTION_INTERVAL, true},
    {"--count", OPTION_COUNT, true},
    {"--detach-key", OPTION_DETACH, true},
    {"--follow", OPTION_FOLLOW, false},
};

/*
 * A line of its own, if it begins like `word`. Names of disks come from outside, and the line goes
 * into a command line.
 */
static void offer(const char *word, const char *text, const char *suffix)
{
    for (const char *p = text; *p; p++)
        if (!strchr("-_.:/+", *p) &&
            !((*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z')))
            return;
    if (strncmp(text, word, strlen(word)) == 0)
        printf("%s%s\n", text, suffix);
}

static void offer_vms(const char *word)
{
    struct target *targets = NULL;
    size_t n = 0;
    struct err err;

    if (targets_find(&targets, &n, &err) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        struct link *link;

        if (strncmp(targets[i].name, word, strlen(word)) != 0 ||
            link_connect(targets[i].socket, COMPLETE_MS, &link, &err) < 0)
            continue;
        link_close(link);
        offer(word, targets[i].name, "");
    }
    targets_free(targets, n);
}

static void offer_disks(const char *target, const char *word)
{
    struct link *link;
    json_t *blocks = NULL;
    const json_t *entry;
    struct err err;
    size_t i;

    if (target_open(target, COMPLETE_MS, &link, &err) < 0)
        return;
    if (link_ask(link, "query-block", NULL, &blocks, &err) == 0)
        json_array_foreach(blocks, i, entry)
        {
            if (facts_disk_name(entry))
                offer(word, facts_disk_name(entry), "");
        }
    json_decref(blocks);
    link_close(link);
}

static void offer_limits(const char *word)
{
    offer(word, "off", "");
    for (size_t i = 0; limits_keys[i]; i++)
        offer(word, limits_keys[i], "=");
}

static void offer_qmp(const char *target, const char *word)
{
    struct link *link;
    json_t *list = NULL;
    const json_t *entry;
    struct err err;
    size_t i;

    if (target_open(target, COMPLETE_MS, &link, &err) < 0)
        return;
    if (link_ask(link, "query-commands", NULL, &list, &err) == 0)
        json_array_foreach(list, i, entry)
        {
            if (answer_text(entry, "name"))
                offer(word, answer_text(entry, "name"), "");
        }
    json_decref(list);
    link_close(link);
}

static void offer_options(const struct command *command, const char *word)
{
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        if (options[i].option == 0 || (command && command->options & options[i].option))
            offer(word, options[i].text, "");
}

static bool takes_value(const char *word)
{
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        if (strcmp(word, options[i].text) == 0)
            return options[i].takes_value;
    return false;
}

/* Words that are no options, nor their values. */
static int take_plain_words(int nwords, char **words, const char *ret_plain[], int max)
{
    int n = 0;

    for (int i = 0; i + 1 < nwords; i++) {
        if (takes_value(words[i]))
            i++;
        else if (words[i][0] != '-' && n < max)
            ret_plain[n++] = words[i];
    }
    return n;
}

static void offer_operand(const struct command *command, const char *target, int index,
                          const char *word)
{
    if (index == 0 && command->takes_disk)
        offer_disks(target, word);
    else if (index > 0 && command == &command_throttle)
        offer_limits(word);
    else if (index == 0 && command == &command_qmp)
        offer_qmp(target, word);
}

int complete(int nwords, char **words)
{
    enum { PLAIN_MAX = 16 };
    const char *plain[PLAIN_MAX];
    const char *word = nwords > 0 ? words[nwords - 1] : "";
    int n = take_plain_words(nwords, words, plain, PLAIN_MAX);
    const struct command *command = n >= 2 ? commands_find(plain[1]) : NULL;

    if (word[0] == '-') {
        offer_options(command, word);
    } else if (n == 0) {
        offer(word, command_list.name, "");
        offer_vms(word);
    } else if (n == 1 && strcmp(plain[0], command_list.name) != 0) {
        for (size_t i = 1; commands[i]; i++)
            offer(word, commands[i]->name, "");
    } else if (command) {
        offer_operand(command, plain[0], n - 2, word);
    }
    return CTL_OK;
}
