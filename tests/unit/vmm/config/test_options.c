/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "vmm/config/config_settings.h"
#include "vmm/config/config_values.h"
#include "vmm/config/options.h"

#define ARGS_MAX 24

static struct config config;
static struct err err;
static enum options_action action;

/* Parse the arguments, up to the first NULL, as main does. */
static int parse(const char *const args[ARGS_MAX])
{
    char *argv[ARGS_MAX + 2] = {(char *)"minivmm"};
    int argc = 1;
    int r;

    while (argc <= ARGS_MAX && args[argc - 1]) {
        argv[argc] = (char *)args[argc - 1];
        argc++;
    }
    config_done(&config);
    config_init(&config);
    err = (struct err){0};
    r = options_parse(argc, argv, &config, &action, &err);
    if (r == 0 && action == OPTIONS_RUN)
        r = config_check(&config, &err);
    return r;
}

#define parse_args(...) parse((const char *const[ARGS_MAX]){__VA_ARGS__})

/* ---- good ------------------------------------------------------------------------------------ */

START_TEST(kernel_alone_gives_the_defaults)
{
    ck_assert_int_eq(parse_args("--kernel", "bzImage"), 0);
    ck_assert_int_eq(action, OPTIONS_RUN);
    ck_assert_str_eq(config.kernel, "bzImage");
    ck_assert_uint_eq(config.memory, 512u << 20);
    ck_assert_uint_eq(config.ncpus, 1);
    ck_assert_int_eq(config.pages, GUEST_PAGES_THP);
    ck_assert(!config.prealloc);
    ck_assert(!config.balloon);
    ck_assert_int_eq(config.serial.kind, SERIAL_STDIO);
    ck_assert(config.acpi);
    ck_assert(!config.restart_on_reboot);
    ck_assert_uint_eq(config.shutdown_timeout_s, 60);
    ck_assert(config.kaslr);
    ck_assert_ptr_null(config.boot_trace);
    ck_assert_int_eq(config.log_level, LOG_WARN);
    ck_assert_uint_eq(config.ndisks, 0);
    ck_assert_uint_eq(config.ninitrds, 0);
    ck_assert_uint_eq(config.backing.n, 0);
    ck_assert(!config.backing.any);
}
END_TEST

START_TEST(every_option_is_taken)
{
    ck_assert_int_eq(parse_args("--kernel=k", "--initrd", "a", "--initrd=b", "--append", "x y",
                                "--memory", "2G", "--hugepages=host", "--prealloc=on", "--cpus=255",
                                "--serial", "unix:/run/s", "--on-reboot", "restart", "--no-acpi",
                                "--log=debug", "--shutdown-timeout=0", "--kaslr", "off",
                                "--kernel-cache=off", "--kernel-cache=/c"),
                     0);
    ck_assert_str_eq(config.kernel, "k");
    ck_assert_uint_eq(config.ninitrds, 2);
    ck_assert_str_eq(config.initrds[0], "a");
    ck_assert_str_eq(config.initrds[1], "b");
    ck_assert_str_eq(config.append, "x y");
    ck_assert_uint_eq(config.memory, 2ull << 30);
    ck_assert_int_eq(config.pages, GUEST_PAGES_HOST);
    ck_assert(config.prealloc);
    ck_assert_uint_eq(config.ncpus, 255);
    ck_assert_int_eq(config.serial.kind, SERIAL_UNIX);
    ck_assert_str_eq(config.serial.path, "/run/s");
    ck_assert(config.restart_on_reboot);
    ck_assert_uint_eq(config.shutdown_timeout_s, 0);
    ck_assert(!config.acpi);
    ck_assert(!config.kaslr);
    ck_assert(!config.kernel_cache_off);
    ck_assert_str_eq(config.kernel_cache, "/c");
    ck_assert_int_eq(config.log_level, LOG_DEBUG);
}
END_TEST

START_TEST(a_socket_for_gdb_is_taken)
{
    ck_assert_int_eq(parse_args("--kernel=k", "--gdb", "tcp:127.0.0.1:1234"), 0);
    ck_assert_str_eq(config.gdb, "tcp:127.0.0.1:1234");
    ck_assert(!config.wait_gdb);
    ck_assert_int_eq(parse_args("--kernel=k", "--wait-gdb", "--gdb=unix:/g"), 0);
    ck_assert_str_eq(config.gdb, "unix:/g");
    ck_assert(config.wait_gdb);
}
END_TEST

START_TEST(a_boot_trace_is_taken)
{
    ck_assert_int_eq(parse_args("--kernel=k", "--boot-trace", "/t"), 0);
    ck_assert_str_eq(config.boot_trace, "/t");
}
END_TEST

START_TEST(control_socket_is_taken)
{
    ck_assert_int_eq(parse_args("--kernel=k", "--qmp", "unix:q,server"), 0);
    ck_assert_str_eq(config.qmp, "unix:q,server");
    config_done(&config);
    ck_assert_int_eq(parse_args("--kernel=k", "--qmp=tcp:127.0.0.1:4444"), 0);
    ck_assert_str_eq(config.qmp, "tcp:127.0.0.1:4444");
}
END_TEST

START_TEST(name_is_a_word)
{
    ck_assert_int_eq(parse_args("--kernel=k", "--name", "web-1.a_B"), 0);
    ck_assert_str_eq(config.name, "web-1.a_B");
}
END_TEST

START_TEST(places_for_all_disks_add_up)
{
    ck_assert_int_eq(
        parse_args("--kernel=k", "--backing", "/images", "--backing=more", "--backing=any"), 0);
    ck_assert_uint_eq(config.backing.n, 2);
    ck_assert_str_eq(config.backing.paths[0], "/images");
    ck_assert_str_eq(config.backing.paths[1], "more");
    ck_assert(config.backing.any);
}
END_TEST

START_TEST(every_disk_key_is_taken)
{
    const char *all_keys = "a,,b=c,format=raw,readonly=on,cache=none,aio=threads,serial=S 1,"
                           "queues=16,discard=off,backing=/i,,j,backing=k,backing=any";
    const struct config_disk *disk;

    ck_assert_int_eq(parse_args("--kernel=k", "--disk", "plain.qcow2", "--disk", all_keys), 0);
    ck_assert_uint_eq(config.ndisks, 2);
    disk = &config.disks[0];
    ck_assert_str_eq(disk->path, "plain.qcow2");
    ck_assert_int_eq(disk->format, BLOCK_FORMAT_PROBE);
    ck_assert_int_eq(disk->cache, BLOCK_CACHE_WRITEBACK);
    ck_assert_int_eq(disk->aio, BLOCK_AIO_AUTO);
    ck_assert(!disk->readonly);
    ck_assert(disk->discard);
    ck_assert_uint_eq(disk->nqueues, 1);
    ck_assert_ptr_null(disk->serial);
    ck_assert_uint_eq(disk->backing.n, 0);
    ck_assert(!disk->backing.any);

    disk = &config.disks[1];
    ck_assert_str_eq(disk->path, "a,b=c");
    ck_assert_int_eq(disk->format, BLOCK_FORMAT_RAW);
    ck_assert_int_eq(disk->cache, BLOCK_CACHE_NONE);
    ck_assert_int_eq(disk->aio, BLOCK_AIO_THREADS);
    ck_assert(disk->readonly);
    ck_assert(!disk->discard);
    ck_assert_uint_eq(disk->nqueues, 16);
    ck_assert_str_eq(disk->serial, "S 1");
    ck_assert_uint_eq(disk->backing.n, 2);
    ck_assert_str_eq(disk->backing.paths[0], "/i,j");
    ck_assert_str_eq(disk->backing.paths[1], "k");
    ck_assert(disk->backing.any);
}
END_TEST

START_TEST(every_limit_on_a_disk_is_taken)
{
    static const char *const names[] = {"bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"};

    for (unsigned kind = 0; kind < ARRAY_SIZE(names); kind++) {
        const char *name = names[kind];
        const struct throttle_limits *limits;
        char text[128];

        (void)snprintf(text, sizeof(text), "a,%s=1K,%s_max=2M,%s_max_length=3", name, name, name);
        ck_assert_int_eq(parse_args("--kernel=k", "--disk", text), 0);
        limits = &config.disks[0].limits;
        for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
            ck_assert_uint_eq(limits->kinds[i].avg, i == kind ? 1024 : 0);
            ck_assert_uint_eq(limits->kinds[i].max, i == kind ? 2 << 20 : 0);
            ck_assert_uint_eq(limits->kinds[i].max_length, i == kind ? 3 : 1);
        }
    }
    ck_assert_int_eq(parse_args("--kernel=k", "--disk=a,iops=5,iops_size=4K"), 0);
    ck_assert_uint_eq(config.disks[0].limits.iops_size, 4096);
    config_done(&config);
    ck_assert_int_lt(parse_args("--kernel=k", "--disk=a,iops=5,iops_rd=4"), 0);
}
END_TEST

START_TEST(network_cards_have_keys_of_their_kind)
{
    static char user[] = "user,forward=2222:22,forward=udp:53:53,dns=1.1.1.1,hostname=vm,"
                         "mtu=1400,mac=52:54:00:AB:cd:ef,bps=10M,pps=5K,isolate=off";
    struct net_options options;

    ck_assert_int_eq(
        parse_args("--kernel=k", "--net", user, "--net=unix:/run/x.sock,server", "--net=none"), 0);
    ck_assert_uint_eq(config.nnets, 3);
    ck_assert_int_eq(config_net_options(&config.nets[0], &options, NULL), 0);
    ck_assert_int_eq(options.kind, NET_USER);
    ck_assert_uint_eq(options.user.nforwards, 2);
    ck_assert_str_eq(options.user.forwards[1], "udp:53:53");
    ck_assert_str_eq(options.user.dns[0], "1.1.1.1");
    ck_assert_str_eq(options.user.hostname, "vm");
    ck_assert_uint_eq(options.user.mtu, 1400);
    ck_assert(!options.user.isolate);
    ck_assert_mem_eq(config.nets[0].mac.octets, "\x52\x54\x00\xab\xcd\xef", MAC_LEN);
    ck_assert_uint_eq(config.nets[0].bps, 10 * MIB);
    ck_assert_uint_eq(config.nets[0].pps, 5 * KIB);
    ck_assert_int_eq(config_net_options(&config.nets[1], &options, NULL), 0);
    ck_assert_int_eq(options.kind, NET_UNIX);
    ck_assert_str_eq(options.place, "/run/x.sock");
    ck_assert(options.listens);
    ck_assert(options.user.isolate);
    ck_assert(mac_is_zero(&config.nets[1].mac));
    ck_assert_int_eq(config_net_options(&config.nets[2], &options, NULL), 0);
    ck_assert_int_eq(options.kind, NET_NONE);
    ck_assert_int_eq(parse_args("--kernel=k", "--net=tap:t,vhost=on"), 0);
    ck_assert_int_eq(config_net_options(&config.nets[0], &options, NULL), 0);
    ck_assert(options.vhost);
}
END_TEST

START_TEST(a_balloon_and_memory_that_stays_exclude_each_other)
{
    ck_assert_int_eq(parse_args("--kernel=k", "--balloon", "on", "--hugepages=host"), 0);
    ck_assert(config.balloon);
}
END_TEST

START_TEST(folders_are_shared_by_tags)
{
    ck_assert_int_eq(
        parse_args("--kernel=k", "--share", "/a,,b,tag=one", "--share", "c,readonly=on,tag=two"),
        0);
    ck_assert_uint_eq(config.nshares, 2);
    ck_assert_str_eq(config.shares[0].path, "/a,b");
    ck_assert_str_eq(config.shares[0].tag, "one");
    ck_assert(!config.shares[0].readonly);
    ck_assert_str_eq(config.shares[1].path, "c");
    ck_assert(config.shares[1].readonly);
    ck_assert(!config_may_map_files(&config));
}
END_TEST

START_TEST(a_source_of_random_bytes_has_a_rate)
{
    ck_assert_int_eq(parse_args("--kernel=k"), 0);
    ck_assert_uint_eq(config.nrngs, 0);
    config_done(&config);
    ck_assert_int_eq(parse_args("--kernel=k", "--rng=on"), 0);
    ck_assert(config.rngs[0].on);
    ck_assert_uint_eq(config.rngs[0].bps, 1 * MIB);
    config_done(&config);
    ck_assert_int_eq(parse_args("--kernel=k", "--rng", "off,bps=64K"), 0);
    ck_assert(!config.rngs[0].on);
    ck_assert_uint_eq(config.rngs[0].bps, 64 * KIB);
}
END_TEST

START_TEST(a_vsock_has_a_socket_and_a_map)
{
    const struct config_vsock *vsock;

    ck_assert_int_eq(parse_args("--kernel=k", "--vsock", "path=/v"), 0);
    vsock = &config.vsocks[0];
    ck_assert_str_eq(vsock->path, "/v");
    ck_assert_uint_eq(vsock->cid, 3);
    ck_assert(vsock->listen);
    ck_assert_uint_eq(vsock->nmaps, 0);
    config_done(&config);
    ck_assert_int_eq(
        parse_args("--kernel=k",
                   "--vsock=map=0:a,cid=4294967294,listen=off,path=v,map=4294967294:/x,,y:z"),
        0);
    vsock = &config.vsocks[0];
    ck_assert_uint_eq(vsock->cid, UINT32_MAX - 1);
    ck_assert(!vsock->listen);
    ck_assert_uint_eq(vsock->nmaps, 2);
    ck_assert_uint_eq(vsock->maps[0].port, 0);
    ck_assert_str_eq(vsock->maps[0].path, "a");
    ck_assert_uint_eq(vsock->maps[1].port, UINT32_MAX - 1);
    ck_assert_str_eq(vsock->maps[1].path, "/x,y:z");
}
END_TEST

START_TEST(commas_in_file_names_are_doubled)
{
    static const struct {
        const char *text;
        const char *path;
    } table[] = {
        {"a", "a"},
        {"a,,b", "a,b"},
        {",,", ","},
        {"a,,", "a,"},
        {"a,,,,b", "a,,b"},
        {"a,,,readonly=on", "a,"},
        {",,,,a", ",,a"},
        {"a=b", "a=b"},
        {"a,readonly=off", "a"},
        {"/x/y z", "/x/y z"},
        {"a,,b,serial=,,", "a,b"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        int r;

        config_init(&config);
        r = config_group_parse(config_group_find("disk"), &config, table[i].text, &err);
        ck_assert_msg(r == 0, "%s: %s", table[i].text, err.msg);
        ck_assert_str_eq(config.disks[0].path, table[i].path);
        config_done(&config);
    }
}
END_TEST

START_TEST(sizes_are_taken)
{
    static const struct {
        const char *text;
        uint64_t size;
    } table[] = {
        {"32M", 32ull << 20},     {"33554432", 32ull << 20}, {"65536K", 64ull << 20},
        {"0x40000000", 1u << 30}, {"64g", 64ull << 30},      {"4T", 4ull << 40},
        {"4096G", 4ull << 40},    {"3073m", 3073ull << 20},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        ck_assert_msg(parse_args("--kernel=k", "--memory", table[i].text) == 0, "%s", err.msg);
        ck_assert_uint_eq(config.memory, table[i].size);
    }
}
END_TEST

START_TEST(last_of_a_repeated_option_wins)
{
    ck_assert_int_eq(parse_args("--kernel=a", "--cpus=2", "--kernel=b", "--cpus=3",
                                "--disk=d,queues=2,queues=3", "--serial=file:x", "--serial=null"),
                     0);
    ck_assert_str_eq(config.kernel, "b");
    ck_assert_uint_eq(config.ncpus, 3);
    ck_assert_uint_eq(config.disks[0].nqueues, 3);
    ck_assert_int_eq(config.serial.kind, SERIAL_NULL);
    ck_assert_ptr_null(config.serial.path);
}
END_TEST

START_TEST(value_may_look_like_an_option_behind_equals)
{
    ck_assert_int_eq(parse_args("--kernel=--help", "--append", "-- single", "--initrd=-"), 0);
    ck_assert_str_eq(config.kernel, "--help");
    ck_assert_str_eq(config.append, "-- single");
    ck_assert_str_eq(config.initrds[0], "-");
}
END_TEST

START_TEST(a_kernel_to_prepare_takes_the_place_of_one_to_boot)
{
    ck_assert_int_eq(parse_args("--prepare-kernel", "k"), 0);
    ck_assert_int_eq(action, OPTIONS_PREPARE_KERNEL);
    ck_assert_str_eq(config.kernel, "k");
    ck_assert_int_eq(parse_args("--prepare-kernel=k", "--kernel", "other", "--kernel-cache", "/c"),
                     0);
    ck_assert_int_eq(action, OPTIONS_PREPARE_KERNEL);
    ck_assert_str_eq(config.kernel, "k");
    ck_assert_str_eq(config.kernel_cache, "/c");
    ck_assert_int_lt(parse_args("--prepare-kernel"), 0);
    ck_assert_int_lt(parse_args("--prepare-kernel", "k", "--cpus", "0"), 0);
    ck_assert_int_eq(parse_args("--prepare-kernel", "k", "--help"), 0);
    ck_assert_int_eq(action, OPTIONS_HELP);
}
END_TEST

START_TEST(help_and_version_need_nothing_else)
{
    ck_assert_int_eq(parse_args("--help"), 0);
    ck_assert_int_eq(action, OPTIONS_HELP);
    ck_assert_int_eq(parse_args("--cpus", "0", "-h"), 0);
    ck_assert_int_eq(action, OPTIONS_HELP);
    ck_assert_int_eq(parse_args("--version", "--help"), 0);
    ck_assert_int_eq(action, OPTIONS_VERSION);
}
END_TEST

/* ---- bad ------------------------------------------------------------------------------------- */

static const struct {
    const char *args[4];
    const char *message; /* the whole of it */
} bad[] = {
    {{"--kernle", "x"}, "--kernle: unknown option: expected one that --help lists"},
    {{"--kern", "x"}, "--kern: unknown option: expected one that --help lists"},
    {{"--"}, "--: unknown option: expected one that --help lists"},
    {{"--=x"}, "--=x: unknown option: expected one that --help lists"},
    {{"-k", "x"}, "-k: unknown option: expected one that --help lists"},
    {{"--acpi"}, "--acpi: unknown option: expected one that --help lists"},
    {{"bzImage"}, "bzImage: stray argument: expected an option"},
    {{"--kernel=k", "-"}, "-: stray argument: expected an option"},
    {{"--kernel=k", ""}, ": stray argument: expected an option"},
    {{"--kernel"}, "--kernel: value missing: expected FILE"},
    {{"--kernel", "--disk", "x"}, "--kernel: value missing: expected FILE"},
    {{"--no-acpi=off"}, "--no-acpi: 'off': expected no value"},
    {{"--help=me"}, "--help: 'me': expected no value"},
    {{"--cpus=1"}, "--kernel is missing: expected a bzImage or an ELF vmlinux"},
    {{"--kernel="}, "--kernel: '': expected a file name"},
    {{"--initrd="}, "--initrd: '': expected a file name"},
    {{"--kernel=k", "--append=a", "--cmdline=b"},
     "append and cmdline are both given: expected one of them"},
    {{"--cpus=0"}, "--cpus: '0': expected a number from 1 to 255"},
    {{"--cpus=256"}, "--cpus: '256': expected a number from 1 to 255"},
    {{"--cpus=-1"}, "--cpus: '-1': expected a number from 1 to 255"},
    {{"--cpus=4294967297"}, "--cpus: '4294967297': expected a number from 1 to 255"},
    {{"--cpus="}, "--cpus: '': expected a number from 1 to 255"},
    {{"--kernel=k", "--balloon=on", "--prealloc=on"},
     "balloon: RAM that is provided beforehand, by prealloc, does not go back to the host: "
     "expected only one of them"},
    {{"--kernel=k", "--hugepages=2M", "--balloon=on"},
     "balloon: RAM that is provided beforehand, by hugepages 2M, does not go back to the host: "
     "expected only one of them"},
    {{"--net=lan"},
     "--net: 'lan': expected none, user, tap:NAME, fd:NUMBER, bridge:NAME, unix:PATH or "
     "unix-dgram:PATH"},
    {{"--net=tap:"},
     "--net: 'tap:': expected none, user, tap:NAME, fd:NUMBER, bridge:NAME, unix:PATH or "
     "unix-dgram:PATH"},
    {{"--net=user,server"}, "--net: server: only with unix"},
    {{"--net=tap:t,forward=1:2"}, "--net: forward: only with user"},
    {{"--net=none,bps=1M"}, "--net: none: expected no keys with it: there is no card"},
    {{"--net=none,mac=52:54:00:00:00:01"},
     "--net: none: expected no keys with it: there is no card"},
    {{"--net=tap:t,vhost=on,pps=1000"},
     "--net: vhost: expected neither bps nor pps with it: the kernel has no limits"},
    {{"--net=user,forward"}, "--net: user: 'forward': expected key=value"},
    {{"--net=user,mtu=1279"}, "--net: user: mtu: '1279': expected a number from 1280 to 65520"},
    {{"--net=user,mac=01:00:00:00:00:01"},
     "--net: user: mac: '01:00:00:00:00:01': expected the address of one card, such as "
     "52:54:00:12:34:56"},
    {{"--net=user,mac=00:00:00:00:00:00"},
     "--net: user: mac: '00:00:00:00:00:00': expected the address of one card, such as "
     "52:54:00:12:34:56"},
    {{"--share=/a"}, "--share: tag is missing: expected a name for the guest"},
    {{"--share=/a,tag=1234567890123456789012345678901234567"},
     "--share: /a: tag: '1234567890123456789012345678901234567': expected 1 to 36 printable ASCII "
     "characters without spaces"},
    {{"--share=/a,tag=a b"},
     "--share: /a: tag: 'a b': expected 1 to 36 printable ASCII characters without spaces"},
    {{"--kernel=k", "--share=/a,tag=x", "--share=/b,tag=x"},
     "share: tag x is given twice: expected different ones"},
    {{"--net=tap:a,isolate=off"}, "--net: isolate: only with user"},
    {{"--kernel=k", "--net=user,mac=52:54:00:12:34:56", "--net=user",
      "--net=tap:a,mac=52:54:00:12:34:56"},
     "net: mac 52:54:00:12:34:56 is given twice: expected different ones"},
    {{"--kernel=k", "--net=fd:9", "--net=fd=9"},
     "net: fd 9 is given twice: expected different ones"},
    {{"--kernel=k", "--console=stdio", "--serial=stdio"},
     "console: the serial port is there: expected another place"},
    {{"--kernel=k", "--console=unix:a", "--serial=unix:a"},
     "console: the serial port is there: expected another place"},
    {{"--kernel=k", "--console=file:a", "--boot-trace=a"},
     "boot-trace: a: the console has it: expected another one"},
    {{"--console=tty"}, "--console: 'tty': expected one of stdio|null|pty|file:PATH|unix:PATH"},
    {{"--rng"}, "--rng: value missing: expected on|off[,KEY=VALUE]..."},
    {{"--rng=yes"}, "--rng: 'yes': expected on or off"},
    {{"--rng=on,bps=x"},
     "--rng: on: bps: 'x': expected a number up to 1000000000000000, such as 10M"},
    {{"--rng=on", "--rng=off"}, "--rng: given 2 times: expected at most 1"},
    {{"--vsock=v"}, "--vsock: 'v': expected key=value"},
    {{"--vsock=cid=5"}, "--vsock: path is missing: expected one for a socket"},
    {{"--vsock=path=v,cid=2"}, "--vsock: cid: '2': expected a number from 3 to 4294967294"},
    {{"--vsock=path=v,map=/x"}, "--vsock: map: '/x': expected PORT:PATH"},
    {{"--vsock=path=v,map=:x"},
     "--vsock: map: ':x': expected PORT:PATH with a port from 0 to 4294967294"},
    {{"--vsock=path=v,map=4294967295:x"},
     "--vsock: map: '4294967295:x': expected PORT:PATH with a port from 0 to 4294967294"},
    {{"--vsock=path=v,map=1:"}, "--vsock: map: '1:': expected a file name"},
    {{"--vsock=path=v,map=1:a,map=01:b"},
     "--vsock: map: '01:b': expected another port: this one is mapped already"},
    {{"--vsock=path=a", "--vsock=path=b"}, "--vsock: given 2 times: expected at most 1"},
    {{"--memory=31M"},
     "--memory: '31M': expected a size from 32M to 4T in whole megabytes, such as 512M"},
    {{"--memory=512"},
     "--memory: '512': expected a size from 32M to 4T in whole megabytes, such as 512M"},
    {{"--memory=4097G"},
     "--memory: '4097G': expected a size from 32M to 4T in whole megabytes, such as 512M"},
    {{"--memory=65537K"},
     "--memory: '65537K': expected a size from 32M to 4T in whole megabytes, such as 512M"},
    {{"--memory=1GB"},
     "--memory: '1GB': expected a size from 32M to 4T in whole megabytes, such as 512M"},
    {{"--memory=18446744073709551615T"},
     "--memory: '18446744073709551615T': expected a size from "
     "32M to 4T in whole megabytes, such as 512M"},
    {{"--serial=tty"}, "--serial: 'tty': expected one of stdio|null|pty|file:PATH|unix:PATH"},
    {{"--serial=file:"}, "--serial: 'file:': expected one of stdio|null|pty|file:PATH|unix:PATH"},
    {{"--serial=ptyx"}, "--serial: 'ptyx': expected one of stdio|null|pty|file:PATH|unix:PATH"},
    {{"--on-reboot=halt"}, "--on-reboot: 'halt': expected one of exit|restart"},
    {{"--shutdown-timeout=1m"}, "--shutdown-timeout: '1m': expected a number from 0 to 86400"},
    {{"--shutdown-timeout=86401"},
     "--shutdown-timeout: '86401': expected a number from 0 to 86400"},
    {{"--log=trace"}, "--log: 'trace': expected one of error|warn|info|debug"},
    {{"--disk="}, "--disk: '': expected a file name"},
    {{"--disk=,readonly=on"}, "--disk: '': expected a file name"},
    {{"--disk=a,"}, "--disk: a: '': expected key=value"},
    {{"--disk=a,ro"}, "--disk: a: 'ro': expected key=value"},
    {{"--disk=a,b.img,x=y"}, "--disk: a: 'b.img': expected key=value"},
    {{"--disk=a,file=b"},
     "--disk: a: 'file': expected a key that --help lists (a comma in a file name is written ,,)"},
    {{"--disk=a,form=raw"},
     "--disk: a: 'form': expected a key that --help lists (a comma in a file name is written ,,)"},
    {{"--disk=a,format=vmdk"}, "--disk: a: format: 'vmdk': expected one of qcow2|raw"},
    {{"--disk=a,readonly=yes"}, "--disk: a: readonly: 'yes': expected on or off"},
    {{"--disk=a,cache="}, "--disk: a: cache: '': expected one of writeback|none|unsafe"},
    {{"--disk=a,aio=native"}, "--disk: a: aio: 'native': expected one of io_uring|threads"},
    {{"--disk=a,backing="}, "--disk: a: backing: '': expected a file name"},
    {{"--disk=a,bps=1000000000000001"},
     "--disk: a: bps: '1000000000000001': expected a number up to 1000000000000000, such as 10M"},
    {{"--disk=a,iops=-1"},
     "--disk: a: iops: '-1': expected a number up to 1000000000000000, such as 10M"},
    {{"--disk=a,queues=17"}, "--disk: a: queues: '17': expected a number from 1 to 16"},
    {{"--disk=a,discard=unmap"}, "--disk: a: discard: 'unmap': expected on or off"},
    {{"--disk=a,serial="}, "--disk: a: serial: '': expected 1 to 20 printable ASCII characters"},
    {{"--disk=a,serial=123456789012345678901"},
     "--disk: a: serial: '123456789012345678901': expected 1 to 20 printable ASCII characters"},
    {{"--disk=a,serial=\n"}, "--disk: a: serial: '?': expected 1 to 20 printable ASCII characters"},
    {{"--config=/nowhere/vm.json"}, "/nowhere/vm.json: cannot open: No such file or directory"},
    {{"--config=/dev/null"}, "/dev/null: a character device, expected a regular file"},
};

START_TEST(bad_command_line_gets_one_clear_line)
{
    const char *args[ARGS_MAX] = {0};

    memcpy(args, bad[_i].args, sizeof(bad[_i].args));
    ck_assert_int_lt(parse(args), 0);
    ck_assert_str_eq(err.msg, bad[_i].message);
}
END_TEST

START_TEST(long_value_leaves_room_for_what_was_expected)
{
    char arg[1 << 14] = "--cpus=";

    memset(arg + 7, '9', sizeof(arg) - 8);
    arg[sizeof(arg) - 1] = '\0';
    ck_assert_int_lt(parse_args(arg), 0);
    ck_assert_ptr_nonnull(strstr(err.msg, "': expected a number from 1 to 255"));
}
END_TEST

/* ---- with a file ----------------------------------------------------------------------------- */

static void free_config(void)
{
    config_done(&config);
}

static const char *write_file(const char *text)
{
    scratch_save("config", text, strlen(text));
    return scratch_path("config");
}

START_TEST(command_line_wins_over_the_file)
{
    const char *file =
        write_file("{\"kernel\": \"f\", \"cpus\": 2, \"memory\": \"64M\", \"append\": \"x\","
                   " \"disk\": [{\"file\": \"/a\"}, {\"file\": \"/b\"}], \"initrd\": [\"/i\"],"
                   " \"backing\": [\"/b\", \"any\"]}");
    ck_assert_msg(
        parse_args("--cpus=3", "--disk=c", "--cmdline=y", "--backing=p", "--config", file) == 0,
        "%s", err.msg);
    ck_assert_uint_eq(config.backing.n, 1);
    ck_assert_str_eq(config.backing.paths[0], "p");
    ck_assert(!config.backing.any);
    ck_assert_str_eq(config.kernel, scratch_path("f"));
    ck_assert_uint_eq(config.ncpus, 3);
    ck_assert_uint_eq(config.memory, 64u << 20);
    ck_assert_ptr_null(config.append);
    ck_assert_str_eq(config.cmdline, "y");
    ck_assert_uint_eq(config.ndisks, 1);
    ck_assert_str_eq(config.disks[0].path, "c");
    ck_assert_uint_eq(config.ninitrds, 1);
    ck_assert_str_eq(config.initrds[0], "/i");
}
END_TEST

START_TEST(last_file_is_read_alone)
{
    const char *file = write_file("{\"kernel\": \"/k\", \"cpus\": 7}");
    ck_assert_msg(parse_args("--config=/nowhere", "--config", file) == 0, "%s", err.msg);
    ck_assert_uint_eq(config.ncpus, 7);
}
END_TEST

START_TEST(error_in_the_file_names_the_file)
{
    const char *file = write_file("{\"kernel\": \"/k\", \"cpus\": 0}");
    ck_assert_int_eq(parse_args("--config", file), -EINVAL);
    ck_assert_int_eq(strncmp(err.msg, file, strlen(file)), 0);
    ck_assert_str_eq(err.msg + strlen(file), ": cpus: '0': expected a number from 1 to 255");
}
END_TEST

/* ---- what people read ------------------------------------------------------------------------ */

/* The whole of a file; "" if there is none: tests run at the top of the source tree. */
static const char *slurp(const char *path)
{
    static char text[1 << 17];
    FILE *stream = fopen(path, "r");
    size_t len = stream ? fread(text, 1, sizeof(text) - 1, stream) : 0;

    if (stream)
        fclose(stream);
    text[len] = '\0';
    return text;
}

static const char *captured_help(void)
{
    const char *path = scratch_path("help");
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    int saved = dup(STDOUT_FILENO);

    fflush(stdout);
    dup2(fd, STDOUT_FILENO);
    options_print_help();
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(fd);
    return path;
}

/* What has a key on the command line. */
static const struct setting *keys_of(const struct config_group *group)
{
    return group->settings + (group->first_is_unnamed ? 1 : 0);
}

START_TEST(help_names_every_setting_and_fits_a_terminal)
{
    const char *path = captured_help();
    const char *text = slurp(path);

    for (const struct setting *s = config_settings; s->name[0]; s++) {
        char name[64];

        snprintf(name, sizeof(name), "\n  --%s", s->option[0] ? s->option : s->name);
        ck_assert_msg(strstr(text, name) && strstr(text, s->help), "%s", name);
    }
    for (const struct config_group *group = config_groups; group->name[0]; group++)
        for (const struct setting *s = keys_of(group); s->name[0]; s++) {
            char name[64];

            snprintf(name, sizeof(name), "\n  %s=%s", s->name, s->value);
            ck_assert_msg(strstr(text, name) && strstr(text, s->help), "%s", name);
        }
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        ck_assert_uint_le(strcspn(line, "\n"), 80);
}
END_TEST

/* Every name stands in the man page as an option or key of its own, and in docs/config.md. */
START_TEST(manual_describes_every_setting)
{
    const char *text = slurp("docs/minivmm.1");

    for (const struct setting *s = config_settings; s->name[0]; s++) {
        char name[64];

        snprintf(name, sizeof(name), ".It Fl -%s", s->option[0] ? s->option : s->name);
        ck_assert_msg(strstr(text, name), "%s", name);
    }
    for (const struct config_group *group = config_groups; group->name[0]; group++)
        for (const struct setting *s = keys_of(group); s->name[0]; s++) {
            char name[64];

            snprintf(name, sizeof(name), ".It Cm %s Ns =", s->name);
            ck_assert_msg(strstr(text, name), "%s", name);
        }
}
END_TEST

static void check_keys(const char *text, const struct setting *table)
{
    for (const struct setting *s = table; s->name[0]; s++) {
        char row[64];

        snprintf(row, sizeof(row), "| `%s` |", s->name);
        ck_assert_msg(strstr(text, row), "%s", row);
    }
}

START_TEST(schema_describes_every_setting)
{
    const char *text = slurp("docs/config.md");

    check_keys(text, config_settings);
    for (const struct config_group *group = config_groups; group->name[0]; group++)
        check_keys(text, group->settings);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("bad");

    tcase_add_loop_test(tcase, bad_command_line_gets_one_clear_line, 0, ARRAY_SIZE(bad));
    tcase_add_test(tcase, long_value_leaves_room_for_what_was_expected);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("file");
    tcase_add_checked_fixture(tcase, NULL, free_config);
    tcase_add_test(tcase, command_line_wins_over_the_file);
    tcase_add_test(tcase, last_file_is_read_alone);
    tcase_add_test(tcase, error_in_the_file_names_the_file);
    suite_add_tcase(suite, tcase);

    unit_case(
        suite, "good", kernel_alone_gives_the_defaults, every_option_is_taken,
        a_socket_for_gdb_is_taken, a_boot_trace_is_taken, control_socket_is_taken, name_is_a_word,
        places_for_all_disks_add_up, every_disk_key_is_taken, every_limit_on_a_disk_is_taken,
        network_cards_have_keys_of_their_kind, a_balloon_and_memory_that_stays_exclude_each_other,
        a_source_of_random_bytes_has_a_rate, a_vsock_has_a_socket_and_a_map,
        commas_in_file_names_are_doubled, sizes_are_taken, last_of_a_repeated_option_wins,
        value_may_look_like_an_option_behind_equals, folders_are_shared_by_tags,
        a_kernel_to_prepare_takes_the_place_of_one_to_boot, help_and_version_need_nothing_else);
    unit_case(suite, "documents", help_names_every_setting_and_fits_a_terminal,
              manual_describes_every_setting, schema_describes_every_setting);
}

UNIT_MAIN("options", add_tests)
