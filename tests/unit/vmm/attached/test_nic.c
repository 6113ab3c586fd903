/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network cards of a VM over several guests, on a socket that nobody connects to.
 */
#include <linux/virtio_mmio.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "devices/virtio/virtio_mmio.h"
#include "tests/lib/devices/virtio/virtio_driver.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "vmm/attached/nic.h"
#include "vmm/config/config_values.h"

#define MEM_LEN (1 * MIB)

static struct config config;
static struct loop *loop;
static struct attachments attachments;
static struct guest_mem *mem;
static struct irq irq;
static struct virtio_mmio *mmio;

static void add_group(const char *name, const char *text)
{
    struct err err;

    ck_assert_msg(config_group_parse(config_group_find(name), &config, text, &err) == 0, "%s",
                  err.msg);
}

static void add_net(const char *text)
{
    add_group("net", text);
}

static void attach(void)
{
    struct err err;

    attachments_init(&attachments, &config, NULL, loop);
    ck_assert_msg(nic_attach(&attachments, &err) == 0, "%s", err.msg);
}

static void add_listening(const char *keys)
{
    static unsigned n;
    char text[300];
    char name[16];

    snprintf(name, sizeof(name), "%u.sock", n++);
    snprintf(text, sizeof(text), "unix:%s,server%s", scratch_path(name), keys);
    add_net(text);
}

/* A card whose link is up: somebody has the other side, `ret_fd`. */
static void add_connected(int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[300];

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", scratch_path("peer"));
    *ret_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(*ret_fd, (struct sockaddr *)&address, sizeof(address)), 0);
    snprintf(text, sizeof(text), "unix-dgram:%s", address.sun_path);
    add_net(text);
}

static void begin_guest(unsigned index)
{
    struct attached *attached = attachments.list[index];
    struct virtio_dev *dev;
    struct err err;

    ck_assert_msg(attached->ops->make_device(attached, mem, &dev, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(virtio_mmio_new(dev, &irq, &mmio), 0);
}

static void end_guest(void)
{
    virtio_mmio_free(mmio);
    mmio = NULL;
}

static void set_up(void)
{
    scratch_set_up();
    config_init(&config);
    ck_assert_int_eq(loop_new(&loop), 0);
    mem = driver_mem_new(MEM_LEN);
    ck_assert_int_eq(irq_init(&irq, 5), 0);
}

static void tear_down(void)
{
    end_guest();
    attachments_close(&attachments);
    irq_done(&irq);
    guest_mem_free(mem);
    loop_free(loop);
    config_done(&config);
    scratch_tear_down();
}

static struct nic_info info_of(unsigned index)
{
    struct nic_info info;

    nic_get_info(attachments.nics[index], &info);
    return info;
}

/* What a guest reads as its card's address. */
static struct mac mac_of_guest(void)
{
    struct mac mac;

    for (unsigned i = 0; i < MAC_LEN; i++)
        mac.octets[i] = (uint8_t)virtio_mmio_bus_ops.read(mmio, VIRTIO_MMIO_CONFIG + i, 1);
    return mac;
}

START_TEST(cards_are_numbered_and_none_is_none)
{
    add_listening("");
    add_net("none");
    add_listening("");
    attach();
    ck_assert_uint_eq(attachments.n, 2);
    ck_assert_uint_eq(attachments.nnics, 2);
    ck_assert_str_eq(info_of(0).name, "eth0");
    ck_assert_str_eq(info_of(1).name, "eth1");
    ck_assert_str_eq(info_of(1).kind, "unix");
}
END_TEST

START_TEST(addresses_follow_from_the_name)
{
    struct mac expected[2];
    struct mac found;

    config.name = strdup("web");
    add_listening("");
    add_listening("");
    add_listening(",mac=52:54:00:00:00:07");
    attach();
    for (unsigned i = 0; i < 2; i++) {
        expected[i] = mac_of_name("web", i);
        begin_guest(i);
        found = mac_of_guest();
        ck_assert_mem_eq(&found, &expected[i], sizeof(found));
        end_guest();
    }
    ck_assert_mem_eq(info_of(2).mac.octets, "\x52\x54\0\0\0\7", MAC_LEN);
}
END_TEST

START_TEST(addresses_follow_from_the_disk_else)
{
    const char *path = scratch_path("disk.raw");
    struct mac expected;
    struct mac found;
    char *real;
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    (void)fclose(file);
    real = realpath(path, NULL);
    expected = mac_of_name(real, 0);
    free(real);
    add_group("disk", "/other/VMs/disk,readonly=on");
    add_group("disk", path);
    add_listening("");
    attach();
    found = info_of(0).mac;
    ck_assert_mem_eq(&found, &expected, sizeof(found));
}
END_TEST

START_TEST(addresses_are_random_without_anything)
{
    struct mac first;
    struct mac second;

    add_listening("");
    attach();
    first = info_of(0).mac;
    attachments_close(&attachments);
    attach();
    second = info_of(0).mac;
    ck_assert_mem_ne(&first, &second, sizeof(first));
    ck_assert(!mac_is_group(&first) && !mac_is_zero(&first));
}
END_TEST

START_TEST(link_of_the_user_holds_for_later_guests)
{
    struct nic_info info;
    int fd;

    add_connected(&fd);
    attach();
    begin_guest(0);
    ck_assert(info_of(0).guest.link_up);
    nic_set_link(attachments.nics[0], false);
    ck_assert(!info_of(0).guest.link_up);
    end_guest();
    for (unsigned i = 0; i < 2; i++) {
        begin_guest(0);
        info = info_of(0);
        ck_assert(!info.link_wanted);
        ck_assert(!info.guest.link_up);
        end_guest();
        ck_assert(!info_of(0).link_wanted);
    }
    nic_set_link(attachments.nics[0], true);
    begin_guest(0);
    nic_announce(attachments.nics[0]);
    info = info_of(0);
    ck_assert(info.link_wanted);
    ck_assert(info.guest.link_up);
    ck_assert(info.guest.filter.modes[VIRTIO_NET_CTRL_RX_PROMISC]);
    end_guest();
    nic_announce(attachments.nics[0]);
    ck_assert(!info_of(0).guest.link_up);
    close(fd);
}
END_TEST

START_TEST(card_that_cannot_be_opened_is_named)
{
    struct err err = {0};

    add_listening("");
    add_net("unix:/nonexistent-folder/x.sock,server");
    attachments_init(&attachments, &config, NULL, loop);
    ck_assert_int_lt(nic_attach(&attachments, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.msg, "net eth1"));
    ck_assert_uint_eq(attachments.nnics, 1);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "nic", set_up, tear_down, cards_are_numbered_and_none_is_none,
                   addresses_follow_from_the_name, addresses_follow_from_the_disk_else,
                   addresses_are_random_without_anything, link_of_the_user_holds_for_later_guests,
                   card_that_cannot_be_opened_is_named);
}

UNIT_USES_THREADS;
UNIT_MAIN("nic", add_tests)
