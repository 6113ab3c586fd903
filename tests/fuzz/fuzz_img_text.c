/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the image tool takes as text: names of images, plain, "json:" and --image-opts, lists of
 * options, sizes. The first byte of an input says which.
 */
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "img/create_options.h"
#include "img/name.h"
#include "img/opts.h"
#include "img/size.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_NAME, TEXT_IMAGE_OPTS, TEXT_CREATE, TEXT_AMEND, TEXT_SIZE, NTEXTS };

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void parse_name(const char *text, bool image_opts)
{
    struct block_name name;
    struct err err = {0};

    if (img_name_parse(text, image_opts, &name, &err) == 0)
        must(name.path && *name.path);
    else
        must(err.msg[0] != '\0');
    block_name_done(&name);
}

static void parse_create(const char *text)
{
    struct create_options options = {0};
    struct block_create_options create = {0};
    struct err err = {0};
    int r;

    must(create_options_init(&options, "qcow2", &err) == 0);
    r = create_options_parse(&options, text, &err);
    if (r == 0)
        r = create_options_take(&options, &create, &err);
    if (r == 0)
        r = block_create_check(&create, &err);
    must(r == 0 || err.msg[0] != '\0');
    create_options_done(&options);
}

static void parse_amend(const char *text)
{
    struct create_options options = {0};
    struct block_amend_options amend = {0};
    struct err err = {0};

    must(create_options_init(&options, "qcow2", &err) == 0);
    options.amend = true;
    if (create_options_parse(&options, text, &err) == 0)
        if (create_options_take_amend(&options, &amend, &err) == 0)
            must(amend.version == 0 || amend.version == 2 || amend.version == 3);
    create_options_done(&options);
}

/* What several parsers take is the same to all. */
static void parse_sizes(const char *text)
{
    char shown[SIZE_TEXT_MAX];
    uint64_t bytes, number;

    if (size_parse(text, &bytes) < 0)
        return;
    if (parse_size(text, &number) == 0)
        must(number == bytes);
    must(strlen(size_text(bytes, shown)) > 0);
    if (parse_u64(text, &number) == 0)
        must(number == bytes);
}

static void parse(unsigned what, const char *text)
{
    (void)opts_list_is_valid(text);
    (void)opts_list_asks_help(text);
    switch (what) {
    case TEXT_NAME:
    case TEXT_IMAGE_OPTS:
        parse_name(text, what == TEXT_IMAGE_OPTS);
        break;
    case TEXT_CREATE:
        parse_create(text);
        break;
    case TEXT_AMEND:
        parse_amend(text);
        break;
    default:
        parse_sizes(text);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (size == 0)
        return 0;
    text = malloc(size);
    must(text != NULL);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    parse(data[0] % NTEXTS, text);
    free(text);
    return 0;
}
