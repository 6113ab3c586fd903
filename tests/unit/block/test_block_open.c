/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening images and their backing chains.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define DISK_SIZE (1u << 20)

static struct mem_env env;
static struct mem_disk disks[MEM_ENV_DISKS];
static char names[MEM_ENV_DISKS][16];

static void setup(void)
{
    mem_env_init(&env);
    scratch_set_up();
}

static void teardown(void)
{
    for (unsigned i = 0; i < env.ndisks; i++)
        mem_disk_done(env.disks[i]);
    scratch_tear_down();
}

/* Add image number `i`, over `backing`. */
static struct mem_disk *add_image(unsigned i, const char *backing, const char *format)
{
    snprintf(names[i], sizeof(names[i]), "i%u", i);
    mem_disk_init(&disks[i], names[i]);
    qcow2_image_make(&disks[i], &(struct qcow2_image_options){.refcount_order = 4,
                                                              .size = DISK_SIZE,
                                                              .backing = backing,
                                                              .backing_format = format});
    mem_env_add(&env, &disks[i]);
    return &disks[i];
}

static int open_it(const char *path, struct block **ret_block, struct err *err)
{
    struct block_options options = {.path = path, .discard = true};

    *err = (struct err){0};
    return block_open_in(&env.env, &options, ret_block, err);
}

static void assert_refused(const char *path, int code, const char *words)
{
    struct block *block;
    struct err err;

    ck_assert_int_eq(open_it(path, &block, &err), code);
    ck_assert_msg(strstr(err.msg, words) != NULL, "\"%s\" lacks \"%s\"", err.msg, words);
}

/* ---- chains ---------------------------------------------------------------------------------- */

static void make_chain(unsigned n)
{
    char below[16];

    for (unsigned i = 0; i < n; i++) {
        snprintf(below, sizeof(below), "i%u", i + 1);
        add_image(i, i + 1 < n ? below : NULL, i + 1 < n ? "qcow2" : NULL);
    }
}

START_TEST(chain_of_the_greatest_depth_is_read_to_its_end)
{
    struct block *block;
    struct err err;
    uint8_t data[512];

    make_chain(BLOCK_CHAIN_MAX);
    block = mem_env_open(&env, names[BLOCK_CHAIN_MAX - 1], BLOCK_FORMAT_QCOW2, false);
    memset(data, 7, sizeof(data));
    ck_assert_int_eq(mem_block_write(block, 512, data, sizeof(data)), 0);
    ck_assert_int_eq(block_close(block), 0);

    ck_assert_int_eq(open_it("i0", &block, &err), 0);
    memset(data, 0, sizeof(data));
    ck_assert_int_eq(mem_block_read(block, 512, data, sizeof(data)), 0);
    ck_assert_uint_eq(data[100], 7);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

/* The same as a request in a coroutine, whose stack is small. */
static void nothing_failed(struct block_req *req, int result)
{
    ck_assert_int_eq(result, 0);
}

START_TEST(chain_of_the_greatest_depth_fits_a_coroutine)
{
    uint8_t data[512] = {0};
    struct iovec iov = {data, sizeof(data)};
    struct block_req req = {
        .op = BLOCK_READ, .len = sizeof(data), .iov = &iov, .niov = 1, .done = nothing_failed};
    struct block *block;
    struct loop *loop;
    struct err err;

    make_chain(BLOCK_CHAIN_MAX);
    block = mem_env_open(&env, names[BLOCK_CHAIN_MAX - 1], BLOCK_FORMAT_QCOW2, false);
    memset(data, 7, sizeof(data));
    ck_assert_int_eq(mem_block_write(block, 0, data, sizeof(data)), 0);
    ck_assert_int_eq(block_close(block), 0);

    memset(data, 0, sizeof(data));
    ck_assert_int_eq(open_it("i0", &block, &err), 0);
    ck_assert_int_eq(loop_new(&loop), 0);
    ck_assert_int_eq(block_attach(block, loop, &err), 0);
    block_submit(block, &req);
    ck_assert_int_eq(block_detach(block), 0);
    ck_assert_uint_eq(data[100], 7);
    ck_assert_int_eq(block_close(block), 0);
    loop_free(loop);
}
END_TEST

START_TEST(longer_chain_is_refused)
{
    make_chain(BLOCK_CHAIN_MAX + 1);
    assert_refused("i0", -ELOOP, "more than 64 images");
}
END_TEST

START_TEST(loops_are_refused)
{
    add_image(0, "i1", "qcow2");
    add_image(1, "i2", "qcow2");
    add_image(2, "i0", "qcow2");
    add_image(3, "i3", "qcow2");
    assert_refused("i0", -ELOOP, "its own backing file");
    assert_refused("i3", -ELOOP, "its own backing file");
}
END_TEST

START_TEST(missing_and_foreign_backing_files_are_refused_by_name)
{
    add_image(0, "gone", "qcow2");
    add_image(1, "nbd://host/x", "qcow2");
    add_image(2, "json:{\"driver\":\"nbd\",\"host\":\"x\"}", NULL);
    add_image(3, "i4", "vmdk");
    add_image(4, NULL, NULL);
    assert_refused("i0", -ENOENT, "backing file of i0: gone: cannot open");
    assert_refused("i1", -ENOTSUP, "nbd://host/x");
    assert_refused("i2", -ENOTSUP, "backing file of i2: driver 'nbd' is not supported");
    assert_refused("i3", -ENOTSUP, "'vmdk'");
}
END_TEST

static const struct {
    const char *name; /* in quotes of QEMU's */
    const char *format;
    const char *refusal; /* NULL: it is understood */
    uint8_t first;       /* of the backing file */
} descriptions[] = {
    {"{'driver':'raw','file':{'driver':'file','filename':'disk'}}", NULL, NULL, 0},
    {"{'driver':'raw','file.filename':'disk'}", "raw", NULL, 0},
    {"{'driver':'raw','offset':1024,'size':1024,'file':{'filename':'disk'}}", "raw", NULL, 2},
    {"{'driver':'raw','offset':'1k','file':{'filename':'disk'}}", NULL, NULL, 2},
    {"{'driver':'raw','file':{'driver':'raw','offset':512,'file':{'filename':'disk'}}}", NULL, NULL,
     1},
    {"{'driver':'file','filename':'disk'}", NULL, NULL, 0},
    {"{'file':{'filename':'disk'},'offset':1536}", NULL, NULL, 3},
    {"{'driver':'raw','offset':70000,'file':{'filename':'disk'}}", NULL, "Offset (70000)", 0},
    {"{'driver':'raw','offset':512,'size':65536,'file':{'filename':'disk'}}", NULL, "The sum", 0},
    {"{'driver':'raw','size':1000,'file':{'filename':'disk'}}", NULL, "Specified size is not", 0},
    {"{'driver':'raw','offset':-1,'file':{'filename':'disk'}}", NULL, "'offset' expects", 0},
    {"{'driver':'host_device','filename':'disk'}", NULL, "either a character or block", 0},
    {"{'file':{'filename':'disk'}}", "host_device", "file name", 0},
    {"{'driver':'http','url':'http://x'}", NULL, "driver 'http' is not supported", 0},
    {"{'driver':'raw','file':{'driver':'nbd','host':'x'}}", NULL, "driver 'nbd'", 0},
    {"{'driver':'raw','file':{'driver':'qcow2','file':{'filename':'disk'}}}", NULL, "'qcow2'", 0},
    {"{'driver':'raw','file':{'driver':'raw','file':{'driver':'raw'}}}", NULL, "'raw' below", 0},
    {"{'driver':'vmdk','file':{'filename':'disk'}}", NULL, "Unknown driver 'vmdk'", 0},
    {"{'driver':'raw','file':'node'}", NULL, "Cannot find device='node'", 0},
    {"{'driver':'raw','file':{'filename':'disk'},'what':1}", NULL, "option 'what'", 0},
    {"{'driver':'raw','file':{'filename':''}}", NULL, "requires a file name", 0},
    {"{'driver':'raw'", NULL, "Could not parse", 0},
    {"", NULL, "Could not parse", 0},
};

static struct mem_disk *add_file(unsigned i, const char *name, uint64_t len);

START_TEST(backing_names_may_be_descriptions_of_local_files)
{
    struct mem_disk *disk = add_file(1, "disk", 65536);
    char name[256];
    struct block *block;
    struct err err;
    uint8_t data[512];

    for (unsigned i = 0; i < 128; i++)
        memset(disk->data + i * 512ull, (int)i, 512);
    snprintf(name, sizeof(name), "json:%s", descriptions[_i].name);
    add_image(0, name, descriptions[_i].format);
    if (descriptions[_i].refusal) {
        ck_assert_int_lt(open_it("i0", &block, &err), 0);
        ck_assert_msg(strstr(err.msg, descriptions[_i].refusal) != NULL, "%s", err.msg);
        ck_assert_ptr_nonnull(strstr(err.msg, "backing file of i0"));
        return;
    }
    ck_assert_msg(open_it("i0", &block, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(mem_block_read(block, 0, data, sizeof(data)), 0);
    ck_assert_uint_eq(data[0], descriptions[_i].first);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

/* A file that is no qcow2 image. */
static struct mem_disk *add_file(unsigned i, const char *name, uint64_t len)
{
    mem_disk_init(&disks[i], name);
    disks[i].len = len;
    mem_env_add(&env, &disks[i]);
    return &disks[i];
}

static const struct {
    const char *format;
    unsigned off;
    unsigned len;
    const char *mark;
} others[] = {
    {"luks", 0, 8, "LUKS\xba\xbe\0\1"},
    {"luks", 0, 8, "LUKS\xba\xbe\0\2"},
    {"parallels", 0, 16, "WithoutFreeSpace"},
    {"parallels", 0, 16, "WithouFreSpacExt"},
    {"bochs", 0, 23, "Bochs Virtual HD Image"},
    {"cloop", 0, 23, "#!/bin/sh\n#V2.0 Format\n"},
    {"qed", 0, 4, "QED\0"},
    {"vmdk", 0, 4, "KDMV"},
    {"vmdk", 0, 4, "COWD"},
    {"vmdk", 0, 32, "# Disk DescriptorFile\nversion=1\n"},
    {"vdi", 64, 4, "\x7f\x10\xda\xbe"},
    {"vpc", 0, 8, "conectix"},
    {"vhdx", 0, 8, "vhdxfile"},
    {"qcow", 0, 8, "QFI\xfb\0\0\0\1"},
};

/* Else what the container consists of would be the disk. */
START_TEST(backing_file_that_looks_like_another_format_is_refused_by_name)
{
    char words[64];
    struct block *block;
    struct err err;

    add_image(0, "i1", NULL);
    memcpy(add_file(1, "i1", DISK_SIZE)->data + others[_i].off, others[_i].mark, others[_i].len);
    snprintf(words, sizeof(words), "backing file of i0: i1: a %s image, expected",
             others[_i].format);
    assert_refused("i0", -ENOTSUP, words);
    snprintf(words, sizeof(words), "i1: a %s image, expected", others[_i].format);
    assert_refused("i1", -ENOTSUP, words);

    add_image(2, "i1", "raw");
    ck_assert_int_eq(open_it("i2", &block, &err), 0);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(backing_file_that_is_called_dmg_is_refused_without_a_format)
{
    struct block *block;
    struct err err;

    add_file(0, "x.dmg", DISK_SIZE);
    add_image(1, "x.dmg", NULL);
    add_image(2, "x.dmg", "raw");
    assert_refused("i1", -ENOTSUP, "x.dmg: a dmg image");
    ck_assert_int_eq(open_it("i2", &block, &err), 0);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(backing_file_may_end_inside_a_sector)
{
    struct block *block;
    struct err err;
    uint8_t data[1024];

    memset(add_file(0, "log", 700)->data, 7, 700);
    add_image(1, "log", _i ? "raw" : NULL);
    ck_assert_int_eq(open_it("i1", &block, &err), 0);
    ck_assert_int_eq(mem_block_read(block, 0, data, sizeof(data)), 0);
    ck_assert_uint_eq(data[699], 7);
    ck_assert_uint_eq(data[700], 0);
    ck_assert_uint_eq(data[1023], 0);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(missing_data_file_of_a_backing_file_is_refused_by_name)
{
    add_image(0, "i1", "qcow2");
    mem_disk_init(&disks[1], "i1");
    qcow2_image_make(&disks[1], &(struct qcow2_image_options){
                                    .refcount_order = 4, .size = DISK_SIZE, .data_file = "gone"});
    mem_env_add(&env, &disks[1]);
    assert_refused("i1", -ENOENT, "data file of i1: gone: cannot open");
    assert_refused("i0", -ENOENT, "backing file of i0: data file of i1: gone: cannot open");
}
END_TEST

START_TEST(backing_format_decides_over_contents)
{
    struct block *block;
    struct err err;
    uint8_t data[512];

    add_image(0, "i1", "raw"); /* a qcow2 image, shown as the bytes that it consists of */
    add_image(1, NULL, NULL);
    ck_assert_int_eq(open_it("i0", &block, &err), 0);
    ck_assert_int_eq(mem_block_read(block, 0, data, sizeof(data)), 0);
    ck_assert_uint_eq(load_be32(data), 0x514649fb);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(backing_names_are_relative_to_the_image_that_names_them)
{
    struct block_options options = {.path = scratch_path("sub/top"), .readonly = true};
    struct block *block;
    struct err err = {0};
    char cwd[256];

    scratch_ok("mkdir sub");
    mem_disk_save(add_image(0, "base", "qcow2"), scratch_path("sub/top"));
    mem_disk_save(add_image(1, NULL, NULL), scratch_path("sub/base"));
    ck_assert_ptr_nonnull(getcwd(cwd, sizeof(cwd)));
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_msg(block_open(&options, &block, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
    ck_assert_int_eq(chdir(cwd), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("open");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, backing_names_may_be_descriptions_of_local_files, 0,
                        ARRAY_SIZE(descriptions));
    tcase_add_loop_test(tcase, backing_file_that_looks_like_another_format_is_refused_by_name, 0,
                        ARRAY_SIZE(others));
    tcase_add_loop_test(tcase, backing_file_may_end_inside_a_sector, 0, 2);
    suite_add_tcase(suite, tcase);
    unit_case_with(suite, "chains", setup, teardown, chain_of_the_greatest_depth_is_read_to_its_end,
                   chain_of_the_greatest_depth_fits_a_coroutine, longer_chain_is_refused,
                   loops_are_refused, missing_and_foreign_backing_files_are_refused_by_name,
                   missing_data_file_of_a_backing_file_is_refused_by_name,
                   backing_format_decides_over_contents,
                   backing_names_are_relative_to_the_image_that_names_them,
                   backing_file_that_is_called_dmg_is_refused_without_a_format);
}

UNIT_MAIN("block_open", add_tests)
