/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands about network cards, on a VM that only notes what was asked of it.
 */
#include <linux/virtio_net.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/control/fake_vm.h"
#include "tests/lib/vmm/control/qmp_rig.h"
#include "vmm/control/commands_net.h"

static struct qmp_rig rig;
static struct fake_vm fake;
static int fd;

static void set_up(void)
{
    fake_vm_init(&fake);
    fake.vm.nnics = 2;
    fake.nics[0] = (struct nic_info){
        .name = "eth0",
        .kind = "user",
        .label = "passt",
        .mac = {{0x52, 0x54, 0, 0, 0, 1}},
        .mtu = 65520,
        .link_wanted = true,
        .counters = {.received = {1, 2, 3}, .sent = {4, 5, 6}, .filtered = 7, .starved = 8},
        .guest = {.link_up = true, .filter = {.mac = {{0x52, 0x54, 0, 0, 0, 9}}}},
    };
    fake.nics[0].counters.full = 9;
    fake.nics[0].counters.rings = (struct virtio_ring_counters){10, 11};
    fake.nics[1] = fake.nics[0];
    fake.nics[1].name = "eth1";
    fake.nics[1].label = "tap\xff";
    fake.nics[1].guest.link_up = false;
    fake.nics[1].guest.by_kernel = true;
    qmp_rig_init(&rig, &commands_net, &fake.vm);
    fd = qmp_rig_connect_negotiated(&rig);
}

static void tear_down(void)
{
    fake_vm_done(&fake);
    close(fd);
    qmp_rig_done(&rig);
}

static const char *ask(const char *text)
{
    return qmp_rig_ask(&rig, fd, text);
}

START_TEST(link_is_set)
{
    ck_assert_str_eq(
        ask("{\"execute\":\"set_link\",\"arguments\":{\"name\":\"eth1\",\"up\":false}}"),
        "{\"return\":{}}\r\n");
    ck_assert_str_eq(
        ask("{\"execute\":\"set_link\",\"arguments\":{\"name\":\"eth0\",\"up\":true}}"),
        "{\"return\":{}}\r\n");
    ck_assert_str_eq(fake.actions, "d1u0");
    ck_assert_ptr_nonnull(
        strstr(ask("{\"execute\":\"set_link\",\"arguments\":{\"name\":\"eth2\",\"up\":true}}"),
               "\"DeviceNotFound\""));
    ck_assert_ptr_nonnull(
        strstr(ask("{\"execute\":\"set_link\",\"arguments\":{\"name\":\"eth0\"}}"), "up"));
    ck_assert_str_eq(fake.actions, "d1u0");
}
END_TEST

START_TEST(cards_announce_themselves)
{
    (void)ask("{\"execute\":\"announce-self\"}");
    ck_assert_str_eq(fake.actions, "a0a1");
    (void)ask("{\"execute\":\"announce-self\",\"arguments\":{\"initial\":50,\"max\":550,"
              "\"rounds\":5,\"step\":50,\"interfaces\":[\"eth1\",\"eth7\"]}}");
    ck_assert_str_eq(fake.actions, "a0a1a1");
    (void)ask("{\"execute\":\"announce-self\",\"arguments\":{\"interfaces\":[]}}");
    ck_assert_ptr_nonnull(
        strstr(ask("{\"execute\":\"announce-self\",\"arguments\":{\"interfaces\":\"eth0\"}}"),
               "array of names"));
    ck_assert_str_eq(fake.actions, "a0a1a1");
}
END_TEST

START_TEST(filters_are_told_in_qemus_words)
{
    struct net_filter *filter = &fake.nics[0].guest.filter;

    filter->unicast = (struct net_filter_table){.n = 1, .macs = {{{2, 0, 0, 0, 0, 3}}}};
    filter->multicast.overflow = true;
    ck_assert_str_eq(
        ask("{\"execute\":\"query-rx-filter\",\"arguments\":{\"name\":\"eth0\"}}"),
        "{\"return\":[{\"name\":\"eth0\",\"promiscuous\":false,\"multicast\":\"normal\","
        "\"unicast\":\"normal\",\"vlan\":\"all\",\"broadcast-allowed\":true,"
        "\"multicast-overflow\":true,\"unicast-overflow\":false,"
        "\"main-mac\":\"52:54:00:00:00:09\",\"vlan-table\":[],"
        "\"unicast-table\":[\"02:00:00:00:00:03\"],\"multicast-table\":[]}]}\r\n");
    filter->modes[VIRTIO_NET_CTRL_RX_PROMISC] = true;
    filter->modes[VIRTIO_NET_CTRL_RX_ALLMULTI] = true;
    filter->modes[VIRTIO_NET_CTRL_RX_ALLUNI] = true;
    filter->modes[VIRTIO_NET_CTRL_RX_NOUNI] = true;
    filter->modes[VIRTIO_NET_CTRL_RX_NOBCAST] = true;
    ck_assert_ptr_nonnull(
        strstr(ask("{\"execute\":\"query-rx-filter\",\"arguments\":{\"name\":\"eth0\"}}"),
               "\"promiscuous\":true,\"multicast\":\"all\",\"unicast\":\"none\",\"vlan\":\"all\","
               "\"broadcast-allowed\":false"));
    ck_assert_ptr_nonnull(strstr(ask("{\"execute\":\"query-rx-filter\"}"), "\"name\":\"eth1\""));
    ck_assert_ptr_nonnull(
        strstr(ask("{\"execute\":\"query-rx-filter\",\"arguments\":{\"name\":\"eth9\"}}"),
               "\"DeviceNotFound\""));
}
END_TEST

START_TEST(cards_are_told)
{
    const char *answer = ask("{\"execute\":\"x-query-netdev\"}");

    ck_assert_ptr_nonnull(strstr(
        answer, "{\"name\":\"eth0\",\"type\":\"user\",\"peer\":\"passt\",\"vhost\":false,\"link-"
                "wanted\":true,"
                "\"link-up\":true,\"mtu\":65520,\"mac-address\":\"52:54:00:00:00:01\","
                "\"counters\":{\"rx-frames\":1,\"rx-bytes\":2,\"rx-dropped\":3,\"rx-filtered\":7,"
                "\"rx-out-of-buffers\":8,\"tx-frames\":4,\"tx-bytes\":5,\"tx-dropped\":6,"
                "\"tx-back-end-full\":9,\"queue-kicks\":10,\"queue-interrupts\":11}}"));
    ck_assert_ptr_nonnull(
        strstr(answer, "\"peer\":\"tap?\",\"vhost\":true,\"link-wanted\":true,\"link-up\":false"));
    fake.vm.nnics = 0;
    ck_assert_str_eq(ask("{\"execute\":\"x-query-netdev\"}"), "{\"return\":[]}\r\n");
}
END_TEST

/* ---- the human monitor ----------------------------------------------------------------------- */

static char shown[1024];

static const char *say(const char *args)
{
    FILE *out = fmemopen(shown, sizeof(shown), "w");

    ck_assert_ptr_nonnull(out);
    if (args)
        commands_net_set_link(&fake.vm, args, out);
    else
        commands_net_show(&fake.vm, out);
    (void)fclose(out);
    return shown;
}

START_TEST(people_see_cards)
{
    fake.vm.nnics = 1;
    ck_assert_str_eq(say(NULL),
                     "eth0: index=0,type=nic,model=virtio-net,macaddr=52:54:00:00:00:01,link=up\n"
                     " \\ user: passt\n"
                     "    received: 1 frames, 2 bytes, 3 dropped\n"
                     "    sent:     4 frames, 5 bytes, 6 dropped\n");
}
END_TEST

START_TEST(people_set_links)
{
    ck_assert_str_eq(say("eth1 off"), "");
    ck_assert_str_eq(say("eth0 on"), "");
    ck_assert_str_eq(fake.actions, "d1u0");
    ck_assert_str_eq(say("eth2 on"), "Device 'eth2' not found\n");
    ck_assert_str_eq(say("eth0123456789012345 on"), "Device 'eth0123456789012345' not found\n");
    ck_assert_ptr_nonnull(strstr(say(""), "expected"));
    ck_assert_ptr_nonnull(strstr(say("eth0"), "expected"));
    ck_assert_ptr_nonnull(strstr(say("eth0 maybe"), "expected"));
    ck_assert_str_eq(fake.actions, "d1u0");
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "qmp", set_up, tear_down, link_is_set, cards_announce_themselves,
                   filters_are_told_in_qemus_words, cards_are_told);
    unit_case_with(suite, "monitor", set_up, tear_down, people_see_cards, people_set_links);
}

UNIT_MAIN("commands_net", add_tests)
