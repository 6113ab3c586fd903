/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/config_settings.h"

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

static int set_serial(const struct setting *setting, void *object,
                      const struct setting_value *value, struct err *err)
{
    static const struct {
        const char *word;
        enum serial_kind kind;
        bool has_path;
    } kinds[] = {
        {"stdio", SERIAL_STDIO, false}, {"null", SERIAL_NULL, false}, {"pty", SERIAL_PTY, false},
        {"file:", SERIAL_FILE, true},   {"unix:", SERIAL_UNIX, true},
    };
    struct config *config = object;

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        size_t len = strlen(kinds[i].word);
        const char *rest = value->text + len;

        if (strncmp(value->text, kinds[i].word, len) != 0 || (*rest != '\0') != kinds[i].has_path)
            continue;
        config->serial = kinds[i].kind;
        if (kinds[i].has_path)
            return replace_path(&config->serial_path, rest, value, err);
        free(config->serial_path);
        config->serial_path = NULL;
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

static void reset_backing(struct config *config)
{
    config_places_done(&config->backing);
}

/* ---- disks ----------------------------------------------------------------------------------- */

int config_add_disk(struct config *config, const struct config_disk *disk)
{
    struct config_disk *disks = realloc(config->disks, (config->ndisks + 1) * sizeof(*disks));

    if (!disks)
        return -ENOMEM;
    config->disks = disks;
    disks[config->ndisks++] = *disk;
    return 0;
}

/* The text form; from JSON disks come as objects, see config_json.c. */
static int add_disk(const struct setting *setting, void *object, const struct setting_value *value,
                    struct err *err)
{
    struct config_disk disk;
    int r = config_parse_disk(value->text, &disk, err);

    if (r < 0)
        return r;
    r = config_add_disk(object, &disk);
    if (r < 0) {
        config_disk_done(&disk);
        return no_memory(err);
    }
    return 0;
}

static void reset_disks(struct config *config)
{
    while (config->ndisks > 0)
        config_disk_done(&config->disks[--config->ndisks]);
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

static int set_disk_key(struct config_disk *disk, char *field, struct err *err)
{
    char *equals = strchr(field, '=');
    const struct setting *setting;
    struct setting_value value;
    int r;

    if (!equals)
        return err_set(err, -EINVAL, VALUE ": expected key=value", field);
    *equals = '\0';
    value = (struct setting_value){.text = equals + 1};
    setting = setting_find(config_disk_settings + 1, field); /* the first is the file */
    if (!setting)
        return err_set(err, -EINVAL,
                       VALUE ": expected a key that --help lists (a comma in a file name is "
                             "written ,,)",
                       field);
    r = setting_set(setting, disk, &value, err);
    if (r < 0)
        err_prefix(err, "%s", setting->name);
    return r;
}

static int parse_disk_fields(char *text, struct config_disk *disk, struct err *err)
{
    const struct setting *file = &config_disk_settings[0];
    const struct setting_value path = {.text = next_field(&text)};
    int r = setting_set(file, disk, &path, err);

    while (r == 0 && text) {
        r = set_disk_key(disk, next_field(&text), err);
        if (r < 0)
            err_prefix(err, "%.200s", disk->path);
    }
    return r;
}

int config_parse_disk(const char *text, struct config_disk *ret_disk, struct err *err)
{
    struct config_disk disk;
    char *copy = strdup(text);
    int r;

    if (!copy)
        return no_memory(err);
    config_disk_init(&disk);
    r = parse_disk_fields(copy, &disk, err);
    free(copy);
    if (r < 0) {
        config_disk_done(&disk);
        return r;
    }
    *ret_disk = disk;
    return 0;
}

/* ---- the tables ------------------------------------------------------------------------------ */

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

/* What settings take: how it is set, how the file's is forgotten, and among which words. */
enum type {
    TYPE_NONE = SETTING_IS_NONE,
    TYPE_KERNEL,
    TYPE_INITRD,
    TYPE_CMDLINE,
    TYPE_DISK,
    TYPE_PLACES,
    TYPE_MEMORY,
    TYPE_PAGES,
    TYPE_ON_OFF,
    TYPE_NUMBER,
    TYPE_SERIAL,
    TYPE_REBOOT,
    TYPE_KERNEL_CACHE,
    TYPE_PATH,
    TYPE_NAME,
    TYPE_ADDRESS,
    TYPE_LOG_LEVEL,
    TYPE_FORMAT,
    TYPE_CACHE,
    TYPE_AIO,
    TYPE_DISK_PLACE,
    TYPE_DISK_SERIAL,
    TYPE_WRITE_ERROR,
    TYPE_READ_ERROR,
    TYPE_LIMIT,
};

static const struct {
    int (*set)(const struct setting *setting, void *object, const struct setting_value *value,
               struct err *err);
    void (*reset)(struct config *config); /* NULL: setting it again does that */
    const struct setting_choice *choices;
} types[] = {
    [TYPE_KERNEL] = {.set = set_kernel},
    [TYPE_INITRD] = {.set = add_initrd, .reset = reset_initrds},
    [TYPE_CMDLINE] = {.set = set_text, .reset = reset_cmdline},
    [TYPE_DISK] = {.set = add_disk, .reset = reset_disks},
    [TYPE_PLACES] = {.set = add_place, .reset = reset_backing},
    [TYPE_MEMORY] = {.set = set_memory},
    [TYPE_PAGES] = {.set = set_choice, .choices = pages},
    [TYPE_ON_OFF] = {.set = set_on_off},
    [TYPE_NUMBER] = {.set = set_number},
    [TYPE_SERIAL] = {.set = set_serial},
    [TYPE_REBOOT] = {.set = set_on_reboot, .choices = reboots},
    [TYPE_KERNEL_CACHE] = {.set = set_kernel_cache},
    [TYPE_PATH] = {.set = set_path},
    [TYPE_NAME] = {.set = set_name},
    [TYPE_ADDRESS] = {.set = set_address},
    [TYPE_LOG_LEVEL] = {.set = set_choice, .choices = log_levels},
    [TYPE_FORMAT] = {.set = set_choice, .choices = formats},
    [TYPE_CACHE] = {.set = set_choice, .choices = caches},
    [TYPE_AIO] = {.set = set_choice, .choices = aios},
    [TYPE_DISK_PLACE] = {.set = add_place},
    [TYPE_DISK_SERIAL] = {.set = set_disk_serial},
    [TYPE_WRITE_ERROR] = {.set = set_choice, .choices = write_errors},
    [TYPE_READ_ERROR] = {.set = set_choice, .choices = read_errors},
    [TYPE_LIMIT] = {.set = set_limit},
};

static const struct setting_choice *choices_of(const struct setting *setting)
{
    return types[setting->type].choices;
}

#define VM_FIELD(member) .field = offsetof(struct config, member)
#define DISK_FIELD(member) .field = offsetof(struct config_disk, member)

/* NOLINTBEGIN(bugprone-macro-parentheses): strings that become arrays */
#define LIMIT(key, takes, member, text)                                                            \
    {                                                                                              \
        .name = key, .value = takes, .json = SETTING_JSON_SIZE, .type = TYPE_LIMIT,                \
        DISK_FIELD(limits.member), .help = text                                                    \
    }
/* NOLINTEND(bugprone-macro-parentheses) */

/* clang-format off */
const struct setting config_settings[] = {
    {.name = "kernel", .value = "FILE", .type = TYPE_KERNEL, VM_FIELD(kernel),
     .help = "Linux kernel: bzImage or ELF vmlinux"},
    {.name = "initrd", .value = "FILE", .json = SETTING_JSON_STRINGS,
     .type = TYPE_INITRD,
     .help = "initial ramdisk; several are concatenated"},
    {.name = "append", .value = "TEXT", .type = TYPE_CMDLINE, VM_FIELD(append),
     .help = "add to the default kernel command line"},
    {.name = "cmdline", .value = "TEXT", .type = TYPE_CMDLINE, VM_FIELD(cmdline),
     .help = "replace the default kernel command line but pci=off"},
    {.name = "disk", .value = "FILE[,KEY=VALUE]...", .json = SETTING_JSON_DISKS,
     .type = TYPE_DISK,
     .help = "disk image: /dev/vda, vdb, ... in order"},
    {.name = "backing", .value = "FOLDER|any", .json = SETTING_JSON_STRINGS, .type = TYPE_PLACES,
     VM_FIELD(backing),
     .help = "where else all disks' backing files may lie"},
    {.name = "memory", .value = "SIZE", .json = SETTING_JSON_SIZE, .type = TYPE_MEMORY,
     VM_FIELD(memory),
     .help = "RAM, from 32M to 4T (default: 512M)"},
    {.name = "hugepages", .value = "thp|host|2M", .type = TYPE_PAGES, VM_FIELD(pages),
     .help = "the host's pages for RAM (default: thp)"},
    {.name = "prealloc", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = TYPE_ON_OFF,
     VM_FIELD(prealloc),
     .help = "provide all RAM before the start (default: off)"},
    {.name = "cpus", .value = "N", .json = SETTING_JSON_INTEGER, .type = TYPE_NUMBER,
     VM_FIELD(ncpus),
     .min = 1, .max = CONFIG_CPUS_MAX,
     .help = "number of CPUs (default: 1)"},
    {.name = "serial", .value = "stdio|null|pty|file:PATH|unix:PATH", .type = TYPE_SERIAL,
     .help = "serial port (default: stdio)"},
    {.name = "on-reboot", .value = "exit|restart", .type = TYPE_REBOOT,
     .help = "when the guest reboots (default: exit)"},
    {.name = "shutdown-timeout", .value = "SECONDS", .json = SETTING_JSON_INTEGER,
     .type = TYPE_NUMBER, VM_FIELD(shutdown_timeout_s), .max = CONFIG_SHUTDOWN_TIMEOUT_S_MAX,
     .help = "for a guest asked to power off (default: 60)"},
    {.name = "acpi", .option = "no-acpi", .json = SETTING_JSON_BOOLEAN, .type = TYPE_ON_OFF,
     VM_FIELD(acpi),
     .help = "MP table and command line instead of ACPI"},
    {.name = "kaslr", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = TYPE_ON_OFF,
     VM_FIELD(kaslr),
     .help = "random addresses of the kernel (default: on)"},
    {.name = "kernel-cache", .value = "FOLDER|off", .type = TYPE_KERNEL_CACHE,
     .help = "unpacked kernels (default: ~/.cache/minivmm)"},
    {.name = "boot-trace", .value = "FILE", .type = TYPE_PATH, VM_FIELD(boot_trace),
     .help = "timeline of the VM, for Perfetto"},
    {.name = "name", .value = "NAME", .type = TYPE_NAME, VM_FIELD(name),
     .help = "name of the VM: where its control socket is"},
    {.name = "qmp", .value = "unix:PATH|tcp:127.0.0.1:PORT", .type = TYPE_ADDRESS, VM_FIELD(qmp),
     .help = "control socket, for clients of QEMU's protocol"},
    {.name = "paused", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = TYPE_ON_OFF,
     VM_FIELD(paused),
     .help = "begin when a client says `cont` (default: off)"},
    {.name = "gdb", .value = "unix:PATH|tcp:127.0.0.1:PORT", .type = TYPE_ADDRESS, VM_FIELD(gdb),
     .help = "socket for gdb, which debugs the guest"},
    {.name = "wait-gdb", .json = SETTING_JSON_BOOLEAN, .type = TYPE_ON_OFF, VM_FIELD(wait_gdb),
     .help = "let the guest wait for gdb before it starts"},
    {.name = "log", .value = "error|warn|info|debug", .type = TYPE_LOG_LEVEL, VM_FIELD(log_level),
     .help = "what to report on stderr (default: warn)"},
    {.name = ""},
};

const struct setting config_disk_settings[] = {
    {.name = "file", .value = "FILE", .type = TYPE_PATH, DISK_FIELD(path),
     .help = "image file or block device"},
    {.name = "format", .value = "qcow2|raw", .type = TYPE_FORMAT, DISK_FIELD(format),
     .help = "image format (default: by its first bytes)"},
    {.name = "readonly", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = TYPE_ON_OFF,
     DISK_FIELD(readonly),
     .help = "refuse writes (default: off)"},
    {.name = "cache", .value = "writeback|none|unsafe", .type = TYPE_CACHE, DISK_FIELD(cache),
     .help = "use of the host's cache (default: writeback)"},
    {.name = "aio", .value = "io_uring|threads", .type = TYPE_AIO, DISK_FIELD(aio),
     .help = "how to do I/O (default: io_uring if allowed)"},
    {.name = "backing", .value = "FOLDER|any", .json = SETTING_JSON_STRINGS,
     .type = TYPE_DISK_PLACE,
     DISK_FIELD(backing),
     .help = "where else its backing files may lie"},
    {.name = "serial", .value = "ID", .type = TYPE_DISK_SERIAL, DISK_FIELD(serial),
     .help = "serial number, up to 20 characters"},
    {.name = "queues", .value = "N", .json = SETTING_JSON_INTEGER, .type = TYPE_NUMBER,
     DISK_FIELD(nqueues), .min = 1, .max = CONFIG_QUEUES_MAX,
     .help = "number of request queues (default: 1)"},
    {.name = "discard", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = TYPE_ON_OFF,
     DISK_FIELD(discard),
     .help = "pass discards on to the image (default: on)"},
    {.name = "werror", .value = "enospc|report|stop", .type = TYPE_WRITE_ERROR,
     DISK_FIELD(on_write_error),
     .help = "pause the VM when a write fails (default: enospc)"},
    {.name = "rerror", .value = "report|stop", .type = TYPE_READ_ERROR, DISK_FIELD(on_read_error),
     .help = "pause the VM when a read fails (default: report)"},
    LIMIT("bps", "N", kinds[THROTTLE_BPS].avg, "bytes per second (default: no limit)"),
    LIMIT("bps_max", "N", kinds[THROTTLE_BPS].max, "bytes per second, in a burst"),
    LIMIT("bps_max_length", "SECONDS", kinds[THROTTLE_BPS].max_length,
          "how long a burst lasts (default: 1)"),
    LIMIT("bps_rd", "N", kinds[THROTTLE_BPS_RD].avg, "bytes read per second (default: no limit)"),
    LIMIT("bps_rd_max", "N", kinds[THROTTLE_BPS_RD].max, "bytes read per second, in a burst"),
    LIMIT("bps_rd_max_length", "SECONDS", kinds[THROTTLE_BPS_RD].max_length,
          "how long a burst lasts (default: 1)"),
    LIMIT("bps_wr", "N", kinds[THROTTLE_BPS_WR].avg,
          "bytes written per second (default: no limit)"),
    LIMIT("bps_wr_max", "N", kinds[THROTTLE_BPS_WR].max, "bytes written per second, in a burst"),
    LIMIT("bps_wr_max_length", "SECONDS", kinds[THROTTLE_BPS_WR].max_length,
          "how long a burst lasts (default: 1)"),
    LIMIT("iops", "N", kinds[THROTTLE_IOPS].avg, "operations per second (default: no limit)"),
    LIMIT("iops_max", "N", kinds[THROTTLE_IOPS].max, "operations per second, in a burst"),
    LIMIT("iops_max_length", "SECONDS", kinds[THROTTLE_IOPS].max_length,
          "how long a burst lasts (default: 1)"),
    LIMIT("iops_rd", "N", kinds[THROTTLE_IOPS_RD].avg, "reads per second (default: no limit)"),
    LIMIT("iops_rd_max", "N", kinds[THROTTLE_IOPS_RD].max, "reads per second, in a burst"),
    LIMIT("iops_rd_max_length", "SECONDS", kinds[THROTTLE_IOPS_RD].max_length,
          "how long a burst lasts (default: 1)"),
    LIMIT("iops_wr", "N", kinds[THROTTLE_IOPS_WR].avg, "writes per second (default: no limit)"),
    LIMIT("iops_wr_max", "N", kinds[THROTTLE_IOPS_WR].max, "writes per second, in a burst"),
    LIMIT("iops_wr_max_length", "SECONDS", kinds[THROTTLE_IOPS_WR].max_length,
          "how long a burst lasts (default: 1)"),
    LIMIT("iops_size", "BYTES", iops_size, "what counts as one operation (default: any)"),
    {.name = ""},
};
/* clang-format on */

const struct setting *setting_find(const struct setting *table, const char *name)
{
    for (const struct setting *setting = table; setting->name[0]; setting++) {
        if (strcmp(setting->name, name) == 0)
            return setting;
    }
    return NULL;
}

int setting_set(const struct setting *setting, void *object, const struct setting_value *value,
                struct err *err)
{
    return types[setting->type].set(setting, object, value, err);
}

void setting_reset(const struct setting *setting, struct config *config)
{
    if (types[setting->type].reset)
        types[setting->type].reset(config);
}
