/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: frames that a guest receives. */
#include <string.h>

#include "base/clock.h"
#include "tests/lib/devices/virtio/virtio_net_rig.h"

#define MERGED (VERSION_1 | FEATURE(MRG_RXBUF) | FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4))
#define ALONE (VERSION_1 | FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4))

static uint64_t received_frames(void)
{
    return net_counted(&net.counters.received.frames);
}

static uint64_t received_dropped(void)
{
    return net_counted(&net.counters.received.dropped);
}

static void bring_up(uint64_t features, uint16_t size)
{
    net_start();
    net_bring_up_with(features, size);
}

/* A header and a frame, one after the other in guest memory. */
static void check_frame(uint64_t gpa, uint16_t nbuffers, uint32_t len, unsigned seed)
{
    static uint8_t bytes[NET_FRAME_MAX];
    struct virtio_net_hdr_v1 hdr;

    memcpy(&hdr, rig_guest(gpa, sizeof(hdr)), sizeof(hdr));
    ck_assert_uint_eq(le16toh(hdr.num_buffers), nbuffers);
    ck_assert_uint_eq(hdr.flags, 0);
    ck_assert_uint_eq(hdr.gso_type, 0);
    net_fill_frame(bytes, len, seed);
    ck_assert_mem_eq(rig_guest(gpa + sizeof(hdr), len), bytes, len);
}

static void expect_used(uint16_t head, uint32_t len)
{
    struct vring_used_elem elem = rig_wait_used(RX_QUEUE);

    ck_assert_uint_eq(elem.id, head);
    ck_assert_uint_eq(elem.len, len);
}

/* ---- one buffer ------------------------------------------------------------------------------ */

static const uint64_t both_kinds[] = {MERGED, ALONE};

START_TEST(frame_arrives_in_a_buffer)
{
    for (unsigned i = 0; i < ARRAY_SIZE(both_kinds); i++) {
        uint16_t head;

        if (i == 0)
            net_start();
        net_bring_up_with(both_kinds[i], 64);
        head = net_offer_buffer(RX_GPA, 70000);
        net_kick(RX_QUEUE);
        net_give(100, i);
        expect_used(head, NET_HDR_LEN + 100);
        check_frame(RX_GPA, 1, 100, i);
        ck_assert(rig_is_untouched(RX_GPA + NET_HDR_LEN + 100, 1000));
    }
    ck_assert_uint_eq(received_frames(), 2);
    ck_assert_uint_eq(net_counted(&net.counters.received.bytes), 200);
}
END_TEST

START_TEST(header_of_the_back_end_arrives)
{
    static const struct virtio_net_hdr_v1 hdr = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
        .hdr_len = 54,
        .gso_size = 1448,
        .csum_start = 34,
        .csum_offset = 16,
        .num_buffers = 0xffff,
    };

    bring_up(MERGED, 64);
    (void)net_offer_buffer(RX_GPA, 70000);
    net_kick(RX_QUEUE);
    net_give_with(&hdr, 60000, 1);
    (void)rig_wait_used(RX_QUEUE);
    ck_assert_mem_eq(rig_guest(RX_GPA, 10), &hdr, 10);
    ck_assert_mem_eq(rig_guest(RX_GPA + 10, 2), "\1\0", 2);
}
END_TEST

/* The header and the frame over buffers of a chain in any way. */
START_TEST(chains_in_any_pieces_are_filled)
{
    static const uint32_t pieces[][6] = {
        {12, 70000}, {1, 11, 70000}, {6, 36, 70000}, {5, 5, 5, 5, 5, 70000}, {13, 3, 70000},
    };

    net_start();
    for (unsigned i = 0; i < 2 * ARRAY_SIZE(pieces); i++) {
        const uint32_t *lens = pieces[i / 2];
        struct driver_buf bufs[6];
        uint64_t gpa = RX_GPA;
        unsigned n = 0;

        net_bring_up_with(both_kinds[i % 2], 64);
        memset(rig_guest(RX_GPA, 70000), RIG_UNTOUCHED, 70000);
        for (; n < 6 && lens[n] > 0; n++) {
            bufs[n] = (struct driver_buf){gpa, lens[n], true};
            gpa += lens[n];
        }
        (void)driver_add(&rig.rings[RX_QUEUE], bufs, n);
        net_kick(RX_QUEUE);
        net_give(300, i);
        ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, NET_HDR_LEN + 300);
        check_frame(RX_GPA, 1, 300, i);
    }
}
END_TEST

START_TEST(frame_that_a_chain_cannot_hold_is_dropped)
{
    uint16_t head;

    bring_up(ALONE, 64);
    head = net_offer_buffer(RX_GPA, 1526);
    net_kick(RX_QUEUE);
    net_give(1515, 1);
    ck_assert(rig_nothing_used(RX_QUEUE));
    ck_assert_uint_eq(received_dropped(), 1);
    net_give(1514, 2);
    expect_used(head, 1526);
    check_frame(RX_GPA, 1, 1514, 2);
}
END_TEST

/* Each takes one frame, and nothing of the next. */
START_TEST(chains_alone_take_a_frame_each)
{
    bring_up(ALONE, 64);
    net_offer_buffers(20, 4096);
    for (unsigned i = 0; i < 20; i++)
        net_give(1000 + i, i);
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, NET_HDR_LEN + 1000 + i);
        check_frame(RX_GPA + 4096ull * i, 1, 1000 + i, i);
    }
    ck_assert_uint_eq(net.fake->room_seen, 4096 - NET_HDR_LEN);
}
END_TEST

/* ---- merged buffers -------------------------------------------------------------------------- */

START_TEST(long_frame_fills_several_buffers)
{
    const uint32_t len = 10000;
    static uint8_t bytes[10000];
    uint8_t *at;

    bring_up(MERGED, 64);
    net_offer_buffers(30, 4096);
    net_give(len, 7);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, 4096);
    ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, NET_HDR_LEN + len - 8192);
    ck_assert(rig_nothing_used(RX_QUEUE));
    at = rig_guest(RX_GPA, 12288);
    ck_assert_mem_eq(at + 10, "\3\0", 2);
    net_fill_frame(bytes, len, 7);
    ck_assert_mem_eq(at + NET_HDR_LEN, bytes, len);
    /* The next frame begins in the next buffer. */
    net_give(60, 8);
    ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, NET_HDR_LEN + 60);
    check_frame(RX_GPA + 12288, 1, 60, 8);
}
END_TEST

START_TEST(frame_that_just_fills_its_buffers_takes_no_more)
{
    bring_up(MERGED, 64);
    net_offer_buffers(30, 4096);
    net_give(8192 - NET_HDR_LEN, 1);
    ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, 4096);
    ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, 4096);
    ck_assert(rig_nothing_used(RX_QUEUE));
    ck_assert_mem_eq(rig_guest(RX_GPA + 10, 2), "\2\0", 2);
}
END_TEST

START_TEST(largest_frame_arrives)
{
    static const uint32_t buffer_lens[] = {1536, 4096, 65536, 260};

    net_start();
    for (unsigned i = 0; i < ARRAY_SIZE(buffer_lens); i++) {
        uint32_t total = NET_HDR_LEN + NET_FRAME_MAX;

        net_bring_up_with(MERGED, 1024);
        net_offer_buffers(300, buffer_lens[i]);
        net_give(NET_FRAME_MAX, i);
        while (total > 0) {
            uint32_t len = rig_wait_used(RX_QUEUE).len;

            ck_assert_uint_eq(len, min_u64(total, buffer_lens[i]));
            total -= len;
        }
        ck_assert(rig_nothing_used(RX_QUEUE));
    }
}
END_TEST

/* Many frames through a ring that is refilled all the time, of all sizes: nothing is lost. */
START_TEST(stream_of_frames_arrives_in_order)
{
    static uint8_t expected[NET_FRAME_MAX];
    static uint64_t gpas[1024]; /* of a head's buffer */
    const uint32_t buffer_len = 1536;

    bring_up(MERGED | EVENT_IDX, 256);
    for (unsigned i = 0; i < 256; i++) {
        uint64_t gpa = RX_GPA + 2048ull * i;

        gpas[net_offer_buffer(gpa, buffer_len)] = gpa;
    }
    net_kick(RX_QUEUE);
    for (unsigned i = 0; i < 600; i++) {
        uint32_t len = 14 + (i * 7919) % 20000;
        uint32_t at = 0;
        uint16_t nbuffers = 0;
        struct virtio_net_hdr_v1 hdr = {0};

        net_give(len, i);
        net_fill_frame(expected, len, i);
        do {
            struct vring_used_elem elem = rig_wait_used(RX_QUEUE);
            uint64_t gpa = gpas[elem.id];
            uint32_t skip = at == 0 ? NET_HDR_LEN : 0;
            uint8_t *bytes = rig_guest(gpa, elem.len);

            if (at == 0)
                memcpy(&hdr, bytes, sizeof(hdr));
            ck_assert_mem_eq(bytes + skip, expected + at, elem.len - skip);
            at += elem.len - skip;
            nbuffers++;
            gpas[net_offer_buffer(gpa, buffer_len)] = gpa;
        } while (at < len);
        ck_assert_uint_eq(at, len);
        ck_assert_uint_eq(le16toh(hdr.num_buffers), nbuffers);
        net_kick(RX_QUEUE);
    }
}
END_TEST

/* Enough for the largest frame is there before one is taken, but no more is asked for. */
START_TEST(room_for_the_largest_frame_is_waited_for)
{
    static const struct {
        uint64_t features;
        uint16_t mtu;
        uint32_t room;
    } cases[] = {
        {MERGED, 0, NET_FRAME_MAX},
        {VERSION_1 | FEATURE(MRG_RXBUF), 0, 1518},
        {VERSION_1 | FEATURE(MRG_RXBUF), 1280, 1518},
        {VERSION_1 | FEATURE(MRG_RXBUF), 9000, 9008},
        {VERSION_1 | FEATURE(MRG_RXBUF), 65535, NET_FRAME_MAX},
        /* TSO without checksums is none (5.1.3.1). */
        {VERSION_1 | FEATURE(MRG_RXBUF) | FEATURE(GUEST_TSO6), 0, 1518},
        {MERGED & ~FEATURE(GUEST_TSO4), 0, 1518},
    };

    net.fake->net.mtu = cases[_i].mtu;
    bring_up(cases[_i].features, 1024);
    net_give(60, 1);
    for (uint32_t room = 0; room < NET_HDR_LEN + cases[_i].room; room += 256) {
        ck_assert(!net.fake->watched);
        net_offer_buffers(1, 256);
    }
    ck_assert(net.fake->watched || received_frames() == 1);
    ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, NET_HDR_LEN + 60);
}
END_TEST

#define ROOM_CASES 7

/* A driver that cannot offer more: the frame arrives if it fits, and is dropped if not. */
START_TEST(small_rings_take_what_fits)
{
    bring_up(MERGED, 16);
    net_offer_buffers(16, 1536);
    net_give(20000, 1);
    for (unsigned i = 0; i < 14; i++)
        (void)rig_wait_used(RX_QUEUE);
    ck_assert_uint_eq(received_frames(), 1);
    net_offer_buffers(14, 1536);
    net_give(40000, 1);
    ck_assert(rig_nothing_used(RX_QUEUE));
    ck_assert_uint_eq(received_dropped(), 1);
    net_give(60, 2);
    ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, NET_HDR_LEN + 60);
}
END_TEST

START_TEST(small_ring_of_tiny_buffers_starves_and_lives)
{
    bring_up(MERGED, 2);
    net_offer_buffers(2, 12);
    net_give(60, 1);
    ck_assert(rig_nothing_used(RX_QUEUE));
    ck_assert_uint_eq(net.fake->nreceives, 0);
}
END_TEST

/* ---- no buffers ------------------------------------------------------------------------------ */

START_TEST(back_end_is_not_watched_without_buffers)
{
    bring_up(ALONE | EVENT_IDX, 64);
    ck_assert(!net.fake->watched);
    net_give(60, 1);
    ck_assert_uint_eq(net.fake->nreceives, 0);
    net_offer_buffers(1, 2048);
    ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, NET_HDR_LEN + 60);
    rig_settle();
    ck_assert(!net.fake->watched);
    ck_assert_uint_eq(net_counted(&net.counters.starved), 1);
    net_give(60, 2);
    ck_assert_uint_eq(net.fake->nreceives, 1);
    ck_assert_uint_eq(received_dropped(), 0);
    net_offer_buffers(1, 2048);
    (void)rig_wait_used(RX_QUEUE);
    check_frame(RX_GPA, 1, 60, 2);
}
END_TEST

START_TEST(driver_kicks_only_when_buffers_are_missing)
{
    net_start();
    for (int event_idx = 0; event_idx < 2; event_idx++) {
        net_bring_up_with(event_idx ? ALONE | EVENT_IDX : ALONE, 64);
        (void)net_offer_buffer(RX_GPA, 2048);
        (void)net_offer_buffer(RX_GPA + 2048, 2048);
        ck_assert(driver_show(&rig.rings[RX_QUEUE]));
        driver_kick(rig.mmio, RX_QUEUE);
        rig_settle();
        (void)net_offer_buffer(RX_GPA + 4096, 2048);
        ck_assert(!driver_show(&rig.rings[RX_QUEUE]));
        for (unsigned i = 0; i < 3; i++) {
            net_give(60, i);
            (void)rig_wait_used(RX_QUEUE);
        }
        net_give(60, 3);
        ck_assert(rig_nothing_used(RX_QUEUE));
        (void)net_offer_buffer(RX_GPA, 2048);
        ck_assert(driver_show(&rig.rings[RX_QUEUE]));
        driver_kick(rig.mmio, RX_QUEUE);
        (void)rig_wait_used(RX_QUEUE);
    }
}
END_TEST

static void give_flood(void *opaque)
{
    for (unsigned i = 0; i < 900; i++)
        fake_net_give(net.fake, NULL, "0123456789abcdefghijklmnopqrstuvwxyz", 36);
}

START_TEST(flood_is_taken_in_rounds)
{
    bring_up(MERGED & ~FEATURE(GUEST_TSO4), 1024);
    net_offer_buffers(1024, 2048);
    net_on_loop(give_flood, NULL);
    for (unsigned i = 0; i < 900; i++)
        (void)rig_wait_used(RX_QUEUE);
    ck_assert_uint_eq(received_frames(), 900);
}
END_TEST

/* ---- bad buffers ----------------------------------------------------------------------------- */

static void check_broken(uint64_t features, const struct driver_buf *bufs, size_t nbufs)
{
    net_bring_up_with(features, 64);
    (void)driver_add(&rig.rings[RX_QUEUE], bufs, nbufs);
    net_kick(RX_QUEUE);
    rig_settle();
    ck_assert(rig_needs_reset());
    ck_assert(!net.fake->watched);
}

START_TEST(buffers_that_cannot_take_a_frame_break_the_device)
{
    const struct driver_buf readable[] = {{RX_GPA, 100, false}, {RX_GPA, 2048, true}};
    const struct driver_buf shorter = {RX_GPA, 25, true};
    const struct driver_buf no_header = {RX_GPA, 11, true};
    const struct driver_buf empty = {RX_GPA, 0, true};

    net_start();
    check_broken(MERGED, readable, 2);
    check_broken(ALONE, readable, 2);
    check_broken(ALONE, &shorter, 1);
    check_broken(MERGED, &no_header, 1);
    check_broken(MERGED, &empty, 1);

    net_bring_up_with(ALONE, 64);
    net_offer_buffers(1, 26);
    net_give(14, 1);
    ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, 26);
}
END_TEST

START_TEST(frames_of_bad_lengths_are_dropped)
{
    bring_up(MERGED, 64);
    net_offer_buffers(30, 4096);
    net_give(13, 1);
    net_give(0, 1);
    net_give(NET_FRAME_MAX + 60000, 1);
    ck_assert(rig_nothing_used(RX_QUEUE));
    ck_assert_uint_eq(received_dropped(), 3);
    net_give(60, 2);
    (void)rig_wait_used(RX_QUEUE);
    check_frame(RX_GPA, 1, 60, 2);
}
END_TEST

/* 1024 descriptors of one byte: more than one system call takes. */
START_TEST(chain_in_too_many_pieces_takes_what_it_can)
{
    static struct driver_buf bufs[VIRTQ_CHAIN_MAX];

    bring_up(ALONE, 1024);
    for (unsigned i = 0; i < VIRTQ_CHAIN_MAX; i++)
        bufs[i] = (struct driver_buf){RX_GPA + i, 1, true};
    (void)driver_add(&rig.rings[RX_QUEUE], bufs, VIRTQ_CHAIN_MAX);
    net_kick(RX_QUEUE);
    net_give(1012, 1);
    ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, 1024);
    check_frame(RX_GPA, 1, 1012, 1);
}
END_TEST

/* Chains of so many pieces that there is room for few of them, again and again. */
START_TEST(long_chains_are_merged)
{
    static struct driver_buf bufs[500];

    bring_up(MERGED & ~FEATURE(GUEST_TSO4), 1024);
    for (unsigned turn = 0; turn < 20; turn++) {
        for (unsigned f = 0; f < 2; f++) {
            for (unsigned i = 0; i < 500; i++)
                bufs[i] = (struct driver_buf){RX_GPA + 1000ull * f + 2ull * i, 2, true};
            (void)driver_add(&rig.rings[RX_QUEUE], bufs, 500);
        }
        net_kick(RX_QUEUE);
        net_give(1400, turn);
        ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, 1000);
        ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, NET_HDR_LEN + 1400 - 1000);
        check_frame(RX_GPA, 2, 1400, turn);
    }
}
END_TEST

/* ---- filters, limits ------------------------------------------------------------------------- */

START_TEST(frames_for_others_are_filtered)
{
    uint8_t frame[60] = {0x52, 0x54, 0, 0, 0, 9};

    net_bring_up();
    net_offer_buffers(40, 4096);
    net_give_bytes(frame, sizeof(frame));
    (void)rig_wait_used(RX_QUEUE); /* the driver has said nothing so far */
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, "\0", 1),
                      VIRTIO_NET_OK);
    net_give_bytes(frame, sizeof(frame));
    ck_assert(rig_nothing_used(RX_QUEUE));
    ck_assert_uint_eq(net_counted(&net.counters.filtered), 1);
    ck_assert_uint_eq(received_dropped(), 0);
    net_give(60, 1);
    (void)rig_wait_used(RX_QUEUE);
    check_frame(RX_GPA + 4096, 1, 60, 1); /* in the buffer that the filtered one had been in */
}
END_TEST

START_TEST(back_end_that_filters_is_believed)
{
    uint8_t frame[60] = {0x52, 0x54, 0, 0, 0, 9};

    net.fake->net.is_filtered = true;
    net_bring_up();
    net_offer_buffers(40, 4096);
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, "\0", 1),
                      VIRTIO_NET_OK);
    net_give_bytes(frame, sizeof(frame));
    (void)rig_wait_used(RX_QUEUE);
}
END_TEST

START_TEST(driver_without_filters_gets_everything)
{
    uint8_t frame[60] = {0x52, 0x54, 0, 0, 0, 9};

    bring_up(MERGED, 64);
    net_offer_buffers(40, 4096);
    net_give_bytes(frame, sizeof(frame));
    (void)rig_wait_used(RX_QUEUE);
}
END_TEST

static void is_watched(void *opaque)
{
    *(bool *)opaque = net.fake->watched;
}

START_TEST(limit_delays_frames_and_loses_none)
{
    uint64_t begin_ns;
    bool watched;

    net.options.limits.pps = 100;
    bring_up(MERGED, 256);
    net_offer_buffers(200, 2048);
    begin_ns = monotonic_ns();
    for (unsigned i = 0; i < 40; i++)
        net_give(60, i);
    net_on_loop(is_watched, &watched);
    ck_assert(!watched); /* nothing is looked at while it waits */
    for (unsigned i = 0; i < 40; i++) {
        (void)rig_wait_used(RX_QUEUE);
        check_frame(RX_GPA + 2048ull * i, 1, 60, i);
    }
    ck_assert_uint_ge(monotonic_ns() - begin_ns, 270 * NS_PER_MS);
    ck_assert_uint_eq(received_dropped(), 0);
}
END_TEST

START_TEST(reset_while_a_limit_holds)
{
    uint64_t begin_ns = monotonic_ns();

    /* Two at the beginning and what leaks meanwhile, however slow the test is. */
    net.options.limits.pps = 10;
    bring_up(MERGED, 64);
    for (unsigned turn = 0; turn < 3; turn++) {
        net_offer_buffers(60, 2048);
        for (unsigned i = 0; i < 5; i++)
            net_give(60, i);
        net_bring_up_with(MERGED, 64);
    }
    ck_assert_uint_ge(received_frames(), 1);
    ck_assert_uint_le(received_frames(), 2 + (monotonic_ns() - begin_ns) / (100 * NS_PER_MS));
}
END_TEST

static void add_tests(Suite *suite)
{
    net_case(suite, "one buffer", frame_arrives_in_a_buffer, header_of_the_back_end_arrives,
             chains_in_any_pieces_are_filled, frame_that_a_chain_cannot_hold_is_dropped,
             chains_alone_take_a_frame_each);
    net_case(suite, "merged", long_frame_fills_several_buffers,
             frame_that_just_fills_its_buffers_takes_no_more, largest_frame_arrives,
             stream_of_frames_arrives_in_order, small_rings_take_what_fits,
             small_ring_of_tiny_buffers_starves_and_lives);
    net_add_loop_case(suite, "room", room_for_the_largest_frame_is_waited_for, ROOM_CASES);
    net_case(suite, "no buffers", back_end_is_not_watched_without_buffers,
             driver_kicks_only_when_buffers_are_missing, flood_is_taken_in_rounds);
    net_case(suite, "bad", buffers_that_cannot_take_a_frame_break_the_device,
             frames_of_bad_lengths_are_dropped, chain_in_too_many_pieces_takes_what_it_can,
             long_chains_are_merged);
    net_case(suite, "filters and limits", frames_for_others_are_filtered,
             back_end_that_filters_is_believed, driver_without_filters_gets_everything,
             limit_delays_frames_and_loses_none, reset_while_a_limit_holds);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_net_rx", add_tests)
