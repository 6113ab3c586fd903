/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/unit.h"
#include "vmm/control/address.h"

static struct address address;
static struct err err;

START_TEST(addresses_are_checked)
{
    static const struct {
        const char *address;
        const char *says; /* NULL: fine */
    } cases[] = {
        {"unix:/tmp/a", NULL},
        {"unix:a,server", NULL},
        {"unix:a,server=on,wait=off", NULL},
        {"unix:a,server,nowait", NULL},
        {"tcp:127.0.0.1:1", NULL},
        {"tcp:localhost:65535", NULL},
        {"", "expected unix:PATH or tcp:127.0.0.1:PORT"},
        {"unix:", "expected unix:PATH or tcp:127.0.0.1:PORT"},
        {"unix:,server", "expected unix:PATH or tcp:127.0.0.1:PORT"},
        {"/tmp/a", "expected unix:PATH or tcp:127.0.0.1:PORT"},
        {"unix:a,server=off", "'server=off': expected unix:PATH[,server]"},
        {"unix:a,wait", "'wait': expected unix:PATH[,server]"},
        {"unix:a,", "'': expected unix:PATH[,server]"},
        {"tcp:0.0.0.0:1", "for this machine only"},
        {"tcp::1", "for this machine only"},
        {"tcp:127.0.0.1", "for this machine only"},
        {"tcp:127.0.0.1:", "'': expected a port from 1 to 65535"},
        {"tcp:127.0.0.1:0", "'0': expected a port from 1 to 65535"},
        {"tcp:127.0.0.1:65536", "'65536': expected a port from 1 to 65535"},
        {"tcp:127.0.0.1:1x", "'1x': expected a port from 1 to 65535"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        memset(&err, 0, sizeof(err));
        ck_assert_int_eq(address_parse(cases[i].address, &address, &err),
                         cases[i].says ? -EINVAL : 0);
        if (cases[i].says)
            ck_assert(strstr(err.msg, cases[i].says));
    }
}
END_TEST

START_TEST(path_ends_before_the_comma)
{
    static const char text[] = "unix:/run/vm,server";

    ck_assert_int_eq(address_parse(text, &address, &err), 0);
    ck_assert_ptr_eq(address.path, text + 5);
    ck_assert_uint_eq(address.path_len, 7);
}
END_TEST

START_TEST(port_is_taken)
{
    ck_assert_int_eq(address_parse("tcp:127.0.0.1:4444", &address, &err), 0);
    ck_assert_ptr_null(address.path);
    ck_assert_uint_eq(address.port, 4444);
}
END_TEST

START_TEST(message_about_a_long_text_says_what_was_expected)
{
    char text[5000] = "unix:";

    memset(text + 5, 'x', sizeof(text) - 6);
    memset(&err, 0, sizeof(err));
    ck_assert_int_eq(address_parse(text, &address, &err), -EINVAL);
    ck_assert(strstr(err.msg, "expected unix:PATH"));
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "address", addresses_are_checked, path_ends_before_the_comma, port_is_taken,
              message_about_a_long_text_says_what_was_expected);
}

UNIT_MAIN("address", add_tests)
