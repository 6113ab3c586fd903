/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of a virtqueue's accesses to shared memory, tried out in every way that a machine may
 * carry them out.
 *
 * What the device does is written down while the real code runs, with the order that it names for
 * each access; what a driver does beside it is given here, with the barriers that the
 * specification asks of it (2.7.13, 2.7.14). Then the accesses of both are carried out in all
 * sequences that the machine allows, and in none may the two miss each other.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tests/lib/unit.h"

/* ---- accesses -------------------------------------------------------------------------------- */

#define ACCESSES_MAX 24u

enum kind {
    LOAD,
    STORE,
    FENCE,       /* between everything */
    FENCE_LOAD,  /* between loads */
    FENCE_STORE, /* between stores */
};

struct access {
    enum kind kind;
    const void *at;
    size_t len;
    int order;
};

/* One side: its accesses in the order of its program, and how far it is in a sequence. */
struct side {
    struct access access[ACCESSES_MAX];
    unsigned n;
    uint32_t done;               /* bit for each access */
    uint32_t seen[ACCESSES_MAX]; /* LOAD: stores of the other side that came before */
};

static struct side device;
static struct side driver;

static void add(struct side *side, enum kind kind, const void *at, size_t len, int order)
{
    ck_assert_uint_lt(side->n, ACCESSES_MAX);
    side->access[side->n++] = (struct access){kind, at, len, order};
}

/* ---- the device's, as its code runs ---------------------------------------------------------- */

/* In place of devices/virtio/virtq_access.h. */
#define MINIVMM_DEVICES_VIRTIO_VIRTQ_ACCESS_H

static uint16_t ring_load16(const uint16_t *from, int order)
{
    add(&device, LOAD, from, sizeof(*from), order);
    return *from;
}

static void ring_store16(uint16_t *to, uint16_t value, int order)
{
    add(&device, STORE, to, sizeof(*to), order);
    *to = value;
}

static void ring_store32(uint32_t *to, uint32_t value, int order)
{
    add(&device, STORE, to, sizeof(*to), order);
    *to = value;
}

static void ring_fetch(void *buf, const void *from, size_t len)
{
    add(&device, LOAD, from, len, __ATOMIC_RELAXED);
    memcpy(buf, from, len);
}

#include "devices/virtio/virtq.c" // NOLINT(bugprone-suspicious-include)
#include "tests/lib/devices/virtio/virtio_driver.h"

/* ---- machines -------------------------------------------------------------------------------- */

enum machine {
    TSO,  /* x86: a load may overtake the stores before it, nothing else moves */
    WEAK, /* everything moves that is not held, as with other processors, and compilers */
    MACHINES,
};

static bool overlap(const struct access *a, const struct access *b)
{
    const char *a_at = a->at, *b_at = b->at;

    return a_at < b_at + b->len && b_at < a_at + a->len;
}

static bool is_fence(const struct access *access)
{
    return access->kind != LOAD && access->kind != STORE;
}

/* Is the fence one for an access of this kind? */
static bool holds(const struct access *fence, const struct access *other)
{
    return fence->kind == FENCE || is_fence(other) ||
           other->kind == (fence->kind == FENCE_LOAD ? LOAD : STORE);
}

static bool acquires(const struct access *access)
{
    return access->kind == LOAD && access->order != __ATOMIC_RELAXED;
}

static bool releases(const struct access *access)
{
    return access->kind == STORE && access->order != __ATOMIC_RELAXED;
}

/* Does `second`, which comes later in the program, come later in any case? */
static bool stays_behind(enum machine machine, const struct access *first,
                         const struct access *second)
{
    if (is_fence(first))
        return holds(first, second);
    if (is_fence(second))
        return holds(second, first);
    if (overlap(first, second))
        return true;
    if (first->kind == STORE && second->kind == LOAD)
        return first->order == __ATOMIC_SEQ_CST &&
               (machine == TSO || second->order == __ATOMIC_SEQ_CST);
    return machine == TSO || acquires(first) || releases(second);
}

static bool may_come_next(enum machine machine, const struct side *side, unsigned i)
{
    if (side->done & (1u << i))
        return false;
    for (unsigned j = 0; j < i; j++)
        if (!(side->done & (1u << j)) && stays_behind(machine, &side->access[j], &side->access[i]))
            return false;
    return true;
}

static void carry_out(struct side *side, const struct side *other, unsigned i)
{
    side->done |= 1u << i;
    for (unsigned j = 0; side->access[i].kind == LOAD && j < other->n; j++)
        if ((other->done & (1u << j)) && other->access[j].kind == STORE &&
            overlap(&side->access[i], &other->access[j]))
            side->seen[i] |= 1u << j;
}

static void take_back(struct side *side, unsigned i)
{
    side->done &= ~(1u << i);
    side->seen[i] = 0;
}

/* Where sequences have been: many lead to the same state, and go on in the same way from there. */
struct state {
    uint32_t done[2];
    uint32_t seen[2][ACCESSES_MAX];
};

#define STATES_MAX (1u << 16)

static struct state states[STATES_MAX]; /* by hash; nothing is done in an unused one */
static unsigned nstates;

static uint32_t hash_state(const struct state *state)
{
    uint32_t hash = 0;

    for (unsigned s = 0; s < 2; s++) {
        hash = (hash ^ state->done[s]) * 0x9e3779b1u;
        for (unsigned i = 0; i < ACCESSES_MAX; i++)
            hash = (hash ^ state->seen[s][i]) * 0x9e3779b1u;
    }
    return hash ^ hash >> 16;
}

/* True the first time that both sides are where they are now. */
static bool is_new_state(void)
{
    struct state now = {.done = {device.done, driver.done}};
    uint32_t at;

    memcpy(now.seen[0], device.seen, sizeof(device.seen));
    memcpy(now.seen[1], driver.seen, sizeof(driver.seen));
    for (at = hash_state(&now) % STATES_MAX; states[at].done[0] || states[at].done[1];
         at = (at + 1) % STATES_MAX)
        if (memcmp(&states[at], &now, sizeof(now)) == 0)
            return false;
    ck_assert_uint_lt(++nstates, STATES_MAX);
    states[at] = now;
    return true;
}

/* Is there a sequence after which `bad` holds? From where both sides are. */
static bool can_go_wrong(enum machine machine, bool (*bad)(void))
{
    struct side *const sides[] = {&device, &driver};
    bool any = false;

    if (!is_new_state())
        return false;
    for (unsigned s = 0; s < 2; s++) {
        for (unsigned i = 0; i < sides[s]->n; i++) {
            bool wrong;

            if (!may_come_next(machine, sides[s], i))
                continue;
            any = true;
            carry_out(sides[s], sides[1 - s], i);
            wrong = can_go_wrong(machine, bad);
            take_back(sides[s], i);
            if (wrong)
                return true;
        }
    }
    return !any && bad();
}

static bool goes_wrong(enum machine machine, bool (*bad)(void))
{
    memset(states, 0, sizeof(states));
    nstates = 0;
    return can_go_wrong(machine, bad);
}

/* Did the last load of `at` come after a store of the other side? */
static bool saw(const struct side *side, const void *at)
{
    const struct access where = {.at = at, .len = 1};
    bool found = false;
    bool seen = false;

    for (unsigned i = 0; i < side->n; i++) {
        if (side->access[i].kind != LOAD || !overlap(&side->access[i], &where))
            continue;
        found = true;
        seen = side->seen[i] != 0;
    }
    ck_assert(found);
    return seen;
}

/* ---- the machines themselves ----------------------------------------------------------------- */

static uint32_t word_a;
static uint32_t word_b;

static bool both_missed(void)
{
    return !saw(&device, &word_b) && !saw(&driver, &word_a);
}

static bool news_without_data(void)
{
    return saw(&driver, &word_b) && !saw(&driver, &word_a);
}

/* Two that store one word each and look at the other's: the classic that needs full barriers. */
static bool can_both_miss(enum machine machine, int store_order, int load_order, bool fence)
{
    device = (struct side){0};
    driver = (struct side){0};
    add(&device, STORE, &word_a, 4, store_order);
    add(&device, LOAD, &word_b, 4, load_order);
    add(&driver, STORE, &word_b, 4, __ATOMIC_RELAXED);
    if (fence)
        add(&driver, FENCE, NULL, 0, 0);
    add(&driver, LOAD, &word_a, 4, __ATOMIC_RELAXED);
    return goes_wrong(machine, both_missed);
}

/* One that stores data, then says so; one that is told, then loads it. */
static bool can_miss_data(enum machine machine, int store_order, enum kind fence)
{
    device = (struct side){0};
    driver = (struct side){0};
    add(&device, STORE, &word_a, 4, __ATOMIC_RELAXED);
    add(&device, STORE, &word_b, 4, store_order);
    add(&driver, LOAD, &word_b, 4, __ATOMIC_RELAXED);
    add(&driver, fence, NULL, 0, 0);
    add(&driver, LOAD, &word_a, 4, __ATOMIC_RELAXED);
    return goes_wrong(machine, news_without_data);
}

START_TEST(machines_do_what_they_are_known_to_do)
{
    for (int machine = 0; machine < MACHINES; machine++) {
        ck_assert(!can_both_miss(machine, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST, true));
        ck_assert(can_both_miss(machine, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST, false));
        ck_assert(can_both_miss(machine, __ATOMIC_RELEASE, __ATOMIC_ACQUIRE, true));
        ck_assert(!can_miss_data(machine, __ATOMIC_RELEASE, FENCE_LOAD));
    }
    ck_assert(can_both_miss(WEAK, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE, true));
    ck_assert(!can_miss_data(TSO, __ATOMIC_RELAXED, FENCE_STORE));
    ck_assert(can_miss_data(WEAK, __ATOMIC_RELAXED, FENCE_LOAD));
    ck_assert(can_miss_data(WEAK, __ATOMIC_RELEASE, FENCE_STORE));
}
END_TEST

/* ---- a queue --------------------------------------------------------------------------------- */

#define RING_GPA 0x10000u
#define DATA_GPA 0x20000u
#define TABLE_GPA 0x30000u
#define EVENT_IDX VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC)

/* Each test with and without event indices. */
static const uint64_t features[] = {INDIRECT, INDIRECT | EVENT_IDX};

static struct guest_mem *mem;
static struct virtq vq;
static struct virtq_chain chain;
static struct driver_ring ring;
static uint8_t status_byte;

static void set_up_queue(uint64_t agreed)
{
    mem = driver_mem_new(1 * MIB);
    driver_ring_init(&ring, mem, RING_GPA, 8, agreed & EVENT_IDX);
    virtq_reset(&vq);
    vq.size = ring.size;
    vq.desc_gpa = ring.desc_gpa;
    vq.avail_gpa = ring.avail_gpa;
    vq.used_gpa = ring.used_gpa;
    ck_assert_int_eq(virtq_enable(&vq, mem), 0);
    virtq_start(&vq, agreed);
    device = (struct side){0};
    driver = (struct side){0};
}

static void tear_down(void)
{
    guest_mem_free(mem);
}

/* Offer a chain: a descriptor for a table of one buffer. */
static void offer(void)
{
    const struct driver_buf buf = {DATA_GPA, 16, true};

    (void)driver_add_indirect(&ring, TABLE_GPA, &buf, 1);
    (void)driver_show(&ring);
}

static const uint16_t *ring_entry(void)
{
    return &ring.avail->ring[0];
}

static const struct vring_desc *descriptor(void)
{
    return &ring.desc[*ring_entry()];
}

/* The word by which the device says whether it wants kicks, or the driver interrupts. */
static const void *kick_word(void)
{
    return vq.event_idx ? (const void *)avail_event(&vq) : &ring.used->flags;
}

static const void *interrupt_word(void)
{
    return vq.event_idx ? (const void *)used_event(&vq) : &ring.avail->flags;
}

/* What a driver does to offer the chain that memory holds already (2.7.13). */
static void driver_offers(void)
{
    add(&driver, STORE, driver_at(mem, TABLE_GPA, 16), 16, __ATOMIC_RELAXED);
    add(&driver, STORE, descriptor(), 16, __ATOMIC_RELAXED);
    add(&driver, STORE, ring_entry(), 2, __ATOMIC_RELAXED);
    add(&driver, FENCE_STORE, NULL, 0, 0);
    add(&driver, STORE, &ring.avail->idx, 2, __ATOMIC_RELAXED);
}

static void assert_never(bool (*bad)(void))
{
    for (int machine = 0; machine < MACHINES; machine++)
        ck_assert_msg(!goes_wrong(machine, bad), "machine %d, features %#llx", machine,
                      (unsigned long long)features[vq.event_idx]);
}

/* ---- what may never happen ------------------------------------------------------------------- */

static bool chain_waits_for_ever(void)
{
    return !saw(&device, &ring.avail->idx) && !saw(&driver, kick_word());
}

START_TEST(no_chain_waits_for_a_kick_that_nobody_sends)
{
    set_up_queue(features[_i]);
    ck_assert(!virtq_enable_kicks(&vq));
    offer();
    driver_offers();
    add(&driver, FENCE, NULL, 0, 0);
    add(&driver, LOAD, kick_word(), 2, __ATOMIC_RELAXED);
    assert_never(chain_waits_for_ever);
    tear_down();
}
END_TEST

static bool stale_chain_is_taken(void)
{
    return saw(&device, &ring.avail->idx) &&
           !(saw(&device, ring_entry()) && saw(&device, descriptor()) &&
             saw(&device, driver_at(mem, TABLE_GPA, 16)));
}

START_TEST(no_chain_is_taken_before_it_is_there)
{
    set_up_queue(features[_i]);
    offer();
    ck_assert_int_eq(virtq_pop(&vq, &chain), 1);
    driver_offers();
    assert_never(stale_chain_is_taken);
    tear_down();
}
END_TEST

/* The look after the wish for kicks counts as the look of virtq_pop. */
START_TEST(no_chain_of_the_second_look_is_taken_before_it_is_there)
{
    set_up_queue(features[_i]);
    offer();
    ck_assert(virtq_enable_kicks(&vq));
    ck_assert_int_eq(virtq_pop(&vq, &chain), 1);
    driver_offers();
    assert_never(stale_chain_is_taken);
    tear_down();
}
END_TEST

/* Pop, and answer as a device does. Only the answer is written down, or both. */
static void answer_chain(bool answer_only)
{
    offer();
    ck_assert_int_eq(virtq_pop(&vq, &chain), 1);
    if (answer_only)
        device = (struct side){0};
    add(&device, STORE, &status_byte, 1, __ATOMIC_RELAXED);
    virtq_push(&vq, chain.head, 1);
    ck_assert(virtq_publish(&vq));
}

static bool stale_answer_is_taken(void)
{
    return saw(&driver, &ring.used->idx) &&
           !(saw(&driver, &status_byte) && saw(&driver, &ring.used->ring[0].id) &&
             saw(&driver, &ring.used->ring[0].len));
}

START_TEST(no_answer_is_taken_before_it_is_there)
{
    set_up_queue(features[_i]);
    answer_chain(true);
    add(&driver, LOAD, &ring.used->idx, 2, __ATOMIC_RELAXED);
    add(&driver, FENCE_LOAD, NULL, 0, 0);
    add(&driver, LOAD, &ring.used->ring[0].id, 4, __ATOMIC_RELAXED);
    add(&driver, LOAD, &ring.used->ring[0].len, 4, __ATOMIC_RELAXED);
    add(&driver, LOAD, &status_byte, 1, __ATOMIC_RELAXED);
    assert_never(stale_answer_is_taken);
    tear_down();
}
END_TEST

static bool answer_waits_for_ever(void)
{
    return !saw(&device, interrupt_word()) && !saw(&driver, &ring.used->idx);
}

START_TEST(no_answer_waits_for_an_interrupt_that_nobody_raises)
{
    set_up_queue(features[_i]);
    answer_chain(true);
    add(&driver, STORE, interrupt_word(), 2, __ATOMIC_RELAXED);
    add(&driver, FENCE, NULL, 0, 0);
    add(&driver, LOAD, &ring.used->idx, 2, __ATOMIC_RELAXED);
    assert_never(answer_waits_for_ever);
    tear_down();
}
END_TEST

static bool next_chain_is_mixed_in(void)
{
    return saw(&driver, &ring.used->idx) &&
           (saw(&device, ring_entry()) || saw(&device, descriptor()) ||
            saw(&device, driver_at(mem, TABLE_GPA, 16)));
}

/* Once it has the answer, the driver uses the descriptors for something else. */
START_TEST(no_chain_is_read_after_it_was_given_back)
{
    set_up_queue(features[_i]);
    answer_chain(false);
    add(&driver, LOAD, &ring.used->idx, 2, __ATOMIC_ACQUIRE);
    driver_offers();
    assert_never(next_chain_is_mixed_in);
    tear_down();
}
END_TEST

static void add_tests(Suite *suite)
{
    const TTest *const tests[] = {
        no_chain_waits_for_a_kick_that_nobody_sends,
        no_chain_is_taken_before_it_is_there,
        no_chain_of_the_second_look_is_taken_before_it_is_there,
        no_answer_is_taken_before_it_is_there,
        no_answer_waits_for_an_interrupt_that_nobody_raises,
        no_chain_is_read_after_it_was_given_back,
    };
    TCase *tcase = tcase_create("order");

    tcase_add_test(tcase, machines_do_what_they_are_known_to_do);
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
        tcase_add_loop_test(tcase, tests[i], 0, ARRAY_SIZE(features));
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("virtq_order", add_tests)
