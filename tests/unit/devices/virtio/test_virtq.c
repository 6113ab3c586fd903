/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "devices/virtio/virtio.h"
#include "tests/lib/devices/virtio/virtio_driver.h"
#include "tests/lib/unit.h"

#define MEM_LEN (8 * MIB)
#define RING_GPA 0x10000u
#define DATA_GPA (1 * MIB)
#define TABLE_GPA (2 * MIB)

#define INDIRECT VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC)
#define EVENT_IDX VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX)

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define TABLE VRING_DESC_F_INDIRECT

static struct guest_mem *mem;
static struct virtq vq;
static struct driver_ring ring;
static struct virtq_chain chain;

static void set_up(uint16_t size, uint64_t features)
{
    mem = driver_mem_new(MEM_LEN);
    driver_ring_init(&ring, mem, RING_GPA, size, features & EVENT_IDX);
    virtq_reset(&vq);
    vq.size = size;
    vq.desc_gpa = ring.desc_gpa;
    vq.avail_gpa = ring.avail_gpa;
    vq.used_gpa = ring.used_gpa;
    ck_assert_int_eq(virtq_enable(&vq, mem), 0);
    virtq_start(&vq, features);
}

static void tear_down(void)
{
    guest_mem_free(mem);
}

/* Offer a chain of one small buffer. */
static uint16_t add_one(void)
{
    const struct driver_buf buf = {DATA_GPA, 16, false};

    return driver_add(&ring, &buf, 1);
}

static void pop_and_push(void)
{
    ck_assert_int_eq(virtq_pop(&vq, &chain), 1);
    virtq_push(&vq, chain.head, 0);
}

/* ---- enabling -------------------------------------------------------------------------------- */

START_TEST(rings_are_checked_when_enabled)
{
    static const struct {
        uint64_t size;
        uint64_t desc;
        uint64_t avail;
        uint64_t used;
        int result;
    } cases[] = {
        {1, 0x1000, 0x2000, 0x3000, 0},
        {1024, 0x10000, 0x20000, 0x30000, 0},
        {0, 0x1000, 0x2000, 0x3000, -EINVAL},
        {3, 0x1000, 0x2000, 0x3000, -EINVAL},       /* no power of two */
        {2048, 0x10000, 0x20000, 0x30000, -EINVAL}, /* above the maximum */
        {32768, 0x10000, 0x20000, 0x30000, -EINVAL},
        {8, 0x1008, 0x2000, 0x3000, -EINVAL}, /* alignment: 16, 2, 4 */
        {8, 0x1000, 0x2001, 0x3000, -EINVAL},
        {8, 0x1000, 0x2000, 0x3002, -EINVAL},
        {8, 0x1010, 0x2002, 0x3004, 0},
        {8, MEM_LEN, 0x2000, 0x3000, -EFAULT},
        {8, 0x1000, MEM_LEN, 0x3000, -EFAULT},
        {8, 0x1000, 0x2000, MEM_LEN, -EFAULT},
        {8, MEM_LEN - 8ull * 16, 0x2000, 0x3000, 0}, /* ends where memory ends */
        {8, MEM_LEN - 7ull * 16, 0x2000, 0x3000, -EFAULT},
        {8, 0x1000, MEM_LEN - 22, 0x3000, 0},
        {8, 0x1000, MEM_LEN - 20, 0x3000, -EFAULT},
        {8, 0x1000, 0x2000, MEM_LEN - 72, 0}, /* 70 bytes, 4-byte aligned */
        {8, 0x1000, 0x2000, MEM_LEN - 68, -EFAULT},
        {8, 0xfffffffffffffff0, 0x2000, 0x3000, -EFAULT}, /* the end wraps */
        {8, 0x1000, 0xfffffffffffffffe, 0x3000, -EFAULT},
        {8, 0x1000, 0x2000, 0xfffffffffffffffc, -EFAULT},
    };

    mem = driver_mem_new(MEM_LEN);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        virtq_reset(&vq);
        vq.size = (uint16_t)cases[i].size;
        vq.desc_gpa = cases[i].desc;
        vq.avail_gpa = cases[i].avail;
        vq.used_gpa = cases[i].used;
        ck_assert_msg(virtq_enable(&vq, mem) == cases[i].result, "case %zu", i);
        ck_assert_msg(vq.ready == (cases[i].result == 0), "case %zu", i);
    }
    tear_down();
}
END_TEST

/* ---- chains that are fine -------------------------------------------------------------------- */

START_TEST(empty_ring_has_nothing)
{
    set_up(8, 0);
    ck_assert_int_eq(virtq_pop(&vq, &chain), 0);
    ck_assert_int_eq(virtq_pop(&vq, &chain), 0);
    ck_assert(!virtq_publish(&vq));
    tear_down();
}
END_TEST

static void check_three_buffers(uint16_t head)
{
    ck_assert_int_eq(virtq_pop(&vq, &chain), 1);
    ck_assert_uint_eq(chain.head, head);
    ck_assert_uint_eq(chain.nout, 2);
    ck_assert_uint_eq(chain.nin, 1);
    ck_assert_uint_eq(chain.out_len, 16 + 512);
    ck_assert_uint_eq(chain.in_len, 1);
    ck_assert_ptr_eq(chain.iov[0].iov_base, driver_at(mem, DATA_GPA, 1));
    ck_assert_uint_eq(chain.iov[1].iov_len, 512);
    ck_assert_ptr_eq(chain.iov[2].iov_base, driver_at(mem, DATA_GPA + 9999, 1));
    ck_assert_int_eq(virtq_pop(&vq, &chain), 0);
}

static const struct driver_buf three_buffers[] = {
    {DATA_GPA, 16, false},
    {DATA_GPA + 4096, 512, false},
    {DATA_GPA + 9999, 1, true},
};

START_TEST(chain_is_translated_in_order)
{
    uint16_t head;

    set_up(8, 0);
    head = driver_add(&ring, three_buffers, 3);
    driver_show(&ring);
    check_three_buffers(head);
    tear_down();
}
END_TEST

START_TEST(indirect_chain_is_the_same)
{
    uint16_t head;

    set_up(2, INDIRECT);
    head = driver_add_indirect(&ring, TABLE_GPA, three_buffers, 3);
    driver_show(&ring);
    check_three_buffers(head);
    tear_down();
}
END_TEST

START_TEST(indirect_table_may_be_unaligned_and_marked_writable)
{
    uint16_t head;

    set_up(2, INDIRECT);
    head = driver_add_indirect(&ring, TABLE_GPA + 3, three_buffers, 3);
    ring.desc[head].flags = TABLE | WRITE; /* 2.7.5.3.2: ignored */
    driver_show(&ring);
    check_three_buffers(head);
    tear_down();
}
END_TEST

START_TEST(direct_descriptors_may_lead_to_an_indirect_one)
{
    set_up(8, INDIRECT);
    (void)driver_add_indirect(&ring, TABLE_GPA, three_buffers + 1, 2);
    driver_set_desc(&ring, 5, DATA_GPA, 16, NEXT, ring.free[ring.nfree]);
    ring.avail_idx--;
    driver_offer(&ring, 5);
    driver_show(&ring);
    check_three_buffers(5);
    tear_down();
}
END_TEST

START_TEST(empty_buffers_are_left_out)
{
    static const struct driver_buf bufs[] = {
        {DATA_GPA, 0, false},
        {DATA_GPA, 16, false},
        {~0ull, 0, true}, /* nothing is touched, so any address will do */
        {DATA_GPA, 1, true},
    };

    set_up(8, 0);
    (void)driver_add(&ring, bufs, 4);
    driver_show(&ring);
    ck_assert_int_eq(virtq_pop(&vq, &chain), 1);
    ck_assert_uint_eq(chain.nout, 1);
    ck_assert_uint_eq(chain.nin, 1);
    tear_down();
}
END_TEST

START_TEST(readable_after_an_empty_writable_is_fine)
{
    static const struct driver_buf bufs[] = {{DATA_GPA, 0, true}, {DATA_GPA, 16, false}};

    set_up(8, 0);
    (void)driver_add(&ring, bufs, 2);
    driver_show(&ring);
    ck_assert_int_eq(virtq_pop(&vq, &chain), 1);
    ck_assert_uint_eq(chain.out_len, 16);
    tear_down();
}
END_TEST

START_TEST(chain_of_the_whole_queue)
{
    struct driver_buf bufs[VIRTQ_SIZE_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(bufs); i++)
        bufs[i] = (struct driver_buf){DATA_GPA + i, 1, i >= 1000};
    set_up(VIRTQ_SIZE_MAX, 0);
    (void)driver_add(&ring, bufs, VIRTQ_SIZE_MAX);
    driver_show(&ring);
    ck_assert_int_eq(virtq_pop(&vq, &chain), 1);
    ck_assert_uint_eq(chain.nout, 1000);
    ck_assert_uint_eq(chain.nin, 24);
    tear_down();
}
END_TEST

START_TEST(indices_wrap)
{
    struct vring_used_elem elem;

    set_up(4, 0);
    for (unsigned i = 0; i < 70000; i++) {
        uint16_t head = add_one();

        driver_show(&ring);
        ck_assert_int_eq(virtq_pop(&vq, &chain), 1);
        ck_assert_uint_eq(chain.head, head);
        virtq_push(&vq, chain.head, i & 0xff);
        ck_assert(virtq_publish(&vq));
        ck_assert(driver_take(&ring, &elem));
        ck_assert_uint_eq(elem.id, head);
        ck_assert_uint_eq(elem.len, i & 0xff);
    }
    tear_down();
}
END_TEST

START_TEST(chains_return_in_any_order)
{
    uint16_t heads[4];
    struct vring_used_elem elem;

    set_up(4, 0);
    for (unsigned i = 0; i < 4; i++)
        heads[i] = add_one();
    driver_show(&ring);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(virtq_pop(&vq, &chain), 1);
    for (unsigned i = 4; i-- > 0;)
        virtq_push(&vq, heads[i], i);
    ck_assert(!driver_take(&ring, &elem)); /* not before they are published */
    ck_assert(virtq_publish(&vq));
    for (unsigned i = 4; i-- > 0;) {
        ck_assert(driver_take(&ring, &elem));
        ck_assert_uint_eq(elem.id, heads[i]);
        ck_assert_uint_eq(elem.len, i);
    }
    tear_down();
}
END_TEST

/* ---- chains that break the rules ------------------------------------------------------------- */

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

#define MALFORMED_DESCS_MAX 4

/* Descriptors 0 to 3 of a queue of 4, or of an indirect table; head is descriptor 0. */
static const struct malformed {
    const char *what;
    struct desc desc[MALFORMED_DESCS_MAX];
} malformed[] = {
    {"loop on itself", {{DATA_GPA, 16, NEXT, 0}}},
    {"loop over two", {{DATA_GPA, 16, NEXT, 1}, {DATA_GPA, 16, NEXT, 0}}},
    {"loop of empty buffers", {{DATA_GPA, 0, NEXT, 1}, {DATA_GPA, 0, NEXT, 0}}},
    {"loop that does not come back to its head",
     {{DATA_GPA, 16, NEXT, 1}, {DATA_GPA, 16, NEXT, 2}, {DATA_GPA, 16, NEXT, 1}}},
    {"next out of range", {{DATA_GPA, 16, NEXT, 4}}},
    {"next far out of range", {{DATA_GPA, 16, NEXT, 0xffff}}},
    {"readable after writable", {{DATA_GPA, 16, NEXT | WRITE, 1}, {DATA_GPA, 16, 0, 0}}},
    {"address behind memory", {{MEM_LEN, 1, 0, 0}}},
    {"buffer leaves memory", {{MEM_LEN - 8, 9, 0, 0}}},
    {"end of buffer wraps", {{UINT64_MAX - 7, 16, 0, 0}}},
    {"end of buffer wraps into memory", {{UINT64_MAX - 15, 0x20000, 0, 0}}},
    {"length of 4 GiB - 1", {{DATA_GPA, UINT32_MAX, WRITE, 0}}},
};

static void write_malformed(const struct malformed *bad, struct vring_desc *table)
{
    for (unsigned i = 0; i < MALFORMED_DESCS_MAX; i++)
        table[i] = (struct vring_desc){bad->desc[i].addr, bad->desc[i].len, bad->desc[i].flags,
                                       bad->desc[i].next};
}

START_TEST(malformed_chain_is_refused)
{
    const struct malformed *bad = &malformed[_i];

    set_up(4, INDIRECT);
    write_malformed(bad, ring.desc);
    driver_offer(&ring, 0);
    driver_show(&ring);
    ck_assert_msg(virtq_pop(&vq, &chain) == -EPROTO, "%s", bad->what);
    ck_assert_uint_eq(vq.in_flight, 0);
    tear_down();
}
END_TEST

START_TEST(malformed_indirect_chain_is_refused)
{
    const struct malformed *bad = &malformed[_i];

    set_up(4, INDIRECT);
    write_malformed(bad, driver_at(mem, TABLE_GPA, 64));
    driver_set_desc(&ring, 3, TABLE_GPA, 64, TABLE, 0);
    driver_offer(&ring, 3);
    driver_show(&ring);
    ck_assert_msg(virtq_pop(&vq, &chain) == -EPROTO, "%s", bad->what);
    ck_assert_uint_eq(vq.in_flight, 0);
    tear_down();
}
END_TEST

START_TEST(malformed_indirect_descriptor_is_refused)
{
    static const struct {
        const char *what;
        uint64_t features;
        struct desc desc;
    } cases[] = {
        {"not negotiated", 0, {TABLE_GPA, 16, TABLE, 0}},
        {"with a next one", INDIRECT, {TABLE_GPA, 16, TABLE | NEXT, 1}},
        {"empty table", INDIRECT, {TABLE_GPA, 0, TABLE, 0}},
        {"half a descriptor", INDIRECT, {TABLE_GPA, 8, TABLE, 0}},
        {"one and a half", INDIRECT, {TABLE_GPA, 24, TABLE, 0}},
        {"outside of memory", INDIRECT, {MEM_LEN, 16, TABLE, 0}},
        {"leaves memory", INDIRECT, {MEM_LEN - 16, 32, TABLE, 0}},
        {"end wraps", INDIRECT, {UINT64_MAX - 15, 32, TABLE, 0}},
        {"4 GiB - 16", INDIRECT, {TABLE_GPA, 0xfffffff0, TABLE, 0}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct desc *desc = &cases[i].desc;

        set_up(4, cases[i].features);
        driver_set_desc(&ring, 0, desc->addr, desc->len, desc->flags, desc->next);
        driver_offer(&ring, 0);
        driver_show(&ring);
        ck_assert_msg(virtq_pop(&vq, &chain) == -EPROTO, "%s", cases[i].what);
        tear_down();
    }
}
END_TEST

START_TEST(indirect_in_indirect_is_refused)
{
    struct vring_desc *table;

    set_up(4, INDIRECT);
    table = driver_at(mem, TABLE_GPA, 32);
    table[0] = (struct vring_desc){TABLE_GPA + 16, 16, TABLE, 0};
    table[1] = (struct vring_desc){TABLE_GPA, 16, 0, 0}; /* alone, it would be right */
    driver_set_desc(&ring, 0, TABLE_GPA, 16, TABLE, 0);
    driver_offer(&ring, 0);
    driver_show(&ring);
    ck_assert_int_eq(virtq_pop(&vq, &chain), -EPROTO);
    tear_down();
}
END_TEST

/* A huge table: `len` bytes per buffer. */
static int pop_table_of(unsigned nbufs, uint32_t len)
{
    struct driver_buf *bufs = calloc(nbufs, sizeof(*bufs));
    int r;

    ck_assert_ptr_nonnull(bufs);
    for (unsigned i = 0; i < nbufs; i++)
        bufs[i] = (struct driver_buf){DATA_GPA, len, false};
    set_up(4, INDIRECT);
    (void)driver_add_indirect(&ring, TABLE_GPA, bufs, nbufs);
    driver_show(&ring);
    r = virtq_pop(&vq, &chain);
    free(bufs);
    tear_down();
    return r;
}

START_TEST(huge_chains_are_bounded)
{
    ck_assert_int_eq(pop_table_of(VIRTQ_CHAIN_MAX, 1), 1);
    ck_assert_int_eq(pop_table_of(VIRTQ_CHAIN_MAX + 1, 1), -EPROTO);
    ck_assert_int_eq(pop_table_of(VIRTQ_CHAIN_MAX + 1, 0), -EPROTO);
    ck_assert_int_eq(pop_table_of(65536, 1), -EPROTO);
}
END_TEST

START_TEST(direct_and_indirect_buffers_count_together)
{
    struct vring_desc *table;

    set_up(VIRTQ_SIZE_MAX, INDIRECT);
    for (uint16_t i = 0; i < VIRTQ_SIZE_MAX - 1; i++)
        driver_set_desc(&ring, i, DATA_GPA, 1, NEXT, (uint16_t)(i + 1));
    driver_set_desc(&ring, VIRTQ_SIZE_MAX - 1, TABLE_GPA, 32, TABLE, 0);
    table = driver_at(mem, TABLE_GPA, 32);
    table[0] = (struct vring_desc){DATA_GPA, 1, NEXT, 1};
    table[1] = (struct vring_desc){DATA_GPA, 1, 0, 0};
    driver_offer(&ring, 0);
    driver_show(&ring);
    ck_assert_int_eq(virtq_pop(&vq, &chain), -EPROTO);
    tear_down();
}
END_TEST

START_TEST(chain_of_four_gigabytes_is_refused)
{
    /* 1024 times 4 MiB of the same memory. */
    ck_assert_int_eq(pop_table_of(1023, 4 * MIB), 1);
    ck_assert_int_eq(pop_table_of(1024, 4 * MIB), -EPROTO);
}
END_TEST

START_TEST(head_out_of_range_is_refused)
{
    set_up(4, 0);
    driver_offer(&ring, 4);
    driver_show(&ring);
    ck_assert_int_eq(virtq_pop(&vq, &chain), -EPROTO);
    tear_down();
}
END_TEST

START_TEST(jumping_index_is_refused)
{
    static const uint16_t jumps[] = {5, 6, 0x7fff, 0x8000, 0xffff};

    for (size_t i = 0; i < ARRAY_SIZE(jumps); i++) {
        set_up(4, 0);
        ring.avail->idx = jumps[i];
        ck_assert_int_eq(virtq_pop(&vq, &chain), -EPROTO);
        ck_assert(virtq_enable_kicks(&vq)); /* so that a device pops and learns of it */
        tear_down();
    }
}
END_TEST

START_TEST(index_that_goes_back_is_refused)
{
    set_up(4, 0);
    (void)add_one();
    driver_show(&ring);
    pop_and_push();
    ring.avail->idx = 0;
    ck_assert_int_eq(virtq_pop(&vq, &chain), -EPROTO);
    tear_down();
}
END_TEST

START_TEST(more_chains_than_descriptors_are_refused)
{
    set_up(4, 0);
    for (unsigned i = 0; i < 4; i++)
        driver_offer(&ring, 0); /* the same one again and again is the driver's own problem */
    driver_show(&ring);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(virtq_pop(&vq, &chain), 1);
    driver_offer(&ring, 0); /* a fifth one while four are in flight is ours */
    driver_show(&ring);
    ck_assert_int_eq(virtq_pop(&vq, &chain), -EPROTO);
    tear_down();
}
END_TEST

/* ---- notifications --------------------------------------------------------------------------- */

START_TEST(without_event_idx_flags_decide)
{
    set_up(4, 0);
    (void)add_one();
    ck_assert(driver_show(&ring));
    virtq_disable_kicks(&vq);
    (void)add_one();
    ck_assert(!driver_show(&ring));
    pop_and_push();
    pop_and_push();
    ck_assert(!virtq_enable_kicks(&vq));

    ring.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
    ck_assert(!virtq_publish(&vq));
    ring.avail->flags = 0;
    (void)add_one();
    ck_assert(driver_show(&ring));
    pop_and_push();
    ck_assert(virtq_publish(&vq));
    tear_down();
}
END_TEST

START_TEST(chain_between_last_pop_and_enable_is_found)
{
    for (int event_idx = 0; event_idx < 2; event_idx++) {
        set_up(4, event_idx ? EVENT_IDX : 0);
        ck_assert_int_eq(virtq_pop(&vq, &chain), 0);
        virtq_disable_kicks(&vq);
        (void)add_one();
        (void)driver_show(&ring); /* whatever it says about kicks */
        ck_assert(virtq_enable_kicks(&vq));
        pop_and_push();
        ck_assert(!virtq_enable_kicks(&vq));
        (void)add_one();
        ck_assert(driver_show(&ring));
        tear_down();
    }
}
END_TEST

START_TEST(event_idx_asks_for_the_next_kick_only)
{
    set_up(8, EVENT_IDX);
    (void)add_one();
    ck_assert(driver_show(&ring)); /* avail_event is 0 at first */
    virtq_disable_kicks(&vq);
    (void)add_one();
    ck_assert(!driver_show(&ring));
    (void)add_one();
    ck_assert(!driver_show(&ring));
    for (unsigned i = 0; i < 3; i++)
        pop_and_push();
    ck_assert(!virtq_enable_kicks(&vq));
    (void)add_one();
    (void)add_one();
    ck_assert(driver_show(&ring));
    ck_assert_uint_eq(ring.used->flags, 0); /* 2.7.10.2: stays 0 with event indices */
    tear_down();
}
END_TEST

/* Consume everything; used_event then asks for the element after `skip` more. */
static void take_all(uint16_t skip)
{
    struct vring_used_elem elem;

    while (driver_take(&ring, &elem))
        ;
    ring.avail->ring[ring.size] = (uint16_t)(ring.used_idx + skip);
}

START_TEST(event_idx_interrupts_when_the_event_is_passed)
{
    static const struct {
        unsigned skip;  /* the event lies this many elements ahead */
        unsigned npush; /* elements published at once */
        bool interrupt;
    } cases[] = {
        {0, 1, true},  {0, 4, true}, {1, 1, false}, {1, 2, true},
        {3, 3, false}, {3, 4, true}, {4, 4, false}, {0xffff, 1, false}, /* seen already */
    };

    /* From a place before the indices wrap to one after it. */
    set_up(8, EVENT_IDX);
    for (unsigned turn = 0; turn < 65600; turn++) {
        unsigned i = turn % ARRAY_SIZE(cases);

        take_all((uint16_t)cases[i].skip);
        for (unsigned j = 0; j < cases[i].npush; j++)
            (void)add_one();
        (void)driver_show(&ring);
        for (unsigned j = 0; j < cases[i].npush; j++)
            pop_and_push();
        ck_assert_msg(virtq_publish(&vq) == cases[i].interrupt, "case %u at %u", i, vq.next_used);
    }
    tear_down();
}
END_TEST

START_TEST(event_idx_ignores_the_flags)
{
    set_up(4, EVENT_IDX);
    ring.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
    (void)add_one();
    (void)driver_show(&ring);
    pop_and_push();
    ck_assert(virtq_publish(&vq));
    tear_down();
}
END_TEST

START_TEST(publishing_nothing_interrupts_nobody)
{
    for (int event_idx = 0; event_idx < 2; event_idx++) {
        set_up(4, event_idx ? EVENT_IDX : 0);
        (void)add_one();
        (void)driver_show(&ring);
        pop_and_push();
        ck_assert(virtq_publish(&vq));
        ck_assert(!virtq_publish(&vq));
        tear_down();
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *bad = tcase_create("malformed");

    unit_case(suite, "enable", rings_are_checked_when_enabled);
    unit_case(suite, "chains", empty_ring_has_nothing, chain_is_translated_in_order,
              indirect_chain_is_the_same, indirect_table_may_be_unaligned_and_marked_writable,
              direct_descriptors_may_lead_to_an_indirect_one, empty_buffers_are_left_out,
              readable_after_an_empty_writable_is_fine, chain_of_the_whole_queue, indices_wrap,
              chains_return_in_any_order);
    tcase_add_loop_test(bad, malformed_chain_is_refused, 0, ARRAY_SIZE(malformed));
    tcase_add_loop_test(bad, malformed_indirect_chain_is_refused, 0, ARRAY_SIZE(malformed));
    suite_add_tcase(suite, bad);
    unit_case(suite, "bounds", malformed_indirect_descriptor_is_refused,
              indirect_in_indirect_is_refused, huge_chains_are_bounded,
              direct_and_indirect_buffers_count_together, chain_of_four_gigabytes_is_refused,
              head_out_of_range_is_refused, jumping_index_is_refused,
              index_that_goes_back_is_refused, more_chains_than_descriptors_are_refused);
    unit_case(suite, "notifications", without_event_idx_flags_decide,
              chain_between_last_pop_and_enable_is_found, event_idx_asks_for_the_next_kick_only,
              event_idx_interrupts_when_the_event_is_passed, event_idx_ignores_the_flags,
              publishing_nothing_interrupts_nobody);
}

UNIT_MAIN("virtq", add_tests)
