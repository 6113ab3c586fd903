/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/config_values.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "base/vm_names.h"
#include "vmm/control/address.h"

/* As much of a value as a message shows: what was expected must fit after it. */
#define VALUE "'%.200s'"

static int bad_value(const struct setting_value *value, const char *expected, struct err *err)
{
    return err_set(err, -EINVAL, VALUE ": expected %s", value->text, expected);
}

static int no_memory(struct err *err)
{
    return err_set(err, -ENOMEM, "out of memory");
}

/* One word of a setting that is a choice, and the value it stands for. */
struct setting_choice {
    char word[12]; /* "" ends a table */
    int value;
};

static const struct setting_choice *choices_of(const struct setting *setting);

static void *field_of(const struct setting *setting, void *object)
{
    return (char *)object + setting->field;
}

/* ---- text ------------------------------------------------------------------------------------ */

static int set_text(const struct setting *setting, void *object, const struct setting_value *value,
                    struct err *err)
{
    char **field = field_of(setting, object);
    char *text = strdup(value->text);

    if (!text)
        return no_memory(err);
    free(*field);
    *field = text;
    return 0;
}

/* Let *field be a copy of `path`, a part of `value`, relative to the folder that `value` names. */
static int replace_path(char **field, const char *path, const struct setting_value *value,
                        struct err *err)
{
    bool relative = value->dir && path[0] != '/';
    char *joined;

    if (path[0] == '\0')
        return bad_value(value, "a file name", err);
    if (asprintf(&joined, "%s%s%s", relative ? value->dir : "", relative ? "/" : "", path) < 0)
        return no_memory(err);
    free(*field);
    *field = joined;
    return 0;
}

static int set_path(const struct setting *setting, void *object, const struct setting_value *value,
                    struct err *err)
{
    return replace_path(field_of(setting, object), value->text, value, err);
}

static int set_kernel(const struct setting *setting, void *object,
                      const struct setting_value *value, struct err *err)
{
    struct config *config = object;

    config->kernel_in_file = false; /* else whoever reads a file says so afterwards */
    return set_path(setting, object, value, err);
}

static int set_name(const struct setting *setting, void *object, const struct setting_value *value,
                    struct err *err)
{
    if (!vm_name_is_valid(value->text))
        return err_set(err, -EINVAL, VALUE ": " VM_NAME_EXPECTED, value->text);
    return set_text(setting, object, value, err);
}

static int set_disk_serial(const struct setting *setting, void *object,
                           const struct setting_value *value, struct err *err)
{
    size_t len = strlen(value->text);
    bool good = len >= 1 && len <= CONFIG_DISK_SERIAL_MAX;

    for (size_t i = 0; good && i < len; i++)
        good = value->text[i] >= ' ' && value->text[i] <= '~';
    if (!good)
        return bad_value(value, "1 to 20 printable ASCII characters", err);
    return set_text(setting, object, value, err);
}

/* Mount commands take it as a word. */
static int set_tag(const struct setting *setting, void *object, const struct setting_value *value,
                   struct err *err)
{
    size_t len = strlen(value->text);
    bool good = len >= 1 && len <= CONFIG_TAG_MAX;

    for (size_t i = 0; good && i < len; i++)
        good = value->text[i] > ' ' && value->text[i] <= '~';
    if (!good)
        return bad_value(value, "1 to 36 printable ASCII characters without spaces", err);
    return set_text(setting, object, value, err);
}

/* ---- numbers and words ----------------------------------------------------------------------- */

static int set_number(const struct setting *setting, void *object,
                      const struct setting_value *value, struct err *err)
{
    unsigned *field = field_of(setting, object);
    uint64_t number;

    if (parse_u64(value->text, &number) < 0 || number < setting->min || number > setting->max)
        return err_set(err, -EINVAL, VALUE ": expected a number from %u to %u", value->text,
                       setting->min, setting->max);
    *field = (unsigned)number;
    return 0;
}

static int set_memory(const struct setting *setting, void *object,
                      const struct setting_value *value, struct err *err)
{
    uint64_t *field = field_of(setting, object);
    uint64_t size;

    if (parse_size(value->text, &size) < 0 || size < CONFIG_MEMORY_MIN ||
        size > CONFIG_MEMORY_MAX || !is_aligned(size, MIB))
        return bad_value(value, "a size from 32M to 4T in whole megabytes, such as 512M", err);
    *field = size;
    return 0;
}

/* A rate, or a number of bytes or seconds. All may have a suffix. */
static int set_limit(const struct setting *setting, void *object, const struct setting_value *value,
                     struct err *err)
{
    uint64_t *field = field_of(setting, object);
    uint64_t limit;

    if (parse_size(value->text, &limit) < 0 || limit > THROTTLE_VALUE_MAX)
        return err_set(err, -EINVAL, VALUE ": expected a number up to %llu, such as 10M",
                       value->text, THROTTLE_VALUE_MAX);
    *field = limit;
    return 0;
}

static int set_on_off(const struct setting *setting, void *object,
                      const struct setting_value *value, struct err *err)
{
    if (parse_on_off(value->text, field_of(setting, object)) < 0)
        return bad_value(value, "on or off", err);
    return 0;
}

/* The words of a choice are in `value` too, for people. */
static int find_choice(const struct setting *setting, const struct setting_value *value,
                       int *ret_value, struct err *err)
{
    for (const struct setting_choice *choice = choices_of(setting); choice->word[0]; choice++) {
        if (strcmp(choice->word, value->text) == 0) {
            *ret_value = choice->value;
            return 0;
        }
    }
    return err_set(err, -EINVAL, VALUE ": expected one of %s", value->text, setting->value);
}

/* The field is an enum: as wide as an int with the compilers that we support. */
static int set_choice(const struct setting *setting, void *object,
                      const struct setting_value *value, struct err *err)
{
    return find_choice(setting, value, field_of(setting, object), err);
}

static int set_on_reboot(const struct setting *setting, void *object,
                         const struct setting_value *value, struct err *err)
{
    struct config *config = object;
    int restart = 0;
    int r = find_choice(setting, value, &restart, err);

    if (r == 0)
        config->restart_on_reboot = restart != 0;
    return r;
}

/* ---- settings of more than one field --------------------------------------------------------- */

static int set_port(const struct setting *setting, void *object, const struct setting_value *value,
                    struct err *err)
{
    static const struct {
        char word[8];
        enum serial_kind kind;
        bool has_path;
    } kinds[] = {
        {"stdio", SERIAL_STDIO, false}, {"null", SERIAL_NULL, false}, {"pty", SERIAL_PTY, false},
        {"file:", SERIAL_FILE, true},   {"unix:", SERIAL_UNIX, true},
    };
    struct config_port *port = field_of(setting, object);

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        size_t len = strlen(kinds[i].word);
        const char *rest = value->text + len;

        if (strncmp(value->text, kinds[i].word, len) != 0 || (*rest != '\0') != kinds[i].has_path)
            continue;
        port->given = true;
        port->kind = kinds[i].kind;
        if (kinds[i].has_path)
            return replace_path(&port->path, rest, value, err);
        free(port->path);
        port->path = NULL;
        return 0;
    }
    return err_set(err, -EINVAL, VALUE ": expected one of %s", value->text, setting->value);
}

static int set_address(const struct setting *setting, void *object,
                       const struct setting_value *value, struct err *err)
{
    char **field = field_of(setting, object);
    struct address address;
    bool relative;
    char *text;
    int r = address_parse(value->text, &address, err);

    if (r < 0)
        return r;
    relative = address.path && value->dir && address.path[0] != '/';
    r = relative ? asprintf(&text, "unix:%s/%s", value->dir, address.path)
                 : asprintf(&text, "%s", value->text);
    if (r < 0)
        return no_memory(err);
    free(*field);
    *field = text;
    return 0;
}

static int add_initrd(const struct setting *setting, void *object,
                      const struct setting_value *value, struct err *err)
{
    struct config *config = object;
    char *path = NULL;
    char **initrds;
    int r;

    initrds = realloc(config->initrds, (config->ninitrds + 1) * sizeof(*initrds));
    if (!initrds)
        return no_memory(err);
    config->initrds = initrds;
    r = replace_path(&path, value->text, value, err);
    if (r == 0)
        initrds[config->ninitrds++] = path;
    return r;
}

static void reset_initrds(struct config *config)
{
    while (config->ninitrds > 0)
        free(config->initrds[--config->ninitrds]);
}

/* A whole command line and an addition to the default one exclude each other. */
static void reset_cmdline(struct config *config)
{
    free(config->append);
    free(config->cmdline);
    config->append = NULL;
    config->cmdline = NULL;
}

static int set_kernel_cache(const struct setting *setting, void *object,
                            const struct setting_value *value, struct err *err)
{
    struct config *config = object;

    config->kernel_cache_off = strcmp(value->text, "off") == 0;
    return config->kernel_cache_off ? 0
                                    : replace_path(&config->kernel_cache, value->text, value, err);
}

/* A path after "unix:" and its like is one of the host. */
static int set_net_kind(const struct setting *setting, void *object,
                        const struct setting_value *value, struct err *err)
{
    char **field = field_of(setting, object);
    struct net_options options = {0};
    char *path = NULL;
    char *text;
    int r = net_options_set_kind(&options, value->text, err);

    if (r < 0)
        return r;
    if (options.kind != NET_UNIX && options.kind != NET_UNIX_DGRAM)
        return set_text(setting, object, value, err);
    r = replace_path(&path, options.place, value, err);
    if (r < 0)
        return r;
    r = asprintf(&text, "%.*s%s", (int)(options.place - value->text), value->text, path);
    free(path);
    if (r < 0)
        return no_memory(err);
    free(*field);
    *field = text;
    return 0;
}

static int add_text(const struct setting *setting, void *object, const struct setting_value *value,
                    struct err *err)
{
    return config_texts_add(field_of(setting, object), value->text, err);
}

static int set_mac(const struct setting *setting, void *object, const struct setting_value *value,
                   struct err *err)
{
    struct mac mac;

    if (!mac_parse(value->text, &mac) || mac_is_group(&mac) || mac_is_zero(&mac))
        return bad_value(value, "the address of one card, such as 52:54:00:12:34:56", err);
    *(struct mac *)field_of(setting, object) = mac;
    return 0;
}

/* A place, or the word for all of them. */
static int add_place(const struct setting *setting, void *object, const struct setting_value *value,
                     struct err *err)
{
    struct config_places *places = field_of(setting, object);
    char *path = NULL;
    char **paths;
    int r;

    if (strcmp(value->text, "any") == 0) {
        places->any = true;
        return 0;
    }
    paths = realloc(places->paths, (places->n + 1) * sizeof(*paths));
    if (!paths)
        return no_memory(err);
    places->paths = paths;
    r = replace_path(&path, value->text, value, err);
    if (r == 0)
        paths[places->n++] = path;
    return r;
}

static bool has_port(const struct config_vsock *vsock, uint64_t port)
{
    for (size_t i = 0; i < vsock->nmaps; i++)
        if (vsock->maps[i].port == port)
            return true;
    return false;
}

/* "PORT:PATH" into *ret_port and, as a copy to be freed, *ret_path. */
static int parse_port_map(const struct setting_value *value, uint64_t *ret_port, char **ret_path,
                          struct err *err)
{
    const char *path = strchr(value->text, ':');
    char port[16];

    if (!path || (size_t)(path - value->text) >= sizeof(port))
        return bad_value(value, "PORT:PATH", err);
    (void)snprintf(port, sizeof(port), "%.*s", (int)(path - value->text), value->text);
    if (parse_u64(port, ret_port) < 0 || *ret_port >= UINT32_MAX)
        return bad_value(value, "PORT:PATH with a port from 0 to 4294967294", err);
    return replace_path(ret_path, path + 1, value, err);
}

static int add_port_map(const struct setting *setting, void *object,
                        const struct setting_value *value, struct err *err)
{
    struct config_vsock *vsock = object;
    struct config_port_map *maps;
    char *path = NULL;
    uint64_t port;
    int r = parse_port_map(value, &port, &path, err);

    if (r < 0)
        return r;
    assert(path); /* it is set then */
    maps = realloc(vsock->maps, (vsock->nmaps + 1) * sizeof(*maps));
    if (maps)
        vsock->maps = maps;
    if (!maps)
        r = no_memory(err);
    else if (strlen(path) > CONFIG_SOCKET_PATH_MAX)
        r = bad_value(value, "a socket path of at most 107 bytes", err);
    else if (has_port(vsock, port))
        r = bad_value(value, "another port: this one is mapped already", err);
    else
        maps[vsock->nmaps++] = (struct config_port_map){.port = (uint32_t)port, .path = path};
    if (r < 0)
        free(path);
    return r;
}

static void reset_backing(struct config *config)
{
    config_places_done(&config->backing);
}

/* ---- groups ---------------------------------------------------------------------------------- */

/* The array of a group in `config`, and how many it has. */
static void **array_of(const struct config_group *group, struct config *config, size_t **ret_n)
{
    *ret_n = (size_t *)(void *)((char *)config + group->count);
    return (void **)(void *)((char *)config + group->array);
}

void *config_group_add(const struct config_group *group, struct config *config, struct err *err)
{
    size_t *n;
    void **array = array_of(group, config, &n);
    void *objects;
    void *object;

    if (*n >= group->max) {
        err_set(err, -EINVAL, "given %zu times: expected at most %zu", *n + 1, group->max);
        return NULL;
    }
    objects = realloc(*array, (*n + 1) * group->size);
    if (!objects) {
        (void)no_memory(err);
        return NULL;
    }
    *array = objects;
    object = (char *)objects + *n * group->size;
    group->init(object);
    ++*n;
    return object;
}

void config_group_reset(const struct config_group *group, struct config *config)
{
    size_t *n;
    void **array = array_of(group, config, &n);

    while (*n > 0)
        group->done((char *)*array + --*n * group->size);
    free(*array);
    *array = NULL;
}

/*
 * Cut the first field off *text, in place: a single comma ends it, a doubled one is part of it.
 * *text becomes what follows the comma; NULL after the last field.
 */
static char *next_field(char **text)
{
    char *field = *text;
    char *from = field;
    char *to = field;

    while (*from != '\0' && (from[0] != ',' || from[1] == ',')) {
        if (*from == ',')
            from++;
        *to++ = *from++;
    }
    *text = *from == ',' ? from + 1 : NULL;
    *to = '\0';
    return field;
}

static int set_key(const struct config_group *group, void *object, char *field, struct err *err)
{
    const struct setting *keys = group->settings + (group->first_is_unnamed ? 1 : 0);
    char *equals = strchr(field, '=');
    const struct setting *setting;
    struct setting_value value;
    int r;

    if (equals)
        *equals = '\0';
    setting = setting_find(keys, field);
    if (!equals && (!setting || setting->type != SETTING_IS_ON_OFF))
        return err_set(err, -EINVAL, VALUE ": expected key=value", field);
    value = (struct setting_value){.text = equals ? equals + 1 : "on"}; /* ",server" */
    if (!setting)
        return err_set(err, -EINVAL,
                       VALUE ": expected a key that --help lists (a comma in a file name is "
                             "written ,,)",
                       field);
    r = setting_set(setting, object, &value, err);
    if (r < 0)
        err_prefix(err, "%s", setting->name);
    return r;
}

/* `first`, for messages, is what the text begins with. */
static int set_fields(const struct config_group *group, void *object, char *text, struct err *err)
{
    const char *first = "";
    int r = 0;

    if (group->first_is_unnamed) {
        const struct setting_value value = {.text = next_field(&text)};

        first = value.text;
        r = setting_set(group->settings, object, &value, err);
    }
    while (r == 0 && text) {
        r = set_key(group, object, next_field(&text), err);
        if (r < 0 && first[0] != '\0')
            err_prefix(err, "%.200s", first);
    }
    return r < 0 ? r : config_group_check(group, object, err);
}

int config_group_check(const struct config_group *group, const void *object, struct err *err)
{
    return group->check ? group->check(object, err) : 0;
}

int config_group_parse(const struct config_group *group, struct config *config, const char *text,
                       struct err *err)
{
    char *copy = strdup(text);
    void *object;
    int r;

    if (!copy)
        return no_memory(err);
    object = config_group_add(group, config, err);
    r = object ? set_fields(group, object, copy, err) : -EINVAL;
    free(copy);
    return r;
}

static int set_group(const struct setting *setting, void *object, const struct setting_value *value,
                     struct err *err)
{
    return config_group_parse(config_group_find(setting->name), object, value->text, err);
}

/* ---- the types ------------------------------------------------------------------------------- */

static const struct setting_choice formats[] = {
    {"qcow2", BLOCK_FORMAT_QCOW2}, {"raw", BLOCK_FORMAT_RAW}, {"", 0}};
static const struct setting_choice caches[] = {{"writeback", BLOCK_CACHE_WRITEBACK},
                                               {"none", BLOCK_CACHE_NONE},
                                               {"unsafe", BLOCK_CACHE_UNSAFE},
                                               {"", 0}};
static const struct setting_choice aios[] = {
    {"io_uring", BLOCK_AIO_URING}, {"threads", BLOCK_AIO_THREADS}, {"", 0}};
static const struct setting_choice write_errors[] = {{"enospc", VIRTIO_BLK_ERROR_STOP_IF_FULL},
                                                     {"report", VIRTIO_BLK_ERROR_REPORT},
                                                     {"stop", VIRTIO_BLK_ERROR_STOP},
                                                     {"", 0}};
static const struct setting_choice read_errors[] = {
    {"report", VIRTIO_BLK_ERROR_REPORT}, {"stop", VIRTIO_BLK_ERROR_STOP}, {"", 0}};
static const struct setting_choice pages[] = {
    {"thp", GUEST_PAGES_THP}, {"host", GUEST_PAGES_HOST}, {"2M", GUEST_PAGES_2M}, {"", 0}};
static const struct setting_choice reboots[] = {{"exit", 0}, {"restart", 1}, {"", 0}};
static const struct setting_choice log_levels[] = {
    {"error", LOG_ERROR}, {"warn", LOG_WARN}, {"info", LOG_INFO}, {"debug", LOG_DEBUG}, {"", 0}};

/* How each type is set, and among which words. */
static const struct {
    int (*set)(const struct setting *setting, void *object, const struct setting_value *value,
               struct err *err);
    const struct setting_choice *choices;
} types[] = {
    [SETTING_IS_KERNEL] = {.set = set_kernel},
    [SETTING_IS_INITRD] = {.set = add_initrd},
    [SETTING_IS_CMDLINE] = {.set = set_text},
    [SETTING_IS_GROUP] = {.set = set_group},
    [SETTING_IS_PLACES] = {.set = add_place},
    [SETTING_IS_MEMORY] = {.set = set_memory},
    [SETTING_IS_PAGES] = {.set = set_choice, .choices = pages},
    [SETTING_IS_ON_OFF] = {.set = set_on_off},
    [SETTING_IS_NUMBER] = {.set = set_number},
    [SETTING_IS_PORT] = {.set = set_port},
    [SETTING_IS_REBOOT] = {.set = set_on_reboot, .choices = reboots},
    [SETTING_IS_KERNEL_CACHE] = {.set = set_kernel_cache},
    [SETTING_IS_PATH] = {.set = set_path},
    [SETTING_IS_NAME] = {.set = set_name},
    [SETTING_IS_ADDRESS] = {.set = set_address},
    [SETTING_IS_LOG_LEVEL] = {.set = set_choice, .choices = log_levels},
    [SETTING_IS_FORMAT] = {.set = set_choice, .choices = formats},
    [SETTING_IS_CACHE] = {.set = set_choice, .choices = caches},
    [SETTING_IS_AIO] = {.set = set_choice, .choices = aios},
    [SETTING_IS_DISK_PLACE] = {.set = add_place},
    [SETTING_IS_DISK_SERIAL] = {.set = set_disk_serial},
    [SETTING_IS_TAG] = {.set = set_tag},
    [SETTING_IS_WRITE_ERROR] = {.set = set_choice, .choices = write_errors},
    [SETTING_IS_READ_ERROR] = {.set = set_choice, .choices = read_errors},
    [SETTING_IS_LIMIT] = {.set = set_limit},
    [SETTING_IS_NET_KIND] = {.set = set_net_kind},
    [SETTING_IS_TEXT] = {.set = set_text},
    [SETTING_IS_TEXTS] = {.set = add_text},
    [SETTING_IS_MAC] = {.set = set_mac},
    [SETTING_IS_PORT_MAP] = {.set = add_port_map},
};

static const struct setting_choice *choices_of(const struct setting *setting)
{
    return types[setting->type].choices;
}

int setting_set(const struct setting *setting, void *object, const struct setting_value *value,
                struct err *err)
{
    return types[setting->type].set(setting, object, value, err);
}

void setting_reset(const struct setting *setting, struct config *config)
{
    switch (setting->type) {
    case SETTING_IS_GROUP:
        config_group_reset(config_group_find(setting->name), config);
        break;
    case SETTING_IS_INITRD:
        reset_initrds(config);
        break;
    case SETTING_IS_CMDLINE:
        reset_cmdline(config);
        break;
    case SETTING_IS_PLACES:
        reset_backing(config);
        break;
    default: /* setting it again does that */
        break;
    }
}
