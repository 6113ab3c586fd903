#include "img/name.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "img/opts.h"
#include "vmm/base/bytes.h"

/* Keys inside of keys: "file.file.filename". */
#define KEY_MAX 256u

int img_format_parse(const char *text, enum block_format *ret_format)
{
    if (strcmp(text, "qcow2") == 0)
        *ret_format = BLOCK_FORMAT_QCOW2;
    else if (strcmp(text, "raw") == 0)
        *ret_format = BLOCK_FORMAT_RAW;
    else
        return -EINVAL;
    return 0;
}

bool img_format_is_foreign(const char *text)
{
    static const char *const foreign[] = {
        "bochs", "cloop", "dmg", "luks", "parallels", "qcow", "qed", "vdi", "vhdx", "vmdk", "vpc",
    };

    for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
        if (strcmp(foreign[i], text) == 0)
            return true;
    return false;
}

void img_name_done(struct img_name *name)
{
    free(name->path);
    name->path = NULL;
}

/* ---- descriptions ---------------------------------------------------------------------------- */

/*
 * Keys that change how fast something is, or that ask for what is done anyway. All others that are
 * not looked at by name are refused.
 */
static const char *const harmless[] = {
    "node-name",          "auto-read-only",       "detect-zeroes",        "discard",
    "lazy-refcounts",     "overlap-check",        "pass-discard-request", "pass-discard-snapshot",
    "cache-size",         "l2-cache-size",        "l2-cache-entry-size",  "refcount-cache-size",
    "pass-discard-other", "cache-clean-interval", "file.node-name",       "file.aio",
    "file.locking",       "file.read-only",       "file.discard",         "file.auto-read-only",
};

static bool is_file_driver(const char *driver)
{
    return strcmp(driver, "file") == 0 || strcmp(driver, "host_device") == 0;
}

static int take_path(struct opts *opts, const char *key, struct img_name *name, struct err *err)
{
    const char *path = opts_get(opts, key);

    if (!path || !*path)
        return err_set(err, -EINVAL, "The 'file' block driver requires a file name");
    name->path = strdup(path);
    return name->path ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int take_file(struct opts *opts, struct img_name *name, struct err *err)
{
    const char *driver = opts_get(opts, "file.driver");
    const char *node = opts_get(opts, "file");

    if (node)
        return err_set(err, -EINVAL, "Cannot find device='%s' nor node-name='%s'", node, node);
    if (driver && !is_file_driver(driver))
        return err_set(err, -ENOTSUP, "driver '%s' below a format is not supported: expected file",
                       driver);
    return take_path(opts, "file.filename", name, err);
}

static int take_driver(struct opts *opts, struct img_name *name, struct err *err)
{
    const char *driver = opts_get(opts, "driver");

    if (driver && is_file_driver(driver)) {
        name->format = BLOCK_FORMAT_RAW;
        return take_path(opts, "filename", name, err);
    }
    if (driver && img_format_parse(driver, &name->format) < 0)
        return err_set(err, -ENOTSUP, "Unknown driver '%s'", driver);
    return take_file(opts, name, err);
}

static int take_flags(struct opts *opts, struct img_name *name, struct err *err)
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
    const char *backing = opts_get(opts, "backing");
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(flags) && r == 0; i++)
        r = opts_get_bool(opts, flags[i].key, flags[i].flag, err);
    if (r == 0 && backing && *backing)
        r = err_set(err, -ENOTSUP,
                    "backing=%s: another backing file than the image's is not "
                    "supported",
                    backing);
    name->no_backing = backing;
    return r;
}

static int name_from_opts(struct opts *opts, struct img_name *name, struct err *err)
{
    const char *key;
    int r = take_driver(opts, name, err);

    if (r == 0)
        r = take_flags(opts, name, err);
    for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
        (void)opts_get(opts, harmless[i]); /* counts as used from then on */
    key = r == 0 ? opts_unused(opts) : NULL;
    if (key)
        r = err_set(err, -ENOTSUP, "option '%s' is not supported", key);
    return r;
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

/* Objects in objects become keys with a point between; jansson bounds how deep they are. */
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

/* QEMU takes strings in single quotes, too: "a string" of those in double quotes. To be freed. */
static char *double_quotes(const char *text)
{
    char *copy = malloc(2 * strlen(text) + 1);
    char *to = copy;
    char quote = '\0'; /* of the string that this is inside of */

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

/* ---- plain names ----------------------------------------------------------------------------- */

/* Length of what stands in front of a ':', if that is before any '/'; 0: nothing. */
static size_t protocol_len(const char *text)
{
    size_t len = strcspn(text, ":/");

    return text[len] == ':' ? len : 0;
}

static int name_from_path(const char *text, struct img_name *name, struct err *err)
{
    size_t protocol = protocol_len(text);
    const char *folder = "";

    if (protocol) {
        if (strncmp(text, "file:", strlen("file:")) != 0)
            return err_set(err, -ENOTSUP, "Unknown protocol '%.*s'", (int)protocol, text);
        text += strlen("file:");
        folder = protocol_len(text) ? "./" : ""; /* so that it can be used without "file:" */
    }
    if (!*text)
        return err_set(err, -EINVAL, "The 'file' block driver requires a file name");
    if (asprintf(&name->path, "%s%s", folder, text) < 0) {
        name->path = NULL;
        return err_set(err, -ENOMEM, "out of memory");
    }
    return 0;
}

int img_name_parse(const char *text, bool image_opts, struct img_name *ret_name, struct err *err)
{
    bool json = !image_opts && strncmp(text, "json:", strlen("json:")) == 0;
    struct opts opts = {0};
    int r;

    *ret_name = (struct img_name){.format = BLOCK_FORMAT_PROBE};
    if (!image_opts && !json)
        return name_from_path(text, ret_name, err);
    r = json ? opts_from_json(&opts, text + strlen("json:"), err)
             : opts_parse(&opts, text, "file", err);
    if (r == 0)
        r = name_from_opts(&opts, ret_name, err);
    opts_done(&opts);
    return r;
}
