/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration parsers on any bytes: the whole as JSON, and as the text of a disk.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config/config_json.h"
#include "vmm/config/config_settings.h"
#include "vmm/config/config_values.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_json(const char *text, size_t len)
{
    struct config config;
    struct err err;

    config_init(&config);
    if (config_parse_json(&config, text, len, "fuzz.json", "dir", &err) == 0 &&
        config_check(&config, &err) == 0)
        free(config_kernel_cmdline(&config));
    config_done(&config);
}

static void parse_groups(const char *text)
{
    struct config config;
    struct err err;

    config_init(&config);
    for (const struct config_group *group = config_groups; group->name[0]; group++)
        if (config_group_parse(group, &config, text, &err) < 0)
            continue; /* each is tried */
    config_done(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    parse_json(text, size);
    parse_groups(text);
    free(text);
    return 0;
}
