/* SPDX-License-Identifier: Apache-2.0 */
#include "block/name.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"

/* Longest key, as "file.file.filename", and the byte that ends it. */
#define KEY_MAX 256u

#define JSON_PREFIX "json:"

void block_name_done(struct block_name *name)
{
    free(name->path);
    free(name->data_path);
    name->path = NULL;
    name->data_path = NULL;
}

void block_name_apply(const struct block_name *name, struct block_options *options)
{
    options->path = name->path;
    options->part = &name->part;
    options->data_path = name->data_path;
    if (name->format != BLOCK_FORMAT_PROBE)
        options->format = name->format;
    if (name->device)
        options->flags |= BLOCK_OPEN_DEVICE;
    if (name->unlocked)
        options->flags |= BLOCK_OPEN_UNLOCKED;
    if (name->share)
        options->flags |= BLOCK_OPEN_SHARE;
    if (name->no_backing)
        options->flags |= BLOCK_OPEN_NO_BACKING;
    if (name->readonly)
        options->readonly = true;
    if (name->direct)
        options->cache = BLOCK_CACHE_NONE;
    else if (name->no_flush)
        options->cache = BLOCK_CACHE_UNSAFE;
}

int block_format_parse(const char *text, enum block_format *ret_format, const char **ret_protocol)
{
    static const struct {
        char text[12];
        enum block_format format;
        bool protocol;
    } formats[] = {
        {"qcow2", BLOCK_FORMAT_QCOW2, false},
        {"raw", BLOCK_FORMAT_RAW, false},
        {"file", BLOCK_FORMAT_RAW, true},
        {"host_device", BLOCK_FORMAT_RAW, true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        if (strcmp(text, formats[i].text) != 0)
            continue;
        *ret_format = formats[i].format;
        if (ret_protocol)
            *ret_protocol = formats[i].protocol ? formats[i].text : NULL;
        return 0;
    }
    return -EINVAL;
}

/* ---- options --------------------------------------------------------------------------------- */

/*
 * Keys that are accepted and ignored, because they change how fast something is, or ask for what is
 * done anyway. A key that is neither listed here nor used is refused.
 */
static const char *const harmless[] = {
    "node-name",          "auto-read-only",       "detect-zeroes",        "discard",
    "lazy-refcounts",     "overlap-check",        "pass-discard-request", "pass-discard-snapshot",
    "cache-size",         "l2-cache-size",        "l2-cache-entry-size",  "refcount-cache-size",
    "pass-discard-other", "cache-clean-interval",
};

/* The same for what is below a format. */
static const char *const harmless_below[] = {
    "node-name", "aio", "read-only", "discard", "auto-read-only", "detect-zeroes",
};

/* Say what is wrong with a driver that is unknown, or does not belong at this place. */
static int bad_driver(const char *driver, struct err *err)
{
    static const char *const others[] = {
        "blkdebug", "ftp",    "ftps", "gluster", "host_cdrom", "http",
        "https",    "iscsi",  "nbd",  "nfs",     "null-aio",   "null-co",
        "nvme",     "quorum", "rbd",  "ssh",     "throttle",   "vvfat",
    };
    enum block_format format;

    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        if (strcmp(driver, others[i]) == 0)
            return err_set(
                err, -ENOTSUP,
                "driver '%s' is not supported: expected a local file (driver qcow2, raw, "
                "file or host_device)",
                driver);
    if (block_format_parse(driver, &format, NULL) == 0)
        return err_set(err, -ENOTSUP,
                       "driver '%s' below a format is not supported: expected a local file (driver "
                       "file or host_device)",
                       driver);
    return err_set(err, -ENOTSUP, "Unknown driver '%s'", driver);
}

struct keys {
    struct opts *opts;
    const char *prefix; /* "", "file.", "file.file." */
};

/* The value of a key below the prefix, or NULL. */
static const char *get(const struct keys *keys, const char *key)
{
    char full[KEY_MAX];

    (void)snprintf(full, sizeof(full), "%s%s", keys->prefix, key);
    return opts_get(keys->opts, full);
}

static bool has(const struct keys *keys, const char *key)
{
    char full[KEY_MAX];

    (void)snprintf(full, sizeof(full), "%s%s", keys->prefix, key);
    return opts_peek(keys->opts, full);
}

static int get_size(const struct keys *keys, const char *key, uint64_t *ret_value, struct err *err)
{
    const char *text = get(keys, key);

    if (text && parse_size(text, ret_value) < 0)
        return err_set(err, OPTS_NO_SIZE, "Parameter '%s' expects a non-negative number below 2^64",
                       key);
    return 0;
}

static int get_flag(const struct keys *keys, const char *key, bool *ret_flag, struct err *err)
{
    char full[KEY_MAX];

    (void)snprintf(full, sizeof(full), "%s%s", keys->prefix, key);
    return opts_get_bool(keys->opts, full, ret_flag, err);
}

/* ---- files ----------------------------------------------------------------------------------- */

static int take_locking(const struct keys *keys, bool *ret_unlocked, struct err *err)
{
    const char *how = get(keys, "locking");

    if (how && strcmp(how, "auto") != 0 && strcmp(how, "on") != 0 && strcmp(how, "off") != 0)
        return err_set(err, -EINVAL, "invalid parameter value: %s", how);
    if (how && strcmp(how, "off") == 0)
        *ret_unlocked = true;
    return 0;
}

/* The options of a file of the host. */
static int take_path(const struct keys *keys, char **ret_path, bool *ret_unlocked, struct err *err)
{
    const char *path = get(keys, "filename");

    if (!path || !*path)
        return err_set(err, -EINVAL, "The 'file' block driver requires a file name");
    free(*ret_path);
    *ret_path = strdup(path);
    if (!*ret_path)
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < ARRAY_SIZE(harmless_below); i++)
        (void)get(keys, harmless_below[i]);
    return take_locking(keys, ret_unlocked, err);
}

static int take_part(const struct keys *keys, struct file_part *part, struct err *err)
{
    struct file_part inner = FILE_PART_ALL;
    int r = get_size(keys, "offset", &inner.off, err);

    if (r == 0)
        r = get_size(keys, "size", &inner.len, err);
    if (r < 0 || (inner.off == 0 && inner.len == FILE_PART_REST))
        return r;
    if (part->off != 0 || part->len != FILE_PART_REST)
        return err_set(err, -ENOTSUP, "offset and size of a part of a part are not supported");
    if (inner.len != FILE_PART_REST && !is_aligned(inner.len, BLOCK_SECTOR_SIZE))
        return err_set(err, -EINVAL, "Specified size is not multiple of %u", BLOCK_SECTOR_SIZE);
    *part = inner;
    return 0;
}

/*
 * The file below a driver: its options have `prefix`. `key` would name a node instead of giving
 * options; there are no nodes with names.
 */
static int take_file(struct opts *opts, const char *key, const char *prefix,
                     struct block_name *name, char **ret_path, struct err *err)
{
    const struct keys keys = {opts, prefix};
    const char *node = opts_get(opts, key);
    const char *driver = get(&keys, "driver");

    if (node)
        return err_set(err, -EINVAL, "Cannot find device='%s' nor node-name='%s'", node, node);
    if (!driver && !has(&keys, "filename"))
        return err_set(err, -EINVAL, "A block device must be specified for \"%s\"", key);
    if (driver && strcmp(driver, "host_device") == 0)
        name->device = true;
    else if (driver && strcmp(driver, "file") != 0)
        return bad_driver(driver, err);
    return take_path(&keys, ret_path, &name->unlocked, err);
}

/* Below a format is a file, or raw with a file below it. */
static int take_below(struct opts *opts, struct block_name *name, struct err *err)
{
    const struct keys keys = {opts, "file."};
    const char *driver = get(&keys, "driver");
    int r;

    if (!driver || strcmp(driver, "raw") != 0)
        return take_file(opts, "file", "file.", name, &name->path, err);
    r = take_part(&keys, &name->part, err);
    for (size_t i = 0; i < ARRAY_SIZE(harmless_below); i++)
        (void)get(&keys, harmless_below[i]);
    return r < 0 ? r : take_file(opts, "file.file", "file.file.", name, &name->path, err);
}

/* ---- images ---------------------------------------------------------------------------------- */

static bool has_file(struct opts *opts, const char *key, const char *prefix)
{
    const struct keys keys = {opts, prefix};

    return opts_peek(opts, key) || has(&keys, "driver") || has(&keys, "filename");
}

static int take_data_file(struct opts *opts, struct block_name *name, struct err *err)
{
    struct block_name data = {.path = NULL};
    int r;

    if (!has_file(opts, "data-file", "data-file."))
        return 0;
    if (name->format == BLOCK_FORMAT_RAW)
        return err_set(err, -ENOTSUP, "data-file: a raw image has none");
    r = take_file(opts, "data-file", "data-file.", &data, &name->data_path, err);
    name->unlocked |= data.unlocked;
    return r;
}

/* `driver` is NULL if nothing says what it is. */
static int take_image(const struct keys *keys, const char *driver, struct block_name *name,
                      struct err *err)
{
    int r;

    if (!driver && !has_file(keys->opts, "file", "file."))
        return err_set(err, -EINVAL, "Must specify either driver or file");
    if (driver && block_format_parse(driver, &name->format, &name->protocol) < 0)
        return bad_driver(driver, err);
    if (name->protocol) {
        name->device = strcmp(name->protocol, "host_device") == 0;
        return take_path(keys, &name->path, &name->unlocked, err);
    }
    if (name->format == BLOCK_FORMAT_PROBE && (has(keys, "offset") || has(keys, "size")))
        name->format = BLOCK_FORMAT_RAW; /* no other format has parts */
    r = name->format == BLOCK_FORMAT_RAW ? take_part(keys, &name->part, err) : 0;
    if (r == 0)
        r = take_below(keys->opts, name, err);
    return r == 0 ? take_data_file(keys->opts, name, err) : r;
}

static int take_flags(const struct keys *keys, struct block_name *name, struct err *err)
{
    const struct {
        const char *key;
        bool *flag;
    } flags[] = {
        {"read-only", &name->readonly},
        {"force-share", &name->share},
        {"cache.direct", &name->direct},
        {"cache.no-flush", &name->no_flush},
    };
    const char *backing = get(keys, "backing");
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(flags) && r == 0; i++)
        r = get_flag(keys, flags[i].key, flags[i].flag, err);
    if (r == 0 && backing && *backing)
        r = err_set(err, -ENOTSUP,
                    "backing=%s: another backing file than the image's is not supported", backing);
    name->no_backing = backing;
    return r;
}

/* `driver` decides over what the options say; NULL: it does not. */
static int from_opts(struct opts *opts, const char *driver, struct block_name *name,
                     struct err *err)
{
    const struct keys keys = {opts, ""};
    const char *said = get(&keys, "driver");
    const char *key;
    int r;

    *name = (struct block_name){.format = BLOCK_FORMAT_PROBE, .part = FILE_PART_ALL};
    r = take_image(&keys, driver ? driver : said, name, err);
    if (r == 0)
        r = take_flags(&keys, name, err);
    for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
        (void)get(&keys, harmless[i]); /* now it counts as used */
    key = r == 0 ? opts_unused(opts) : NULL;
    return key ? err_set(err, -ENOTSUP, "option '%s' is not supported", key) : r;
}

int block_name_from_opts(struct opts *opts, struct block_name *ret_name, struct err *err)
{
    return from_opts(opts, NULL, ret_name, err);
}

/* ---- json: ----------------------------------------------------------------------------------- */

static int flatten(struct opts *opts, const char *prefix, json_t *object, struct err *err);

static int flatten_member(struct opts *opts, const char *key, json_t *value, struct err *err)
{
    char number[32];

    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return flatten(opts, key, value, err);
    case JSON_STRING:
        return opts_set(opts, key, json_string_value(value), err);
    case JSON_TRUE:
        return opts_set(opts, key, "on", err);
    case JSON_FALSE:
        return opts_set(opts, key, "off", err);
    case JSON_NULL:
        return opts_set(opts, key, "", err);
    case JSON_INTEGER:
        (void)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return opts_set(opts, key, number, err);
    default:
        return err_set(err, -EINVAL, "'%s': a value of this type is not expected", key);
    }
}

/*
 * Objects in objects become keys with a point between them. jansson bounds how deep objects are
 * nested.
 */
static int flatten(struct opts *opts, const char *prefix, json_t *object, struct err *err)
{
    const char *key;
    json_t *value;
    int r = 0;

    json_object_foreach(object, key, value)
    {
        char path[KEY_MAX];

        if (snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "." : "", key) >= (int)KEY_MAX)
            return err_set(err, -EINVAL, "a key of more than %u characters", KEY_MAX - 1);
        r = flatten_member(opts, path, value, err);
        if (r < 0)
            break;
    }
    return r;
}

/*
 * The text with strings in double quotes only; to be freed. QEMU also takes strings in single
 * quotes, jansson does not.
 */
static char *double_quotes(const char *text)
{
    char *copy = malloc(2 * strlen(text) + 1);
    char *to = copy;
    char quote = '\0'; /* the one that began the present string; else 0 */

    for (; copy && *text; text++) {
        if (!quote && (*text == '\'' || *text == '"')) {
            quote = *text;
            *to++ = '"';
        } else if (quote && *text == quote) {
            quote = '\0';
            *to++ = '"';
        } else if (quote && *text == '\\' && text[1]) {
            text++;
            if (*text != '\'')
                *to++ = '\\';
            *to++ = *text;
        } else {
            if (*text == '"')
                *to++ = '\\';
            *to++ = *text;
        }
    }
    if (copy)
        *to = '\0';
    return copy;
}

static int opts_from_json(struct opts *opts, const char *text, struct err *err)
{
    char *quoted = double_quotes(text);
    json_error_t error;
    json_t *json;
    int r;

    if (!quoted)
        return err_set(err, -ENOMEM, "out of memory");
    json = json_loads(quoted, 0, &error);
    free(quoted);
    if (!json)
        return err_set(err, -EINVAL, "Could not parse the JSON options: JSON parse error, %s",
                       error.text);
    r = json_is_object(json) ? flatten(opts, "", json, err)
                             : err_set(err, -EINVAL, "Invalid JSON object given");
    json_decref(json);
    return r;
}

int block_name_from_json(const char *text, const char *driver, struct block_name *ret_name,
                         struct err *err)
{
    struct opts opts = {0};
    int r = opts_from_json(&opts, text + strlen(JSON_PREFIX), err);

    *ret_name = (struct block_name){.part = FILE_PART_ALL};
    if (r == 0)
        r = from_opts(&opts, driver, ret_name, err);
    opts_done(&opts);
    return r;
}

bool block_name_is_json(const char *text)
{
    return strncmp(text, JSON_PREFIX, strlen(JSON_PREFIX)) == 0;
}

/* ---- names in images ------------------------------------------------------------------------- */

static bool has_protocol(const char *name)
{
    return name[strcspn(name, ":/")] == ':';
}

int block_name_check_path(const char *text, struct err *err)
{
    if (!has_protocol(text))
        return 0;
    return err_set(err, -ENOTSUP,
                   "'%s': a path is expected, without a protocol: if it is one, write './%s'", text,
                   text);
}

/*
 * A mere path is relative to the folder of the image that names it. QEMU's "protocol:name" is
 * understood for "file:" only, and its path is relative to the process's working directory, as with
 * QEMU.
 */
int block_name_resolve(const char *image, const char *name, char **ret_path, struct err *err)
{
    const char *slash = strrchr(image, '/');
    size_t dir_len = slash ? (size_t)(slash - image) + 1 : 0;
    char *path;

    if (has_protocol(name)) {
        if (strncmp(name, "file:", 5) != 0)
            return err_set(err, -ENOTSUP,
                           "'%s': a file of the host is expected: protocols are not supported",
                           name);
        name += strlen("file:");
        dir_len = 0;
    } else if (name[0] == '/') {
        dir_len = 0;
    }
    path = malloc(dir_len + strlen(name) + 1);
    if (!path)
        return err_set(err, -ENOMEM, "out of memory");
    memcpy(path, image, dir_len);
    memcpy(path + dir_len, name, strlen(name) + 1);
    *ret_path = path;
    return 0;
}

int block_name_below(const char *image, const char *text, const char *format,
                     struct block_name *ret_name, struct err *err)
{
    *ret_name = (struct block_name){.part = FILE_PART_ALL};
    if (format && block_format_parse(format, &ret_name->format, &ret_name->protocol) < 0)
        return err_set(err, -ENOTSUP, "format '%s': expected qcow2 or raw", format);
    ret_name->device = ret_name->protocol && strcmp(ret_name->protocol, "host_device") == 0;
    if (block_name_is_json(text))
        return block_name_from_json(text, format, ret_name, err);
    return block_name_resolve(image, text, &ret_name->path, err);
}
