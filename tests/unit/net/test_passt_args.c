/* SPDX-License-Identifier: Apache-2.0 */
#include "net/passt_args.h"

#include <errno.h>
#include <string.h>

#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

static struct err err;

START_TEST(forwards_are_told_to_passt)
{
    static const struct {
        const char *text;
        const char *arg;
        bool is_udp;
    } cases[] = {
        /* Without an address, the host alone can connect. */
        {"2222:22", "127.0.0.1/2222:22", false},
        {"tcp:2222:22", "127.0.0.1/2222:22", false},
        {"udp:53:5353", "127.0.0.1/53:5353", true},
        {"*:80:8080", "80:8080", false},
        {"udp:*:80:8080", "80:8080", true},
        {"192.0.2.1:1:65535", "192.0.2.1/1:65535", false},
        {"[::1]:8080:80", "::1/8080:80", false},
        {"tcp:[2001:db8::1]:8080:80", "2001:db8::1/8080:80", false},
        {"0.0.0.0:1:2", "0.0.0.0/1:2", false},
        {"udp:[0001:0002:0003:0004:0005:0006:0007:0008]:65535:65535",
         "0001:0002:0003:0004:0005:0006:0007:0008/65535:65535", true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct passt_forward forward;

        ck_assert_msg(passt_forward_parse(cases[i].text, &forward, &err) == 0, "%s", err.msg);
        ck_assert_str_eq(forward.arg, cases[i].arg);
        ck_assert_int_eq(forward.is_udp, cases[i].is_udp);
    }
}
END_TEST

START_TEST(bad_forwards_are_refused)
{
    static const char *const texts[] = {
        "",
        ":",
        "::",
        "22",
        ":22",
        "22:",
        ":2222:22",
        "2222::22",
        "0:22",
        "22:0",
        "65536:22",
        "22:65536",
        "-1:22",
        "22 :22",
        "1:22:22",
        "localhost:2222:22",
        "300.0.0.1:2222:22",
        "::1:2222:22",
        "[::1:2222:22",
        "::1]:2222:22",
        "[]:2222:22",
        "[127.0.0.1]:2222:22",
        "[::1]2222:22",
        "x[::1]:2222:22",
        "1.2.3.4:[::1]:2222:22",
        "127.0.0.1:127.0.0.1:2222:22",
        "tcp:udp:2222:22",
        "sctp:2222:22",
        "127.0.0.1/2222:22",
        "2222-2223:22",
        "2222:22,80",
        "22:[22]",
        "[0001:0002:0003:0004:0005:0006:0007:0008:0009:0010:0011:0012]:1:1",
        "*%eth0:1:1",
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct passt_forward forward;

        ck_assert_msg(passt_forward_parse(texts[i], &forward, &err) == -EINVAL, "%s", texts[i]);
        ck_assert_msg(strstr(err.msg, "such as 2222:22"), "%s", err.msg);
    }
}
END_TEST

static void refuse(const struct passt_options *options, const char *part)
{
    ck_assert_int_eq(passt_options_check(options, &err), -EINVAL);
    ck_assert_msg(strstr(err.msg, part), "%s", err.msg);
}

START_TEST(bad_options_are_refused)
{
    static const char *const servers[] = {"1.1.1.1", "dns.example"};
    static const char *const forwards[] = {"1:1", "x"};
    static const char *const names[] = {"", "a b", "-x", ".x", "a_b", "a/b", "\xc3\xa4"};

    refuse(&(struct passt_options){.dns = servers, .ndns = 2}, "dns: 'dns.example'");
    refuse(&(struct passt_options){.forwards = forwards, .nforwards = 2}, "forward: 'x'");
    refuse(&(struct passt_options){.mtu = PASST_MTU_MIN - 1}, "mtu: 1279");
    refuse(&(struct passt_options){.mtu = PASST_MTU_MAX + 1}, "mtu: 65521");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        refuse(&(struct passt_options){.hostname = names[i]}, "hostname: ");
}
END_TEST

/* The command line, in one text. */
static const char *command_line(const struct passt_options *options)
{
    static char text[1024];
    struct passt_args args;
    size_t len = 0;

    ck_assert_int_eq(passt_options_check(options, &err), 0);
    ck_assert_int_eq(passt_args_make(&args, options, &err), 0);
    for (unsigned i = 0; args.argv[i]; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? " " : "", args.argv[i]);
    ck_assert_uint_lt(len, sizeof(text));
    passt_args_free(&args);
    return text;
}

START_TEST(options_become_a_command_line)
{
    static const char *const servers[] = {"192.0.2.53", "2001:db8::53"};
    static const char *const forwards[] = {"2222:22", "udp:*:53:53", "80:80"};
    static const char *const tcp[] = {"2222:22"};
    struct passt_options options = {.dns = servers, .ndns = 1};

    ck_assert_str_eq(command_line(&options), "passt --foreground --fd 3 --mtu 65520 "
                                             "--dns 192.0.2.53 --udp-ports none");
    options.isolate = true;
    options.forwards = tcp;
    options.nforwards = 1;
    ck_assert_str_eq(command_line(&options), "passt --foreground --fd 3 --mtu 65520 --no-map-gw "
                                             "--dns 192.0.2.53 --tcp-ports 127.0.0.1/2222:22 "
                                             "--udp-ports none");
    options.forwards = forwards;
    options.nforwards = 3;
    options.ndns = 2;
    options.hostname = "box-1.example";
    options.mtu = 1500;
    ck_assert_str_eq(command_line(&options),
                     "passt --foreground --fd 3 --mtu 1500 --no-map-gw --hostname box-1.example "
                     "--dns 192.0.2.53 --dns 2001:db8::53 --tcp-ports 127.0.0.1/2222:22 "
                     "--udp-ports 53:53 --tcp-ports 127.0.0.1/80:80");
}
END_TEST

static void read_resolvers(const char *text, struct resolvers *resolvers)
{
    scratch_save("resolv.conf", text, strlen(text));
    resolvers_read(scratch_path("resolv.conf"), resolvers);
}

START_TEST(resolvers_are_read)
{
    struct resolvers resolvers;

    read_resolvers("# nameserver 1.1.1.1\nsearch example\nnameserver 192.0.2.1\n"
                   "nameserver\t2001:db8::1 # a comment\nnameserver 127.0.0.53\nnameserver ::1\n"
                   "nameserver fe80::1%eth0\nnameserver\nnameserver x\noptions edns0\n"
                   "nameserver 192.0.2.3\nnameserver 192.0.2.4",
                   &resolvers);
    ck_assert_uint_eq(resolvers.n, RESOLVERS_MAX);
    ck_assert_str_eq(resolvers.addrs[0], "192.0.2.1");
    ck_assert_str_eq(resolvers.addrs[1], "2001:db8::1");
    ck_assert_str_eq(resolvers.addrs[2], "192.0.2.3");
    ck_assert_uint_eq(resolvers.nlocal, 2);
}
END_TEST

START_TEST(without_a_file_there_are_no_resolvers)
{
    struct resolvers resolvers;

    resolvers_read(scratch_path("nothing"), &resolvers);
    ck_assert_uint_eq(resolvers.n, 0);
    ck_assert_uint_eq(resolvers.nlocal, 0);
    read_resolvers("", &resolvers);
    ck_assert_uint_eq(resolvers.n, 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "forwards", forwards_are_told_to_passt, bad_forwards_are_refused);
    unit_case(suite, "options", bad_options_are_refused, options_become_a_command_line);
    unit_case_with(suite, "resolvers", scratch_set_up, scratch_tear_down, resolvers_are_read,
                   without_a_file_there_are_no_resolvers);
}

UNIT_MAIN("passt_args", add_tests)
