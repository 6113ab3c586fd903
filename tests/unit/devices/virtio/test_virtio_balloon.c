/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon: pages that go back to the host, statistics, and guests that break the rules. */
#include <linux/virtio_balloon.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "devices/virtio/virtio_balloon.h"
#include "tests/lib/devices/virtio/virtio_rig.h"

#define MEM_LEN RIG_MEM_LEN
#define LIST_GPA (4 * MIB)
#define TABLE_GPA (5 * MIB)
#define DATA_GPA RIG_DATA_GPA
#define PAGE (uint64_t) VIRTIO_BALLOON_PAGE
#define DATA_PFN (DATA_GPA / VIRTIO_BALLOON_PAGE)

#define FEATURE(name) VIRTIO_FEATURE(VIRTIO_BALLOON_F_##name)
#define VERSION_1 VIRTIO_FEATURE(VIRTIO_F_VERSION_1)
#define CONFIG(field) (VIRTIO_MMIO_CONFIG + offsetof(struct virtio_balloon_config, field))

enum { INFLATE, DEFLATE, STATS, REPORT };

static atomic_uint nresized;
static unsigned nfreed;

static void on_resized(void *opaque)
{
    nresized++;
}

static void on_freed(void *opaque)
{
    nfreed++;
}

static void set_up(void)
{
    struct virtio_balloon_options options = {
        .resized = on_resized,
        .freed = on_freed,
        .target = 8 * MIB,
    };
    struct virtio_dev *dev;

    nresized = 0;
    nfreed = 0;
    rig_set_up();
    options.loop = rig.loop;
    ck_assert_int_eq(virtio_balloon_new(&options, rig.mem, &dev), 0);
    rig_add(dev);
}

static void tear_down(void)
{
    rig_tear_down();
    ck_assert_uint_eq(nfreed, 1);
}

static void send_list(unsigned queue, const uint32_t *pfns, size_t n)
{
    const struct driver_buf buf = {LIST_GPA, (uint32_t)(n * sizeof(*pfns)), false};
    uint8_t *list = rig_guest(LIST_GPA, n * sizeof(*pfns));

    for (size_t i = 0; i < n; i++)
        store_le32(list + i * sizeof(*pfns), pfns[i]);
    (void)driver_add(&rig.rings[queue], &buf, 1);
    rig_kick(queue);
    ck_assert_uint_eq(rig_wait_used(queue).len, 0);
}

static void fill(uint64_t npages)
{
    memset(rig_guest(DATA_GPA, npages * VIRTIO_BALLOON_PAGE), 0xaa, npages * VIRTIO_BALLOON_PAGE);
}

static uint8_t *page(uint64_t i)
{
    return rig_guest(DATA_GPA + i * VIRTIO_BALLOON_PAGE, VIRTIO_BALLOON_PAGE);
}

/* Is it with the host? Looked at before it is touched. */
static bool is_gone(uint64_t i)
{
    static const uint8_t zeroes[VIRTIO_BALLOON_PAGE];
    unsigned char resident;

    ck_assert_int_eq(mincore(page(i), VIRTIO_BALLOON_PAGE, &resident), 0);
    if (resident & 1) {
        ck_assert_uint_eq(*page(i), 0xaa);
        return false;
    }
    ck_assert_mem_eq(page(i), zeroes, sizeof(zeroes));
    return true;
}

/* ---- the balloon ----------------------------------------------------------------------------- */

static void check_inflating(void)
{
    const uint32_t pfns[] = {DATA_PFN + 1, DATA_PFN + 2, DATA_PFN + 9, DATA_PFN + 8,
                             DATA_PFN + 7, DATA_PFN + 2, DATA_PFN + 5};
    static const bool gone[] = {0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 0};

    fill(16);
    send_list(INFLATE, pfns, ARRAY_SIZE(pfns));
    for (unsigned i = 0; i < ARRAY_SIZE(gone); i++)
        ck_assert_msg(is_gone(i) == gone[i], "page %u", i);
}

START_TEST(inflated_pages_go_back_and_others_stay)
{
    rig_bring_up();
    check_inflating();
}
END_TEST

START_TEST(deflating_takes_nothing)
{
    const uint32_t pfns[] = {DATA_PFN, DATA_PFN + 1};

    rig_bring_up();
    fill(2);
    send_list(DEFLATE, pfns, 2);
    ck_assert(!is_gone(0) && !is_gone(1));
}
END_TEST

START_TEST(pages_outside_of_memory_are_left_out)
{
    const uint32_t end = MEM_LEN / VIRTIO_BALLOON_PAGE;
    const uint32_t pfns[] = {UINT32_MAX, 0xfee00, end, DATA_PFN, end + 1, UINT32_MAX, DATA_PFN + 2};

    rig_bring_up();
    fill(3);
    send_list(INFLATE, pfns, ARRAY_SIZE(pfns));
    ck_assert(is_gone(0) && !is_gone(1) && is_gone(2));
    ck_assert(!rig_needs_reset());
}
END_TEST

START_TEST(half_a_page_number_is_none)
{
    const struct driver_buf bufs[] = {{LIST_GPA, 3, false}, {LIST_GPA + 3, 4, false}};

    rig_bring_up();
    fill(2);
    store_le32(rig_guest(LIST_GPA, 4), DATA_PFN);
    store_le32(rig_guest(LIST_GPA + 4, 4), DATA_PFN + 1);
    (void)driver_add(&rig.rings[INFLATE], bufs, 2);
    rig_kick(INFLATE);
    (void)rig_wait_used(INFLATE);
    ck_assert(is_gone(0) && !is_gone(1));
}
END_TEST

/* One list in 64 buffers that are the same memory: more numbers than a round of the loop takes. */
START_TEST(list_of_many_rounds_is_done_to_its_end)
{
    const uint64_t n = 512;
    struct driver_buf bufs[64];
    uint8_t *list;

    rig_bring_up();
    fill(2 * n + 1);
    list = rig_guest(LIST_GPA, (n + 1) * 4);
    for (uint64_t i = 0; i < n; i++)
        store_le32(list + 4 * i, (uint32_t)(DATA_PFN + 2 * i)); /* no two of them adjacent */
    store_le32(list + 4 * n, (uint32_t)(DATA_PFN + 2 * n));
    for (size_t i = 0; i < 64; i++)
        bufs[i] = (struct driver_buf){LIST_GPA, (uint32_t)(4 * n), false};
    bufs[63] = (struct driver_buf){LIST_GPA + 4 * n, 4, false};
    (void)driver_add_indirect(&rig.rings[INFLATE], TABLE_GPA, bufs, 64);
    rig_kick(INFLATE);
    (void)rig_wait_used(INFLATE);
    for (uint64_t i = 0; i <= 2 * n; i++)
        ck_assert(is_gone(i) == (i % 2 == 0));
}
END_TEST

/* The longest list there can be takes minutes; a reset does not wait for that, nor does a loop. */
START_TEST(reset_comes_between_the_rounds_of_a_long_list)
{
    static struct driver_buf bufs[1000];

    rig_bring_up();
    for (size_t i = 0; i < ARRAY_SIZE(bufs); i++)
        bufs[i] = (struct driver_buf){DATA_GPA, 4 * MIB, false};
    for (uint64_t i = 0; i < MIB; i++)
        store_le32(rig_guest(DATA_GPA + 4 * i, 4), (uint32_t)(DATA_PFN + 1024 + 2 * (i % 512)));
    (void)driver_add_indirect(&rig.rings[INFLATE], TABLE_GPA, bufs, ARRAY_SIZE(bufs));
    rig_kick(INFLATE);
    rig_settle();
    driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
    rig_bring_up();
    check_inflating();
}
END_TEST

/* ---- reports --------------------------------------------------------------------------------- */

static void send_report(const struct driver_buf *bufs, size_t nbufs)
{
    (void)driver_add(&rig.rings[REPORT], bufs, nbufs);
    rig_kick(REPORT);
    ck_assert_uint_eq(rig_wait_used(REPORT).len, 0);
}

/* Ranges may overlap and begin in the middle of a page: whole pages of each go back. */
START_TEST(reported_ranges_go_back_in_whole_pages)
{
    const struct driver_buf bufs[] = {
        {DATA_GPA + PAGE, 2 * PAGE, true},     {DATA_GPA + 2 * PAGE, 4096, true},
        {DATA_GPA + 5 * PAGE + 1, 8191, true}, {DATA_GPA + 8 * PAGE, 4095, true},
        {DATA_GPA + 10 * PAGE, 1, true},
    };
    static const bool gone[] = {0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0};

    rig_bring_up();
    fill(16);
    send_report(bufs, ARRAY_SIZE(bufs));
    for (unsigned i = 0; i < ARRAY_SIZE(gone); i++)
        ck_assert_msg(is_gone(i) == gone[i], "page %u", i);
}
END_TEST

/* More than a round gives back, by a range that is there many times. */
START_TEST(report_of_many_rounds_is_done_to_its_end)
{
    const uint64_t last = 7 * MIB / VIRTIO_BALLOON_PAGE - 1;
    struct driver_buf bufs[32];

    rig_bring_up_with(driver_features(rig.mmio), 64);
    fill(last + 2);
    for (size_t i = 0; i < 31; i++)
        bufs[i] = (struct driver_buf){DATA_GPA, 6 * MIB, true};
    bufs[31] = (struct driver_buf){DATA_GPA, 7 * MIB, true};
    send_report(bufs, 32);
    ck_assert(is_gone(0) && is_gone(last) && !is_gone(last + 1));
}
END_TEST

START_TEST(what_a_report_lets_the_device_read_stays)
{
    const struct driver_buf bufs[] = {{DATA_GPA, 4096, false}, {DATA_GPA + 4096, 4096, true}};

    rig_bring_up();
    fill(2);
    send_report(bufs, 2);
    ck_assert(!is_gone(0) && is_gone(1));
}
END_TEST

/* A guest that expects what it wrote in its free pages shall find it. */
START_TEST(poisoned_free_pages_stay)
{
    const struct driver_buf buf = {DATA_GPA, 4096, true};

    rig_bring_up();
    fill(1);
    driver_write32(rig.mmio, CONFIG(poison_val), 0xaaaaaaaa);
    send_report(&buf, 1);
    ck_assert(!is_gone(0));

    driver_write32(rig.mmio, CONFIG(poison_val), 0);
    send_report(&buf, 1);
    ck_assert(is_gone(0));

    rig_bring_up_with(VERSION_1 | FEATURE(REPORTING) | FEATURE(STATS_VQ), 64);
    fill(1);
    driver_write32(rig.mmio, CONFIG(poison_val), 0xaaaaaaaa);
    send_report(&buf, 1);
    ck_assert(is_gone(0));
}
END_TEST

/* Without statistics the queue that comes third is the one for reports. */
START_TEST(queues_that_are_not_there_are_not_counted)
{
    const struct driver_buf buf = {DATA_GPA, 4096, true};

    rig_bring_up_with(VERSION_1 | FEATURE(REPORTING), 64);
    fill(1);
    (void)driver_add(&rig.rings[2], &buf, 1);
    rig_kick(2);
    (void)rig_wait_used(2);
    ck_assert(is_gone(0));
}
END_TEST

/* ---- statistics ------------------------------------------------------------------------------ */

static void put_stats(const struct virtio_balloon_stat *stats, size_t n)
{
    const struct driver_buf buf = {LIST_GPA, (uint32_t)(n * sizeof(*stats)), false};

    memcpy(rig_guest(LIST_GPA, n * sizeof(*stats)), stats, n * sizeof(*stats));
    (void)driver_add(&rig.rings[STATS], &buf, 1);
    rig_kick(STATS);
    rig_settle();
}

START_TEST(statistics_are_kept_and_asked_for)
{
    const struct virtio_balloon_stat first[] = {
        {VIRTIO_BALLOON_S_MEMFREE, 1000}, {VIRTIO_BALLOON_S_MEMTOT, 5000},  {999, 1},
        {VIRTIO_BALLOON_NSTATS, 2},       {VIRTIO_BALLOON_S_MEMFREE, 2000},
    };
    const struct virtio_balloon_stat second = {VIRTIO_BALLOON_S_AVAIL, 7};
    struct virtio_balloon_stats stats;
    struct vring_used_elem elem;

    rig_bring_up();
    virtio_balloon_get_stats(rig.dev, &stats);
    ck_assert_uint_eq(stats.told_ns, 0);
    put_stats(first, ARRAY_SIZE(first));
    virtio_balloon_get_stats(rig.dev, &stats);
    ck_assert_uint_ne(stats.told_ns, 0);
    ck_assert_uint_eq(stats.known, 1u << VIRTIO_BALLOON_S_MEMFREE | 1u << VIRTIO_BALLOON_S_MEMTOT);
    ck_assert_uint_eq(stats.value[VIRTIO_BALLOON_S_MEMFREE], 2000);
    ck_assert_uint_eq(stats.value[VIRTIO_BALLOON_S_MEMTOT], 5000);
    ck_assert(!driver_take(&rig.rings[STATS], &elem)); /* held until figures are wanted */

    virtio_balloon_ask_stats(rig.dev);
    (void)rig_wait_used(STATS);
    virtio_balloon_ask_stats(rig.dev); /* there is no buffer: the next is given back at once */
    rig_settle();
    put_stats(&second, 1);
    (void)rig_wait_used(STATS);
    virtio_balloon_get_stats(rig.dev, &stats);
    ck_assert_uint_eq(stats.known, 1u << VIRTIO_BALLOON_S_AVAIL);
}
END_TEST

START_TEST(second_buffer_for_statistics_sends_the_first_back)
{
    const struct virtio_balloon_stat stat = {VIRTIO_BALLOON_S_AVAIL, 7};
    struct vring_used_elem elem;

    rig_bring_up();
    for (unsigned i = 0; i < 10; i++)
        put_stats(&stat, 1);
    for (unsigned i = 0; i < 9; i++)
        (void)rig_wait_used(STATS);
    ck_assert(!driver_take(&rig.rings[STATS], &elem));
}
END_TEST

START_TEST(asking_a_guest_that_is_not_there_is_harmless)
{
    virtio_balloon_ask_stats(rig.dev);
    rig_settle();
    rig_bring_up_with(VERSION_1, 64);
    virtio_balloon_ask_stats(rig.dev);
    rig_settle();
    ck_assert(!rig_needs_reset());
}
END_TEST

/* The buffer is the driver's again after a reset: no answer is put into a ring that is gone. */
START_TEST(buffer_for_statistics_is_forgotten_at_reset)
{
    const struct virtio_balloon_stat stat = {VIRTIO_BALLOON_S_AVAIL, 7};
    struct vring_used_elem elem;

    rig_bring_up();
    put_stats(&stat, 1);
    rig_bring_up();
    virtio_balloon_ask_stats(rig.dev);
    rig_settle();
    ck_assert(!driver_take(&rig.rings[STATS], &elem));
    put_stats(&stat, 1);
    (void)rig_wait_used(STATS);
}
END_TEST

/* ---- target and size ------------------------------------------------------------------------- */

START_TEST(target_is_shown_and_size_is_told)
{
    rig_bring_up();
    ck_assert_uint_eq(driver_read32(rig.mmio, CONFIG(num_pages)), 8 * MIB / VIRTIO_BALLOON_PAGE);
    (void)driver_ack(rig.mmio);
    virtio_balloon_set_target(rig.dev, 16 * MIB + 1);
    ck_assert_uint_eq(driver_read32(rig.mmio, CONFIG(num_pages)), 16 * MIB / VIRTIO_BALLOON_PAGE);
    ck_assert_uint_eq(driver_ack(rig.mmio), VIRTIO_MMIO_INT_CONFIG);
    virtio_balloon_set_target(rig.dev, 16 * MIB); /* nothing new */
    ck_assert_uint_eq(driver_ack(rig.mmio), 0);
    virtio_balloon_set_target(rig.dev, UINT64_MAX);
    ck_assert_uint_eq(driver_read32(rig.mmio, CONFIG(num_pages)), MEM_LEN / VIRTIO_BALLOON_PAGE);

    driver_write32(rig.mmio, CONFIG(num_pages), 5); /* not the driver's */
    ck_assert_uint_eq(driver_read32(rig.mmio, CONFIG(num_pages)), MEM_LEN / VIRTIO_BALLOON_PAGE);
    driver_write32(rig.mmio, CONFIG(actual), 3);
    driver_write32(rig.mmio, CONFIG(actual), 3);
    ck_assert_uint_eq(nresized, 1);
    ck_assert_uint_eq(virtio_balloon_size(rig.dev), 3 * PAGE);
    driver_write32(rig.mmio, CONFIG(actual), UINT32_MAX);
    ck_assert_uint_eq(virtio_balloon_size(rig.dev), MEM_LEN);

    rig_bring_up(); /* the next driver has nothing in it */
    ck_assert_uint_eq(virtio_balloon_size(rig.dev), 0);
    ck_assert_uint_eq(nresized, 3);
    virtio_mmio_bus_ops.write(rig.mmio, CONFIG(actual), 2, 7);
    virtio_mmio_bus_ops.write(rig.mmio, CONFIG(actual) + 2, 4, 7);
    ck_assert_uint_eq(nresized, 3);
}
END_TEST

/* ---- pauses and broken rings ----------------------------------------------------------------- */

static atomic_uint nrests;

static void on_rests(struct virtio_pauser *pauser, uint64_t ticket)
{
    nrests += (unsigned)ticket;
}

START_TEST(pause_keeps_everything_until_it_ends)
{
    const struct driver_buf buf = {DATA_GPA, 4096, true};
    const struct virtio_balloon_stat stat = {VIRTIO_BALLOON_S_AVAIL, 7};
    struct virtio_pauser pauser = {.paused = on_rests};
    struct vring_used_elem elem;

    nrests = 0;
    rig_bring_up();
    fill(1);
    put_stats(&stat, 1);
    rig.dev->ops->pause(rig.dev, &pauser, 1);
    rig_settle();
    ck_assert_uint_eq(nrests, 1);
    (void)driver_add(&rig.rings[REPORT], &buf, 1);
    rig_kick(REPORT);
    virtio_balloon_ask_stats(rig.dev);
    rig_settle();
    ck_assert(!driver_take(&rig.rings[REPORT], &elem) && !driver_take(&rig.rings[STATS], &elem));
    ck_assert(!is_gone(0));
    rig.dev->ops->resume(rig.dev);
    (void)rig_wait_used(REPORT);
    (void)rig_wait_used(STATS);
    ck_assert(is_gone(0));
}
END_TEST

START_TEST(broken_ring_stops_the_device_until_reset)
{
    const struct driver_buf buf = {DATA_GPA, 4096, true};
    struct vring_used_elem elem;

    rig_bring_up();
    fill(1);
    driver_offer(&rig.rings[DEFLATE], 999);
    rig_kick(DEFLATE);
    ck_assert(driver_wait_irq(&rig.irq, RIG_TIMEOUT_MS));
    ck_assert(rig_needs_reset());
    (void)driver_add(&rig.rings[REPORT], &buf, 1);
    rig_kick(REPORT);
    rig_settle();
    ck_assert(!driver_take(&rig.rings[REPORT], &elem) && !is_gone(0));
    rig_bring_up();
    send_report(&buf, 1);
    ck_assert(is_gone(0));
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "balloon", set_up, tear_down, inflated_pages_go_back_and_others_stay,
                   deflating_takes_nothing, pages_outside_of_memory_are_left_out,
                   half_a_page_number_is_none, list_of_many_rounds_is_done_to_its_end,
                   reset_comes_between_the_rounds_of_a_long_list);
    unit_case_with(suite, "reports", set_up, tear_down, reported_ranges_go_back_in_whole_pages,
                   report_of_many_rounds_is_done_to_its_end,
                   what_a_report_lets_the_device_read_stays, poisoned_free_pages_stay,
                   queues_that_are_not_there_are_not_counted);
    unit_case_with(suite, "statistics", set_up, tear_down, statistics_are_kept_and_asked_for,
                   second_buffer_for_statistics_sends_the_first_back,
                   asking_a_guest_that_is_not_there_is_harmless,
                   buffer_for_statistics_is_forgotten_at_reset);
    unit_case_with(suite, "target", set_up, tear_down, target_is_shown_and_size_is_told);
    unit_case_with(suite, "rules", set_up, tear_down, pause_keeps_everything_until_it_ends,
                   broken_ring_stops_the_device_until_reset);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_balloon", add_tests)
