/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-img check: is the metadata right, and make it so.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "img/args.h"
#include "img/command.h"
#include "img/json.h"
#include "img/message.h"
#include "img/open.h"

/* Exit codes; scripts tell them apart. */
enum {
    CHECK_RIGHT = 0,
    CHECK_FAILED = 1,
    CHECK_ERRORS = 2,
    CHECK_LEAKS = 3,
    CHECK_NOT_SUPPORTED = 63,
};

struct check {
    const struct args *args;
    const char *name;
    unsigned fix;
};

/* ---- output ---------------------------------------------------------------------------------- */

static double percent(uint64_t part, uint64_t all)
{
    return (double)part * 100.0 / (double)all;
}

static void print_found(const struct block_check_result *result)
{
    if (!result->corruptions && !result->leaks && !result->check_errors) {
        puts("No errors were found on the image.");
        return;
    }
    if (result->corruptions)
        printf("\n%" PRIu64 " errors were found on the image.\n"
               "Data may be corrupted, or further writes to the image may corrupt it.\n",
               result->corruptions);
    if (result->leaks)
        printf("\n%" PRIu64 " leaked clusters were found on the image.\n"
               "This means waste of disk space, but no harm to data.\n",
               result->leaks);
    if (result->check_errors)
        printf("\n%" PRIu64 " internal errors have occurred during the check.\n",
               result->check_errors);
}

static void print_human(const struct block_check_result *result)
{
    if (result->corruptions_fixed || result->leaks_fixed)
        printf("The following inconsistencies were found and repaired:\n"
               "\n"
               "    %" PRIu64 " leaked clusters\n"
               "    %" PRIu64 " corruptions\n"
               "\n"
               "Double checking the fixed image now...\n",
               result->leaks_fixed, result->corruptions_fixed);
    print_found(result);
    if (result->total_clusters && result->allocated_clusters)
        printf("%" PRIu64 "/%" PRIu64 " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% "
               "compressed clusters\n",
               result->allocated_clusters, result->total_clusters,
               percent(result->allocated_clusters, result->total_clusters),
               percent(result->fragmented_clusters, result->allocated_clusters),
               percent(result->compressed_clusters, result->allocated_clusters));
    if (result->image_end)
        printf("Image end offset: %" PRIu64 "\n", result->image_end);
}

static void print_json(const struct check *check, const char *format,
                       const struct block_check_result *result)
{
    /* What is zero is left out. */
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {
        {"image-end-offset", result->image_end},
        {"corruptions", result->corruptions},
        {"leaks", result->leaks},
        {"corruptions-fixed", result->corruptions_fixed},
        {"leaks-fixed", result->leaks_fixed},
        {"total-clusters", result->total_clusters},
        {"allocated-clusters", result->allocated_clusters},
        {"fragmented-clusters", result->fragmented_clusters},
        {"compressed-clusters", result->compressed_clusters},
    };
    json_t *object = json_object();

    json_put(object, "filename", json_text(check->name));
    json_put(object, "format", json_string(format));
    json_put(object, "check-errors", json_integer((json_int_t)result->check_errors));
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
        if (counts[i].value)
            json_put(object, counts[i].key, json_integer((json_int_t)counts[i].value));
    json_print(object);
    json_decref(object);
}

/* ---- checking -------------------------------------------------------------------------------- */

static int verdict(const struct block_check_result *result)
{
    if (result->check_errors) {
        img_error("Check failed");
        return CHECK_FAILED;
    }
    if (result->corruptions)
        return CHECK_ERRORS;
    return result->leaks ? CHECK_LEAKS : CHECK_RIGHT;
}

static int check_image(const struct check *check, struct block *block)
{
    struct block_check_result result;
    struct block_info info;
    struct err err;
    int r = block_check(block, check->fix, &img_check_report, &result, &err);

    if (r == -ENOTSUP) {
        img_error("This image format does not support checks");
        return CHECK_NOT_SUPPORTED;
    }
    if (r < 0) {
        img_error("Check failed: %s", err.msg);
        return CHECK_FAILED;
    }
    block_get_info(block, &info);
    if (check->args->json && !check->args->quiet)
        print_json(check, info.format, &result);
    else if (!check->args->quiet)
        print_human(&result);
    return verdict(&result);
}

static int parse_fix(const char *text, unsigned *ret_fix)
{
    if (strcmp(text, "leaks") == 0)
        *ret_fix = BLOCK_FIX_LEAKS;
    else if (strcmp(text, "all") == 0)
        *ret_fix = BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS;
    else
        return img_usage("Unknown option value for -r (expecting 'leaks' or 'all'): %s", text);
    return 0;
}

static int run(struct args *args)
{
    struct check check = {.args = args};
    struct img_open_options open;
    struct block *block;
    int opt;

    while ((opt = args_next(args)) > 0)
        if (opt == 'r' && parse_fix(args->value, &check.fix) != 0)
            return EXIT_FAILURE;
    if (opt < 0)
        return args->status;
    if (args_check_cache(args) < 0)
        return EXIT_FAILURE;

    check.name = args->operands[0];
    open =
        args_open_options(args, check.name, IMG_OPEN_CHECK | (check.fix ? IMG_OPEN_WRITABLE : 0));
    open.cache = args->src_cache;
    block = img_open(&open);
    if (!block)
        return CHECK_FAILED;
    return img_close(block, check.name, check_image(&check, block));
}

static const struct option longs[] = {
    ARGS_LONGS_TELL,
    {"repair", required_argument, NULL, 'r'},
    ARGS_LONG_END,
};

const struct img_command img_check = {
    .name = "check",
    .run = run,
    .shorts = "hf:r:T:qU",
    .one_image = true,
    .longs = longs,
    .synopsis = "[--object objectdef] [--image-opts] [-q] [-f fmt] [--output=ofmt] "
                "[-r [leaks | all]] [-T src_cache] [-U] filename",
    .help =
        "Check the metadata of an image. Exit codes: 0 it is right, 1 it could not be checked,\n"
        "2 there are errors, 3 only leaks (space that nothing uses), 63 the format has nothing\n"
        "to check.\n"
        "\n"
        "  -r leaks       give leaked space back\n"
        "  -r all         repair errors too\n"
        "  --output=ofmt  human or json\n"
        "  -q             print what is wrong only\n",
};
