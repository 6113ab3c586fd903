/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which files of the host an image may name, with real files, folders and links.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/host_places.h"
#include "block/block.h"
#include "tests/lib/block/mem_disk.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

static char root[PATH_MAX]; /* of the test, without symbolic links */

static void set_up(void)
{
    scratch_set_up();
    ck_assert_ptr_nonnull(realpath(scratch_path("."), root));
    scratch_ok(
        "mkdir -p vm/sub vm2 images out with,comma links && head -c 64k /dev/zero | tee vm/base "
        "vm/sub/base vm2/secret images/base out/secret with,comma/secret links/near > /dev/null && "
        "ln -s ../out/secret vm/link && ln -s ../out vm/folder && ln -s ../vm/top links/top "
        "&& ln -s out allowed");
}

/* `name`, with the test's folder for each ROOT in it; valid for a while. */
static const char *expand(const char *name)
{
    static char texts[8][3 * PATH_MAX];
    static unsigned next;
    char *text = texts[next++ % ARRAY_SIZE(texts)];
    size_t len = 0;

    while (*name && len < sizeof(texts[0])) {
        bool is_root = strncmp(name, "ROOT", 4) == 0;

        len += (size_t)snprintf(text + len, sizeof(texts[0]) - len, "%.*s", is_root ? PATH_MAX : 1,
                                is_root ? root : name);
        name += is_root ? 4 : 1;
    }
    return text;
}

static void make(const char *path, const char *backing, const char *format, const char *data_file)
{
    struct mem_disk disk;

    mem_disk_init(&disk, "image");
    qcow2_image_make(&disk, &(struct qcow2_image_options){.refcount_order = 4,
                                                          .size = 64 << 10,
                                                          .backing = backing,
                                                          .backing_format = format,
                                                          .data_file = data_file});
    mem_disk_save(&disk, scratch_path(path));
    mem_disk_done(&disk);
}

static int open_confined(const char *path, const char *allowed, struct err *err)
{
    const char *place = allowed ? expand(allowed) : NULL;
    const struct block_options options = {
        .path = path,
        .format = BLOCK_FORMAT_QCOW2,
        .confined = true,
        .allowed = &place,
        .nallowed = place ? 1 : 0,
    };
    struct block *block;
    int r;

    *err = (struct err){0};
    r = block_open(&options, &block, err);
    if (r == 0)
        ck_assert_int_eq(block_close(block), 0);
    return r;
}

static void check(const char *path, const char *allowed, const char *refusal)
{
    struct err err;
    int r = open_confined(scratch_path(path), allowed, &err);

    if (!refusal) {
        ck_assert_msg(r == 0, "%s", err.msg);
        return;
    }
    ck_assert_int_lt(r, 0);
    ck_assert_msg(strstr(err.msg, expand(refusal)), "\"%s\" lacks \"%s\"", err.msg,
                  expand(refusal));
}

/* vm/top has the name. */
static const struct {
    const char *name;
    const char *allowed;
    const char *refusal; /* NULL: it is good */
} names[] = {
    {"base", NULL, NULL},
    {"sub/base", NULL, NULL},
    {"sub/../base", NULL, NULL},
    {"../vm/base", NULL, NULL},
    {"ROOT/vm/sub/base", NULL, NULL},
    {"../out/secret", NULL, "ROOT/out/secret: lies outside of ROOT/vm"},
    {"ROOT/out/secret", NULL, "add backing=ROOT/out to --disk"},
    {"file:ROOT/out/secret", NULL, "ROOT/out/secret: lies outside"},
    {"file:ROOT/vm/base", NULL, NULL},
    {"file:sub/base", NULL, ": sub/base: cannot open: No such file"}, /* of where we run */
    {"../vm2/secret", NULL, "ROOT/vm2/secret: lies outside"},
    {"link", NULL, "ROOT/out/secret: lies outside"},
    {"folder/secret", NULL, "ROOT/out/secret: lies outside"},
    {"/etc/passwd", NULL, "add backing=/etc to --disk"},
    {"/proc/self/environ", NULL, "lies outside"},
    {"../out/missing", NULL, "No such file"},
    {"../out/secret", "ROOT/out", NULL},
    {"../out/secret", "ROOT/out/", NULL},
    {"link", "ROOT/out", NULL},
    {"../out/secret", "ROOT/allowed", NULL}, /* a link to it */
    {"../out/secret", "ROOT/out/secret", NULL},
    {"../out/secret", "ROOT", NULL},
    {"../out/secret", "/", NULL},
    {"../out/secret", "ROOT/images", "add backing=ROOT/out to --disk"},
    {"../with,comma/secret", NULL, "add backing=ROOT/with,,comma to --disk"},
    {"../with,comma/secret", "ROOT/with,comma", NULL},
    {"../out/secret", "ROOT/ou", "backing=ROOT/ou: No such file"},
    {"base", "ROOT/missing", "backing=ROOT/missing: No such file"},
    {"json:{'file':{'filename':'ROOT/vm/base'}}", NULL, NULL},
    {"json:{'file':{'filename':'ROOT/vm/../out/secret'}}", NULL, "ROOT/out/secret: lies outside"},
    {"json:{'driver':'raw','offset':512,'file':{'filename':'/etc/passwd'}}", NULL, "lies outside"},
    {"json:{'file':{'filename':'ROOT/out/secret'}}", "ROOT/out", NULL},
};

START_TEST(backing_files_lie_beside_the_image_or_where_it_is_allowed)
{
    make("vm/top", expand(names[_i].name), "raw", NULL);
    check("vm/top", names[_i].allowed, names[_i].refusal);
}
END_TEST

START_TEST(data_files_do_as_well)
{
    make("vm/top", NULL, NULL, expand(names[_i].name));
    check("vm/top", names[_i].allowed, names[_i].refusal);
}
END_TEST

START_TEST(descriptions_are_names_as_well)
{
    make("vm/top",
         expand("json:{\"driver\": \"raw\", \"file\": {\"driver\": \"file\", \"filename\": "
                "\"ROOT/out/secret\"}}"),
         NULL, NULL);
    check("vm/top", NULL, "ROOT/out/secret: lies outside of ROOT/vm");
    check("vm/top", "ROOT/out", NULL);
    make("images/below", NULL, NULL, "base");
    make("vm/top",
         expand("json:{\"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": "
                "\"ROOT/images/below\"}, \"data-file\": {\"driver\": \"file\", \"filename\": "
                "\"ROOT/out/secret\"}}"),
         NULL, NULL);
    check("vm/top", "ROOT/images", "ROOT/out/secret: lies outside of ROOT/images");
}
END_TEST

START_TEST(refusals_say_which_image_and_what_to_do)
{
    struct err err;

    make("vm/top", "../out/secret", "raw", NULL);
    ck_assert_int_eq(open_confined(expand("ROOT/vm/top"), NULL, &err), -EPERM);
    ck_assert_str_eq(err.msg,
                     expand("backing file of ROOT/vm/top: ROOT/out/secret: lies outside of "
                            "ROOT/vm: if the image may use it, add backing=ROOT/out to --disk"));
    make("vm/top", NULL, NULL, "../out/secret");
    ck_assert_int_eq(open_confined(scratch_path("vm/top"), NULL, &err), -EPERM);
    ck_assert_ptr_nonnull(strstr(err.msg, "data file of "));
}
END_TEST

/* What is refused is not read, written or locked either. */
START_TEST(refused_files_are_not_touched)
{
    make("vm/top", NULL, NULL, "../out/secret");
    scratch_ok("stat -c '%%x %%y %%z' out/secret > before");
    check("vm/top", NULL, "lies outside");
    scratch_ok("stat -c '%%x %%y %%z' out/secret | cmp - before");
}
END_TEST

START_TEST(folder_of_a_link_to_the_image_counts_too)
{
    make("vm/top", "near", "raw", NULL); /* relative to the name that is opened */
    check("links/top", NULL, NULL);
    make("vm/top", expand("ROOT/vm/base"), "raw", NULL);
    check("links/top", NULL, NULL);
    make("vm/top", expand("ROOT/out/secret"), "raw", NULL);
    check("links/top", NULL, "lies outside of ROOT/vm");
}
END_TEST

START_TEST(each_image_of_a_chain_has_its_own_folder)
{
    make("vm/top", "../images/middle", "qcow2", NULL);
    make("images/middle", "base", "raw", NULL);
    check("vm/top", "ROOT/images", NULL);
    check("vm/top", "ROOT/images/middle", NULL);
    make("images/middle", "../out/secret", "raw", NULL);
    check("vm/top", "ROOT/images",
          "lies outside of ROOT/images: if the image may use it, add backing=ROOT/out");
    make("images/middle", "../vm/base", "raw", NULL);
    check("vm/top", "ROOT/images",
          "lies outside of ROOT/images: if the image may use it, add backing=ROOT/vm");
}
END_TEST

START_TEST(chain_reached_through_a_link_gives_only_its_real_folder)
{
    make("vm/top", "../links/inner", "qcow2", NULL);
    make("images/middle", "near", "raw", NULL); /* links/near */
    scratch_ok("ln -s ../images/middle links/inner");
    check("vm/top", "ROOT/images",
          "lies outside of ROOT/images: if the image may use it, add backing=ROOT/links");
}
END_TEST

/* A device node without a device: it is looked at, and never opened. */
static bool make_device(const char *name)
{
    if (mknod(scratch_path(name), S_IFBLK | 0600, makedev(7, 255)) == 0)
        return true;
    printf("not run: no device node: %s\n", strerror(errno));
    return false;
}

START_TEST(devices_outside_are_allowed_one_by_one)
{
    if (!make_device("out/device"))
        return;
    scratch_ok("ln -s ../out/device links/volume");
    make("vm/top", expand("ROOT/links/volume"), "raw", NULL);
    check("vm/top", NULL,
          "ROOT/out/device: lies outside of ROOT/vm: if the image may use it, add "
          "backing=ROOT/links/volume to --disk");
}
END_TEST

/* Beside it are all the devices of the host. */
START_TEST(device_gives_no_folder)
{
    struct host_path path;
    char *home;

    if (!make_device("out/device"))
        return;
    ck_assert_int_eq(host_path_find(scratch_path("out/device"), &path), 0);
    ck_assert_ptr_null(host_places_home(&path));
    host_path_done(&path);
    ck_assert_int_eq(host_path_find(scratch_path("out/secret"), &path), 0);
    home = host_places_home(&path);
    ck_assert_str_eq(home, expand("ROOT/out"));
    free(home);
    host_path_done(&path);
}
END_TEST

START_TEST(unless_confined_an_image_names_any_file)
{
    struct block_options options = {.path = scratch_path("vm/top")};
    struct block *block;
    struct err err;

    make("vm/top", "../out/secret", "raw", NULL);
    ck_assert_msg(block_open(&options, &block, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

/* Else it would show what another VM is writing, and nobody would say so. */
START_TEST(confined_image_does_not_do_without_locks)
{
    struct block_options options = {.path = scratch_path("vm/base"), .format = BLOCK_FORMAT_RAW};
    struct block_options trusting = {.path = scratch_path("vm/top")};
    struct block *writer;
    struct block *block;
    struct err err;

    make("vm/top",
         expand("json:{'force-share':true,'file':{'filename':'ROOT/vm/base','locking':'off'}}"),
         "raw", NULL);
    ck_assert_msg(block_open(&options, &writer, &err) == 0, "%s", err.msg);
    check("vm/top", NULL, "in use");
    ck_assert_msg(block_open(&trusting, &block, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
    ck_assert_int_eq(block_close(writer), 0);
}
END_TEST

START_TEST(places_are_whole_names)
{
    static const struct {
        const char *place;
        const char *path;
        bool inside;
    } table[] = {
        {"/a", "/a/b", true},    {"/a", "/a/b/c", true},      {"/a/b", "/a/b", true},
        {"/a", "/ab", false},    {"/a/b", "/a", false},       {"/a", "/b/a", false},
        {"/", "/vmlinuz", true}, {"/", "/etc/shadow", false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        ck_assert_msg(host_places_is_at(table[i].place, table[i].path) == table[i].inside,
                      "%s in %s", table[i].path, table[i].place);
}
END_TEST

/* The folder of what lies right in "/" would allow everything. */
START_TEST(nobody_is_told_to_allow_everything)
{
    static const struct host_places places = {.home = "/var/vm"};
    struct host_path path;
    struct err err = {0};

    ck_assert_int_eq(host_path_find("/etc", &path), 0);
    ck_assert_int_eq(host_places_check(&places, &path, &err), -EPERM);
    ck_assert_msg(strstr(err.msg, "add backing=/etc to --disk") != NULL, "%s", err.msg);
    host_path_done(&path);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tables = tcase_create("names");

    tcase_add_checked_fixture(tables, set_up, scratch_tear_down);
    tcase_add_loop_test(tables, backing_files_lie_beside_the_image_or_where_it_is_allowed, 0,
                        ARRAY_SIZE(names));
    tcase_add_test(tables, confined_image_does_not_do_without_locks);
    tcase_add_loop_test(tables, data_files_do_as_well, 0, ARRAY_SIZE(names));
    suite_add_tcase(suite, tables);
    unit_case_with(suite, "chains", set_up, scratch_tear_down, descriptions_are_names_as_well,
                   refusals_say_which_image_and_what_to_do, refused_files_are_not_touched,
                   folder_of_a_link_to_the_image_counts_too,
                   each_image_of_a_chain_has_its_own_folder,
                   chain_reached_through_a_link_gives_only_its_real_folder,
                   devices_outside_are_allowed_one_by_one, device_gives_no_folder,
                   unless_confined_an_image_names_any_file);
    unit_case(suite, "places", places_are_whole_names, nobody_is_told_to_allow_everything);
}

UNIT_MAIN("block_confine", add_tests)
