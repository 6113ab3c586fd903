/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net whose queues the kernel works on. The kernel is a made-up one: the functions of
 * devices/virtio/vhost_net.h are here.
 */
#include <errno.h>
#include <sys/eventfd.h>

#include "base/iov.h"
#include "tests/lib/devices/virtio/virtio_net_rig.h"
#include "tests/lib/dice.h"

#define FRAME_LEN 100u
#define BUFFER_LEN 2048u

struct given {
    bool is_given;
    unsigned ntimes;
    struct vhost_net_queue queue;
    struct virtq vq; /* as the kernel sees it */
    unsigned nmoved;
};

/* Owner: the loop's thread; the test while that is idle. */
static struct {
    struct vhost_net vhost;
    const struct guest_mem *mem;
    uint64_t features;
    struct given queues[2];
    int fail_features; /* negative errno */
    int fail_start[2];
    int fail_stop;
    bool finishes; /* it is about to use a chain when it is stopped */
    bool errs;     /* or finds an error */
    struct virtq_chain chain;
} kernel;

/* ---- the kernel ------------------------------------------------------------------------------ */

int vhost_net_open(struct vhost_net *vhost, struct err *err)
{
    return err_set(err, -ENOTSUP, "not for tests");
}

void vhost_net_close(struct vhost_net *vhost)
{
}

int vhost_net_set_memory(struct vhost_net *vhost, const struct guest_mem *mem)
{
    ck_assert_ptr_eq(vhost, &kernel.vhost);
    kernel.mem = mem;
    return 0;
}

int vhost_net_set_features(struct vhost_net *vhost, uint64_t features)
{
    for (unsigned i = 0; i < 2; i++)
        ck_assert(!kernel.queues[i].is_given);
    kernel.features = features;
    return kernel.fail_features;
}

int vhost_net_start(struct vhost_net *vhost, const struct vhost_net_queue *queue)
{
    struct given *given = &kernel.queues[queue->index];

    ck_assert(!given->is_given);
    ck_assert_uint_eq(queue->vq->in_flight, 0);
    ck_assert_uint_eq(queue->vq->next_used, queue->vq->next_avail);
    ck_assert_int_eq(queue->tap_fd, FAKE_NET_TAP);
    if (kernel.fail_start[queue->index] < 0)
        return kernel.fail_start[queue->index];
    given->is_given = true;
    given->ntimes++;
    given->queue = *queue;
    given->vq = *queue->vq;
    return 0;
}

/* It takes a chain. False: there is none. */
static bool kernel_pops(unsigned index)
{
    struct given *given = &kernel.queues[index];

    ck_assert(given->is_given);
    return virtq_pop(&given->vq, &kernel.chain) == 1;
}

static void kernel_pushes(unsigned index, uint32_t written)
{
    struct given *given = &kernel.queues[index];

    virtq_push(&given->vq, kernel.chain.head, written);
    if (virtq_publish(&given->vq))
        ck_assert_int_eq(eventfd_write(given->queue.call_fd, 1), 0);
    given->nmoved++;
}

int vhost_net_stop(struct vhost_net *vhost, unsigned index, uint16_t *ret_position)
{
    struct given *given = &kernel.queues[index];

    ck_assert(given->is_given);
    if (kernel.finishes && kernel_pops(index))
        kernel_pushes(index, NET_HDR_LEN + FRAME_LEN);
    if (kernel.errs)
        ck_assert_int_eq(eventfd_write(given->queue.error_fd, 1), 0);
    given->is_given = false;
    *ret_position = given->vq.next_avail;
    return kernel.fail_stop;
}

static void kernel_receives(unsigned seed)
{
    const struct virtio_net_hdr_v1 hdr = {.num_buffers = htole16(1)};
    uint8_t frame[FRAME_LEN];

    net_fill_frame(frame, FRAME_LEN, seed);
    ck_assert(kernel_pops(RX_QUEUE));
    ck_assert_uint_ge(kernel.chain.in_len, NET_HDR_LEN + FRAME_LEN);
    (void)iov_from_buf(kernel.chain.iov, kernel.chain.nin, 0, &hdr, sizeof(hdr));
    (void)iov_from_buf(kernel.chain.iov, kernel.chain.nin, sizeof(hdr), frame, FRAME_LEN);
    kernel_pushes(RX_QUEUE, NET_HDR_LEN + FRAME_LEN);
}

static void kernel_sends(void)
{
    ck_assert(kernel_pops(TX_QUEUE));
    ck_assert_uint_eq(kernel.chain.out_len, NET_HDR_LEN + FRAME_LEN);
    kernel_pushes(TX_QUEUE, 0);
}

/* ---- the driver ------------------------------------------------------------------------------ */

static void begin(void)
{
    kernel.fail_features = kernel.fail_stop = 0;
    kernel.fail_start[RX_QUEUE] = kernel.fail_start[TX_QUEUE] = 0;
    kernel.finishes = kernel.errs = false;
    memset(kernel.queues, 0, sizeof(kernel.queues));
    net.options.vhost = &kernel.vhost;
}

static void bring_up(void)
{
    begin();
    net_bring_up();
}

static void offer_frames(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        (void)net_offer_frame(i, NULL, FRAME_LEN, i);
    net_kick(TX_QUEUE);
}

static void set_wish(bool up)
{
    virtio_net_set_link(rig.dev, up);
    rig_settle();
}

/* Both queues are the kernel's, or neither. */
static void expect_given(bool given)
{
    rig_settle();
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(kernel.queues[i].is_given, given);
    ck_assert(!given || !net.fake->watched);
}

/* Where they went on when they were given last. */
static void expect_positions(unsigned rx, unsigned tx)
{
    expect_given(true);
    ck_assert_uint_eq(kernel.queues[RX_QUEUE].queue.vq->next_avail, rx);
    ck_assert_uint_eq(kernel.queues[TX_QUEUE].queue.vq->next_avail, tx);
}

static void expect_used(unsigned queue, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        (void)rig_wait_used(queue);
    ck_assert(rig_nothing_used(queue));
}

/* Frames go through the device and its back end; half of the ring's buffers are enough for that. */
static void expect_device_works(void)
{
    net_offer_buffers(8, BUFFER_LEN);
    net_give(FRAME_LEN, 7);
    ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, NET_HDR_LEN + FRAME_LEN);
    net_send(FRAME_LEN, 8);
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(queues_of_a_driver_are_the_kernels)
{
    eventfd_t kicks;

    bring_up();
    expect_positions(0, 0);
    ck_assert_ptr_eq(kernel.mem, rig.mem);
    ck_assert_uint_eq(kernel.features, driver_features(rig.mmio));
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_eq(kernel.queues[i].vq.size, 64);
        ck_assert_int_eq(kernel.queues[i].queue.kick_fd, rig.dev->kick_fds[i]);
        /* What was offered before is to be looked at. */
        ck_assert_int_eq(eventfd_read(kernel.queues[i].queue.kick_fd, &kicks), 0);
    }
    net_offer_buffers(3, BUFFER_LEN);
    offer_frames(2);
    ck_assert(rig_nothing_used(RX_QUEUE));
    ck_assert(rig_nothing_used(TX_QUEUE));
    for (unsigned i = 0; i < 2; i++) {
        kernel_receives(i);
        ck_assert_uint_eq(rig_wait_used(RX_QUEUE).len, NET_HDR_LEN + FRAME_LEN);
        kernel_sends();
        (void)rig_wait_used(TX_QUEUE);
    }
    ck_assert_ptr_null(net_take_sent());
    ck_assert_uint_eq(net.counters.sent.frames + net.counters.received.frames, 0);
    ck_assert_uint_eq(net.counters.rings.kicks, 0);
}
END_TEST

START_TEST(commands_are_the_devices)
{
    const uint8_t on = 1;

    bring_up();
    ck_assert_uint_eq(net_command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1),
                      VIRTIO_NET_OK);
    expect_given(true);
}
END_TEST

START_TEST(pause_takes_them_back)
{
    bring_up();
    net_offer_buffers(5, BUFFER_LEN);
    offer_frames(4);
    for (unsigned i = 0; i < 2; i++)
        kernel_receives(i);
    for (unsigned i = 0; i < 3; i++)
        kernel_sends();
    rig_pause();
    expect_given(false);
    expect_used(RX_QUEUE, 2); /* the driver is told of all that was done */
    expect_used(TX_QUEUE, 3);
    net_give(FRAME_LEN, 1);
    offer_frames(1);
    rig_resume();
    expect_positions(2, 3);
    for (unsigned i = 0; i < 3; i++)
        kernel_receives(i);
    for (unsigned i = 0; i < 2; i++)
        kernel_sends();
    ck_assert(!kernel_pops(RX_QUEUE) && !kernel_pops(TX_QUEUE));
    expect_used(RX_QUEUE, 3);
    expect_used(TX_QUEUE, 2);
    ck_assert(!rig_needs_reset());
}
END_TEST

START_TEST(what_was_used_last_is_told)
{
    bring_up();
    net_offer_buffers(2, BUFFER_LEN);
    (void)net_take_interrupts();
    kernel.finishes = true;
    rig_pause();
    ck_assert(net_take_interrupts() & VIRTIO_MMIO_INT_VRING);
    expect_used(RX_QUEUE, 1);
    rig_resume();
    expect_positions(1, 0);
}
END_TEST

/* As on a card without a cable, what is sent is dropped; buffers for what comes stay in order. */
START_TEST(link_that_is_down_takes_them_back)
{
    void (*const set_link)(bool up) = _i == 0 ? set_wish : net_set_link;
    struct virtio_net_state state;

    bring_up();
    net_offer_buffers(4, BUFFER_LEN);
    offer_frames(2);
    kernel_receives(0);
    kernel_sends();
    set_link(false);
    expect_given(false);
    virtio_net_get_state(rig.dev, &state);
    ck_assert(!state.by_kernel && !state.link_up);
    offer_frames(3);
    expect_used(TX_QUEUE, 5);
    ck_assert_uint_eq(net.counters.sent.dropped, 4);
    net_offer_buffers(2, BUFFER_LEN);
    expect_used(RX_QUEUE, 1);

    set_link(true);
    expect_positions(1, 5);
    virtio_net_get_state(rig.dev, &state);
    ck_assert(state.by_kernel && state.link_up);
    for (unsigned i = 0; i < 5; i++)
        kernel_receives(i);
    expect_used(RX_QUEUE, 5);
    ck_assert(!kernel_pops(RX_QUEUE));
    ck_assert(!rig_needs_reset());
}
END_TEST

START_TEST(link_that_is_down_at_first_gives_them_later)
{
    begin();
    net.options.link_up = false;
    net_bring_up();
    expect_given(false);
    net_offer_buffers(2, BUFFER_LEN);
    set_wish(true);
    expect_positions(0, 0);
    kernel_receives(0);
    expect_used(RX_QUEUE, 1);
}
END_TEST

START_TEST(next_driver_begins_anew)
{
    bring_up();
    for (unsigned i = 0; i < 3; i++) {
        net_offer_buffers(2, BUFFER_LEN);
        kernel_receives(i);
        expect_used(RX_QUEUE, 1);
        driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
        expect_given(false);
        net_bring_up_with(VERSION_1, 16);
        expect_positions(0, 0);
        ck_assert_uint_eq(kernel.features, VERSION_1);
        ck_assert_uint_eq(kernel.queues[RX_QUEUE].ntimes, i + 2);
    }
    /* Or the device works for it, and hears its kicks. */
    driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
    set_wish(false);
    net_bring_up_with(VERSION_1, 16);
    offer_frames(1);
    expect_used(TX_QUEUE, 1);
}
END_TEST

/* And neither does it have the other queue. */
START_TEST(what_the_kernel_cannot_do_the_device_does)
{
    begin();
    if (_i < 2)
        kernel.fail_start[_i] = -ENOBUFS;
    else
        kernel.fail_features = -EOPNOTSUPP;
    net_start();
    net_bring_up_with(driver_features(rig.mmio), 16);
    expect_given(false);
    expect_device_works();
    rig_pause();
    rig_resume();
    set_wish(false);
    set_wish(true);
    expect_given(false);
    expect_device_works();
    ck_assert(!rig_needs_reset());
}
END_TEST

START_TEST(driver_that_breaks_a_rule_has_to_reset)
{
    bring_up();
    ck_assert_int_eq(eventfd_write(kernel.queues[_i].queue.error_fd, 1), 0);
    expect_given(false);
    ck_assert(rig_needs_reset());
    offer_frames(1);
    ck_assert(rig_nothing_used(TX_QUEUE));
    net_bring_up_with(driver_features(rig.mmio), 16);
    expect_positions(0, 0);
    ck_assert(!rig_needs_reset());
}
END_TEST

START_TEST(broken_control_ring_takes_them_back)
{
    bring_up();
    driver_offer(&rig.rings[CTRL_QUEUE], 999);
    net_kick(CTRL_QUEUE);
    expect_given(false);
    ck_assert(rig_needs_reset());
    net_bring_up_with(driver_features(rig.mmio), 16);
    expect_positions(0, 0);
    ck_assert(!rig_needs_reset());
}
END_TEST

/* When the queues are taken back for another reason. */
START_TEST(error_that_is_found_last_is_told)
{
    bring_up();
    kernel.errs = true;
    rig_pause();
    kernel.errs = false;
    ck_assert(rig_needs_reset());
    rig_resume();
    expect_given(false);
    net_bring_up_with(driver_features(rig.mmio), 16);
    expect_positions(0, 0);
    ck_assert(!rig_needs_reset());
}
END_TEST

START_TEST(error_in_a_ring_that_is_reset_is_over)
{
    bring_up();
    kernel.errs = true;
    driver_write32(rig.mmio, VIRTIO_MMIO_QUEUE_SEL, RX_QUEUE);
    driver_write32(rig.mmio, VIRTIO_MMIO_QUEUE_READY, 0);
    kernel.errs = false;
    rig_settle();
    ck_assert(!rig_needs_reset());
    ck_assert(!kernel.queues[RX_QUEUE].is_given);
    ck_assert(kernel.queues[TX_QUEUE].is_given);
}
END_TEST

START_TEST(queue_that_the_kernel_keeps_needs_a_reset)
{
    bring_up();
    kernel.fail_stop = -EIO;
    rig_pause();
    rig_resume();
    ck_assert(rig_needs_reset());
}
END_TEST

/* The kernel and the device in turns, with resets: no frame is lost, doubled or out of order. */
START_TEST(changes_at_any_moment_lose_nothing)
{
    uint64_t dice = unit_seed();
    unsigned offered = 0, used = 0;

    bring_up();
    for (unsigned turn = 0; turn < 300; turn++) {
        unsigned n = dice_roll(&dice, 8);

        if (offered - used + n < 60) {
            net_offer_buffers(n, BUFFER_LEN);
            offered += n;
        }
        if (dice_roll(&dice, 3) == 0)
            set_wish(false);
        if (dice_roll(&dice, 3) == 0) {
            rig_pause();
            rig_resume();
        }
        set_wish(true);
        expect_given(true);
        for (n = dice_roll(&dice, 8); n > 0 && used < offered; n--, used++) {
            kernel_receives(used);
            (void)rig_wait_used(RX_QUEUE);
        }
    }
    ck_assert_uint_eq(kernel.queues[RX_QUEUE].nmoved, used);
    ck_assert(!rig_needs_reset());
}
END_TEST

static void add_tests(Suite *suite)
{
    net_case(suite, "the kernel", queues_of_a_driver_are_the_kernels, commands_are_the_devices,
             pause_takes_them_back, what_was_used_last_is_told,
             link_that_is_down_at_first_gives_them_later, next_driver_begins_anew,
             queue_that_the_kernel_keeps_needs_a_reset, broken_control_ring_takes_them_back,
             error_that_is_found_last_is_told, error_in_a_ring_that_is_reset_is_over,
             changes_at_any_moment_lose_nothing);
    net_add_loop_case(suite, "link", link_that_is_down_takes_them_back, 2);
    net_add_loop_case(suite, "failures", what_the_kernel_cannot_do_the_device_does, 3);
    net_add_loop_case(suite, "broken rings", driver_that_breaks_a_rule_has_to_reset, 2);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_net_vhost", add_tests)
