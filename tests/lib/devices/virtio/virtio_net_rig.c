/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/devices/virtio/virtio_net_rig.h"

#include <string.h>
#include <sys/eventfd.h>

struct net_rig net;
const struct mac net_mac = {{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}};

static void *loop_main(void *arg)
{
    ck_assert_int_eq(loop_run(net.loop), 0);
    return NULL;
}

static void note_freed(void *opaque)
{
    net.dev = NULL;
}

static void set_up(void)
{
    net = (struct net_rig){.fake = fake_net_new()};
    ck_assert_int_eq(loop_new(&net.loop), 0);
    net.mem = driver_mem_new(MEM_LEN);
    ck_assert_int_eq(irq_init(&net.irq, 5), 0);
    ck_assert_int_eq(pthread_create(&net.loop_thread, NULL, loop_main, NULL), 0);
    net.options = (struct virtio_net_options){
        .net = &net.fake->net,
        .loop = net.loop,
        .counters = &net.counters,
        .mac = net_mac,
        .link_up = true,
        .freed = note_freed,
    };
}

void net_start(void)
{
    ck_assert_int_eq(virtio_net_new(&net.options, net.mem, &net.dev), 0);
    ck_assert_int_eq(virtio_mmio_new(net.dev, &net.irq, &net.mmio), 0);
}

void net_bring_up_with(uint64_t features, uint16_t size)
{
    ck_assert(driver_negotiate(net.mmio, features));
    for (unsigned i = 0; i < NET_QUEUES; i++) {
        driver_ring_init(&net.rings[i], net.mem, RING_GPA(i), size, features & EVENT_IDX);
        ck_assert(driver_setup_queue(net.mmio, i, &net.rings[i]));
    }
    driver_set_driver_ok(net.mmio);
    net_settle();
}

void net_bring_up(void)
{
    net_start();
    net_bring_up_with(driver_features(net.mmio), 64);
}

static void tear_down(void)
{
    virtio_mmio_free(net.mmio);
    ck_assert_ptr_null(net.dev);
    loop_stop(net.loop);
    pthread_join(net.loop_thread, NULL);
    loop_free(net.loop);
    fake_net_free(net.fake);
    irq_done(&net.irq);
    guest_mem_free(net.mem);
}

static void nothing(void *opaque)
{
}

void net_settle(void)
{
    for (int i = 0; i < 8; i++)
        loop_call(net.loop, nothing, NULL);
}

void net_on_loop(void (*fn)(void *opaque), void *opaque)
{
    loop_call(net.loop, fn, opaque);
    net_settle();
}

/* ---- rings ----------------------------------------------------------------------------------- */

uint8_t *net_guest(uint64_t gpa, size_t len)
{
    return driver_at(net.mem, gpa, len);
}

void net_kick(unsigned queue)
{
    if (driver_show(&net.rings[queue]))
        driver_kick(net.mmio, queue);
    net_settle();
}

struct vring_used_elem net_wait_used(unsigned queue)
{
    struct driver_ring *ring = &net.rings[queue];
    struct vring_used_elem elem;

    while (!driver_take(ring, &elem)) {
        if (driver_want_interrupt(ring))
            continue;
        ck_assert_msg(driver_wait_irq(&net.irq, TIMEOUT_MS), "no interrupt");
        (void)driver_ack(net.mmio);
    }
    return elem;
}

bool net_nothing_used(unsigned queue)
{
    struct vring_used_elem elem;

    net_settle();
    return !driver_take(&net.rings[queue], &elem);
}

uint32_t net_take_interrupts(void)
{
    eventfd_t edges;

    net_settle();
    if (eventfd_read(net.irq.fd, &edges) < 0)
        return 0;
    return driver_ack(net.mmio);
}

/* ---- frames ---------------------------------------------------------------------------------- */

uint16_t net_offer_buffer(uint64_t gpa, uint32_t len)
{
    const struct driver_buf buf = {gpa, len, true};

    memset(net_guest(gpa, len), UNTOUCHED, len);
    return driver_add(&net.rings[RX_QUEUE], &buf, 1);
}

void net_fill_frame(uint8_t *bytes, uint32_t len, unsigned seed)
{
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = i < MAC_LEN ? net_mac.octets[i] : (uint8_t)(i * 7 + i / 251 + seed * 13);
}

struct give {
    const struct virtio_net_hdr_v1 *hdr;
    const void *bytes;
    uint32_t len;
};

static void give_on_loop(void *opaque)
{
    const struct give *give = opaque;

    fake_net_give(net.fake, give->hdr, give->bytes, give->len);
}

void net_give_bytes(const void *bytes, uint32_t len)
{
    net_on_loop(give_on_loop, &(struct give){.bytes = bytes, .len = len});
}

void net_give_with(const struct virtio_net_hdr_v1 *hdr, uint32_t len, unsigned seed)
{
    static uint8_t bytes[2 * NET_FRAME_MAX];

    net_fill_frame(bytes, len, seed);
    net_on_loop(give_on_loop, &(struct give){.hdr = hdr, .bytes = bytes, .len = len});
}

void net_give(uint32_t len, unsigned seed)
{
    net_give_with(NULL, len, seed);
}

uint16_t net_offer_frame(unsigned i, const struct virtio_net_hdr_v1 *hdr, uint32_t len,
                         unsigned seed)
{
    static const struct virtio_net_hdr_v1 plain;
    const uint64_t gpa = TX_GPA + 2048ull * i;
    const struct driver_buf bufs[] = {{HDR_GPA(i), NET_HDR_LEN, false}, {gpa, len, false}};

    memcpy(net_guest(HDR_GPA(i), NET_HDR_LEN), hdr ? hdr : &plain, NET_HDR_LEN);
    net_fill_frame(net_guest(gpa, len), len, seed);
    return driver_add(&net.rings[TX_QUEUE], bufs, len > 0 ? 2 : 1);
}

static void take_on_loop(void *opaque)
{
    *(const struct fake_frame **)opaque = fake_net_take(net.fake);
}

const struct fake_frame *net_take_sent(void)
{
    const struct fake_frame *frame = NULL;

    net_on_loop(take_on_loop, (void *)&frame);
    return frame;
}

void net_expect_sent(uint32_t len, unsigned seed)
{
    static uint8_t bytes[NET_FRAME_MAX];
    const struct fake_frame *frame = net_take_sent();

    ck_assert_ptr_nonnull(frame);
    ck_assert_uint_eq(frame->len, len);
    net_fill_frame(bytes, len, seed);
    ck_assert_mem_eq(frame->bytes, bytes, len);
}

uint8_t net_command(uint8_t class, uint8_t command, const void *data, uint32_t len)
{
    uint8_t *at = net_guest(COMMAND_GPA, 2ul + len + 1);
    const struct driver_buf bufs[] = {
        {COMMAND_GPA, 2, false}, {COMMAND_GPA + 2, len, false}, {COMMAND_GPA + 2 + len, 1, true}};
    struct vring_used_elem elem;

    at[0] = class;
    at[1] = command;
    if (len > 0)
        memcpy(at + 2, data, len);
    at[2 + len] = UNTOUCHED;
    (void)driver_add(&net.rings[CTRL_QUEUE], bufs, 3);
    net_kick(CTRL_QUEUE);
    elem = net_wait_used(CTRL_QUEUE);
    ck_assert_uint_eq(elem.len, 1);
    return at[2 + len];
}

void net_add_case(Suite *suite, const char *name, const TTest *const *tests, size_t ntests)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    for (size_t i = 0; i < ntests; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
}

void net_add_loop_case(Suite *suite, const char *name, const TTest *test, int n)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, test, 0, n);
    suite_add_tcase(suite, tcase);
}
