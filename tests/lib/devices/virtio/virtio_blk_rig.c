/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/devices/virtio/virtio_blk_rig.h"

#include <stdatomic.h>
#include <string.h>

#include "tests/lib/settle.h"

#define MEM_LEN (16 * MIB)

struct blk_rig blk;

static void *loop_main(void *arg)
{
    ck_assert_int_eq(loop_run(blk.loop), 0);
    return NULL;
}

static void set_up(void)
{
    ck_assert_int_eq(loop_new(&blk.loop), 0);
    blk.disk = fake_block_new(blk.loop, DISK_LEN);
    blk.mem = driver_mem_new(MEM_LEN);
    ck_assert_int_eq(irq_init(&blk.irq, 5), 0);
}

void blk_start(unsigned nqueues)
{
    static const char *const label = "disk vda";
    const struct virtio_blk_options options = {
        .port = &blk.port,
        .label = &label,
        .serial = "root-disk",
        .nqueues = nqueues,
        .on_write_error = blk.on_write_error,
        .on_read_error = blk.on_read_error,
        .failed = blk.failed,
    };

    block_port_init(&blk.port, blk.disk, blk.loop);
    ck_assert_int_eq(pthread_create(&blk.loop_thread, NULL, loop_main, NULL), 0);
    ck_assert_int_eq(virtio_blk_new(&options, blk.mem, &blk.dev), 0);
    ck_assert_int_eq(virtio_mmio_new(blk.dev, &blk.irq, &blk.mmio), 0);
}

void blk_bring_up_with(uint64_t features, uint16_t size)
{
    ck_assert(driver_negotiate(blk.mmio, features));
    driver_ring_init(&blk.ring, blk.mem, RING_GPA(0), size, features & EVENT_IDX);
    ck_assert(driver_setup_queue(blk.mmio, 0, &blk.ring));
    driver_set_driver_ok(blk.mmio);
}

void blk_bring_up(void)
{
    blk_start(1);
    blk_bring_up_with(driver_features(blk.mmio), 16);
}

static void tear_down(void)
{
    virtio_mmio_free(blk.mmio);
    loop_stop(blk.loop);
    pthread_join(blk.loop_thread, NULL);
    block_port_done(&blk.port);
    loop_free(blk.loop);
    fake_block_free(blk.disk);
    irq_done(&blk.irq);
    guest_mem_free(blk.mem);
}

void blk_settle(void)
{
    settle(blk.loop);
}

/* ---- requests -------------------------------------------------------------------------------- */

uint8_t *blk_guest(uint64_t gpa, size_t len)
{
    return driver_at(blk.mem, gpa, len);
}

void blk_put_header(unsigned i, uint32_t type, uint64_t sector)
{
    const struct virtio_blk_outhdr header = {.type = htole32(type), .sector = htole64(sector)};

    memcpy(blk_guest(HEADER_GPA(i), sizeof(header)), &header, sizeof(header));
    *blk_guest(STATUS_GPA(i), 1) = UNTOUCHED;
}

/* The device does not read the kick's eventfd, so ThreadSanitizer would not know the order. */
static atomic_uint kicks;

void blk_kick(void)
{
    if (!driver_show(&blk.ring))
        return;
    atomic_fetch_add(&kicks, 1);
    driver_kick(blk.mmio, 0);
}

void blk_see_kick(void)
{
    (void)atomic_load(&kicks);
}

struct vring_used_elem blk_wait_used(struct driver_ring *from)
{
    struct vring_used_elem elem;

    while (!driver_take(from, &elem)) {
        if (driver_want_interrupt(from))
            continue;
        ck_assert_msg(driver_wait_irq(&blk.irq, TIMEOUT_MS), "no interrupt");
        (void)driver_ack(blk.mmio);
    }
    return elem;
}

uint16_t blk_add_request(unsigned i, uint32_t type, uint64_t sector, uint64_t data_gpa,
                         uint32_t len)
{
    bool reads = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
    const struct driver_buf bufs[] = {
        {HEADER_GPA(i), sizeof(struct virtio_blk_outhdr), false},
        {data_gpa, len, reads},
        {STATUS_GPA(i), 1, true},
    };

    blk_put_header(i, type, sector);
    return driver_add(&blk.ring, bufs, 3);
}

uint8_t blk_request(uint32_t type, uint64_t sector, uint32_t len, uint32_t *ret_written)
{
    uint16_t head = blk_add_request(0, type, sector, DATA_GPA, len);
    struct vring_used_elem elem;

    blk_kick();
    elem = blk_wait_used(&blk.ring);
    ck_assert_uint_eq(elem.id, head);
    if (ret_written)
        *ret_written = elem.len;
    return *blk_guest(STATUS_GPA(0), 1);
}

/* ---- test cases ------------------------------------------------------------------------------ */

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60); /* sanitizers on a busy machine */
    suite_add_tcase(suite, tcase);
    return tcase;
}

void blk_add_case(Suite *suite, const char *name, const TTest *const *tests, size_t ntests)
{
    TCase *tcase = add_case(suite, name);

    for (size_t i = 0; i < ntests; i++)
        tcase_add_test(tcase, tests[i]);
}

void blk_add_loop_case(Suite *suite, const char *name, const TTest *test, size_t n)
{
    tcase_add_loop_test(add_case(suite, name), test, 0, (int)n);
}
