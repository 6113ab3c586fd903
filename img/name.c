/* SPDX-License-Identifier: Apache-2.0 */
#include "img/name.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "img/opts.h"

int img_format_parse(const char *text, enum block_format *ret_format)
{
    return block_format_parse(text, ret_format, NULL);
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

/* Length of what stands in front of a ':', if that is before any '/'; 0: nothing. */
static size_t protocol_len(const char *text)
{
    size_t len = strcspn(text, ":/");

    return text[len] == ':' ? len : 0;
}

static int name_from_path(const char *text, struct block_name *name, struct err *err)
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

static int name_from_list(const char *text, struct block_name *name, struct err *err)
{
    struct opts opts = {0};
    int r = opts_parse(&opts, text, "file", err);

    if (r == 0)
        r = block_name_from_opts(&opts, name, err);
    opts_done(&opts);
    return r;
}

int img_name_parse(const char *text, bool image_opts, struct block_name *ret_name, struct err *err)
{
    *ret_name = (struct block_name){.part = FILE_PART_ALL};
    if (image_opts)
        return name_from_list(text, ret_name, err);
    if (block_name_is_json(text))
        return block_name_from_json(text, NULL, ret_name, err);
    return name_from_path(text, ret_name, err);
}

bool img_name_denies_share(const char *list)
{
    struct opts opts = {0};
    bool denies = false;

    if (opts_parse(&opts, list, "file", NULL) == 0) {
        const char *how = opts_peek(&opts, "force-share");

        denies = how && strcmp(how, "on") != 0;
    }
    opts_done(&opts);
    return denies;
}

int img_name_check_new(const char *path, const char *format, struct err *err)
{
    static const char not_made[] =
        "Protocol driver 'host_device' does not support image creation, and opening the image "
        "failed";
    struct stat st;

    if (strcmp(format, "host_device") != 0)
        return 0;
    if (stat(path, &st) < 0)
        return err_set(err, -errno, "%s: Could not open '%s': %s", not_made, path, strerror(errno));
    if (!S_ISBLK(st.st_mode))
        return err_set(err, -EINVAL,
                       "%s: 'host_device' driver requires '%s' to be either a character or block "
                       "device",
                       not_made, path);
    return 0;
}

int img_name_parse_new(const char *text, struct block_name *ret_name, struct err *err)
{
    *ret_name = (struct block_name){.part = FILE_PART_ALL};
    if (block_name_is_json(text))
        return err_set(err, -ENOTSUP, "Unknown protocol 'json'");
    return name_from_path(text, ret_name, err);
}
