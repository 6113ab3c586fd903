/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img dd: part of what an image shows, as a new image.
 *
 * As with qemu-img, `count` counts from the beginning of the image, not from where `skip` leads to.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image.h"
#include "img/args.h"
#include "img/command.h"
#include "img/copy.h"
#include "img/create_options.h"
#include "img/message.h"
#include "img/name.h"
#include "img/open.h"
#include "img/size.h"
#include "img/target.h"
#include "img/zero_scan.h"

#define BLOCK_LEN_DEFAULT 512u

/* Bytes copied at a time where source and target are not at the same place of a sector. */
#define PIECE (1u << 20)
#define BUF_ALIGN 4096u

struct dd {
    const struct args *args;
    const char *in;
    const char *out;
    uint64_t bs;
    uint64_t count; /* blocks; UINT64_MAX: all */
    uint64_t skip;
    struct block *source;
    struct block *target;
    struct block_name target_path;
    uint64_t from; /* bytes of the source */
    uint64_t to;
};

/* ---- the command line ------------------------------------------------------------------------ */

/* "name=value"; EXIT_FAILURE and what is wrong. */
static int set_operand(struct dd *dd, const char *text)
{
    size_t len = strcspn(text, "=");
    const char *value = text + len + 1;
    const struct {
        const char *name;
        uint64_t min;
        uint64_t max;
        uint64_t *number;
        const char **text;
    } operands[] = {
        {"bs", 1, INT_MAX, &dd->bs, NULL},
        {"count", 0, INT64_MAX, &dd->count, NULL},
        {"skip", 0, INT64_MAX, &dd->skip, NULL},
        {"if", 0, 0, NULL, &dd->in},
        {"of", 0, 0, NULL, &dd->out},
    };

    for (size_t i = 0; text[len] && i < ARRAY_SIZE(operands); i++) {
        if (strlen(operands[i].name) != len || strncmp(operands[i].name, text, len) != 0)
            continue;
        if (operands[i].text)
            *operands[i].text = value;
        else if (size_arg(operands[i].name, value, operands[i].min, operands[i].max,
                          operands[i].number) < 0)
            return EXIT_FAILURE;
        return EXIT_SUCCESS;
    }
    img_error("unrecognized operand %.*s", (int)len, text);
    return EXIT_FAILURE;
}

static int set_operands(struct dd *dd)
{
    for (int i = 0; i < dd->args->noperands; i++)
        if (set_operand(dd, dd->args->operands[i]) != EXIT_SUCCESS)
            return EXIT_FAILURE;
    if (dd->in && dd->out)
        return EXIT_SUCCESS;
    img_error("Must specify both input and output files");
    return EXIT_FAILURE;
}

/* ---- images ---------------------------------------------------------------------------------- */

static int open_source(struct dd *dd)
{
    const struct img_open_options options = args_open_options(dd->args, dd->in, 0);
    struct block_info info;

    dd->source = img_open(&options);
    if (!dd->source)
        return EXIT_FAILURE;
    block_get_info(dd->source, &info);
    dd->to = info.len;
    if (dd->count <= INT64_MAX / dd->bs)
        dd->to = min_u64(dd->to, dd->count * dd->bs);
    dd->from = dd->skip > INT64_MAX / dd->bs ? UINT64_MAX : dd->skip * dd->bs;
    return EXIT_SUCCESS;
}

static int create_target(struct dd *dd)
{
    struct block_create_options create = {.len = dd->from < dd->to ? dd->to - dd->from : 0};
    const char *format = dd->args->out_format ? dd->args->out_format : "raw";
    struct target_files files = {0};
    struct err err;
    int r;

    if (img_format_parse(format, &create.format) < 0) {
        img_error("Unknown file format");
        return EXIT_FAILURE;
    }
    r = img_name_parse_new(dd->out, &dd->target_path, &err);
    create.path = dd->target_path.path;
    files.path = create.path;
    if (r < 0 || target_check_input(&files, dd->source, &err) < 0) {
        img_error("%s", err.msg);
        return EXIT_FAILURE;
    }
    r = img_name_check_new(create.path, format, &err);
    if (r == 0)
        r = block_create(&create, &err);
    if (r == 0)
        return EXIT_SUCCESS;
    create_options_error(dd->out, "creating output image", &err);
    return EXIT_FAILURE;
}

static int open_target(struct dd *dd)
{
    const struct img_open_options options = {
        .name = dd->out,
        .format = dd->args->out_format ? dd->args->out_format : "raw",
        .flags = IMG_OPEN_WRITABLE,
    };

    dd->target = img_open(&options);
    return dd->target ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- copying --------------------------------------------------------------------------------- */

static int copy_sectors(const struct dd *dd, struct err *err)
{
    const struct copy_source source = {dd->source, dd->from, dd->to - dd->from};
    const struct copy_options options = {
        .sources = &source,
        .nsources = 1,
        .target = dd->target,
        .min_zeroes = COPY_MIN_ZEROES,
        .target_is_zero = target_is_zero(dd->target, true, false),
    };

    return copy_run(&options, err);
}

static int transfer(struct block *block, enum block_op op, uint64_t off, uint64_t len, void *buf)
{
    struct iovec iov = {buf, len};
    struct block_req req = {.op = op, .off = off, .len = len, .iov = &iov, .niov = 1};

    return block_execute(block, &req);
}

/*
 * `buf` has room for a piece and two sectors. Beyond `to` there are zeroes up to the sector's end.
 */
static int copy_piece(const struct dd *dd, uint64_t done, uint8_t *buf, struct err *err)
{
    uint64_t off = dd->from + done;
    uint64_t len = min_u64(PIECE, dd->to - off);
    uint64_t whole = align_up(len, BLOCK_SECTOR_SIZE);
    uint64_t first = align_down(off, BLOCK_SECTOR_SIZE);
    int r = transfer(dd->source, BLOCK_READ, first, align_up(off + len, BLOCK_SECTOR_SIZE) - first,
                     buf);

    if (r < 0)
        return err_set_errno(err, r, "error while reading from input image file");
    memmove(buf, buf + (off - first), len);
    memset(buf + len, 0, whole - len);
    if (!zero_scan_all(buf, whole))
        r = transfer(dd->target, BLOCK_WRITE, done, whole, buf);
    else if (!target_is_zero(dd->target, true, false))
        r = transfer(dd->target, BLOCK_WRITE_ZEROES, done, whole, NULL);
    return r < 0 ? err_set_errno(err, r, "error while writing to output image file") : 0;
}

static int copy_bytes(const struct dd *dd, struct err *err)
{
    uint8_t *buf = aligned_alloc(BUF_ALIGN, PIECE + BUF_ALIGN);
    int r = 0;

    if (!buf)
        return err_set(err, -ENOMEM, "out of memory");
    for (uint64_t done = 0; r == 0 && done < dd->to - dd->from; done += PIECE)
        r = copy_piece(dd, done, buf, err);
    free(buf);
    return r;
}

static int copy(const struct dd *dd)
{
    struct err err;
    int r;

    if (dd->from > dd->to)
        img_error("%s: cannot skip to specified offset", dd->in);
    if (dd->from >= dd->to)
        return EXIT_SUCCESS;
    r = is_aligned(dd->from | dd->to, BLOCK_SECTOR_SIZE) ? copy_sectors(dd, &err)
                                                         : copy_bytes(dd, &err);
    if (r < 0)
        img_error("%s", err.msg);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run_dd(struct dd *dd)
{
    int status = open_source(dd);

    if (status == EXIT_SUCCESS)
        status = create_target(dd);
    if (status != EXIT_SUCCESS)
        return status;
    target_begin(dd->target_path.path, NULL, true, copy_position);
    status = open_target(dd);
    if (status == EXIT_SUCCESS)
        status = copy(dd);
    if (dd->target)
        status = img_close(dd->target, dd->out, status);
    target_end(status == EXIT_SUCCESS);
    return status;
}

static int run(struct args *args)
{
    struct dd dd = {.args = args, .bs = BLOCK_LEN_DEFAULT, .count = UINT64_MAX};
    int status;

    if (args_next(args) < 0)
        return args->status;
    status = set_operands(&dd);
    if (status == EXIT_SUCCESS)
        status = run_dd(&dd);
    (void)block_close(dd.source); /* only read */
    block_name_done(&dd.target_path);
    return status;
}

static const struct option longs[] = {ARGS_LONGS_IMAGE, ARGS_LONG_SHARE, ARGS_LONG_END};

const struct img_command img_dd = {
    .name = "dd",
    .run = run,
    .shorts = "hf:O:U",
    .longs = longs,
    .synopsis = "[--image-opts] [-U] [-f fmt] [-O output_fmt] [bs=block_size] [count=blocks] "
                "[skip=blocks] if=input of=output",
    .help = "Copy part of what an image shows into a new image.\n"
            "\n"
            "  -f fmt         format of the input; probed if it is not given\n"
            "  -O output_fmt  qcow2 or raw (raw)\n"
            "  bs=block_size  bytes, or with a unit: k, M, G, T, P, E (512)\n"
            "  count=blocks   of the input, from its beginning on; all by default\n"
            "  skip=blocks    of the input, that are left out\n"
            "  -U             the input may be in use\n",
};
