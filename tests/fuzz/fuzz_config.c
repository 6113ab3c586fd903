/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration parsers on any bytes: the whole as JSON, and as the text of a disk.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config/config_json.h"
#include "vmm/config/config_settings.h"

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

static void parse_disk(const char *text)
{
    struct config_disk disk;
    struct err err;

    if (config_parse_disk(text, &disk, &err) == 0)
        config_disk_done(&disk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    parse_json(text, size);
    parse_disk(text);
    free(text);
    return 0;
}
