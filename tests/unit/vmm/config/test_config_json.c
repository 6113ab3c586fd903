/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "vmm/config/config_json.h"

static struct config config;
static struct err err;

static void setup(void)
{
    config_init(&config);
    err = (struct err){0};
}

static void teardown(void)
{
    config_done(&config);
}

static int parse(const char *text, const char *dir)
{
    return config_parse_json(&config, text, strlen(text), "vm.json", dir, &err);
}

#define parse_ok(text, dir) ck_assert_msg(parse(text, dir) == 0, "%s", err.msg)

START_TEST(every_setting_is_taken)
{
    const struct config_disk *disk;

    parse_ok("{\"kernel\": \"/k\", \"initrd\": [\"/a\", \"/b\"], \"append\": \"x y\","
             " \"disk\": [{\"file\": \"/d\", \"format\": \"qcow2\", \"readonly\": true,"
             " \"cache\": \"unsafe\", \"aio\": \"io_uring\", \"serial\": \"S\", \"queues\": 2,"
             " \"discard\": false, \"backing\": [\"/i\", \"any\"]}, {\"file\": \"/e\"}],"
             " \"memory\": \"1G\", \"cpus\": 4, \"serial\": \"pty\", \"on-reboot\": \"restart\","
             " \"shutdown-timeout\": 86400, \"acpi\": false, \"log\": \"error\","
             " \"gdb\": \"unix:/g\", \"wait-gdb\": true,"
             " \"backing\": [\"/b\"]}",
             NULL);
    ck_assert_str_eq(config.kernel, "/k");
    ck_assert_uint_eq(config.ninitrds, 2);
    ck_assert_str_eq(config.initrds[1], "/b");
    ck_assert_str_eq(config.append, "x y");
    ck_assert_uint_eq(config.memory, 1u << 30);
    ck_assert_uint_eq(config.ncpus, 4);
    ck_assert_int_eq(config.serial.kind, SERIAL_PTY);
    ck_assert(config.restart_on_reboot);
    ck_assert_uint_eq(config.shutdown_timeout_s, 86400);
    ck_assert(!config.acpi);
    ck_assert_str_eq(config.gdb, "unix:/g");
    ck_assert(config.wait_gdb);
    ck_assert_int_eq(config.log_level, LOG_ERROR);
    ck_assert_uint_eq(config.backing.n, 1);
    ck_assert_str_eq(config.backing.paths[0], "/b");
    ck_assert(!config.backing.any);
    ck_assert_uint_eq(config.ndisks, 2);
    disk = &config.disks[0];
    ck_assert_str_eq(disk->path, "/d");
    ck_assert_int_eq(disk->format, BLOCK_FORMAT_QCOW2);
    ck_assert(disk->readonly);
    ck_assert_int_eq(disk->cache, BLOCK_CACHE_UNSAFE);
    ck_assert_int_eq(disk->aio, BLOCK_AIO_URING);
    ck_assert_str_eq(disk->serial, "S");
    ck_assert_uint_eq(disk->nqueues, 2);
    ck_assert(!disk->discard);
    ck_assert_uint_eq(disk->backing.n, 1);
    ck_assert_str_eq(disk->backing.paths[0], "/i");
    ck_assert(disk->backing.any);
    ck_assert(config.disks[1].discard);
    ck_assert(!config.disks[1].backing.any);
}
END_TEST

START_TEST(network_cards_are_taken)
{
    const struct config_net *nets;

    parse_ok("{\"net\": [{\"kind\": \"user\", \"forward\": [\"2222:22\", \"udp:53:53\"],"
             " \"dns\": [\"1.1.1.1\"], \"hostname\": \"h\", \"isolate\": false, \"mtu\": 1400,"
             " \"mac\": \"52:54:00:00:00:01\", \"bps\": \"1M\", \"pps\": 1000},"
             " {\"server\": true, \"kind\": \"unix:wire\"}, {\"kind\": \"unix-dgram=/d\"},"
             " {\"kind\": \"bridge:br0\", \"helper\": \"make-tap\", \"vhost\": true}]}",
             "/vm/one");
    ck_assert_uint_eq(config.nnets, 4);
    nets = config.nets;
    ck_assert_uint_eq(nets[0].forwards.n, 2);
    ck_assert_str_eq(nets[0].dns.list[0], "1.1.1.1");
    ck_assert_str_eq(nets[0].hostname, "h");
    ck_assert(!nets[0].isolate);
    ck_assert_uint_eq(nets[0].mtu, 1400);
    ck_assert_uint_eq(nets[0].mac.octets[5], 1);
    ck_assert_uint_eq(nets[0].bps, 1 << 20);
    ck_assert_uint_eq(nets[0].pps, 1000);
    ck_assert_str_eq(nets[1].kind, "unix:/vm/one/wire");
    ck_assert(nets[1].server && nets[1].isolate);
    ck_assert_str_eq(nets[2].kind, "unix-dgram=/d");
    ck_assert_str_eq(nets[3].helper, "/vm/one/make-tap");
    ck_assert(nets[3].vhost && !nets[0].vhost);
}
END_TEST

START_TEST(memory_may_be_a_number_of_bytes)
{
    parse_ok("{\"memory\": 67108864}", NULL);
    ck_assert_uint_eq(config.memory, 64u << 20);
}
END_TEST

START_TEST(relative_paths_start_at_the_files_folder)
{
    parse_ok("{\"kernel\": \"k\", \"initrd\": [\"sub/i\", \"/i\"], \"cmdline\": \"c\","
             " \"disk\": [{\"file\": \"a,b=c\", \"backing\": [\"../images\"]}],"
             " \"serial\": \"file:log\", \"qmp\": \"unix:q,server\"}",
             "/vm/one");
    ck_assert_str_eq(config.kernel, "/vm/one/k");
    ck_assert_str_eq(config.initrds[0], "/vm/one/sub/i");
    ck_assert_str_eq(config.initrds[1], "/i");
    ck_assert_str_eq(config.cmdline, "c");
    ck_assert_str_eq(config.disks[0].path, "/vm/one/a,b=c");
    ck_assert_str_eq(config.disks[0].backing.paths[0], "/vm/one/../images");
    ck_assert_str_eq(config.serial.path, "/vm/one/log");
    ck_assert_str_eq(config.qmp, "unix:/vm/one/q,server");
}
END_TEST

static const struct {
    const char *text;
    const char *message; /* how it begins: the parser's own words may change */
} bad[] = {
    {"", "vm.json:1:0: expected JSON: "},
    {"[]", "vm.json: expected an object with the settings of a VM"},
    {"{\"kernel\": \"k\"} x", "vm.json:1:17: expected JSON: "},
    {"{\"cpus\": 1, \"cpus\": 2}", "vm.json:1:18: expected JSON: duplicate"},
    {"{\"kernle\": \"k\"}", "vm.json: kernle: unknown key: expected a setting of a VM"},
    {"{\"no-acpi\": true}", "vm.json: no-acpi: unknown key: expected a setting of a VM"},
    {"{\"config\": \"x\"}", "vm.json: config: unknown key: expected a setting of a VM"},
    {"{\"kernel\": 1}", "vm.json: kernel: expected a string"},
    {"{\"kernel\": \"\"}", "vm.json: kernel: '': expected a file name"},
    {"{\"cpus\": \"1\"}", "vm.json: cpus: expected an integer"},
    {"{\"cpus\": 1.0}", "vm.json: cpus: expected an integer"},
    {"{\"cpus\": -1}", "vm.json: cpus: '-1': expected a number from 1 to 255"},
    {"{\"acpi\": \"off\"}", "vm.json: acpi: expected true or false"},
    {"{\"acpi\": null}", "vm.json: acpi: expected true or false"},
    {"{\"memory\": true}",
     "vm.json: memory: expected a string such as \"512M\", or a number of bytes"},
    {"{\"memory\": 512}", "vm.json: memory: '512': expected a size from 32M to 4T in whole "
                          "megabytes, such as 512M"},
    {"{\"initrd\": \"i\"}", "vm.json: initrd: expected an array of strings"},
    {"{\"initrd\": [\"i\", 2]}", "vm.json: initrd[1]: expected a string"},
    {"{\"disk\": {\"file\": \"d\"}}", "vm.json: disk: expected an array of objects"},
    {"{\"disk\": [\"d\"]}", "vm.json: disk[0]: expected an object with the settings of a disk"},
    {"{\"disk\": [{}]}", "vm.json: disk[0]: file is missing: expected an image file"},
    {"{\"disk\": [{\"file\": \"d\"}, {\"format\": \"raw\"}]}",
     "vm.json: disk[1]: file is missing: expected an image file"},
    {"{\"disk\": [{\"file\": \"d\", \"readonly\": \"on\"}]}",
     "vm.json: disk[0].readonly: expected true or false"},
    {"{\"disk\": [{\"file\": \"d\", \"cache\": \"full\"}]}",
     "vm.json: disk[0].cache: 'full': expected one of writeback|none|unsafe"},
    {"{\"disk\": [{\"file\": \"d\", \"backing\": \"/i\"}]}",
     "vm.json: disk[0].backing: expected an array of strings"},
    {"{\"disk\": [{\"file\": \"d\", \"backing\": [\"/i\", 1]}]}",
     "vm.json: disk[0].backing[1]: expected a string"},
    {"{\"disk\": [{\"file\": \"d\", \"path\": \"e\"}]}",
     "vm.json: disk[0].path: unknown key: expected a setting of a disk"},
    {"{\"net\": [{}]}", "vm.json: net[0]: kind is missing: expected none, user, tap:NAME"},
    {"{\"net\": [{\"kind\": \"lan\"}]}", "vm.json: net[0].kind: 'lan': expected none, user"},
    {"{\"net\": [{\"kind\": \"tap:t\", \"server\": true}]}",
     "vm.json: net[0]: server: only with unix"},
    {"{\"net\": [{\"kind\": \"user\", \"forward\": \"1:2\"}]}",
     "vm.json: net[0].forward: expected an array of strings"},
    {"{\"kernel\": \"a\\u0000b\"}", "vm.json:1:21: expected JSON: "},
};

START_TEST(bad_file_gets_one_clear_line)
{
    ck_assert_int_eq(parse(bad[_i].text, NULL), -EINVAL);
    ck_assert_msg(strncmp(err.msg, bad[_i].message, strlen(bad[_i].message)) == 0, "%s", err.msg);
}
END_TEST

START_TEST(deep_nesting_is_refused)
{
    size_t depth = 100000;
    char *text = malloc(depth + 1);

    memset(text, '[', depth);
    text[depth] = '\0';
    ck_assert_int_eq(parse(text, NULL), -EINVAL);
    free(text);
}
END_TEST

/* ---- files ----------------------------------------------------------------------------------- */

START_TEST(fifo_is_refused_without_waiting)
{
    const char *path = scratch_path("fifo");

    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(config_load_json(&config, path, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "expected a regular file"));
}
END_TEST

START_TEST(huge_file_is_refused_unread)
{
    const char *path = scratch_path("huge");

    scratch_ok("truncate -s 1T huge");
    ck_assert_int_eq(config_load_json(&config, path, &err), -EFBIG);
    ck_assert_ptr_nonnull(strstr(err.msg, "1099511627776 bytes: expected at most 262144"));
}
END_TEST

START_TEST(missing_file_is_named)
{
    ck_assert_int_eq(config_load_json(&config, "/nowhere/vm.json", &err), -ENOENT);
    ck_assert_str_eq(err.msg, "/nowhere/vm.json: cannot open: No such file or directory");
}
END_TEST

START_TEST(samples_are_good)
{
    DIR *dir = opendir("configs");
    struct dirent *entry;
    unsigned n = 0;

    ck_assert_msg(dir != NULL, "configs/ not found: run from the top of the source tree");
    while ((entry = readdir(dir))) {
        char path[512];

        if (!strstr(entry->d_name, ".json"))
            continue;
        snprintf(path, sizeof(path), "configs/%s", entry->d_name);
        config_done(&config);
        config_init(&config);
        ck_assert_msg(config_load_json(&config, path, &err) == 0, "%s", err.msg);
        ck_assert_msg(config_check(&config, &err) == 0, "%s: %s", path, err.msg);
        ck_assert_int_eq(strncmp(config.kernel, "configs/", 8), 0);
        n++;
    }
    closedir(dir);
    ck_assert_uint_ge(n, 5);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("json");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, every_setting_is_taken);
    tcase_add_test(tcase, memory_may_be_a_number_of_bytes);
    tcase_add_test(tcase, network_cards_are_taken);
    tcase_add_test(tcase, relative_paths_start_at_the_files_folder);
    tcase_add_loop_test(tcase, bad_file_gets_one_clear_line, 0, ARRAY_SIZE(bad));
    tcase_add_test(tcase, deep_nesting_is_refused);
    tcase_add_test(tcase, fifo_is_refused_without_waiting);
    tcase_add_test(tcase, huge_file_is_refused_unread);
    tcase_add_test(tcase, missing_file_is_named);
    tcase_add_test(tcase, samples_are_good);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("config_json", add_tests)
