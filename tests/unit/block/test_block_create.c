/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New images: the same as qemu-img makes, for all combinations of options.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/create.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

static int create(const struct block_create_options *options, struct err *err)
{
    struct block_create_options full = *options;

    full.path = scratch_path("ours");
    if (full.format == BLOCK_FORMAT_PROBE)
        full.format = BLOCK_FORMAT_QCOW2;
    return block_create(&full, err);
}

static void create_ok(const struct block_create_options *options)
{
    struct err err = {0};

    ck_assert_msg(create(options, &err) == 0, "%s", err.msg);
}

static void assert_refused(const struct block_create_options *options, int code, const char *text)
{
    struct err err = {0};

    ck_assert_int_eq(create(options, &err), code);
    ck_assert_msg(strstr(err.msg, text), "'%s' should say '%s'", err.msg, text);
    ck_assert_int_ne(access(scratch_path("ours"), F_OK), 0);
}

static struct stat stat_of(const char *name)
{
    struct stat st;

    ck_assert_int_eq(stat(scratch_path(name), &st), 0);
    return st;
}

/* ---- the same as qemu-img's ------------------------------------------------------------------ */

static const struct variant {
    const char *qemu; /* options for qemu-img */
    struct block_create_options ours;
} variants[] = {
    {"compat=1.1", {0}},
    {"compat=0.10", {.version = 2}},
    {"cluster_size=512", {.cluster_size = 512}},
    {"cluster_size=1k,refcount_bits=64", {.cluster_size = 1024, .refcount_bits = 64}},
    {"cluster_size=2k,lazy_refcounts=on", {.cluster_size = 2048, .lazy_refcounts = true}},
    {"cluster_size=4k,refcount_bits=1", {.cluster_size = 4096, .refcount_bits = 1}},
    {"cluster_size=2M,refcount_bits=2", {.cluster_size = 2u << 20, .refcount_bits = 2}},
    {"compression_type=zstd", {.zstd = true}},
    {"extended_l2=on", {.extended_l2 = true}},
    {"extended_l2=on,cluster_size=16k", {.extended_l2 = true, .cluster_size = 16u << 10}},
    {"backing_file=base,backing_fmt=raw",
     {.backing_file = "base", .backing_format = BLOCK_FORMAT_RAW}},
    {"backing_file=base,backing_fmt=raw,compat=0.10,cluster_size=512",
     {.backing_file = "base",
      .backing_format = BLOCK_FORMAT_RAW,
      .version = 2,
      .cluster_size = 512}},
    {"backing_file=overlay,backing_fmt=qcow2,data_file=data",
     {.backing_file = "overlay", .backing_format = BLOCK_FORMAT_QCOW2, .data_file = "data"}},
    {"data_file=data", {.data_file = "data"}},
    {"data_file=data,data_file_raw=on", {.data_file = "data", .data_file_raw = true}},
};

static const struct {
    const char *qemu;
    enum block_prealloc ours;
} preallocs[] = {
    {"off", BLOCK_PREALLOC_OFF},
    {"metadata", BLOCK_PREALLOC_METADATA},
    {"falloc", BLOCK_PREALLOC_FALLOC},
    {"full", BLOCK_PREALLOC_FULL},
};

static const uint64_t sizes[] = {0, 512, 3000320, 40u << 20};

static void make_bases(void)
{
    scratch_ok("yes data | head -c 1M > base");
    scratch_ok("qemu-img create -q -f qcow2 -b base -F raw overlay");
}

/* Smaller ones have little in them. */
#define COMPARED_FROM (1u << 20)

/* What is used where, in qemu-img's eyes: all but the place in the file. */
static void assert_same_map(const char *what)
{
    static const char strip[] = "sed -e 's/, \"offset\": [0-9]*//'";

    if (scratch_shell("qemu-img map --output=json qemu | %s > qemu.map && "
                      "qemu-img map --output=json ours | %s > ours.map && diff qemu.map ours.map",
                      strip, strip) != 0)
        ck_abort_msg("%s: the maps differ", what);
}

static void compare_with_qemu(const struct variant *variant, size_t prealloc, uint64_t size)
{
    static const char strip[] =
        "grep -v -e filename -e actual-size | sed '/\"children\"/,/^    ]/d'";
    struct block_create_options options = variant->ours;
    char what[256];

    options.len = size;
    options.prealloc = preallocs[prealloc].ours;
    snprintf(what, sizeof(what), "-o %s,preallocation=%s qemu %llu", variant->qemu,
             preallocs[prealloc].qemu, (unsigned long long)size);

    scratch_ok("qemu-img create -q -f qcow2 %s && mv data data.qemu 2>/dev/null; true", what);
    create_ok(&options);
    image_assert_sound("ours");
    if (scratch_shell("qemu-img check -q -f qcow2 ours") != 0)
        ck_abort_msg("%s: qemu-img check", what);
    if (scratch_shell(
            "qemu-img info --output=json qemu | %s > qemu.info && "
            "qemu-img info --output=json ours | %s > ours.info && diff qemu.info ours.info",
            strip, strip) != 0)
        ck_abort_msg("%s: qemu-img info differs", what);
    if (!options.data_file && size >= COMPARED_FROM) {
        if (options.prealloc == BLOCK_PREALLOC_OFF)
            assert_same_map(what);
        ck_assert_msg(scratch_shell("qemu-img compare -q ours qemu") == 0, "%s: contents", what);
    }
    scratch_ok("rm -f qemu ours data data.qemu");
}

START_TEST(images_are_what_qemu_img_makes)
{
    const struct variant *variant = &variants[_i];

    make_bases();
    for (size_t i = 0; i < ARRAY_SIZE(preallocs); i++) {
        if (i == 0)
            for (size_t j = 0; j < ARRAY_SIZE(sizes); j++)
                compare_with_qemu(variant, i, sizes[j]);
        else if (!variant->ours.backing_file) /* refused, see below */
            compare_with_qemu(variant, i, 3000320);
    }
}
END_TEST

/* ---- in use ---------------------------------------------------------------------------------- */

START_TEST(preallocated_disk_is_written_in_place)
{
    struct block_create_options options = {.len = 8u << 20};
    struct block_options open = {.path = scratch_path("ours")};
    uint8_t data[512];
    uint64_t before;
    struct err err = {0};
    struct block *block;

    memset(data, 7, sizeof(data));
    options.prealloc = BLOCK_PREALLOC_METADATA;
    options.cluster_size = _i ? 512 : 65536;
    create_ok(&options);
    before = (uint64_t)stat_of("ours").st_size;
    ck_assert_int_eq(block_open(&open, &block, &err), 0);
    for (uint64_t off = 0; off < options.len; off += 256 << 10)
        ck_assert_int_eq(mem_block_write(block, off, data, sizeof(data)), 0);
    ck_assert_int_eq(block_close(block), 0);
    scratch_ok("qemu-img check -q -f qcow2 ours");
    ck_assert_uint_eq((uint64_t)stat_of("ours").st_size, before);
    scratch_ok("qemu-io -r -c 'read -q -P 7 256k 512' -c 'read -q -P 0 257k 255k' ours");
}
END_TEST

START_TEST(preallocation_takes_host_space)
{
    static const struct {
        enum block_prealloc prealloc;
        bool taken;
    } cases[] = {
        {BLOCK_PREALLOC_OFF, false},
        {BLOCK_PREALLOC_METADATA, false},
        {BLOCK_PREALLOC_FALLOC, true},
        {BLOCK_PREALLOC_FULL, true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct block_create_options options = {.len = 4u << 20, .prealloc = cases[i].prealloc};
        bool raw = _i == 0;

        if (raw && cases[i].prealloc == BLOCK_PREALLOC_METADATA)
            continue;
        options.format = raw ? BLOCK_FORMAT_RAW : BLOCK_FORMAT_QCOW2;
        options.data_file = _i == 2 ? "data" : NULL;
        create_ok(&options);
        ck_assert_int_eq(stat_of(_i == 2 ? "data" : "ours").st_blocks * 512 >= 4 << 20,
                         cases[i].taken);
    }
}
END_TEST

START_TEST(raw_disk_is_whole_sectors_of_zeroes)
{
    struct block_create_options options = {.format = BLOCK_FORMAT_RAW, .len = 1000};

    create_ok(&options);
    ck_assert_int_eq(stat_of("ours").st_size, 1024);
    scratch_ok("cmp -n 1024 ours /dev/zero");
}
END_TEST

START_TEST(overlay_is_as_long_as_its_backing_file)
{
    struct block_create_options options = {
        .len = BLOCK_LEN_BACKING, .backing_file = "base", .backing_format = BLOCK_FORMAT_RAW};

    scratch_ok("yes | head -c 100k > base");
    create_ok(&options);
    scratch_ok("qemu-img compare -q -f raw -F qcow2 base ours");
    scratch_ok("qemu-img info --output=json ours | grep -q '\"virtual-size\": 102400'");
}
END_TEST

START_TEST(backing_file_need_not_exist_if_nobody_looks)
{
    struct block_create_options options = {.len = 1 << 20,
                                           .backing_file = "missing",
                                           .backing_format = BLOCK_FORMAT_RAW,
                                           .backing_unchecked = true};

    create_ok(&options);
    scratch_ok("qemu-img info ours | grep -q missing");
}
END_TEST

/* ---- refused --------------------------------------------------------------------------------- */

START_TEST(contradicting_options_are_refused_as_qemu_refuses_them)
{
    static const struct {
        const char *qemu; /* NULL: we refuse what qemu-img does not, or with other words */
        struct block_create_options options;
        int code;
        const char *text;
    } cases[] = {
        {"-o compat=0.10,lazy_refcounts=on x 1M",
         {.version = 2, .lazy_refcounts = true},
         -EINVAL,
         "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or "
         "greater)"},
        {"-o compat=0.10,refcount_bits=8 x 1M",
         {.version = 2, .refcount_bits = 8},
         -EINVAL,
         "Different refcount widths than 16 bits require compatibility level 1.1 or above (use "
         "version=v3 or greater)"},
        {"-o compat=0.10,compression_type=zstd x 1M",
         {.version = 2, .zstd = true},
         -EINVAL,
         "Non-zlib compression type is only supported with compatibility level 1.1 and above (use "
         "version=v3 or greater)"},
        {"-o compat=0.10,extended_l2=on x 1M",
         {.version = 2, .extended_l2 = true},
         -EINVAL,
         "Extended L2 entries are only supported with compatibility level 1.1 and above (use "
         "version=v3 or greater)"},
        {"-o compat=0.10,data_file=y x 1M",
         {.version = 2, .data_file = "y"},
         -EINVAL,
         "External data files are only supported with compatibility level 1.1 and above (use "
         "version=v3 or greater)"},
        {"-o cluster_size=8k,extended_l2=on x 1M",
         {.cluster_size = 8192, .extended_l2 = true},
         -EINVAL,
         "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes"},
        {"-o data_file_raw=on x 1M",
         {.data_file_raw = true},
         -EINVAL,
         "data-file-raw requires data-file"},
        {"-o data_file=y,data_file_raw=on -b base -F raw x",
         {.data_file = "y",
          .data_file_raw = true,
          .backing_file = "base",
          .backing_format = BLOCK_FORMAT_RAW},
         -EINVAL,
         "Backing file and data-file-raw cannot be used at the same time"},
        {"-o preallocation=metadata -b base -F raw x",
         {.prealloc = BLOCK_PREALLOC_METADATA,
          .backing_file = "base",
          .backing_format = BLOCK_FORMAT_RAW},
         -EINVAL,
         "Backing file and preallocation can only be used at the same time if extended_l2 is on"},
        {"-o refcount_bits=3 x 1M",
         {.refcount_bits = 3},
         -EINVAL,
         "Refcount width must be a power of two and may not exceed 64 bits"},
        {"-o refcount_bits=128 x 1M",
         {.refcount_bits = 128},
         -EINVAL,
         "Refcount width must be a power of two and may not exceed 64 bits"},
        {"-o cluster_size=3k x 1M",
         {.cluster_size = 3072},
         -EINVAL,
         "Cluster size must be a power of two between 512 and 2048k"},
        {"-o cluster_size=4M x 1M",
         {.cluster_size = 4u << 20},
         -EINVAL,
         "Cluster size must be a power of two between 512 and 2048k"},
        {"-o cluster_size=512 x 200G",
         {.cluster_size = 512, .len = 200 * GIB},
         -EFBIG,
         "The image size is too large for file format 'qcow2' (try using a larger cluster size)"},
        {NULL, {.len = INT64_MAX}, -EFBIG, "too large"},
        {NULL, {.version = 4}, -EINVAL, "version"},
        {"-b base x",
         {.backing_file = "base"},
         -EINVAL,
         "Backing file specified without backing format"},
        {"-o backing_fmt=raw x 1M",
         {.backing_format = BLOCK_FORMAT_RAW},
         -EINVAL,
         "Backing format cannot be used without backing file"},
        {"-b missing -F raw x 1M",
         {.backing_file = "missing", .backing_format = BLOCK_FORMAT_RAW},
         -ENOENT,
         "No such file or directory"},
        {NULL, {.len = BLOCK_LEN_BACKING}, -EINVAL, "Image creation needs a size parameter"},
        {NULL, {.backing_file = "", .backing_format = BLOCK_FORMAT_RAW}, -EINVAL, "1 to 1023"},
        {NULL, {.backing_file = "ours", .backing_format = BLOCK_FORMAT_RAW}, -EINVAL, "its own"},
        {NULL, {.data_file = "ours"}, -EINVAL, "its own"},
        {"-f raw -o preallocation=metadata x 1M",
         {.format = BLOCK_FORMAT_RAW, .prealloc = BLOCK_PREALLOC_METADATA},
         -EINVAL,
         "Unsupported preallocation mode: metadata"},
        {"-f raw -b base -F raw x",
         {.format = BLOCK_FORMAT_RAW, .backing_file = "base", .backing_format = BLOCK_FORMAT_RAW},
         -ENOTSUP,
         "Backing file not supported for file format 'raw'"},
    };

    make_bases();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_refused(&cases[i].options, cases[i].code, cases[i].text);
        if (cases[i].qemu)
            ck_assert_msg(scratch_shell("qemu-img create -q -f qcow2 %s 2>&1 | grep -q -F \"%s\"",
                                        cases[i].qemu, cases[i].text) == 0,
                          "qemu-img create %s: another answer", cases[i].qemu);
    }
}
END_TEST

START_TEST(names_that_do_not_fit_the_header_are_refused)
{
    static char name[1024];
    struct block_create_options options = {.len = 1 << 20,
                                           .backing_file = name,
                                           .backing_format = BLOCK_FORMAT_QCOW2,
                                           .backing_unchecked = true};

    memset(name, 'n', sizeof(name) - 1);
    create_ok(&options);
    scratch_ok("qemu-img info ours | grep -q 'backing file: n*'");
    ck_assert_int_eq(unlink(scratch_path("ours")), 0);
    options.cluster_size = 512;
    assert_refused(&options, -EINVAL, "do not fit");
}
END_TEST

/* ---- files ----------------------------------------------------------------------------------- */

START_TEST(file_that_is_in_use_is_not_touched)
{
    struct block_create_options options = {.len = 2 << 20};
    struct block_options open = {.path = scratch_path("ours")};
    struct block *block;
    struct err err = {0};

    scratch_ok("qemu-img create -q -f qcow2 ours 1M && cp ours before");
    ck_assert_int_eq(block_open(&open, &block, &err), 0);
    ck_assert_int_eq(create(&options, &err), -EAGAIN);
    ck_assert_int_eq(block_close(block), 0);
    scratch_ok("cmp ours before");

    create_ok(&options);
    scratch_ok("qemu-img info ours | grep -q '2 MiB'");
}
END_TEST

START_TEST(backing_file_is_not_overwritten_by_its_overlay)
{
    struct block_create_options options = {
        .len = 1 << 20, .backing_file = "base", .backing_format = BLOCK_FORMAT_RAW};
    struct err err = {0};

    make_bases();
    scratch_ok("ln base ours");
    ck_assert_int_eq(create(&options, &err), -EAGAIN);
    options.data_file = "base";
    scratch_ok("rm ours");
    assert_refused(&options, -EAGAIN, "in use");
    scratch_ok("yes data | head -c 1M | cmp - base");
}
END_TEST

/* A file system that fills up: a write beyond the limit fails. */
START_TEST(failed_create_leaves_no_file)
{
    struct block_create_options options = {.len = 64 << 20, .prealloc = BLOCK_PREALLOC_FULL};
    struct err err = {0};
    int status;
    pid_t pid;

    /* A limit of the file size is for ever, so it is set in a child. */
    pid = fork();
    if (pid == 0) {
        struct rlimit limit = {1 << 20, 1 << 20};

        (void)signal(SIGXFSZ, SIG_IGN);
        _exit(setrlimit(RLIMIT_FSIZE, &limit) == 0 && create(&options, &err) == -EFBIG ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    scratch_ok("test -z \"$(ls -A)\"");

    options.prealloc = BLOCK_PREALLOC_OFF;
    options.data_file = "no/such/folder";
    assert_refused(&options, -ENOENT, "no/such/folder");
    scratch_ok("test -z \"$(ls -A)\"");
}
END_TEST

START_TEST(each_failing_operation_fails_the_create)
{
    const struct block_create_options options = {.path = "top",
                                                 .format = BLOCK_FORMAT_QCOW2,
                                                 .len = 1 << 20,
                                                 .cluster_size = 4096,
                                                 .prealloc = BLOCK_PREALLOC_FULL};
    struct mem_disk disk;
    struct mem_fault fault;
    struct mem_env env;
    struct err err = {0};
    long after = 0;
    int r;

    mem_disk_init(&disk, "top");
    disk.fault = &fault;
    mem_env_init(&env);
    mem_env_add(&env, &disk);
    do {
        fault = (struct mem_fault){.after = after++, .result = -EIO};
        disk.named = false;
        r = block_create_in(&env.env, &options, &err);
        ck_assert_int_eq(r, fault.happened ? -EIO : 0);
        ck_assert_uint_eq(disk.named, !fault.happened);
    } while (fault.happened);
    ck_assert_int_gt(after, 5);
    mem_disk_done(&disk);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("same");

    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(tcase, images_are_what_qemu_img_makes, 0, ARRAY_SIZE(variants));
    tcase_add_loop_test(tcase, preallocated_disk_is_written_in_place, 0, 2);
    tcase_add_loop_test(tcase, preallocation_takes_host_space, 0, 3);
    suite_add_tcase(suite, tcase);
    unit_case_with(suite, "create", scratch_set_up, scratch_tear_down,
                   raw_disk_is_whole_sectors_of_zeroes, overlay_is_as_long_as_its_backing_file,
                   backing_file_need_not_exist_if_nobody_looks,
                   contradicting_options_are_refused_as_qemu_refuses_them,
                   names_that_do_not_fit_the_header_are_refused, file_that_is_in_use_is_not_touched,
                   backing_file_is_not_overwritten_by_its_overlay, failed_create_leaves_no_file,
                   each_failing_operation_fails_the_create);
}

UNIT_MAIN_BESIDE_QEMU("block_create", add_tests)
