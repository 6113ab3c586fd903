/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/devices/virtio/virtio_net_rig.h"

#include <string.h>
#include <sys/eventfd.h>

struct net_rig net;
const struct mac net_mac = {{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}};

static void note_freed(void *opaque)
{
    rig.dev = NULL;
}

static void set_up(void)
{
    net = (struct net_rig){.fake = fake_net_new()};
    rig_set_up();
    net.options = (struct virtio_net_options){
        .net = &net.fake->net,
        .loop = rig.loop,
        .counters = &net.counters,
        .mac = net_mac,
        .link_up = true,
        .freed = note_freed,
    };
}

void net_start(void)
{
    struct virtio_dev *dev;

    ck_assert_int_eq(virtio_net_new(&net.options, rig.mem, &dev), 0);
    rig_add(dev);
}

void net_bring_up_with(uint64_t features, uint16_t size)
{
    rig_bring_up_with(features, size);
    rig_settle();
}

void net_bring_up(void)
{
    net_start();
    net_bring_up_with(driver_features(rig.mmio), 64);
}

static void tear_down(void)
{
    rig_tear_down();
    ck_assert_ptr_null(rig.dev);
    fake_net_free(net.fake);
}

void net_on_loop(void (*fn)(void *opaque), void *opaque)
{
    loop_call(rig.loop, fn, opaque);
    rig_settle();
}

static void make_room_on_loop(void *opaque)
{
    fake_net_make_room(net.fake, *(const unsigned *)opaque);
}

void net_make_room(unsigned nframes)
{
    net_on_loop(make_room_on_loop, &nframes);
}

static void set_link_on_loop(void *opaque)
{
    fake_net_set_link(net.fake, *(const bool *)opaque);
}

void net_set_link(bool up)
{
    net_on_loop(set_link_on_loop, &up);
}

/* ---- rings ----------------------------------------------------------------------------------- */

void net_kick(unsigned queue)
{
    rig_kick(queue);
    rig_settle();
}

uint32_t net_take_interrupts(void)
{
    eventfd_t edges;

    rig_settle();
    if (eventfd_read(rig.irq.fd, &edges) < 0)
        return 0;
    return driver_ack(rig.mmio);
}

/* ---- frames ---------------------------------------------------------------------------------- */

uint16_t net_offer_buffer(uint64_t gpa, uint32_t len)
{
    const struct driver_buf buf = {gpa, len, true};

    memset(rig_guest(gpa, len), RIG_UNTOUCHED, len);
    return driver_add(&rig.rings[RX_QUEUE], &buf, 1);
}

void net_offer_buffers(unsigned n, uint32_t len)
{
    for (unsigned i = 0; i < n; i++)
        (void)net_offer_buffer(RX_GPA + i * align_up(len, 2048), len);
    net_kick(RX_QUEUE);
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

    memcpy(rig_guest(HDR_GPA(i), NET_HDR_LEN), hdr ? hdr : &plain, NET_HDR_LEN);
    net_fill_frame(rig_guest(gpa, len), len, seed);
    return driver_add(&rig.rings[TX_QUEUE], bufs, len > 0 ? 2 : 1);
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

void net_send(uint32_t len, unsigned seed)
{
    (void)net_offer_frame(0, NULL, len, seed);
    net_kick(TX_QUEUE);
    (void)rig_wait_used(TX_QUEUE);
    net_expect_sent(len, seed);
}

uint8_t net_command(uint8_t class, uint8_t command, const void *data, uint32_t len)
{
    uint8_t *at = rig_guest(COMMAND_GPA, 2ul + len + 1);
    const struct driver_buf bufs[] = {
        {COMMAND_GPA, 2, false}, {COMMAND_GPA + 2, len, false}, {COMMAND_GPA + 2 + len, 1, true}};
    struct vring_used_elem elem;

    at[0] = class;
    at[1] = command;
    if (len > 0)
        memcpy(at + 2, data, len);
    at[2 + len] = RIG_UNTOUCHED;
    (void)driver_add(&rig.rings[CTRL_QUEUE], bufs, 3);
    net_kick(CTRL_QUEUE);
    elem = rig_wait_used(CTRL_QUEUE);
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
