/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/unit.h"
#include "vmm/config/config.h"
#include "vmm/config/config_settings.h"
#include "vmm/config/config_values.h"

static struct config config;

static void setup(void)
{
    config_init(&config);
}

static void teardown(void)
{
    config_done(&config);
}

static void add_disk(const char *text)
{
    ck_assert_int_eq(config_group_parse(config_group_find("disk"), &config, text, NULL), 0);
}

static void check_cmdline(const char *expected)
{
    char *cmdline = config_kernel_cmdline(&config);

    ck_assert_str_eq(cmdline, expected);
    free(cmdline);
}

static void check_cache(const char *expected)
{
    char *cache = config_kernel_cache(&config);

    if (expected)
        ck_assert_str_eq(cache, expected);
    else
        ck_assert_ptr_null(cache);
    free(cache);
}

START_TEST(the_cache_of_kernels_is_where_the_user_keeps_caches)
{
    ck_assert_int_eq(setenv("HOME", "/h", 1), 0);
    ck_assert_int_eq(unsetenv("XDG_CACHE_HOME"), 0);
    check_cache("/h/.cache/minivmm");
    ck_assert_int_eq(setenv("XDG_CACHE_HOME", "relative", 1), 0);
    check_cache("/h/.cache/minivmm");
    ck_assert_int_eq(setenv("XDG_CACHE_HOME", "/x", 1), 0);
    check_cache("/x/minivmm");

    config.kernel_cache = strdup("mine");
    check_cache("mine");
    config.kernel_cache_off = true;
    check_cache(NULL);
    config.kernel_cache_off = false;
    free(config.kernel_cache);
    config.kernel_cache = NULL;

    ck_assert_int_eq(unsetenv("XDG_CACHE_HOME"), 0);
    ck_assert_int_eq(setenv("HOME", "", 1), 0);
    check_cache(NULL);
    ck_assert_int_eq(unsetenv("HOME"), 0);
    check_cache(NULL);
}
END_TEST

START_TEST(default_cmdline_without_disk_has_no_root)
{
    check_cmdline("console=ttyS0 8250.nr_uarts=1 pci=off");
}
END_TEST

START_TEST(default_cmdline_has_the_first_disk_as_root)
{
    add_disk("a");
    add_disk("b,readonly=on");
    check_cmdline("console=ttyS0 root=/dev/vda rw 8250.nr_uarts=1 pci=off");
}
END_TEST

START_TEST(root_on_a_readonly_disk_is_readonly)
{
    add_disk("a,readonly=on");
    check_cmdline("console=ttyS0 root=/dev/vda ro 8250.nr_uarts=1 pci=off");
}
END_TEST

START_TEST(a_console_is_on_the_default_cmdline_after_the_serial_port)
{
    config.console.given = true;
    check_cmdline("console=ttyS0 console=hvc0 8250.nr_uarts=1 pci=off");
}
END_TEST

START_TEST(a_console_on_stdio_takes_it_from_the_serial_port)
{
    ck_assert_int_eq(config_serial_kind(&config), SERIAL_STDIO);
    config.console = (struct config_port){.given = true, .kind = SERIAL_PTY};
    ck_assert_int_eq(config_serial_kind(&config), SERIAL_STDIO);
    config.console.kind = SERIAL_STDIO;
    ck_assert_int_eq(config_serial_kind(&config), SERIAL_NULL);
    config.serial = (struct config_port){.given = true, .kind = SERIAL_PTY};
    ck_assert_int_eq(config_serial_kind(&config), SERIAL_PTY);
}
END_TEST

START_TEST(append_stands_last)
{
    config.append = strdup("root=/dev/vdb quiet -- single");
    config.acpi = false;
    add_disk("a");
    check_cmdline("console=ttyS0 root=/dev/vda rw 8250.nr_uarts=1 pci=off acpi=off "
                  "initcall_blacklist=cmos_init "
                  "root=/dev/vdb quiet -- single");
}
END_TEST

START_TEST(a_clock_without_acpi_is_not_kept_from_its_driver)
{
    config.acpi = false;
    config.rtc = true;
    check_cmdline("console=ttyS0 8250.nr_uarts=1 pci=off acpi=off");
}
END_TEST

START_TEST(cmdline_replaces_all_but_the_word_on_pci)
{
    config.cmdline = strdup("init=/bin/sh -- pci");
    config.acpi = false;
    add_disk("a");
    check_cmdline("pci=off init=/bin/sh -- pci");
}
END_TEST

START_TEST(cmdline_with_a_word_on_pci_stays_as_it_is)
{
    static const char *const texts[] = {"pci=conf1", "quiet pci=noearly x"};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        free(config.cmdline);
        config.cmdline = strdup(texts[i]);
        check_cmdline(texts[i]);
    }
}
END_TEST

START_TEST(other_words_that_hold_pci_do_not_count)
{
    config.cmdline = strdup("x.pci=1");
    check_cmdline("pci=off x.pci=1");
}
END_TEST

START_TEST(empty_cmdline_is_possible)
{
    config.cmdline = strdup("");
    check_cmdline("pci=off");
}
END_TEST

START_TEST(done_twice_is_harmless)
{
    add_disk("a,serial=x");
    config_done(&config);
    config_done(&config);
}
END_TEST

/* The names of settings are found by strcmp: one name, one meaning. */
START_TEST(names_of_settings_are_unique)
{
    for (const struct setting *s = config_settings; s->name[0]; s++)
        ck_assert_ptr_eq(setting_find(config_settings, s->name), s);
    for (const struct config_group *group = config_groups; group->name[0]; group++) {
        ck_assert_ptr_eq(config_group_find(group->name), group);
        for (const struct setting *s = group->settings; s->name[0]; s++)
            ck_assert_ptr_eq(setting_find(group->settings, s->name), s);
    }
    ck_assert_ptr_null(setting_find(config_settings, "kern"));
    ck_assert_ptr_null(setting_find(config_settings, ""));
}
END_TEST

START_TEST(files_are_mapped_unless_pages_are_chosen_before)
{
    ck_assert(config_may_map_files(&config));
    config.pages = GUEST_PAGES_HOST;
    ck_assert(config_may_map_files(&config));
    config.pages = GUEST_PAGES_2M;
    ck_assert(!config_may_map_files(&config));
    config.pages = GUEST_PAGES_THP;
    config.prealloc = true;
    ck_assert(!config_may_map_files(&config));
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("config");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, the_cache_of_kernels_is_where_the_user_keeps_caches);
    tcase_add_test(tcase, files_are_mapped_unless_pages_are_chosen_before);
    tcase_add_test(tcase, default_cmdline_without_disk_has_no_root);
    tcase_add_test(tcase, default_cmdline_has_the_first_disk_as_root);
    tcase_add_test(tcase, root_on_a_readonly_disk_is_readonly);
    tcase_add_test(tcase, a_console_is_on_the_default_cmdline_after_the_serial_port);
    tcase_add_test(tcase, a_console_on_stdio_takes_it_from_the_serial_port);
    tcase_add_test(tcase, append_stands_last);
    tcase_add_test(tcase, a_clock_without_acpi_is_not_kept_from_its_driver);
    tcase_add_test(tcase, cmdline_replaces_all_but_the_word_on_pci);
    tcase_add_test(tcase, cmdline_with_a_word_on_pci_stays_as_it_is);
    tcase_add_test(tcase, other_words_that_hold_pci_do_not_count);
    tcase_add_test(tcase, empty_cmdline_is_possible);
    tcase_add_test(tcase, done_twice_is_harmless);
    tcase_add_test(tcase, names_of_settings_are_unique);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("config", add_tests)
