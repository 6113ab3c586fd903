/* SPDX-License-Identifier: Apache-2.0 */
#include "net/mac.h"

#include <string.h>

#include "base/bytes.h"
#include "tests/lib/unit.h"

START_TEST(addresses_are_read_and_written)
{
    char text[MAC_TEXT_LEN];
    struct mac mac;

    ck_assert(mac_parse("52:54:00:aB:Cd:ef", &mac));
    ck_assert_mem_eq(mac.octets, "\x52\x54\x00\xab\xcd\xef", MAC_LEN);
    mac_format(&mac, text);
    ck_assert_str_eq(text, "52:54:00:ab:cd:ef");
}
END_TEST

START_TEST(what_is_no_address_is_refused)
{
    static const char *const bad[] = {
        "",
        "5",
        "52",
        "52:54:00:12:34",
        "52:54:00:12:34:",
        "52:54:00:12:34:5",
        "52:54:00:12:34:56:",
        "52:54:00:12:34:567",
        "52-54-00-12-34-56",
        "525400123456",
        "52:54:00:12:34:5g",
        "52:54:00:12:34:G5",
        " 52:54:00:12:34:56",
        "+2:54:00:12:34:56",
        "52:54:00:12:34:5@",
    };
    struct mac mac = {{1, 2, 3, 4, 5, 6}};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ck_assert_msg(!mac_parse(bad[i], &mac), "%s", bad[i]);
    ck_assert_mem_eq(mac.octets, "\1\2\3\4\5\6", MAC_LEN);
}
END_TEST

START_TEST(kinds_of_addresses_are_told)
{
    ck_assert(mac_is_group(&(struct mac){{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}));
    ck_assert(mac_is_group(&(struct mac){{0x33, 0x33, 0, 0, 0, 1}}));
    ck_assert(!mac_is_group(&(struct mac){{0x52, 0xff, 0xff, 0xff, 0xff, 0xff}}));
    ck_assert(mac_is_zero(&(struct mac){{0}}));
    ck_assert(!mac_is_zero(&(struct mac){{0, 0, 0, 0, 0, 1}}));
}
END_TEST

/* Guests keep what they were given under an address: a later version gives them the same. */
START_TEST(address_of_a_name_never_changes)
{
    char text[MAC_TEXT_LEN];
    struct mac mac = mac_of_name("vm", 0);

    mac_format(&mac, text);
    ck_assert_str_eq(text, "d2:a5:72:9f:70:57");
}
END_TEST

START_TEST(names_and_cards_have_addresses_of_their_own)
{
    enum { NAMES = 250, CARDS = 4 };
    static struct mac seen[NAMES * CARDS];

    for (unsigned i = 0; i < ARRAY_SIZE(seen); i++) {
        char name[16];

        snprintf(name, sizeof(name), "vm%u", i / CARDS);
        seen[i] = mac_of_name(name, i % CARDS);
        ck_assert(!mac_is_group(&seen[i]) && (seen[i].octets[0] & 2));
        for (unsigned j = 0; j < i; j++)
            ck_assert(memcmp(&seen[i], &seen[j], sizeof(seen[i])) != 0);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "mac", addresses_are_read_and_written, what_is_no_address_is_refused,
              kinds_of_addresses_are_told, address_of_a_name_never_changes,
              names_and_cards_have_addresses_of_their_own);
}

UNIT_MAIN("mac", add_tests)
