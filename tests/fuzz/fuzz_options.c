/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line. The input: arguments, each ended by a NUL, and after an empty one the
 * configuration file that --config names, whatever name it was given.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/boot/kernel_file.h"
#include "vmm/config/config_settings.h"
#include "vmm/config/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARGS_MAX 64
#define CONFIG_OPTION "--config"

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check_config(const struct config *config)
{
    struct err err;
    char *cmdline;

    must(config->ncpus >= 1 && config->memory >= MIB && is_aligned(config->memory, MIB));
    for (size_t i = 0; i < config->ndisks; i++) {
        const struct config_disk *disk = &config->disks[i];

        must(disk->path && *disk->path && disk->nqueues >= 1);
        must(!disk->serial || (*disk->serial && strlen(disk->serial) <= 20));
    }
    if (config_check(config, &err) < 0)
        return;
    must(config->kernel != NULL);
    cmdline = config_kernel_cmdline(config);
    must(cmdline != NULL);
    free(cmdline);
}

static void parse(int argc, char **argv)
{
    enum options_action action;
    struct config config;
    struct err err = {0};

    config_init(&config);
    if (options_parse(argc, argv, &config, &action, &err) == 0)
        check_config(&config);
    else
        must(err.msg[0] != '\0' && !strchr(err.msg, '\n'));
    config_done(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    char *argv[ARGS_MAX + 1] = {(char *)(uintptr_t) "minivmm"};
    char option[sizeof(CONFIG_OPTION) + 64];
    struct test_file file;
    size_t at = 0;
    int argc = 1;

    must(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    for (; argc < ARGS_MAX && at < size && text[at]; at += strlen(text + at) + 1)
        argv[argc++] = text + at;
    at = min_u64(at + 1, size);
    file = test_file_new(data + at, size - at);
    snprintf(option, sizeof(option), CONFIG_OPTION "=%s", file.path);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], CONFIG_OPTION, strlen(CONFIG_OPTION)) == 0)
            argv[i] = option;
    parse(argc, argv);
    test_file_free(&file);
    free(text);
    return 0;
}
