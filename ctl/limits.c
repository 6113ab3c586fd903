/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/limits.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/parse.h"
#include "ctl/answer.h"

/* Those that have to be there. */
#define NKEYS_NEEDED 6u

const char *const limits_keys[] = {
    "bps",
    "bps_rd",
    "bps_wr",
    "iops",
    "iops_rd",
    "iops_wr",
    "bps_max",
    "bps_rd_max",
    "bps_wr_max",
    "iops_max",
    "iops_rd_max",
    "iops_wr_max",
    "bps_max_length",
    "bps_rd_max_length",
    "bps_wr_max_length",
    "iops_max_length",
    "iops_rd_max_length",
    "iops_wr_max_length",
    "iops_size",
    NULL,
};

bool limits_is_set(const json_t *limits, const char *key)
{
    return answer_number(limits, key) > 0;
}

static void put(json_t *limits, const char *key, uint64_t value)
{
    (void)json_object_set_new(limits, key, json_integer((json_int_t)value));
}

json_t *limits_of(const json_t *inserted)
{
    json_t *limits = json_object();

    for (size_t i = 0; limits_keys[i]; i++)
        if (i < NKEYS_NEEDED || limits_is_set(inserted, limits_keys[i]))
            put(limits, limits_keys[i], answer_number(inserted, limits_keys[i]));
    return limits;
}

/* The key that `text` begins with, with its '='; NULL: none. */
static const char *find_key(const char *text)
{
    for (size_t i = 0; limits_keys[i]; i++) {
        size_t len = strlen(limits_keys[i]);

        if (strncmp(text, limits_keys[i], len) == 0 && text[len] == '=')
            return limits_keys[i];
    }
    return NULL;
}

int limits_set(json_t *limits, const char *text, struct err *err)
{
    const char *key = find_key(text);
    uint64_t value;

    if (!key)
        return err_set(err, -EINVAL,
                       "%s: expected KEY=VALUE with a key such as bps, bps_rd, iops, bps_max",
                       text);
    if (parse_size(text + strlen(key) + 1, &value) < 0 || value > INT64_MAX)
        return err_set(err, -EINVAL, "%s: expected a number, or a size such as 10M", text);
    put(limits, key, value);
    return 0;
}

void limits_clear(json_t *limits)
{
    json_object_clear(limits);
    for (size_t i = 0; i < NKEYS_NEEDED; i++)
        put(limits, limits_keys[i], 0);
}
