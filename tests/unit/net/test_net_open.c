/* SPDX-License-Identifier: Apache-2.0 */
#include "net/open.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/unit.h"

static struct err err;

START_TEST(kinds_are_known_by_their_names)
{
    static const struct {
        const char *text;
        const char *place;
        enum net_kind kind;
        int fd;
    } cases[] = {
        {"none", NULL, NET_NONE, 0},
        {"user", NULL, NET_USER, 0},
        {"tap=tap0", "tap0", NET_TAP, 0},
        {"tap:tap0", "tap0", NET_TAP, 0},
        {"fd=7", "7", NET_TAP_FD, 7},
        {"fd:0", "0", NET_TAP_FD, 0},
        {"bridge=br0", "br0", NET_BRIDGE, 0},
        {"unix:/run/a:b=c", "/run/a:b=c", NET_UNIX, 0},
        {"unix-dgram:/run/x", "/run/x", NET_UNIX_DGRAM, 0},
        {"unix-dgram=x", "x", NET_UNIX_DGRAM, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct net_options options = {0};

        ck_assert_msg(net_options_set_kind(&options, cases[i].text, &err) == 0, "%s", err.msg);
        ck_assert_int_eq(options.kind, cases[i].kind);
        ck_assert_int_eq(options.fd, cases[i].fd);
        if (cases[i].place)
            ck_assert_str_eq(options.place, cases[i].place);
        else
            ck_assert_ptr_null(options.place);
    }
}
END_TEST

START_TEST(other_texts_are_refused)
{
    static const char *const texts[] = {
        "",      "users", "user=x",  "user:", "none=",      "tap",   "tap=",          "tap0",
        "taps=", "fd",    "fd=",     "fd=x",  "fd=-1",      "fd=1 ", "fd=2147483648", "bridge",
        "unix",  "unix:", "unix-x:", "unixx", "unix-dgram", "veth=x"};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct net_options options = {0};

        ck_assert_msg(net_options_set_kind(&options, texts[i], &err) == -EINVAL, "%s", texts[i]);
        ck_assert_msg(strstr(err.msg, "expected"), "%s", err.msg);
    }
}
END_TEST

START_TEST(keys_of_other_kinds_are_refused)
{
    static const char *const texts[] = {"x"};
    static const struct {
        struct net_options options;
        const char *key;
    } cases[] = {
        {{.kind = NET_TAP, .user.forwards = texts, .user.nforwards = 1}, "forward: only with user"},
        {{.kind = NET_UNIX, .user.dns = texts, .user.ndns = 1}, "dns: only with user"},
        {{.kind = NET_BRIDGE, .user.hostname = "x"}, "hostname: only with user"},
        {{.kind = NET_USER, .listens = true}, "server: only with unix"},
        {{.kind = NET_UNIX_DGRAM, .listens = true}, "server: only with unix"},
        {{.kind = NET_TAP, .bridge_helper = "x"}, "helper: only with bridge"},
        {{.kind = NET_USER, .vhost = true}, "vhost: only with tap, fd and bridge"},
        {{.kind = NET_UNIX, .vhost = true}, "vhost: only with tap, fd and bridge"},
        {{.kind = NET_TAP, .user.mtu = 1}, "mtu: "},
        {{.kind = NET_USER, .user.forwards = texts, .user.nforwards = 1}, "forward: 'x'"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        ck_assert_int_eq(net_options_check(&cases[i].options, &err), -EINVAL);
        ck_assert_msg(strstr(err.msg, cases[i].key) == err.msg, "%s", err.msg);
    }
}
END_TEST

START_TEST(what_cannot_be_opened_is_told)
{
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct net *net;

    ck_assert_int_eq(net_open(&(struct net_options){.kind = NET_TAP_FD, .fd = null}, &net, &err),
                     -EINVAL);
    ck_assert_msg(strstr(err.msg, "expected an open tap"), "%s", err.msg);
    ck_assert_int_eq(fcntl(null, F_GETFD), FD_CLOEXEC); /* not ours, so not closed */
    ck_assert_int_eq(net_open(&(struct net_options){.kind = NET_TAP_FD, .fd = 999}, &net, &err),
                     -EINVAL);
    ck_assert_int_eq(
        net_open(&(struct net_options){.kind = NET_TAP, .place = "a-name-that-is-too-long"}, &net,
                 &err),
        -EINVAL);
    ck_assert_int_eq(net_open(&(struct net_options){.kind = NET_TAP, .place = "tap%d"}, &net, &err),
                     -EINVAL);
    ck_assert_int_eq(net_open(&(struct net_options){.kind = NET_BRIDGE,
                                                    .place = "br0",
                                                    .bridge_helper = "/nowhere/helper"},
                              &net, &err),
                     -ENOENT);
    ck_assert_msg(strstr(err.msg, "/nowhere/helper"), "%s", err.msg);
    ck_assert_int_eq(net_open(&(struct net_options){.kind = NET_NONE}, &net, &err), -EINVAL);
}
END_TEST

START_TEST(an_mtu_is_for_all_kinds)
{
    struct net *net;
    const struct net_options options = {.kind = NET_UNIX, .place = "/nowhere/x", .user.mtu = 9000};

    ck_assert_int_eq(net_options_check(&options, &err), 0);
    ck_assert_int_eq(net_open(&options, &net, &err), 0);
    ck_assert_uint_eq(net->mtu, 9000);
    net->ops->close(net);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "open", kinds_are_known_by_their_names, other_texts_are_refused,
              keys_of_other_kinds_are_refused, what_cannot_be_opened_is_told,
              an_mtu_is_for_all_kinds);
}

UNIT_MAIN("net_open", add_tests)
