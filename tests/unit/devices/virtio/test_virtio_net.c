/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: features, configuration, link, commands, pause, resets at any moment. */
#include <errno.h>
#include <string.h>

#include "tests/lib/devices/virtio/virtio_net_rig.h"
#include "tests/lib/dice.h"

#define CONFIG_CHANGED VIRTIO_MMIO_INT_CONFIG

static struct virtio_net_config read_config(void)
{
    struct virtio_net_config config;
    uint8_t *at = (uint8_t *)&config;

    for (unsigned i = 0; i < sizeof(config); i++)
        at[i] = (uint8_t)virtio_mmio_bus_ops.read(rig.mmio, VIRTIO_MMIO_CONFIG + i, 1);
    return config;
}

static bool link_is_up(void)
{
    return le16toh(read_config().status) & VIRTIO_NET_S_LINK_UP;
}

static bool announce_is_wanted(void)
{
    return le16toh(read_config().status) & VIRTIO_NET_S_ANNOUNCE;
}

/* ---- features and configuration -------------------------------------------------------------- */

START_TEST(features_are_those_of_device_and_back_end)
{
    const uint64_t always = FEATURE(MAC) | FEATURE(STATUS) | FEATURE(MRG_RXBUF) | FEATURE(CTRL_VQ) |
                            FEATURE(CTRL_RX) | FEATURE(CTRL_RX_EXTRA) | FEATURE(CTRL_MAC_ADDR) |
                            FEATURE(GUEST_ANNOUNCE);
    const uint64_t more[] = {
        NET_OFFLOADS | FEATURE(CTRL_GUEST_OFFLOADS),
        0,
        FEATURE(CSUM) | FEATURE(HOST_TSO4),
        FEATURE(GUEST_CSUM) | FEATURE(CTRL_GUEST_OFFLOADS),
    };

    net.fake->net.offloads = more[_i] & NET_OFFLOADS;
    net_start();
    ck_assert_uint_eq(driver_features(rig.mmio), VIRTIO_FEATURES_COMMON | always | more[_i]);
    ck_assert_uint_eq(driver_read32(rig.mmio, VIRTIO_MMIO_DEVICE_ID), 1);
}
END_TEST

#define FEATURE_CASES 4

START_TEST(agreed_offloads_reach_the_back_end)
{
    static const struct {
        uint64_t agreed;
        uint64_t offloads;
    } cases[] = {
        {0, 0},
        {FEATURE(MRG_RXBUF), 0},
        {NET_OFFLOADS | FEATURE(MRG_RXBUF), NET_OFFLOADS},
        {FEATURE(CSUM) | FEATURE(HOST_TSO6), FEATURE(CSUM) | FEATURE(HOST_TSO6)},
        {FEATURE(HOST_TSO4) | FEATURE(GUEST_CSUM), FEATURE(GUEST_CSUM)},
        {FEATURE(GUEST_TSO4) | FEATURE(GUEST_TSO6) | FEATURE(CSUM), FEATURE(CSUM)},
    };

    net_start();
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        net_bring_up_with(VERSION_1 | cases[i].agreed, 16);
        ck_assert_uint_eq(net.fake->offloads, cases[i].offloads);
    }
}
END_TEST

START_TEST(offloads_that_fail_stop_the_device)
{
    net.fake->offloads_result = -EINVAL;
    net_start();
    net_bring_up_with(VERSION_1, 16);
    ck_assert(rig_needs_reset());
    net.fake->offloads_result = 0;
    net_bring_up_with(VERSION_1, 16);
    ck_assert(!rig_needs_reset());
}
END_TEST

START_TEST(configuration_has_address_and_mtu)
{
    struct virtio_net_config config;

    net.fake->net.mtu = 65520;
    net_start();
    config = read_config();
    ck_assert_mem_eq(config.mac, &net_mac, MAC_LEN);
    ck_assert_uint_eq(le16toh(config.mtu), 65520);
    ck_assert_uint_eq(config.max_virtqueue_pairs, 0);
    ck_assert(driver_features(rig.mmio) & FEATURE(MTU));
    /* Writes change nothing. */
    virtio_mmio_bus_ops.write(rig.mmio, VIRTIO_MMIO_CONFIG, 1, 0);
    ck_assert_mem_eq(read_config().mac, &net_mac, MAC_LEN);
}
END_TEST

START_TEST(back_end_that_cannot_be_attached_is_an_error)
{
    net.fake->attach_result = -ENODEV;
    ck_assert_int_eq(virtio_net_new(&net.options, rig.mem, &rig.dev), -ENODEV);
    net.fake->attach_result = 0;
    net_start(); /* which is taken down */
}
END_TEST

/* A guest ends and another one begins, with the same back end. */
START_TEST(back_end_outlives_the_device)
{
    for (unsigned i = 0; i < 3; i++) {
        if (i > 0)
            virtio_mmio_free(rig.mmio);
        net_bring_up();
        net_send(60, i);
    }
    ck_assert_uint_eq(net_counted(&net.counters.sent.frames), 3);
}
END_TEST

/* ---- link ------------------------------------------------------------------------------------ */

START_TEST(link_follows_the_back_end)
{
    net_bring_up();
    ck_assert(link_is_up());
    (void)net_take_interrupts();
    net_set_link(false);
    ck_assert(!link_is_up());
    ck_assert_uint_eq(net_take_interrupts(), CONFIG_CHANGED);
    net_set_link(false);
    ck_assert_uint_eq(net_take_interrupts(), 0);
    net_set_link(true);
    ck_assert(link_is_up());
    ck_assert_uint_eq(net_take_interrupts(), CONFIG_CHANGED);
}
END_TEST

START_TEST(user_takes_the_link_down)
{
    struct virtio_net_state state;

    net_bring_up();
    (void)net_take_interrupts();
    virtio_net_set_link(rig.dev, false);
    ck_assert(!link_is_up());
    ck_assert_uint_eq(net_take_interrupts(), CONFIG_CHANGED);
    virtio_net_get_state(rig.dev, &state);
    ck_assert(!state.link_up);
    net_set_link(false);
    virtio_net_set_link(rig.dev, true);
    ck_assert(!link_is_up());
    ck_assert_uint_eq(net_take_interrupts(), 0);
    net_set_link(true);
    ck_assert(link_is_up());
    virtio_net_get_state(rig.dev, &state);
    ck_assert(state.link_up);
}
END_TEST

START_TEST(link_that_is_down_from_the_start)
{
    net.options.link_up = false;
    net_bring_up();
    ck_assert(!link_is_up());
    virtio_net_set_link(rig.dev, true);
    ck_assert(link_is_up());
}
END_TEST

START_TEST(nothing_is_received_without_a_link)
{
    net_bring_up();
    net_offer_buffers(20, 4096);
    virtio_net_set_link(rig.dev, false);
    ck_assert(!net.fake->watched);
    net_give(60, 1);
    ck_assert(rig_nothing_used(RX_QUEUE));
    virtio_net_set_link(rig.dev, true);
    (void)rig_wait_used(RX_QUEUE);
}
END_TEST

/* Before the driver is there nobody is interrupted; it is told when it comes. */
static void lose_link(struct loop_work *work)
{
    fake_net_set_link(net.fake, false);
}

/* A back end works as soon as there is a device. */
START_TEST(link_that_changes_before_there_is_a_transport)
{
    struct loop_work change = {.run = lose_link};
    struct virtio_dev *dev;

    ck_assert_int_eq(virtio_net_new(&net.options, rig.mem, &dev), 0);
    loop_post(rig.loop, &change);
    rig_add(dev);
    net_bring_up_with(driver_features(rig.mmio), 64);
    ck_assert(!link_is_up());
}
END_TEST

START_TEST(link_that_changes_before_driver_ok_is_told_then)
{
    net_start();
    net_set_link(false);
    ck_assert_uint_eq(net_take_interrupts(), 0);
    ck_assert(driver_negotiate(rig.mmio, driver_features(rig.mmio)));
    ck_assert(!link_is_up());
    net_set_link(true);
    ck_assert_uint_eq(net_take_interrupts(), 0);
    driver_ring_init(&rig.rings[TX_QUEUE], rig.mem, RIG_RING_GPA(TX_QUEUE), 16, true);
    ck_assert(driver_setup_queue(rig.mmio, TX_QUEUE, &rig.rings[TX_QUEUE]));
    driver_set_driver_ok(rig.mmio);
    ck_assert_uint_eq(net_take_interrupts(), CONFIG_CHANGED);
    ck_assert(link_is_up());
    /* And only once. */
    net_bring_up_with(driver_features(rig.mmio), 16);
    ck_assert_uint_eq(net_take_interrupts(), 0);
}
END_TEST

/* ---- announcing ------------------------------------------------------------------------------ */

START_TEST(guest_announces_itself_when_it_is_told_to)
{
    net_bring_up();
    ck_assert(!announce_is_wanted());
    (void)net_take_interrupts();
    virtio_net_announce(rig.dev);
    ck_assert(announce_is_wanted());
    ck_assert_uint_eq(net_take_interrupts(), CONFIG_CHANGED);
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0),
                      VIRTIO_NET_OK);
    ck_assert(!announce_is_wanted());
    ck_assert(link_is_up());
    /* Nobody asked. */
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0),
                      VIRTIO_NET_ERR);
}
END_TEST

START_TEST(guest_announces_itself_when_the_link_comes_up)
{
    net_bring_up();
    net_set_link(false);
    ck_assert(!announce_is_wanted());
    virtio_net_announce(rig.dev);
    ck_assert(!announce_is_wanted());
    net_set_link(true);
    ck_assert(announce_is_wanted());
    net_bring_up_with(driver_features(rig.mmio), 16);
    ck_assert(!announce_is_wanted());
}
END_TEST

START_TEST(driver_that_cannot_announce_is_not_asked)
{
    net_start();
    net_bring_up_with(VERSION_1 | FEATURE(STATUS) | FEATURE(CTRL_VQ), 16);
    virtio_net_announce(rig.dev);
    net_set_link(false);
    net_set_link(true);
    ck_assert(!announce_is_wanted());
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0),
                      VIRTIO_NET_ERR);
}
END_TEST

/* ---- commands -------------------------------------------------------------------------------- */

static const struct net_filter *get_filter(void)
{
    static struct virtio_net_state state;

    virtio_net_get_state(rig.dev, &state);
    return &state.filter;
}

START_TEST(modes_are_switched)
{
    net_bring_up();
    ck_assert(get_filter()->modes[VIRTIO_NET_CTRL_RX_PROMISC]);
    for (uint8_t command = 0; command < 6; command++) {
        ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_RX, command, "\1", 1), VIRTIO_NET_OK);
        ck_assert(get_filter()->modes[command]);
        ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_RX, command, "\0", 1), VIRTIO_NET_OK);
        ck_assert(!get_filter()->modes[command]);
    }
    /* A reset brings them back. */
    net_bring_up_with(driver_features(rig.mmio), 16);
    ck_assert(get_filter()->modes[VIRTIO_NET_CTRL_RX_PROMISC]);
}
END_TEST

START_TEST(tables_are_filled)
{
    static const uint8_t tables[] = {
        1, 0, 0, 0, 2, 0, 0, 0, 0, 9,                         /* unicast */
        2, 0, 0, 0, 3, 0, 0, 0, 0, 1, 0x33, 0x33, 0, 0, 0, 2, /* multicast */
    };
    static const uint8_t none[8];
    uint8_t others[sizeof(tables)];
    const struct net_filter *filter;

    net_bring_up();
    ck_assert_uint_eq(
        net_command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, sizeof(tables)),
        VIRTIO_NET_OK);
    filter = get_filter();
    ck_assert_uint_eq(filter->unicast.n, 1);
    ck_assert_mem_eq(filter->unicast.macs, tables + 4, MAC_LEN);
    ck_assert_uint_eq(filter->multicast.n, 2);
    ck_assert_mem_eq(filter->multicast.macs, tables + 14, 2ul * MAC_LEN);

    /* Too short by any number of bytes: an error, and all is as it was. */
    memcpy(others, tables, sizeof(tables));
    others[9] = 77;
    for (uint32_t len = 0; len < sizeof(tables); len++) {
        ck_assert_uint_eq(
            net_command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, others, len),
            VIRTIO_NET_ERR);
        ck_assert_uint_eq(get_filter()->unicast.n, 1);
        ck_assert_mem_eq(filter->unicast.macs, tables + 4, MAC_LEN);
    }
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, none, 7),
                      VIRTIO_NET_ERR);
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, none, 8),
                      VIRTIO_NET_OK);
    ck_assert_uint_eq(get_filter()->multicast.n, 0);
}
END_TEST

START_TEST(long_tables_overflow)
{
    static uint8_t tables[8 + 70 * MAC_LEN];

    net_bring_up();
    store_le32(tables, 65);
    store_le32(tables + 4 + 65ul * MAC_LEN, 5);
    ck_assert_uint_eq(
        net_command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, sizeof(tables)),
        VIRTIO_NET_OK);
    ck_assert(get_filter()->unicast.overflow);
    ck_assert(!get_filter()->multicast.overflow);
    ck_assert_uint_eq(get_filter()->multicast.n, 5);
    /* A count whose product wraps to 2, and an empty table after so many bytes. */
    store_le32(tables, 0x2aaaaaab);
    store_le32(tables + 6, 0);
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, 10),
                      VIRTIO_NET_ERR);
    store_le32(tables, UINT32_MAX);
    ck_assert_uint_eq(
        net_command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, sizeof(tables)),
        VIRTIO_NET_ERR);
}
END_TEST

START_TEST(address_is_changed_until_the_reset)
{
    static const uint8_t mac[] = {2, 1, 2, 3, 4, 5, 6};

    net_bring_up();
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, MAC_LEN),
                      VIRTIO_NET_OK);
    ck_assert_mem_eq(read_config().mac, mac, MAC_LEN);
    ck_assert_mem_eq(&get_filter()->mac, mac, MAC_LEN);
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 5),
                      VIRTIO_NET_ERR);
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 7),
                      VIRTIO_NET_ERR);
    ck_assert_uint_eq(
        net_command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, "\1\2\3\4\5\6", 6),
        VIRTIO_NET_ERR);
    ck_assert_uint_eq(
        net_command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, "\0\0\0\0\0\0", 6),
        VIRTIO_NET_ERR);
    ck_assert_mem_eq(read_config().mac, mac, MAC_LEN);
    net_bring_up_with(driver_features(rig.mmio), 16);
    ck_assert_mem_eq(read_config().mac, &net_mac, MAC_LEN);
}
END_TEST

static uint8_t set_offloads(uint64_t offloads, uint32_t len)
{
    uint8_t data[9] = {0};

    store_le64(data, offloads);
    return net_command(VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, data,
                       len);
}

START_TEST(offloads_are_changed_while_frames_come)
{
    const uint64_t sending = FEATURE(CSUM) | FEATURE(HOST_TSO4) | FEATURE(HOST_TSO6);

    net_bring_up();
    ck_assert_uint_eq(set_offloads(FEATURE(GUEST_CSUM), 8), VIRTIO_NET_OK);
    ck_assert_uint_eq(net.fake->offloads, sending | FEATURE(GUEST_CSUM));
    ck_assert_uint_eq(set_offloads(0, 8), VIRTIO_NET_OK);
    ck_assert_uint_eq(net.fake->offloads, sending);
    /* Without their basis they do not count. */
    ck_assert_uint_eq(set_offloads(FEATURE(GUEST_TSO4) | FEATURE(GUEST_TSO6), 8), VIRTIO_NET_OK);
    ck_assert_uint_eq(net.fake->offloads, sending);
    ck_assert_uint_eq(set_offloads(0, 7), VIRTIO_NET_ERR);
    ck_assert_uint_eq(set_offloads(0, 9), VIRTIO_NET_ERR);
    ck_assert_uint_eq(set_offloads(FEATURE(CSUM), 8), VIRTIO_NET_ERR);
    ck_assert_uint_eq(set_offloads(FEATURE(GUEST_UFO), 8), VIRTIO_NET_ERR);
    net.fake->offloads_result = -EINVAL;
    ck_assert_uint_eq(set_offloads(FEATURE(GUEST_CSUM), 8), VIRTIO_NET_ERR);
    net.fake->offloads_result = 0;
    ck_assert_uint_eq(net.fake->offloads, sending);
    /* What was not agreed on cannot be switched on. */
    net_bring_up_with(driver_features(rig.mmio) & ~FEATURE(GUEST_TSO6), 16);
    ck_assert_uint_eq(set_offloads(FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO6), 8), VIRTIO_NET_ERR);
    ck_assert_uint_eq(set_offloads(FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4), 8), VIRTIO_NET_OK);
}
END_TEST

START_TEST(commands_need_their_features)
{
    static const uint8_t tables[8];
    static const struct {
        uint64_t feature;
        unsigned class, command;
        const void *data;
        uint32_t len;
    } cases[] = {
        {FEATURE(CTRL_RX), VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, "\1", 1},
        {FEATURE(CTRL_RX), VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, 8},
        {FEATURE(CTRL_RX_EXTRA), VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, "\1", 1},
        {FEATURE(CTRL_MAC_ADDR), VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, &net_mac, 6},
        {FEATURE(CTRL_GUEST_OFFLOADS), VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, tables, 8},
    };

    net_start();
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        net_bring_up_with(driver_features(rig.mmio), 16);
        ck_assert_uint_eq(net_command((uint8_t)cases[i].class, (uint8_t)cases[i].command,
                                      cases[i].data, cases[i].len),
                          VIRTIO_NET_OK);
        net_bring_up_with(driver_features(rig.mmio) & ~cases[i].feature, 16);
        ck_assert_uint_eq(net_command((uint8_t)cases[i].class, (uint8_t)cases[i].command,
                                      cases[i].data, cases[i].len),
                          VIRTIO_NET_ERR);
    }
}
END_TEST

START_TEST(commands_that_are_none_are_errors)
{
    const struct driver_buf no_answer = {COMMAND_GPA, 3, false};
    const struct driver_buf no_command = {COMMAND_GPA, 1, true};
    const struct driver_buf half[] = {{COMMAND_GPA, 1, false}, {COMMAND_GPA + 1, 1, true}};

    net_bring_up();
    ck_assert_uint_eq(net_command(99, 0, "\1", 1), VIRTIO_NET_ERR);
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_RX, 6, "\1", 1), VIRTIO_NET_ERR);
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_RX, 0, NULL, 0), VIRTIO_NET_ERR);
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_RX, 0, "\1\1", 2), VIRTIO_NET_ERR);
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_MQ, 0, "\1\0", 2), VIRTIO_NET_ERR);
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_VLAN, 0, "\1\0", 2), VIRTIO_NET_ERR);

    (void)driver_add(&rig.rings[CTRL_QUEUE], &no_answer, 1);
    net_kick(CTRL_QUEUE);
    ck_assert_uint_eq(rig_wait_used(CTRL_QUEUE).len, 0);
    (void)driver_add(&rig.rings[CTRL_QUEUE], &no_command, 1);
    net_kick(CTRL_QUEUE);
    ck_assert_uint_eq(rig_wait_used(CTRL_QUEUE).len, 1);
    ck_assert_uint_eq(*rig_guest(COMMAND_GPA, 1), VIRTIO_NET_ERR);
    (void)driver_add(&rig.rings[CTRL_QUEUE], half, 2);
    net_kick(CTRL_QUEUE);
    ck_assert_uint_eq(rig_wait_used(CTRL_QUEUE).len, 1);
    ck_assert_uint_eq(*rig_guest(COMMAND_GPA + 1, 1), VIRTIO_NET_ERR);
    ck_assert(!rig_needs_reset());
}
END_TEST

START_TEST(many_commands_at_once_are_carried_out)
{
    const struct driver_buf bufs[] = {{COMMAND_GPA, 3, false}, {COMMAND_GPA + 3, 1, true}};

    net_start();
    net_bring_up_with(driver_features(rig.mmio), 512);
    memcpy(rig_guest(COMMAND_GPA, 3), "\0\1\1", 3);
    for (unsigned i = 0; i < 250; i++)
        (void)driver_add(&rig.rings[CTRL_QUEUE], bufs, 2);
    net_kick(CTRL_QUEUE);
    for (unsigned i = 0; i < 250; i++)
        ck_assert_uint_eq(rig_wait_used(CTRL_QUEUE).len, 1);
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_RX, 1, "\0", 1), VIRTIO_NET_OK);
}
END_TEST

START_TEST(broken_control_queue_breaks_the_device)
{
    net_bring_up();
    driver_offer(&rig.rings[CTRL_QUEUE], 999);
    net_kick(CTRL_QUEUE);
    ck_assert(rig_needs_reset());
}
END_TEST

/* ---- pause ----------------------------------------------------------------------------------- */

START_TEST(nothing_moves_during_a_pause)
{
    net_bring_up();
    net_offer_buffers(20, 4096);
    rig_pause();
    ck_assert(!net.fake->watched);
    (void)net_offer_frame(0, NULL, 60, 1);
    net_kick(TX_QUEUE);
    net_give(60, 2);
    ck_assert(rig_nothing_used(TX_QUEUE));
    ck_assert(rig_nothing_used(RX_QUEUE));
    ck_assert_ptr_null(net_take_sent());

    rig_resume();
    rig_settle();
    (void)rig_wait_used(TX_QUEUE);
    (void)rig_wait_used(RX_QUEUE);
    net_expect_sent(60, 1);
}
END_TEST

START_TEST(commands_wait_for_the_end_of_a_pause)
{
    const struct driver_buf bufs[] = {{COMMAND_GPA, 3, false}, {COMMAND_GPA + 3, 1, true}};

    net_bring_up();
    memcpy(rig_guest(COMMAND_GPA, 3), "\0\1\1", 3);
    rig_pause();
    (void)driver_add(&rig.rings[CTRL_QUEUE], bufs, 2);
    net_kick(CTRL_QUEUE);
    ck_assert(rig_nothing_used(CTRL_QUEUE));
    rig_resume();
    rig_settle();
    (void)rig_wait_used(CTRL_QUEUE);
}
END_TEST

START_TEST(back_end_that_has_room_again_during_a_pause)
{
    net.fake->room = 1;
    net_bring_up();
    for (unsigned i = 0; i < 2; i++)
        (void)net_offer_frame(i, NULL, 60, i);
    net_kick(TX_QUEUE);
    rig_pause();
    net_make_room(10);
    net_expect_sent(60, 0);
    ck_assert_ptr_null(net_take_sent());
    rig_resume();
    rig_settle();
    net_expect_sent(60, 1);
}
END_TEST

START_TEST(pause_without_a_driver_is_told_at_once)
{
    net_start();
    rig_pause();
    net_bring_up_with(driver_features(rig.mmio), 16);
    (void)net_offer_frame(0, NULL, 60, 1);
    net_kick(TX_QUEUE);
    ck_assert(rig_nothing_used(TX_QUEUE));
    rig_resume();
    rig_settle();
    (void)rig_wait_used(TX_QUEUE);
    rig_pause(); /* the device ends meanwhile */
}
END_TEST

/* ---- resets at any moment -------------------------------------------------------------------- */

static uint64_t dice;

static void give_many(void *opaque)
{
    static const uint8_t bytes[9000] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

    if (net.fake->to_guest.tail - net.fake->to_guest.head < FAKE_NET_FRAMES / 2)
        for (unsigned i = 0; i < 8; i++)
            fake_net_give(net.fake, NULL, bytes, 14 + (i * 1237) % 8000);
    while (fake_net_take(net.fake))
        ;
    fake_net_make_room(net.fake, 7);
    fake_net_set_link(net.fake, *(const bool *)opaque);
}

/* Both directions and commands at once, without waiting for anything. */
static void random_traffic(unsigned nrounds)
{
    struct vring_used_elem elem;

    for (unsigned round = 0; round < nrounds; round++) {
        bool link = dice_roll(&dice, 8) > 0;

        loop_call(rig.loop, give_many, &link);
        for (unsigned i = dice_roll(&dice, 8); i > 0 && rig.rings[TX_QUEUE].nfree >= 2; i--) {
            unsigned place = rig.rings[TX_QUEUE].free[rig.rings[TX_QUEUE].nfree - 1] % 1024;

            (void)net_offer_frame(place, NULL, dice_roll(&dice, 2000), place);
        }
        for (unsigned i = dice_roll(&dice, 8); i > 0 && rig.rings[RX_QUEUE].nfree >= 1; i--) {
            unsigned place = rig.rings[RX_QUEUE].free[rig.rings[RX_QUEUE].nfree - 1];

            (void)net_offer_buffer(RX_GPA + 4096ull * place, 4096);
        }
        for (unsigned queue = 0; queue < NET_QUEUES; queue++) {
            if (driver_show(&rig.rings[queue]))
                driver_kick(rig.mmio, queue);
            if (dice_roll(&dice, 2))
                (void)driver_want_interrupt(&rig.rings[queue]);
            while (driver_take(&rig.rings[queue], &elem))
                ;
        }
        if (dice_roll(&dice, 10) == 0)
            virtio_net_set_link(rig.dev, dice_roll(&dice, 4) > 0);
    }
}

/* After a reset the memory is the guest's again: nothing of it may change. */
static void check_memory_left_alone(void)
{
    const size_t rings_len = RIG_RING_GPA(NET_QUEUES) - RIG_RING_GPA(0);
    bool link = true;

    memset(rig_guest(RX_GPA, 4 * MIB), RIG_UNTOUCHED, 4 * MIB);
    memset(rig_guest(RIG_RING_GPA(0), rings_len), RIG_UNTOUCHED, rings_len);
    net_on_loop(give_many, &link);
    ck_assert(!net.fake->watched);
    ck_assert(rig_is_untouched(RX_GPA, 4 * MIB));
    ck_assert(rig_is_untouched(RIG_RING_GPA(0), rings_len));
}

static void stop_one(unsigned queue)
{
    driver_write32(rig.mmio, VIRTIO_MMIO_QUEUE_SEL, queue);
    driver_write32(rig.mmio, VIRTIO_MMIO_QUEUE_READY, 0);
}

START_TEST(resets_at_any_moment_leave_memory_alone)
{
    dice = unit_seed();
    net.fake->room = 100;
    net_start();
    for (unsigned turn = 0; turn < 60; turn++) {
        uint64_t features = driver_features(rig.mmio);

        if (dice_roll(&dice, 2))
            features &= ~FEATURE(MRG_RXBUF);
        if (dice_roll(&dice, 2))
            features &= ~FEATURE(GUEST_TSO4) & ~FEATURE(GUEST_TSO6);
        net_bring_up_with(dice_roll(&dice, 3) ? features : VERSION_1,
                          (uint16_t)(1u << (2 + dice_roll(&dice, 9))));
        random_traffic(dice_roll(&dice, 60));
        if (dice_roll(&dice, 2)) {
            for (unsigned queue = 0; queue < NET_QUEUES; queue++)
                stop_one(queue);
        } else {
            driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
        }
        check_memory_left_alone();
    }
}
END_TEST

/* Clients change the link and have the guest announce itself, whatever its driver does. */
static void *change_link(void *opaque)
{
    const bool *ended = opaque;

    for (unsigned i = 0; !__atomic_load_n(ended, __ATOMIC_RELAXED); i++) {
        virtio_net_set_link(rig.dev, i % 2);
        virtio_net_announce(rig.dev);
    }
    return NULL;
}

START_TEST(link_changes_while_the_driver_resets)
{
    bool ended = false;
    pthread_t client;

    net_start();
    ck_assert_int_eq(pthread_create(&client, NULL, change_link, &ended), 0);
    for (unsigned turn = 0; turn < 50; turn++) {
        net_bring_up_with(VERSION_1 | FEATURE(STATUS) | FEATURE(CTRL_VQ), 16);
        ck_assert(!announce_is_wanted());
        driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
        net_bring_up_with(driver_features(rig.mmio), 16);
    }
    __atomic_store_n(&ended, true, __ATOMIC_RELAXED);
    ck_assert_int_eq(pthread_join(client, NULL), 0);
}
END_TEST

/* A queue is taken down and set up again by itself (2.6.1) while the others work. */
START_TEST(one_queue_is_reset_alone)
{
    net_bring_up();
    for (unsigned turn = 0; turn < 5; turn++) {
        unsigned nsets = net.fake->nsets;

        stop_one(RX_QUEUE);
        driver_ring_init(&rig.rings[RX_QUEUE], rig.mem, RIG_RING_GPA(RX_QUEUE), 64, true);
        net_send(60, turn);
        net_give(60, turn);
        ck_assert(driver_setup_queue(rig.mmio, RX_QUEUE, &rig.rings[RX_QUEUE]));
        rig_settle();
        /* What may have been in buffers in part is to be forgotten (net/net.h). */
        ck_assert_uint_eq(net.fake->nsets, nsets + 1);
        ck_assert_uint_eq(net.fake->offloads, NET_OFFLOADS);
        net_offer_buffers(40, 4096);
        ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, NET_HDR_LEN + 60);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    net_add_loop_case(suite, "features", features_are_those_of_device_and_back_end, FEATURE_CASES);
    net_case(suite, "configuration", agreed_offloads_reach_the_back_end,
             offloads_that_fail_stop_the_device, configuration_has_address_and_mtu,
             back_end_that_cannot_be_attached_is_an_error, back_end_outlives_the_device);
    net_case(suite, "link", link_follows_the_back_end, user_takes_the_link_down,
             link_that_is_down_from_the_start, nothing_is_received_without_a_link,
             link_that_changes_before_there_is_a_transport,
             link_that_changes_before_driver_ok_is_told_then);
    net_case(suite, "announce", guest_announces_itself_when_it_is_told_to,
             guest_announces_itself_when_the_link_comes_up,
             driver_that_cannot_announce_is_not_asked);
    net_case(suite, "commands", modes_are_switched, tables_are_filled, long_tables_overflow,
             address_is_changed_until_the_reset, offloads_are_changed_while_frames_come,
             commands_need_their_features, commands_that_are_none_are_errors,
             many_commands_at_once_are_carried_out, broken_control_queue_breaks_the_device);
    net_case(suite, "pause", nothing_moves_during_a_pause, commands_wait_for_the_end_of_a_pause,
             back_end_that_has_room_again_during_a_pause, pause_without_a_driver_is_told_at_once);
    net_case(suite, "reset", resets_at_any_moment_leave_memory_alone,
             link_changes_while_the_driver_resets, one_queue_is_reset_alone);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_net", add_tests)
