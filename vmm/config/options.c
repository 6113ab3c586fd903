/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config/config_json.h"
#include "vmm/config/config_settings.h"
#include "vmm/config/config_values.h"

/* Options that are no settings of a VM, so a configuration file cannot have them. */
enum { OPTION_CONFIG, OPTION_PREPARE_KERNEL, OPTION_HELP, OPTION_VERSION };

static const struct setting other_options[] = {
    [OPTION_CONFIG] = {.name = "config",
                       .value = "FILE",
                       .help = "settings from a JSON file; options win"},
    [OPTION_PREPARE_KERNEL] = {.name = "prepare-kernel",
                               .value = "FILE",
                               .help = "unpack a kernel into the cache and exit"},
    [OPTION_HELP] = {.name = "help", .help = "print this help and exit (also -h)"},
    [OPTION_VERSION] = {.name = "version", .help = "print the version and exit"},
    {.name = ""},
};

/* Where in argv we are, and the option that was read last. */
struct cursor {
    int argc;
    char **argv;
    int next;
    const struct setting *option;
    const char *value; /* one that takes none: "off" if its name begins with no-, else "on" */
};

static const char *option_name(const struct setting *option)
{
    return option->option[0] ? option->option : option->name;
}

static const struct setting *find_in(const struct setting *table, const char *name, size_t len)
{
    for (const struct setting *option = table; option->name[0]; option++) {
        const char *known = option_name(option);

        if (strncmp(known, name, len) == 0 && known[len] == '\0')
            return option;
    }
    return NULL;
}

/* The option that `arg` spells, up to '='; NULL: none. */
static const struct setting *find_option(const char *arg)
{
    const struct setting *option;
    size_t len;

    if (strcmp(arg, "-h") == 0)
        return &other_options[OPTION_HELP];
    if (strncmp(arg, "--", 2) != 0)
        return NULL;
    len = strcspn(arg + 2, "=");
    option = find_in(config_settings, arg + 2, len);
    return option ? option : find_in(other_options, arg + 2, len);
}

static int not_an_option(const char *arg, struct err *err)
{
    if (arg[0] == '-' && arg[1] != '\0')
        return err_set(err, -EINVAL, "%.200s: unknown option: expected one that --help lists", arg);
    return err_set(err, -EINVAL, "%.200s: stray argument: expected an option", arg);
}

/* Find the value of the option in `arg`. */
static int take_value(struct cursor *cursor, const char *arg, struct err *err)
{
    const struct setting *option = cursor->option;
    const char *equals = strchr(arg, '=');

    if (!option->value[0]) {
        if (equals)
            return err_set(err, -EINVAL, "--%s: '%.200s': expected no value", option_name(option),
                           equals + 1);
        cursor->value = strncmp(option_name(option), "no-", 3) == 0 ? "off" : "on";
        return 0;
    }
    if (equals) {
        cursor->value = equals + 1;
        return 0;
    }
    /* What looks like the next option is not meant as a value; --option=value can say so. */
    if (cursor->next == cursor->argc || find_option(cursor->argv[cursor->next]))
        return err_set(err, -EINVAL, "--%s: value missing: expected %s", option_name(option),
                       option->value);
    cursor->value = cursor->argv[cursor->next++];
    return 0;
}

/* Read the next option. 1; 0 at the end; or a negative errno with *err filled. */
static int next_option(struct cursor *cursor, struct err *err)
{
    const char *arg;
    int r;

    if (cursor->next == cursor->argc)
        return 0;
    arg = cursor->argv[cursor->next++];
    cursor->option = find_option(arg);
    if (!cursor->option)
        return not_an_option(arg, err);
    r = take_value(cursor, arg, err);
    return r < 0 ? r : 1;
}

/* The values of options that are no settings; NULL: not given. */
struct others {
    const char *file;
    const char *kernel;
};

/* First pass: everything is an option; is there one that is no setting? */
static int look_through(int argc, char **argv, struct others *ret_others,
                        enum options_action *ret_action, struct err *err)
{
    struct cursor cursor = {.argc = argc, .argv = argv, .next = 1};
    int r;

    *ret_others = (struct others){0};
    *ret_action = OPTIONS_RUN;
    while ((r = next_option(&cursor, err)) > 0) {
        if (cursor.option == &other_options[OPTION_HELP]) {
            *ret_action = OPTIONS_HELP;
            return 0;
        }
        if (cursor.option == &other_options[OPTION_VERSION]) {
            *ret_action = OPTIONS_VERSION;
            return 0;
        }
        if (cursor.option == &other_options[OPTION_CONFIG])
            ret_others->file = cursor.value;
        if (cursor.option == &other_options[OPTION_PREPARE_KERNEL]) {
            ret_others->kernel = cursor.value;
            *ret_action = OPTIONS_PREPARE_KERNEL;
        }
    }
    return r;
}

/* Let the command line speak of a setting: what the file said about it does not count. */
static int reset_given(int argc, char **argv, struct config *config, struct err *err)
{
    struct cursor cursor = {.argc = argc, .argv = argv, .next = 1};
    int r;

    while ((r = next_option(&cursor, err)) > 0)
        setting_reset(cursor.option, config);
    return r;
}

static int apply(int argc, char **argv, struct config *config, struct err *err)
{
    struct cursor cursor = {.argc = argc, .argv = argv, .next = 1};
    int r;

    while ((r = next_option(&cursor, err)) > 0) {
        const struct setting_value value = {.text = cursor.value};

        if (cursor.option->type == SETTING_IS_NONE)
            continue;
        r = setting_set(cursor.option, config, &value, err);
        if (r < 0) {
            err_prefix(err, "--%s", option_name(cursor.option));
            return r;
        }
    }
    return r;
}

/* A kernel to prepare takes the place of the one to boot. */
static int set_kernel(struct config *config, const char *kernel, struct err *err)
{
    char *copy;

    if (kernel[0] == '\0')
        return err_set(err, -EINVAL, "--prepare-kernel: '': expected a file name");
    copy = strdup(kernel);
    if (!copy)
        return err_set(err, -ENOMEM, "out of memory");
    free(config->kernel);
    config->kernel = copy;
    config->kernel_in_file = false;
    return 0;
}

int options_parse(int argc, char **argv, struct config *config, enum options_action *ret_action,
                  struct err *err)
{
    struct others others;
    int r;

    r = look_through(argc, argv, &others, ret_action, err);
    if (r < 0 || *ret_action == OPTIONS_HELP || *ret_action == OPTIONS_VERSION)
        return r;
    if (others.file) {
        r = config_load_json(config, others.file, err);
        if (r < 0)
            return r;
        r = reset_given(argc, argv, config, err);
        if (r < 0)
            return r;
    }
    r = apply(argc, argv, config, err);
    return r == 0 && others.kernel ? set_kernel(config, others.kernel, err) : r;
}

/* ---- help ------------------------------------------------------------------------------------ */

/* Column of the explanations: wide enough for all but the longest options. */
#define HELP_COLUMN 28

static void print_help_line(const char *name, const char *value, const char *help)
{
    int width = printf("  %s%s", name, value);

    if (width >= HELP_COLUMN - 1) {
        printf("\n");
        width = 0;
    }
    printf("%*s%s\n", HELP_COLUMN - width, "", help);
}

static void print_options(const struct setting *table)
{
    for (const struct setting *option = table; option->name[0]; option++) {
        char name[32];

        snprintf(name, sizeof(name), "--%s%s", option_name(option), option->value[0] ? " " : "");
        print_help_line(name, option->value, option->help);
    }
}

static void print_keys(const struct config_group *group)
{
    printf("\nKeys of --%s (a comma in a value is written ,,):\n", group->name);
    for (const struct setting *key = group->settings + (group->first_is_unnamed ? 1 : 0);
         key->name[0]; key++) {
        char name[32];

        snprintf(name, sizeof(name), "%s=", key->name);
        print_help_line(name, key->value, key->help);
    }
}

void options_print_help(void)
{
    printf("Usage: minivmm --kernel FILE [OPTION]...\n"
           "Boot a Linux kernel in a KVM virtual machine, its serial port on this terminal.\n"
           "\n"
           "Options:\n");
    print_options(config_settings);
    print_options(other_options);

    for (const struct config_group *group = config_groups; group->name[0]; group++)
        print_keys(group);

    printf("\nOn a terminal, Ctrl-A x ends the VM and Ctrl-A h lists more keys.\n"
           "Exit status: 0 guest powered off, 1 set-up failed, 2 usage, 3 guest rebooted,\n"
           "4 ended from outside, 5 failed while running. See minivmm(1).\n");
}
