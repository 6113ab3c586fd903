/* SPDX-License-Identifier: Apache-2.0 */
#include "img/create_options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "img/message.h"
#include "img/name.h"
#include "img/open.h"
#include "img/shown.h"
#include "img/size.h"

enum type { TEXT, BOOL, NUMBER, SIZE };

/*
 * Which format, or the file below it, has a key; and whether qcow2 images can be amended with it.
 */
enum { RAW = 1 << 0, QCOW2 = 1 << 1, THE_FILE = 1 << 2, AMEND = 1 << 3 };

struct key {
    const char *name;
    enum type type;
    unsigned where;
    const char *standard; /* the value if none is given; NULL: it is not printed then */
    const char *help;
};

/* In the order in which they are printed. */
static const struct key keys[] = {
    {"encryption", BOOL, QCOW2, NULL,
     "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)"},
    {"encrypt.format", TEXT, QCOW2, NULL, "Encrypt the image, format choices: 'aes', 'luks'"},
    {"encrypt.key-secret", TEXT, QCOW2, NULL,
     "ID of secret providing qcow AES key or LUKS passphrase"},
    {"encrypt.cipher-alg", TEXT, QCOW2, NULL, "Name of encryption cipher algorithm"},
    {"encrypt.cipher-mode", TEXT, QCOW2, NULL, "Name of encryption cipher mode"},
    {"encrypt.ivgen-alg", TEXT, QCOW2, NULL, "Name of IV generator algorithm"},
    {"encrypt.ivgen-hash-alg", TEXT, QCOW2, NULL, "Name of IV generator hash algorithm"},
    {"encrypt.hash-alg", TEXT, QCOW2, NULL, "Name of encryption hash algorithm"},
    {"encrypt.iter-time", NUMBER, QCOW2 | AMEND, NULL, "Time to spend in PBKDF in milliseconds"},
    {"encrypt.keyslot", NUMBER, AMEND, NULL, "Select a single keyslot to modify explicitly"},
    {"encrypt.new-secret", TEXT, AMEND, NULL,
     "New secret to set in the matching keyslots. Empty string to erase"},
    {"encrypt.old-secret", TEXT, AMEND, NULL, "Select all keyslots that match this password"},
    {"encrypt.state", TEXT, AMEND, NULL, "Select new state of affected keyslots (active/inactive)"},
    {"cluster_size", SIZE, QCOW2, "65536", "qcow2 cluster size"},
    {"extended_l2", BOOL, QCOW2, "off", "Extended L2 tables"},
    {"preallocation", TEXT, QCOW2, NULL,
     "Preallocation mode (allowed values: off, metadata, falloc, full)"},
    {"compression_type", TEXT, QCOW2, "zlib",
     "Compression method used for image cluster compression"},
    {"size", SIZE, QCOW2 | AMEND | RAW, NULL, "Virtual disk size"},
    {"compat", TEXT, QCOW2 | AMEND, NULL, "Compatibility level (v2 [0.10] or v3 [1.1])"},
    {"backing_file", TEXT, QCOW2 | AMEND, NULL, "File name of a base image"},
    {"backing_fmt", TEXT, QCOW2 | AMEND, NULL, "Image format of the base image"},
    {"data_file", TEXT, QCOW2 | AMEND, NULL, "File name of an external data file"},
    {"data_file_raw", BOOL, QCOW2 | AMEND, NULL,
     "The external data file must stay valid as a raw image"},
    {"lazy_refcounts", BOOL, QCOW2 | AMEND, "off", "Postpone refcount updates"},
    {"refcount_bits", NUMBER, QCOW2 | AMEND, "16", "Width of a reference count entry in bits"},
    {"preallocation", TEXT, RAW | THE_FILE, NULL,
     "Preallocation mode (allowed values: off, falloc, full)"},
    {"nocow", BOOL, QCOW2 | RAW | THE_FILE, NULL, "Turn off copy-on-write (valid only on btrfs)"},
    {"extent_size_hint", SIZE, QCOW2 | RAW | THE_FILE, NULL,
     "Extent size hint for the image file, 0 to disable"},
};

static const char *const type_names[] = {
    [TEXT] = "str", [BOOL] = "bool (on/off)", [NUMBER] = "num", [SIZE] = "size"};

static unsigned format_bit(enum block_format format)
{
    return format == BLOCK_FORMAT_QCOW2 ? QCOW2 : RAW;
}

static const struct key *find_key(unsigned where, const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if ((keys[i].where & where) && strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

/* The keys that these options can have. */
static unsigned their_keys(const struct create_options *options)
{
    return options->amend ? AMEND : format_bit(options->format);
}

int create_options_format(const char *name, enum block_format *ret_format, struct err *err)
{
    if (img_format_parse(name, ret_format) == 0)
        return 0;
    if (img_format_is_foreign(name))
        return err_set(err, -ENOTSUP, "Format driver '%s' does not support image creation", name);
    return err_set(err, -EINVAL, "Unknown file format '%s'", name);
}

int create_options_init(struct create_options *options, const char *format, struct err *err)
{
    *options = (struct create_options){.format_name = format};
    return create_options_format(format, &options->format, err);
}

void create_options_done(struct create_options *options)
{
    opts_done(&options->opts);
}

static int check_value(struct create_options *options, const struct key *key, struct err *err)
{
    uint64_t number;
    bool flag;

    switch (key->type) {
    case BOOL:
        return opts_get_bool(&options->opts, key->name, &flag, err);
    case NUMBER:
        return opts_get_number(&options->opts, key->name, &number, err);
    case SIZE:
        return opts_get_size(&options->opts, key->name, &number, err);
    default:
        return 0;
    }
}

int create_options_parse(struct create_options *options, const char *text, struct err *err)
{
    int r = opts_parse(&options->opts, text, NULL, err);

    for (size_t i = 0; r == 0 && i < options->opts.n; i++) {
        const struct key *key = find_key(their_keys(options), options->opts.list[i].key);

        r = key ? check_value(options, key, err)
                : err_set(err, -EINVAL, "Invalid parameter '%s'", options->opts.list[i].key);
    }
    return r;
}

/* Add one. -EINVAL without a message if the format has no such key. */
static int set(struct create_options *options, const char *key, const char *value, struct err *err)
{
    if (!find_key(their_keys(options), key))
        return -EINVAL;
    return opts_set(&options->opts, key, value, err);
}

int create_options_set_len(struct create_options *options, uint64_t len, struct err *err)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%" PRIu64, len);
    return set(options, "size", text, err);
}

int create_options_set_backing(struct create_options *options, const char *file, const char *format,
                               struct err *err)
{
    if (file && set(options, "backing_file", file, err) < 0)
        return err_set(err, -EINVAL, "Backing file not supported for file format '%s'",
                       options->format_name);
    if (format && set(options, "backing_fmt", format, err) < 0)
        return err_set(err, -EINVAL, "Backing file format not supported for file format '%s'",
                       options->format_name);
    return 0;
}

/* ---- output ---------------------------------------------------------------------------------- */

static void print_value(const struct create_options *options, const struct key *key)
{
    const char *value = opts_peek(&options->opts, key->name);
    uint64_t size = 0;

    if (!value)
        value = key->standard;
    if (!value)
        return;
    printf(" %s=", key->name);
    if (key->type == SIZE && size_parse(value, &size) == 0) {
        printf("%" PRIu64, size);
        return;
    }
    for (value = shown(stdout, value); *value; value++)
        fputs(*value == ',' ? ",," : (char[]){*value, '\0'}, stdout);
}

void create_options_print(const struct create_options *options, const char *path)
{
    printf("Formatting '%s', fmt=%s", shown(stdout, path), options->format_name);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (keys[i].where & format_bit(options->format))
            print_value(options, &keys[i]);
    putchar('\n');
    fflush(stdout); /* before what goes wrong with it */
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct key *)a)->name, ((const struct key *)b)->name);
}

/* The keys that are in `in`, and not in `but`. */
static void print_keys(unsigned in, unsigned but)
{
    struct key sorted[ARRAY_SIZE(keys)] = {0};
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if ((keys[i].where & in) && !(keys[i].where & but))
            sorted[n++] = keys[i];
    qsort(sorted, n, sizeof(sorted[0]), compare_keys);
    for (size_t i = 0; i < n; i++) {
        int len = printf("  %s=<%s>", sorted[i].name, type_names[sorted[i].type]);

        printf("%*s - %s\n", len < 24 ? 24 - len : 0, "", sorted[i].help);
    }
}

void create_options_help_amend(void)
{
    puts("Amend options for 'qcow2':");
    print_keys(AMEND, 0);
}

void create_options_help(enum block_format format, bool with_file)
{
    if (with_file)
        puts("Supported options:");
    else
        printf("Supported %s options:\n", format == BLOCK_FORMAT_QCOW2 ? "qcow2" : "raw");
    print_keys(format_bit(format), with_file ? 0 : THE_FILE);
    if (!with_file)
        puts("\nThe protocol level may support further options.\n"
             "Specify the target filename to include those options.");
}

void create_options_error(const char *path, const char *doing, const struct err *err)
{
    size_t len = strlen(path);
    const char *msg = err->msg;
    char *about = NULL;

    if (strncmp(msg, path, len) == 0 && strncmp(msg + len, ": ", 2) == 0)
        msg += len + 2;
    if (err->code == -EAGAIN)
        msg = "Failed to get \"write\" lock";
    if (!doing)
        about = strdup(path);
    else if (asprintf(&about, "%s: error while %s", path, doing) < 0)
        about = NULL;
    img_error("%s: %s", about ? about : path, msg);
    opts_explain(err);
    if (err->code == -EAGAIN) {
        img_explain_in_use(stderr, path);
        fputc('\n', stderr);
    }
    free(about);
}

/* ---- values ---------------------------------------------------------------------------------- */

/* One of several words; `none` if the key is not there. `called` is its name in messages. */
static int take_word(struct create_options *options, const char *key, const char *called,
                     const char *const words[], unsigned nwords, unsigned *ret_index,
                     struct err *err)
{
    const char *value = opts_get(&options->opts, key);

    for (unsigned i = 0; value && i < nwords; i++) {
        if (strcmp(words[i], value) == 0) {
            *ret_index = i;
            return 0;
        }
    }
    if (value)
        return err_set(err, -EINVAL, "Parameter '%s' does not accept value '%s'", called, value);
    return 0;
}

int prealloc_parse(const char *text, enum block_prealloc *ret_prealloc)
{
    static const char *const words[] = {
        [BLOCK_PREALLOC_OFF] = "off",
        [BLOCK_PREALLOC_METADATA] = "metadata",
        [BLOCK_PREALLOC_FALLOC] = "falloc",
        [BLOCK_PREALLOC_FULL] = "full",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret_prealloc = (enum block_prealloc)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int take_prealloc(struct create_options *options, struct block_create_options *create,
                         struct err *err)
{
    const char *text = opts_get(&options->opts, "preallocation");

    if (!text || prealloc_parse(text, &create->prealloc) == 0)
        return 0;
    if (options->format == BLOCK_FORMAT_RAW)
        return err_set(err, -EINVAL, "invalid parameter value: %s", text);
    return err_set(err, -EINVAL, "Parameter 'preallocation' does not accept value '%s'", text);
}

static int take_version(struct create_options *options, struct block_create_options *create,
                        struct err *err)
{
    static const char *const words[] = {"0.10", "v2", "1.1", "v3"};
    unsigned index = 2;
    int r = take_word(options, "compat", "version", words, ARRAY_SIZE(words), &index, err);

    create->version = index < 2 ? 2 : 3;
    return r;
}

static int take_compression(struct create_options *options, struct block_create_options *create,
                            struct err *err)
{
    static const char *const words[] = {"zlib", "zstd"};
    unsigned index = 0;
    int r = take_word(options, "compression_type", "compression-type", words, ARRAY_SIZE(words),
                      &index, err);

    create->zstd = index == 1;
    return r;
}

static int take_backing(struct create_options *options, struct block_create_options *create,
                        struct err *err)
{
    const char *format = opts_get(&options->opts, "backing_fmt");

    create->backing_file = opts_get(&options->opts, "backing_file");
    if (format && img_format_parse(format, &create->backing_format) < 0)
        return err_set(err, -EINVAL, "Unknown driver '%s'", format);
    if (format && !create->backing_file)
        return err_set(err, -EINVAL, "Backing format cannot be used without backing file");
    return 0;
}

static int take_qcow2(struct create_options *options, struct block_create_options *create,
                      struct err *err)
{
    uint64_t cluster_size = 64 << 10;
    uint64_t refcount_bits = 16;
    int r = take_version(options, create, err);

    if (r == 0)
        r = take_compression(options, create, err);
    if (r == 0)
        r = take_backing(options, create, err);
    if (r == 0)
        r = opts_get_bool(&options->opts, "lazy_refcounts", &create->lazy_refcounts, err);
    if (r == 0)
        r = opts_get_bool(&options->opts, "extended_l2", &create->extended_l2, err);
    if (r == 0)
        r = opts_get_bool(&options->opts, "data_file_raw", &create->data_file_raw, err);
    if (r == 0)
        r = opts_get_size(&options->opts, "cluster_size", &cluster_size, err);
    if (r == 0)
        r = opts_get_number(&options->opts, "refcount_bits", &refcount_bits, err);
    /*
     * block_create refuses 1 and 3 as it would refuse a value that does not fit. 0 would mean that
     * nothing was said.
     */
    create->cluster_size = cluster_size && cluster_size <= UINT32_MAX ? (uint32_t)cluster_size : 1;
    create->refcount_bits =
        refcount_bits && refcount_bits <= UINT32_MAX ? (unsigned)refcount_bits : 3;
    create->data_file = opts_get(&options->opts, "data_file");
    return r;
}

static int refuse_encryption(struct create_options *options, struct err *err)
{
    for (size_t i = 0; i < options->opts.n; i++) {
        const char *key = options->opts.list[i].key;

        if (strncmp(key, "encrypt", strlen("encrypt")) == 0 &&
            strcmp(options->opts.list[i].value, "off") != 0)
            return err_set(err, -ENOTSUP, "%s: encryption is not supported", key);
    }
    return 0;
}

int create_options_take(struct create_options *options, struct block_create_options *ret_create,
                        struct err *err)
{
    struct block_create_options create = {.format = options->format, .len = BLOCK_LEN_BACKING};
    int r = refuse_encryption(options, err);

    if (r == 0)
        r = opts_get_size(&options->opts, "size", &create.len, err);
    if (r == 0)
        r = take_prealloc(options, &create, err);
    if (r == 0)
        r = opts_get_bool(&options->opts, "nocow", &create.nocow, err);
    if (r == 0)
        r = opts_get_size(&options->opts, "extent_size_hint", &create.extent_size_hint, err);
    if (r == 0 && options->format == BLOCK_FORMAT_QCOW2)
        r = take_qcow2(options, &create, err);
    if (r == 0)
        *ret_create = create;
    return r;
}

/* ---- amend ----------------------------------------------------------------------------------- */

bool create_options_only_create(const char *key)
{
    return find_key(QCOW2, key) && !find_key(AMEND, key);
}

static int take_amended_version(struct create_options *options, struct block_amend_options *amend,
                                struct err *err)
{
    struct block_create_options create = {0};
    const char *text = opts_get(&options->opts, "compat");

    if (!text)
        return 0;
    if (take_version(options, &create, NULL) < 0)
        return err_set(err, -EINVAL, "Unknown compatibility level %s", text);
    amend->version = create.version;
    return 0;
}

static int take_amended_numbers(struct create_options *options, struct block_amend_options *amend,
                                struct err *err)
{
    uint64_t bits = 0;
    int r = opts_get_number(&options->opts, "refcount_bits", &bits, err);

    if (r < 0)
        return r;
    /*
     * block_amend refuses 3 as it would refuse a value that does not fit, or 0, which would mean
     * that the width stays.
     */
    if (opts_peek(&options->opts, "refcount_bits"))
        amend->refcount_bits = bits && bits <= UINT32_MAX ? (unsigned)bits : 3;
    amend->set_len = opts_peek(&options->opts, "size");
    return opts_get_size(&options->opts, "size", &amend->len, err);
}

int create_options_take_amend(struct create_options *options, struct block_amend_options *ret_amend,
                              struct err *err)
{
    struct block_amend_options amend = {
        .set_lazy = opts_peek(&options->opts, "lazy_refcounts"),
        .set_data_raw = opts_peek(&options->opts, "data_file_raw"),
        .data_file = opts_get(&options->opts, "data_file"),
    };
    int r = take_amended_version(options, &amend, err);

    if (r == 0)
        r = refuse_encryption(options, err);
    if (r == 0)
        r = take_amended_numbers(options, &amend, err);
    if (r == 0)
        r = opts_get_bool(&options->opts, "lazy_refcounts", &amend.lazy_refcounts, err);
    if (r == 0)
        r = opts_get_bool(&options->opts, "data_file_raw", &amend.data_file_raw, err);
    if (r == 0)
        *ret_amend = amend;
    return r;
}
