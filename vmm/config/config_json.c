/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/config_json.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/host_path.h"
#include "vmm/config/config_settings.h"
#include "vmm/config/config_values.h"

/* A machine with every disk it can have takes a few kilobytes. */
#define CONFIG_FILE_MAX (256u << 10)

/* Where a value stands, for messages: "disk[1].cache". */
#define KEY_PATH_MAX 128

struct reader {
    const char *name; /* of the file */
    const char *dir;
    struct err *err;
};

static const char type_names[][48] = {
    [SETTING_JSON_STRING] = "a string",
    [SETTING_JSON_INTEGER] = "an integer",
    [SETTING_JSON_BOOLEAN] = "true or false",
    [SETTING_JSON_SIZE] = "a string such as \"512M\", or a number of bytes",
    [SETTING_JSON_STRINGS] = "an array of strings",
    [SETTING_JSON_GROUP] = "an array of objects",
};

static int wrong_type(const struct reader *reader, const char *key, const char *expected)
{
    return err_set(reader->err, -EINVAL, "%s: %s: expected %s", reader->name, key, expected);
}

/* The text form of a single value, or NULL if it has the wrong type. `buf` is for numbers. */
static const char *value_text(json_t *json, enum setting_json type, char *buf, size_t buf_len)
{
    bool string = type == SETTING_JSON_STRING || type == SETTING_JSON_SIZE;
    bool integer = type == SETTING_JSON_INTEGER || type == SETTING_JSON_SIZE;

    if (string && json_is_string(json))
        return json_string_value(json);
    if (type == SETTING_JSON_BOOLEAN && json_is_boolean(json))
        return json_is_true(json) ? "on" : "off";
    if (integer && json_is_integer(json)) {
        snprintf(buf, buf_len, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
        return buf;
    }
    return NULL;
}

/* Set one value of type `type`, which stands at `key` in the file. */
static int set_value(const struct reader *reader, const struct setting *setting,
                     enum setting_json type, const char *key, void *object, json_t *json)
{
    char buf[32];
    struct setting_value value = {.dir = reader->dir};
    int r;

    value.text = value_text(json, type, buf, sizeof(buf));
    if (!value.text)
        return wrong_type(reader, key, type_names[type]);
    r = setting_set(setting, object, &value, reader->err);
    if (r < 0)
        err_prefix(reader->err, "%s: %s", reader->name, key);
    return r;
}

static int unknown_key(const struct reader *reader, const char *key, const char *what)
{
    return err_set(reader->err, -EINVAL, "%s: %.200s: unknown key: expected a setting of a %s",
                   reader->name, key, what);
}

/* Set each of an array of strings, which stands at `key`. */
static int set_strings(const struct reader *reader, const struct setting *setting, const char *key,
                       void *object, json_t *array)
{
    json_t *element;
    size_t i;

    if (!json_is_array(array))
        return wrong_type(reader, key, type_names[SETTING_JSON_STRINGS]);
    json_array_foreach(array, i, element)
    {
        char where[KEY_PATH_MAX];
        int r;

        snprintf(where, sizeof(where), "%.100s[%zu]", key, i);
        r = set_value(reader, setting, SETTING_JSON_STRING, where, object, element);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- groups ---------------------------------------------------------------------------------- */

static int set_group_values(const struct reader *reader, const struct config_group *group,
                            const char *where, json_t *json, void *object)
{
    const char *key;
    json_t *member;
    int r;

    json_object_foreach(json, key, member)
    {
        const struct setting *setting = setting_find(group->settings, key);
        char path[KEY_PATH_MAX];

        snprintf(path, sizeof(path), "%.50s.%.70s", where, key); /* enough to find it */
        if (!setting)
            return unknown_key(reader, path, group->name);
        if (setting->json == SETTING_JSON_STRINGS)
            r = set_strings(reader, setting, path, object, member);
        else
            r = set_value(reader, setting, setting->json, path, object, member);
        if (r < 0)
            return r;
    }
    r = config_group_check(group, object, reader->err);
    if (r < 0)
        err_prefix(reader->err, "%s: %s", reader->name, where);
    return r;
}

static int add_to_group(const struct reader *reader, const struct config_group *group,
                        const char *where, json_t *json, struct config *config)
{
    void *object;

    if (!json_is_object(json))
        return err_set(reader->err, -EINVAL, "%s: %s: expected an object with the settings of a %s",
                       reader->name, where, group->name);
    object = config_group_add(group, config, reader->err);
    if (!object) {
        err_prefix(reader->err, "%s: %s", reader->name, where);
        return -EINVAL;
    }
    return set_group_values(reader, group, where, json, object);
}

static int add_group(const struct reader *reader, const struct setting *setting,
                     struct config *config, json_t *array)
{
    const struct config_group *group = config_group_find(setting->name);
    json_t *element;
    size_t i;

    if (!json_is_array(array))
        return wrong_type(reader, setting->name, type_names[SETTING_JSON_GROUP]);
    json_array_foreach(array, i, element)
    {
        char where[KEY_PATH_MAX];
        int r;

        snprintf(where, sizeof(where), "%s[%zu]", group->name, i);
        r = add_to_group(reader, group, where, element, config);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- the VM ---------------------------------------------------------------------------------- */

static int set_vm_values(const struct reader *reader, struct config *config, json_t *root)
{
    const char *key;
    json_t *member;

    if (!json_is_object(root))
        return err_set(reader->err, -EINVAL, "%s: expected an object with the settings of a VM",
                       reader->name);
    json_object_foreach(root, key, member)
    {
        const struct setting *setting = setting_find(config_settings, key);
        int r;

        if (!setting)
            return unknown_key(reader, key, "VM");
        if (setting->json == SETTING_JSON_STRINGS)
            r = set_strings(reader, setting, setting->name, config, member);
        else if (setting->json == SETTING_JSON_GROUP)
            r = add_group(reader, setting, config, member);
        else
            r = set_value(reader, setting, setting->json, key, config, member);
        if (r < 0)
            return r;
    }
    return 0;
}

int config_parse_json(struct config *config, const char *text, size_t len, const char *name,
                      const char *dir, struct err *err)
{
    const struct reader reader = {.name = name, .dir = dir, .err = err};
    json_error_t error;
    json_t *root;
    int r;

    root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return err_set(err, -EINVAL, "%s:%d:%d: expected JSON: %s", name, error.line, error.column,
                       error.text);
    r = set_vm_values(&reader, config, root);
    json_decref(root);
    return r;
}

/* ---- the file -------------------------------------------------------------------------------- */

/*
 * Read `size` bytes of the file `fd` into *ret_text, to be freed, if they are not too many.
 */
static int read_text(int fd, const char *path, off_t size, char **ret_text, size_t *ret_len,
                     struct err *err)
{
    char *text;
    size_t len = 0;
    ssize_t n;

    if (size > (off_t)CONFIG_FILE_MAX)
        return err_set(err, -EFBIG, "%s: %jd bytes: expected at most %u", path, (intmax_t)size,
                       CONFIG_FILE_MAX);
    text = malloc((size_t)size + 1);
    if (!text)
        return err_set(err, -ENOMEM, "%s: out of memory", path);

    /* A file that grows meanwhile is read as long as it was. */
    while (len < (size_t)size && (n = read(fd, text + len, (size_t)size - len)) != 0) {
        if (n < 0 && errno != EINTR) {
            int r = err_set_errno(err, -errno, "%s: cannot read", path);

            free(text);
            return r;
        }
        len += n > 0 ? (size_t)n : 0;
    }
    *ret_text = text;
    *ret_len = len;
    return 0;
}

/* The folder of `path`, to be freed; NULL in *ret_dir: the working directory. 0 or -ENOMEM. */
static int folder_of(const char *path, char **ret_dir)
{
    const char *slash = strrchr(path, '/');

    *ret_dir = NULL;
    if (!slash)
        return 0;
    *ret_dir =
        strndup(path, (size_t)(slash - path)); /* "" for the root: "" + "/" + name is right */
    return *ret_dir ? 0 : -ENOMEM;
}

int config_load_json(struct config *config, const char *path, struct err *err)
{
    char *text = NULL;
    size_t len = 0;
    struct stat st;
    char *dir;
    int fd;
    int r = host_path_open_regular(path, &fd, &st, err);

    if (r < 0)
        return r;
    r = read_text(fd, path, st.st_size, &text, &len, err);
    close(fd);
    if (r < 0)
        return r;

    r = folder_of(path, &dir);
    if (r < 0) {
        err_set(err, r, "%s: out of memory", path);
        goto free_text;
    }
    r = config_parse_json(config, text, len, path, dir, err);
    free(dir);
    config->kernel_in_file = config->kernel != NULL;
    free(config->file);
    config->file = strdup(path);
    if (r == 0 && !config->file)
        r = err_set(err, -ENOMEM, "%s: out of memory", path);

free_text:
    free(text);
    return r;
}
