/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img info: what an image is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "block/image.h"
#include "block/name.h"
#include "img/args.h"
#include "img/command.h"
#include "img/json.h"
#include "img/message.h"
#include "img/name.h"
#include "img/open.h"
#include "img/shown.h"
#include "img/size.h"
#include "img/snapshot_text.h"

/* What is known about one image. */
struct image {
    struct block_name name;
    struct block *block;
    struct block_info info;
    struct block_details details;
    char *backing_path; /* NULL: there is no backing file */
    struct block_snapshot *snapshots;
    unsigned nsnapshots;
    json_t *specific; /* of the format; NULL: nothing */
    struct stat st;
};

static void done(struct image *image)
{
    block_snapshot_list_free(image->snapshots, image->nsnapshots);
    json_decref(image->specific);
    free(image->backing_path);
    block_name_done(&image->name);
    (void)block_close(image->block); /* only read */
}

/* ---- finding out ----------------------------------------------------------------------------- */

static json_t *describe_flags(const struct block_bitmap *bitmap)
{
    json_t *flags = json_array();

    if (bitmap->in_use)
        (void)json_array_append_new(flags, json_string("in-use"));
    if (bitmap->follows)
        (void)json_array_append_new(flags, json_string("auto"));
    return flags;
}

static int describe_bitmaps(struct image *image, struct err *err)
{
    struct block_bitmap *list;
    unsigned n;
    json_t *bitmaps;
    int r = block_bitmap_list(image->block, &list, &n, err);

    if (r < 0)
        return r;
    bitmaps = json_array();
    for (unsigned i = 0; i < n; i++) {
        json_t *bitmap = json_object();

        json_put(bitmap, "flags", describe_flags(&list[i]));
        json_put(bitmap, "name", json_text(list[i].name));
        json_put(bitmap, "granularity", json_integer(list[i].granularity));
        (void)json_array_append_new(bitmaps, bitmap);
    }
    if (n > 0)
        json_put(image->specific, "bitmaps", bitmaps);
    else
        json_decref(bitmaps);
    block_bitmap_list_free(list, n);
    return 0;
}

static json_t *describe_slot(const struct luks_slot *slot)
{
    json_t *object = json_object();

    json_put(object, "active", json_boolean(slot->active));
    if (slot->active) {
        json_put(object, "iters", json_integer(slot->iters));
        json_put(object, "stripes", json_integer(slot->stripes));
    }
    json_put(object, "key-offset", json_integer((json_int_t)slot->key_off));
    return object;
}

static void describe_luks(json_t *object, const struct luks *luks)
{
    json_t *slots = json_array();

    json_put(object, "ivgen-alg", json_text(luks->ivgen));
    if (luks->ivgen_hash[0])
        json_put(object, "ivgen-hash-alg", json_text(luks->ivgen_hash));
    json_put(object, "hash-alg", json_text(luks->hash));
    json_put(object, "cipher-alg", json_text(luks->cipher));
    json_put(object, "cipher-mode", json_text(luks->mode));
    json_put(object, "uuid", json_text(luks->uuid));
    json_put(object, "payload-offset", json_integer((json_int_t)luks->payload_off));
    json_put(object, "master-key-iters", json_integer(luks->iters));
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        (void)json_array_append_new(slots, describe_slot(&luks->slots[i]));
    json_put(object, "slots", slots);
}

static int describe_encryption(struct image *image, struct err *err)
{
    const char *encryption = image->details.encryption;
    json_t *object = json_object();
    struct luks luks;
    int r = 0;

    json_put(image->specific, "encrypt", object);
    json_put(object, "format", json_string(encryption));
    if (strcmp(encryption, "luks") == 0) {
        r = block_get_luks(image->block, &luks, err);
        if (r == 0)
            describe_luks(object, &luks);
    }
    return r;
}

static int describe_qcow2(struct image *image, struct err *err)
{
    const struct block_details *details = &image->details;
    json_t *data = json_object();

    image->specific = data;
    json_put(data, "compat", json_string(details->version == 2 ? "0.10" : "1.1"));
    json_put(data, "compression-type", json_string(details->zstd ? "zstd" : "zlib"));
    json_put(data, "refcount-bits", json_integer(details->refcount_bits));
    if (details->encryption && describe_encryption(image, err) < 0)
        return -EINVAL;
    if (details->version == 2)
        return 0;
    json_put(data, "lazy-refcounts", json_boolean(details->lazy_refcounts));
    json_put(data, "corrupt", json_boolean(details->corrupt));
    json_put(data, "extended-l2", json_boolean(details->extended_l2));
    if (details->data_name) {
        json_put(data, "data-file", json_text(details->data_name));
        json_put(data, "data-file-raw", json_boolean(details->data_file_raw));
    }
    return describe_bitmaps(image, err);
}

/* With a protocol in front a name is shown as it is: "file:", or no file of this host. */
static int find_backing(struct image *image, struct err *err)
{
    const struct block_details *details = &image->details;
    const char *name = details->backing_name;
    int r = -ENOTSUP;

    if (name[strcspn(name, ":/")] != ':')
        r = block_name_resolve(details->path, name, &image->backing_path, err);
    if (r == -ENOTSUP) {
        image->backing_path = strdup(name);
        r = image->backing_path ? 0 : err_set(err, -ENOMEM, "out of memory");
    }
    return r;
}

static int find_out(struct image *image, struct err *err)
{
    int r;

    block_get_info(image->block, &image->info);
    block_get_details(image->block, &image->details);
    if (stat(image->details.path, &image->st) < 0)
        return err_set_errno(err, -errno, "%s: cannot stat", image->details.path);
    r = image->details.version ? describe_qcow2(image, err) : 0;
    if (r == 0 && image->details.backing_name)
        r = find_backing(image, err);
    if (r < 0 || !image->details.version)
        return r;
    r = block_snapshot_list(image->block, &image->snapshots, &image->nsnapshots, err);
    return r == -ENOTSUP ? 0 : r;
}

/* ---- for people ------------------------------------------------------------------------------ */

static void print_specific(json_t *value, unsigned level);

static void print_members(json_t *object, unsigned level)
{
    size_t n = 0;
    struct json_member *members = json_sorted(object, &n);

    for (size_t i = 0; members && i < n; i++) {
        printf("%*s", (int)(4 * level), "");
        for (const char *p = members[i].key; *p; p++)
            putchar(*p == '-' ? ' ' : *p);
        putchar(':');
        print_specific(members[i].value, level + 1);
    }
    free(members);
}

static void print_specific(json_t *value, unsigned level)
{
    size_t index;
    json_t *element;

    if (json_is_object(value)) {
        putchar('\n');
        print_members(value, level);
    } else if (json_is_array(value)) {
        putchar('\n');
        json_array_foreach(value, index, element)
        {
            printf("%*s[%zu]:", (int)(4 * level), "", index);
            print_specific(element, level + 1);
        }
    } else if (json_is_string(value)) {
        printf(" %s\n", shown(stdout, json_string_value(value)));
    } else if (json_is_boolean(value)) {
        printf(" %s\n", json_is_true(value) ? "true" : "false");
    } else {
        printf(" %" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
    }
}

static void print_backing(const struct image *image)
{
    const struct block_details *details = &image->details;

    if (!details->backing_name)
        return;
    printf("backing file: %s", shown(stdout, details->backing_name));
    if (strcmp(details->backing_name, image->backing_path) != 0)
        printf(" (actual path: %s)", shown(stdout, image->backing_path));
    putchar('\n');
    if (details->backing_format)
        printf("backing file format: %s\n", shown(stdout, details->backing_format));
}

/* The format; "file" or "host_device" instead of raw if the user named the image so. */
static const char *format_of(const struct image *image)
{
    return image->name.protocol ? image->name.protocol : image->info.format;
}

static uint64_t space_taken(const struct image *image)
{
    return (uint64_t)image->st.st_blocks * 512;
}

static void print_human(const struct image *image)
{
    char size[SIZE_TEXT_MAX];
    char taken[SIZE_TEXT_MAX];

    printf("image: %s\nfile format: %s\nvirtual size: %s (%" PRIu64 " bytes)\ndisk size: %s\n",
           shown(stdout, image->name.path), format_of(image), size_text(image->info.len, size),
           image->info.len, size_text(space_taken(image), taken));
    if (image->details.encryption)
        puts("encrypted: yes");
    if (image->details.cluster_size)
        printf("cluster_size: %u\n", image->details.cluster_size);
    if (image->details.dirty)
        puts("cleanly shut down: no");
    print_backing(image);
    snapshot_list_print(image->snapshots, image->nsnapshots);
    if (image->specific) {
        printf("Format specific information:");
        print_specific(image->specific, 1);
    }
}

static void print_chain(const struct image *images, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (i > 0)
            putchar('\n');
        print_human(&images[i]);
    }
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *describe_snapshot(const struct block_snapshot *snapshot)
{
    json_t *object = json_object();

    if (snapshot->icount != UINT64_MAX)
        json_put(object, "icount", json_integer((json_int_t)snapshot->icount));
    json_put(object, "vm-clock-sec",
             json_integer((json_int_t)(snapshot->vm_clock_ns / 1000000000)));
    json_put(object, "vm-clock-nsec",
             json_integer((json_int_t)(snapshot->vm_clock_ns % 1000000000)));
    json_put(object, "name", json_text(snapshot->name));
    json_put(object, "id", json_text(snapshot->id));
    json_put(object, "date-sec", json_integer(snapshot->date_sec));
    json_put(object, "date-nsec", json_integer(snapshot->date_nsec));
    json_put(object, "vm-state-size", json_integer((json_int_t)snapshot->vm_state_len));
    return object;
}

static void describe_format(json_t *object, const struct image *image)
{
    const struct block_details *details = &image->details;
    json_t *specific;

    if (details->cluster_size)
        json_put(object, "cluster-size", json_integer(details->cluster_size));
    if (details->backing_name) {
        json_put(object, "backing-filename", json_text(details->backing_name));
        json_put(object, "full-backing-filename", json_text(image->backing_path));
    }
    if (details->backing_format)
        json_put(object, "backing-filename-format", json_text(details->backing_format));
    if (!image->specific)
        return;
    specific = json_object();
    json_put(specific, "type", json_string(image->info.format));
    json_put(specific, "data", json_incref(image->specific));
    json_put(object, "format-specific", specific);
}

static json_t *describe(const struct image *image)
{
    json_t *object = json_object();

    if (image->nsnapshots > 0) {
        json_t *snapshots = json_array();

        for (unsigned i = 0; i < image->nsnapshots; i++)
            (void)json_array_append_new(snapshots, describe_snapshot(&image->snapshots[i]));
        json_put(object, "snapshots", snapshots);
    }
    json_put(object, "virtual-size", json_integer((json_int_t)image->info.len));
    json_put(object, "filename", json_text(image->name.path));
    json_put(object, "format", json_string(format_of(image)));
    json_put(object, "actual-size", json_integer((json_int_t)space_taken(image)));
    if (image->details.encryption)
        json_put(object, "encrypted", json_true());
    json_put(object, "dirty-flag", json_boolean(image->details.dirty));
    describe_format(object, image);
    return object;
}

static void print_json(const struct image *images, unsigned n, bool chain)
{
    json_t *value = chain ? json_array() : describe(&images[0]);

    for (unsigned i = 0; chain && i < n; i++)
        (void)json_array_append_new(value, describe(&images[i]));
    json_print(value);
    json_decref(value);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int open_image(struct image *image, const struct img_open_options *options)
{
    struct err err;

    image->block = img_open(options);
    if (!image->block || img_open_name(options, &image->name, &err) < 0)
        return -1;
    if (find_out(image, &err) < 0) {
        img_error("%s", err.msg);
        return -1;
    }
    return 0;
}

static bool is_in_chain(const struct image *images, unsigned n,
                        const struct img_open_options *options)
{
    struct block_name name;
    bool found = false;
    struct stat st;

    if (img_open_name(options, &name, NULL) == 0 && stat(name.path, &st) == 0)
        for (unsigned i = 0; i < n && !found; i++)
            found = images[i].st.st_dev == st.st_dev && images[i].st.st_ino == st.st_ino &&
                    images[i].name.part.off == name.part.off;
    block_name_done(&name);
    return found; /* what is wrong with it is said when it is opened */
}

/* Open the images one by one; *n of them, also on failure. */
static int open_chain(struct image *images, unsigned *n, struct img_open_options *options,
                      bool chain)
{
    for (*n = 0; *n < BLOCK_CHAIN_MAX;) {
        struct image *image = &images[(*n)++];

        if (open_image(image, options) < 0)
            return EXIT_FAILURE;
        if (!chain || !image->backing_path)
            return EXIT_SUCCESS;
        options->name = image->backing_path;
        options->format = image->details.backing_format;
        options->image_opts = false;
        if (is_in_chain(images, *n, options)) {
            img_error("Backing file '%s' creates an infinite loop.", options->name);
            return EXIT_FAILURE;
        }
    }
    img_error("Could not open '%s': more than %u images on top of each other", options->name,
              BLOCK_CHAIN_MAX);
    return EXIT_FAILURE;
}

enum { OPT_BACKING_CHAIN = ARGS_OWN };

static int show(struct args *args, bool chain)
{
    struct img_open_options options =
        args_open_options(args, args->operands[0], IMG_OPEN_NO_BACKING | IMG_OPEN_ENCRYPTED);
    struct image *images = calloc(BLOCK_CHAIN_MAX, sizeof(*images));
    unsigned n;
    int status;

    if (!images) {
        img_error("out of memory");
        return EXIT_FAILURE;
    }
    status = open_chain(images, &n, &options, chain);
    if (status == EXIT_SUCCESS && args->json)
        print_json(images, n, chain);
    else if (status == EXIT_SUCCESS)
        print_chain(images, n);
    while (n > 0)
        done(&images[--n]);
    free(images);
    return status;
}

static int run(struct args *args)
{
    bool chain = false;
    int opt;

    while ((opt = args_next(args)) > 0)
        if (opt == OPT_BACKING_CHAIN)
            chain = true;
    return opt < 0 ? args->status : show(args, chain);
}

static const struct option longs[] = {
    ARGS_LONGS_TELL,
    {"backing-chain", no_argument, NULL, OPT_BACKING_CHAIN},
    ARGS_LONG_END,
};

const struct img_command img_info = {
    .name = "info",
    .run = run,
    .shorts = "hf:U",
    .one_image = true,
    .longs = longs,
    .synopsis = "[--object objectdef] [--image-opts] [-f fmt] [--output=ofmt] [--backing-chain] "
                "[-U] filename",
    .help = "Show what an image is: format, sizes, backing file, snapshots, bitmaps.\n"
            "\n"
            "  --backing-chain  the same for each image below it\n"
            "  --output=ofmt    human or json\n"
            "  -U               also while something is writing to it\n",
};
