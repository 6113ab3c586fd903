/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: frames that a guest sends. */
#include <string.h>

#include "base/clock.h"
#include "tests/lib/devices/virtio/virtio_net_rig.h"

static uint64_t sent_frames(void)
{
    return net_counted(&net.counters.sent.frames);
}

static uint64_t sent_dropped(void)
{
    return net_counted(&net.counters.sent.dropped);
}

/* Offer `n` frames of `len` bytes, and kick. */
static void offer(unsigned n, uint32_t len)
{
    for (unsigned i = 0; i < n; i++)
        (void)net_offer_frame(i, NULL, len, i);
    net_kick(TX_QUEUE);
}

static void wait_used(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        (void)rig_wait_used(TX_QUEUE);
}

/* ---- good frames ----------------------------------------------------------------------------- */

START_TEST(frame_arrives_as_it_was_sent)
{
    uint16_t head;
    struct vring_used_elem elem;

    net_bring_up();
    head = net_offer_frame(0, NULL, 100, 1);
    net_kick(TX_QUEUE);
    elem = rig_wait_used(TX_QUEUE);
    ck_assert_uint_eq(elem.id, head);
    ck_assert_uint_eq(elem.len, 0);
    net_expect_sent(100, 1);
    ck_assert_uint_eq(sent_frames(), 1);
    ck_assert_uint_eq(net_counted(&net.counters.sent.bytes), 100);
    ck_assert_uint_eq(net_counted(&net.counters.rings.kicks), 1);
    ck_assert_uint_eq(net_counted(&net.counters.rings.interrupts), 1);
}
END_TEST

START_TEST(many_frames_go_in_one_call)
{
    net_start();
    net_bring_up_with(driver_features(rig.mmio), 1024);
    for (unsigned i = 0; i < 300; i++)
        (void)net_offer_frame(i, NULL, 60 + i, i);
    net_kick(TX_QUEUE);
    for (unsigned i = 0; i < 300; i++) {
        (void)rig_wait_used(TX_QUEUE);
        net_expect_sent(60 + i, i);
    }
    ck_assert_uint_eq(net.fake->nsends, (300 + NET_SEND_MAX - 1) / NET_SEND_MAX);
}
END_TEST

/* The header and the frame over buffers in any way (2.7.4.1). */
START_TEST(frames_in_any_pieces_arrive)
{
    static const uint32_t pieces[][6] = {
        {12 + 100}, {12, 100},           {1, 11, 100},   {6, 6 + 50, 50},
        {13, 99},   {5, 5, 5, 5, 5, 87}, {12, 1, 1, 98}, {100, 12},
    };
    static const struct virtio_net_hdr_v1 hdr = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};

    net_bring_up();
    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
        struct driver_buf bufs[6];
        uint8_t bytes[sizeof(hdr) + 100];
        uint64_t gpa = TX_GPA;
        uint32_t at = 0;
        unsigned n = 0;
        const struct fake_frame *frame;

        memcpy(bytes, &hdr, sizeof(hdr));
        net_fill_frame(bytes + sizeof(hdr), 100, i);
        memset(rig_guest(TX_GPA, 4096), RIG_UNTOUCHED, 4096);
        for (; n < 6 && pieces[i][n] > 0; n++) {
            memcpy(rig_guest(gpa, pieces[i][n]), bytes + at, pieces[i][n]);
            bufs[n] = (struct driver_buf){gpa, pieces[i][n], false};
            at += pieces[i][n];
            gpa += pieces[i][n] + 50;
        }
        (void)driver_add(&rig.rings[TX_QUEUE], bufs, n);
        net_kick(TX_QUEUE);
        (void)rig_wait_used(TX_QUEUE);
        frame = net_take_sent();
        ck_assert_ptr_nonnull(frame);
        ck_assert_uint_eq(frame->len, 100);
        ck_assert_mem_eq(frame->bytes, bytes + sizeof(hdr), 100);
        ck_assert_mem_eq(&frame->hdr, &hdr, sizeof(hdr));
    }
}
END_TEST

START_TEST(frames_of_all_allowed_lengths_arrive)
{
    static const uint32_t lens[] = {14, 15, 60, 1514, 1518, 9014, 65535, NET_FRAME_MAX};

    net_bring_up();
    for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
        net_send(lens[i], i);
    }
}
END_TEST

START_TEST(frame_to_be_cut_keeps_its_header)
{
    static const struct virtio_net_hdr_v1 hdr = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
        .hdr_len = 54,
        .gso_size = 1448,
        .csum_start = 34,
        .csum_offset = 16,
    };
    const struct fake_frame *frame;

    net_bring_up();
    (void)net_offer_frame(0, &hdr, 60000, 1);
    net_kick(TX_QUEUE);
    (void)rig_wait_used(TX_QUEUE);
    frame = net_take_sent();
    ck_assert_ptr_nonnull(frame);
    ck_assert_mem_eq(&frame->hdr, &hdr, sizeof(hdr));
    ck_assert_uint_eq(frame->len, 60000);
}
END_TEST

/* As many pieces as one system call takes, and one more. */
START_TEST(frame_in_many_pieces_arrives_or_is_dropped)
{
    static struct driver_buf bufs[VIRTQ_CHAIN_MAX];

    net_start();
    net_bring_up_with(driver_features(rig.mmio), 1024);
    for (unsigned apart = 0; apart < 2; apart++) {
        /* The header alone, or with the first byte. */
        uint64_t gpa = TX_GPA;

        memset(rig_guest(TX_GPA, NET_HDR_LEN), 0, NET_HDR_LEN);
        net_fill_frame(rig_guest(TX_GPA + NET_HDR_LEN, 4096), 4096, 5);
        for (unsigned i = 0; i < VIRTQ_CHAIN_MAX; i++) {
            bufs[i] = (struct driver_buf){gpa, i > 0 ? 2 : (uint32_t)NET_HDR_LEN + apart, false};
            gpa += bufs[i].len;
        }
        (void)driver_add(&rig.rings[TX_QUEUE], bufs, VIRTQ_CHAIN_MAX);
        net_kick(TX_QUEUE);
        (void)rig_wait_used(TX_QUEUE);
        if (!apart)
            net_expect_sent(2046, 5);
    }
    ck_assert_uint_eq(sent_frames(), 1);
    ck_assert_uint_eq(sent_dropped(), 1);
}
END_TEST

/* More pieces than a batch has room for, since each frame has a header more; none is lost. */
START_TEST(batches_end_where_their_room_does)
{
    enum { FRAMES = 4, PIECES = 256, LEN = 4 * PIECES };
    static struct driver_buf bufs[PIECES];

    net_start();
    net_bring_up_with(driver_features(rig.mmio), FRAMES * PIECES);
    for (unsigned turn = 0; turn < 3; turn++) {
        for (unsigned f = 0; f < FRAMES; f++) {
            uint64_t gpa = TX_GPA + 4096ull * f;

            memset(rig_guest(gpa, NET_HDR_LEN), 0, NET_HDR_LEN);
            net_fill_frame(rig_guest(gpa + NET_HDR_LEN, LEN), LEN, f);
            for (unsigned i = 0; i < PIECES; i++) {
                bufs[i] = (struct driver_buf){gpa, i > 0 ? 4 : 4 + (uint32_t)NET_HDR_LEN, false};
                gpa += bufs[i].len;
            }
            (void)driver_add(&rig.rings[TX_QUEUE], bufs, PIECES);
        }
        net_kick(TX_QUEUE);
        for (unsigned f = 0; f < FRAMES; f++) {
            (void)rig_wait_used(TX_QUEUE);
            net_expect_sent(LEN, f);
        }
    }
    ck_assert_uint_eq(sent_dropped(), 0);
}
END_TEST

START_TEST(frames_from_before_driver_ok_need_no_kick)
{
    net_start();
    ck_assert(driver_negotiate(rig.mmio, driver_features(rig.mmio)));
    driver_ring_init(&rig.rings[TX_QUEUE], rig.mem, RIG_RING_GPA(TX_QUEUE), 16, true);
    ck_assert(driver_setup_queue(rig.mmio, TX_QUEUE, &rig.rings[TX_QUEUE]));
    (void)net_offer_frame(0, NULL, 60, 1);
    (void)driver_show(&rig.rings[TX_QUEUE]);
    driver_set_driver_ok(rig.mmio);
    (void)rig_wait_used(TX_QUEUE);
    net_expect_sent(60, 1);
}
END_TEST

START_TEST(kicks_are_asked_for_when_the_ring_is_empty)
{
    net_start();
    for (int event_idx = 0; event_idx < 2; event_idx++) {
        net_bring_up_with(event_idx ? driver_features(rig.mmio) : VERSION_1, 16);
        for (unsigned turn = 0; turn < 20; turn++) {
            (void)net_offer_frame(0, NULL, 60, turn);
            ck_assert(driver_show(&rig.rings[TX_QUEUE]));
            driver_kick(rig.mmio, TX_QUEUE);
            (void)rig_wait_used(TX_QUEUE);
            net_expect_sent(60, turn);
        }
    }
}
END_TEST

/* ---- bad ones -------------------------------------------------------------------------------- */

static void send_bad(const struct virtio_net_hdr_v1 *hdr, uint32_t len)
{
    uint64_t dropped = sent_dropped();

    (void)net_offer_frame(0, hdr, len, 0);
    net_kick(TX_QUEUE);
    ck_assert_uint_eq(rig_wait_used(TX_QUEUE).len, 0);
    ck_assert_ptr_null(net_take_sent());
    ck_assert_uint_eq(sent_dropped(), dropped + 1);
}

START_TEST(frames_of_bad_lengths_are_dropped)
{
    const struct driver_buf no_header = {TX_GPA, NET_HDR_LEN - 1, false};
    const struct driver_buf nothing_to_read = {TX_GPA, 100, true};

    net_bring_up();
    send_bad(NULL, 0);
    send_bad(NULL, 1);
    send_bad(NULL, 13);
    send_bad(NULL, NET_FRAME_MAX + 1);
    send_bad(NULL, 4 * MIB);
    (void)driver_add(&rig.rings[TX_QUEUE], &no_header, 1);
    (void)driver_add(&rig.rings[TX_QUEUE], &nothing_to_read, 1);
    net_kick(TX_QUEUE);
    (void)rig_wait_used(TX_QUEUE);
    (void)rig_wait_used(TX_QUEUE);
    ck_assert_ptr_null(net_take_sent());
    ck_assert_uint_eq(sent_dropped(), 7);
    ck_assert_uint_eq(sent_frames(), 0);
    ck_assert(!rig_needs_reset());
}
END_TEST

START_TEST(frames_with_bad_headers_are_dropped)
{
    static const struct virtio_net_hdr_v1 unknown = {.gso_type = 99};
    static const struct virtio_net_hdr_v1 outside = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 90, .csum_offset = 9};

    net_bring_up();
    send_bad(&unknown, 100);
    send_bad(&outside, 100);
}
END_TEST

START_TEST(offloads_that_were_not_agreed_on_are_refused)
{
    static const struct virtio_net_hdr_v1 checksum = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16};
    static const struct virtio_net_hdr_v1 cut = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
        .gso_size = 1448,
        .csum_start = 34,
        .csum_offset = 16,
    };

    net_start();
    net_bring_up_with(VERSION_1, 64);
    send_bad(&checksum, 100);
    net_bring_up_with(VERSION_1 | FEATURE(CSUM), 64);
    send_bad(&cut, 100);
    /* Without CSUM there is no TSO, whatever the driver says (5.1.3.1). */
    net_bring_up_with(VERSION_1 | FEATURE(HOST_TSO4), 64);
    send_bad(&cut, 100);
    ck_assert_uint_eq(net.fake->offloads, 0);
}
END_TEST

/* The bad ones are answered in their place, and nothing else is lost. */
START_TEST(bad_frames_among_good_ones_are_dropped_alone)
{
    net_start();
    net_bring_up_with(driver_features(rig.mmio), 256);
    for (unsigned i = 0; i < 100; i++)
        (void)net_offer_frame(i, NULL, i % 7 == 3 ? 5 : 60 + i, i);
    net_kick(TX_QUEUE);
    for (unsigned i = 0; i < 100; i++) {
        (void)rig_wait_used(TX_QUEUE);
        if (i % 7 != 3)
            net_expect_sent(60 + i, i);
    }
    ck_assert_uint_eq(sent_dropped(), 14);
    ck_assert_uint_eq(sent_frames(), 86);
}
END_TEST

START_TEST(broken_ring_stops_all_queues_until_reset)
{
    net_bring_up();
    (void)net_offer_frame(0, NULL, 60, 1);
    driver_offer(&rig.rings[TX_QUEUE], 999);
    net_kick(TX_QUEUE);
    (void)rig_wait_used(TX_QUEUE); /* what came before is sent */
    net_expect_sent(60, 1);
    ck_assert(rig_needs_reset());

    (void)net_offer_buffer(RX_GPA, 4096);
    net_kick(RX_QUEUE);
    net_give(100, 1);
    ck_assert(rig_nothing_used(RX_QUEUE));
    ck_assert(!net.fake->watched);

    net_bring_up_with(driver_features(rig.mmio), 64);
    net_send(60, 2);
}
END_TEST

/* A driver that breaks one queue while frames come on another. */
START_TEST(broken_ring_ends_the_watch)
{
    net_bring_up();
    net_offer_buffers(20, 4096);
    ck_assert(net.fake->watched);
    driver_offer(&rig.rings[TX_QUEUE], 999);
    net_kick(TX_QUEUE);
    net_give(100, 1);
    ck_assert(rig_nothing_used(RX_QUEUE));
    ck_assert(!net.fake->watched);
    ck_assert_uint_eq(net.fake->to_guest.tail - net.fake->to_guest.head, 1);
}
END_TEST

/* ---- full back ends -------------------------------------------------------------------------- */

START_TEST(full_back_end_keeps_frames_in_the_ring)
{
    net.fake->room = 5;
    net_bring_up();
    for (unsigned i = 0; i < 20; i++)
        (void)net_offer_frame(i, NULL, 60 + i, i);
    net_kick(TX_QUEUE);
    wait_used(5);
    ck_assert(rig_nothing_used(TX_QUEUE));
    ck_assert_uint_eq(net.fake->nsends, 1);
    ck_assert_uint_eq(net_counted(&net.counters.full), 1);

    /* More frames change nothing, and nobody is asked. */
    for (unsigned i = 20; i < 25; i++)
        (void)net_offer_frame(i, NULL, 60 + i, i);
    net_kick(TX_QUEUE);
    ck_assert(rig_nothing_used(TX_QUEUE));
    ck_assert_uint_eq(net.fake->nsends, 1);

    net_make_room(3);
    wait_used(3);
    ck_assert(rig_nothing_used(TX_QUEUE));
    net_make_room(100);
    for (unsigned i = 0; i < 25; i++)
        net_expect_sent(60 + i, i);
    ck_assert_uint_eq(sent_dropped(), 0);
}
END_TEST

START_TEST(full_back_end_does_not_hold_up_the_other_direction)
{
    net.fake->room = 0;
    net_bring_up();
    net_offer_buffers(20, 4096);
    offer(1, 60);
    ck_assert(rig_nothing_used(TX_QUEUE));
    net_give(100, 1);
    (void)rig_wait_used(RX_QUEUE);
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, "\1", 1),
                      VIRTIO_NET_OK);
}
END_TEST

START_TEST(reset_while_the_back_end_is_full)
{
    net.fake->room = 1;
    net_bring_up();
    offer(3, 60);
    net_expect_sent(60, 0);
    net_bring_up_with(driver_features(rig.mmio), 64);
    (void)net_offer_frame(0, NULL, 60, 9);
    net_kick(TX_QUEUE);
    ck_assert(rig_nothing_used(TX_QUEUE)); /* the fake checks that it is not asked */
    net_make_room(10);
    (void)rig_wait_used(TX_QUEUE);
    net_expect_sent(60, 9);
    ck_assert_ptr_null(net_take_sent());
}
END_TEST

START_TEST(link_that_goes_down_ends_the_wait_of_a_full_back_end)
{
    net.fake->room = 0;
    net_bring_up();
    offer(1, 60);
    ck_assert(rig_nothing_used(TX_QUEUE));
    net_set_link(false);
    (void)rig_wait_used(TX_QUEUE);
    ck_assert_uint_eq(sent_dropped(), 1);
    net_set_link(true);
    net_make_room(10);
    net_send(60, 1);
}
END_TEST

/* The user's switch and the back end's link, in that order. */
START_TEST(link_that_goes_down_unseen_ends_the_wait_too)
{
    net.fake->room = 0;
    net_bring_up();
    offer(1, 60);
    virtio_net_set_link(rig.dev, false);
    net_set_link(false);
    net_set_link(true);
    net_make_room(10);
    virtio_net_set_link(rig.dev, true);
    (void)rig_wait_used(TX_QUEUE);
    net_send(60, 1);
}
END_TEST

/* It is not full of those that are dropped, but still full when the link is up again. */
START_TEST(frames_without_a_link_do_not_wait_for_a_full_back_end)
{
    net.fake->room = 0;
    net_bring_up();
    offer(3, 60);
    ck_assert(rig_nothing_used(TX_QUEUE));
    virtio_net_set_link(rig.dev, false);
    wait_used(3);
    offer(2, 60);
    wait_used(2);
    ck_assert_uint_eq(sent_dropped(), 5);
    virtio_net_set_link(rig.dev, true);
    (void)net_offer_frame(0, NULL, 60, 9);
    net_kick(TX_QUEUE);
    ck_assert(rig_nothing_used(TX_QUEUE)); /* the fake checks that it is not asked */
    net_make_room(10);
    (void)rig_wait_used(TX_QUEUE);
    net_expect_sent(60, 9);
    ck_assert_ptr_null(net_take_sent());
}
END_TEST

START_TEST(frames_that_the_back_end_drops_are_counted)
{
    net.fake->drop_every = 3;
    net_bring_up();
    offer(9, 60);
    wait_used(9);
    ck_assert_uint_eq(sent_dropped(), 3);
    ck_assert_uint_eq(sent_frames(), 6);
    ck_assert_uint_eq(net_counted(&net.counters.sent.bytes), 360);
}
END_TEST

/* ---- link and limits ------------------------------------------------------------------------- */

START_TEST(frames_without_a_link_are_dropped)
{
    net.fake->net.link_up = false;
    net_bring_up();
    offer(5, 60);
    wait_used(5);
    ck_assert_uint_eq(net.fake->nsends, 0);
    ck_assert_uint_eq(sent_dropped(), 5);
}
END_TEST

START_TEST(limit_delays_frames_and_loses_none)
{
    uint64_t begin_ns;

    /* 50 frames of 1000 bytes: 10000 may come at once, the other 40 take 0.4 seconds. */
    net.options.limits.bps = 100000;
    net_start();
    net_bring_up_with(driver_features(rig.mmio), 256);
    begin_ns = monotonic_ns();
    offer(50, 1000);
    for (unsigned i = 0; i < 50; i++) {
        (void)rig_wait_used(TX_QUEUE);
        net_expect_sent(1000, i);
    }
    ck_assert_uint_ge(monotonic_ns() - begin_ns, 380 * NS_PER_MS);
}
END_TEST

START_TEST(reset_while_frames_wait_for_a_limit)
{
    uint64_t begin_ns = monotonic_ns();

    /* Two at the beginning and what leaks meanwhile, however slow the test is. */
    net.options.limits.pps = 10;
    net_start();
    for (unsigned turn = 0; turn < 3; turn++) {
        net_bring_up_with(driver_features(rig.mmio), 64);
        offer(10, 60);
    }
    driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
    ck_assert_uint_ge(sent_frames(), 1);
    ck_assert_uint_le(sent_frames(), 2 + (monotonic_ns() - begin_ns) / (100 * NS_PER_MS));
}
END_TEST

static void add_tests(Suite *suite)
{
    net_case(suite, "good", frame_arrives_as_it_was_sent, many_frames_go_in_one_call,
             frames_in_any_pieces_arrive, frames_of_all_allowed_lengths_arrive,
             frame_to_be_cut_keeps_its_header, frame_in_many_pieces_arrives_or_is_dropped,
             batches_end_where_their_room_does, frames_from_before_driver_ok_need_no_kick,
             kicks_are_asked_for_when_the_ring_is_empty);
    net_case(suite, "bad", frames_of_bad_lengths_are_dropped, frames_with_bad_headers_are_dropped,
             offloads_that_were_not_agreed_on_are_refused,
             bad_frames_among_good_ones_are_dropped_alone, broken_ring_stops_all_queues_until_reset,
             broken_ring_ends_the_watch);
    net_case(suite, "full", full_back_end_keeps_frames_in_the_ring,
             full_back_end_does_not_hold_up_the_other_direction, reset_while_the_back_end_is_full,
             link_that_goes_down_ends_the_wait_of_a_full_back_end,
             link_that_goes_down_unseen_ends_the_wait_too,
             frames_without_a_link_do_not_wait_for_a_full_back_end,
             frames_that_the_back_end_drops_are_counted);
    net_case(suite, "link and limits", frames_without_a_link_are_dropped,
             limit_delays_frames_and_loses_none, reset_while_frames_wait_for_a_limit);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_net_tx", add_tests)
