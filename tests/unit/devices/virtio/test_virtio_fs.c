/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-fs on a process of the test: queues that are given away and taken back, and processes that
 * die, hang and lie.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/virtio_fs.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "devices/virtio/vhost_user.h"
#include "devices/virtio/virtio_fs.h"
#include "tests/lib/devices/virtio/fake_vhost_user.h"
#include "tests/lib/devices/virtio/virtio_rig.h"

#define VERSION_1 VIRTIO_FEATURE(VIRTIO_F_VERSION_1)

/* For processes that never answer; a busy machine may need longer to run one that does. */
#define TIMEOUT_MS 500u
#define PATIENT_MS 10000u
#define REQUESTS 1
#define TEXT_GPA RIG_DATA_GPA
#define ANSWER_GPA (RIG_DATA_GPA + 0x1000)

static struct fake_vhost_user fake;
static atomic_uint nlost;
static atomic_int lost_error;
static unsigned nfreed;

static void on_lost(void *opaque, int error)
{
    lost_error = error;
    nlost++;
}

static void on_freed(void *opaque)
{
    nfreed++;
}

static void set_up(void)
{
    const struct mem_range ranges[] = {{0, 12 * MIB}, {13 * MIB, 2 * MIB}};

    nlost = 0;
    nfreed = 0;
    fake_vhost_user_init(&fake);
    rig_set_up();
    guest_mem_free(rig.mem);
    ck_assert_int_eq(guest_mem_new_shared(ranges, 2, &rig.mem, NULL), 0);
}

static bool answers(void)
{
    return fake.fault != FAKE_VHOST_HANGS && fake.fault != FAKE_VHOST_HALF;
}

static int make_device(unsigned start_ms, unsigned timeout_ms, struct virtio_dev **ret_dev)
{
    const struct virtio_fs_options options = {
        .loop = rig.loop,
        .tag = "a-tag-that-is-as-long-as-it-can-be-36",
        .sock = fake.sock,
        .start_ms = start_ms,
        .timeout_ms = timeout_ms,
        .lost = on_lost,
        .freed = on_freed,
    };

    return virtio_fs_new(&options, rig.mem, ret_dev);
}

static void start_with(unsigned timeout_ms)
{
    struct virtio_dev *dev;

    fake_vhost_user_start(&fake);
    ck_assert_int_eq(make_device(PATIENT_MS, timeout_ms, &dev), 0);
    rig_add(dev);
}

static void start(void)
{
    start_with(answers() ? PATIENT_MS : TIMEOUT_MS);
}

static void bring_up(void)
{
    rig_bring_up_with(VERSION_1, 16);
}

static void tear_down(void)
{
    rig_tear_down();
    fake_vhost_user_end(&fake);
}

/* ---- good ------------------------------------------------------------------------------------ */

static void offer(const char *text)
{
    const uint32_t len = (uint32_t)strlen(text) + 1;
    const struct driver_buf bufs[] = {{TEXT_GPA, len, false}, {ANSWER_GPA, 100, true}};

    memcpy(rig_guest(TEXT_GPA, len), text, len);
    memset(rig_guest(ANSWER_GPA, 100), RIG_UNTOUCHED, 100);
    (void)driver_add(&rig.rings[REQUESTS], bufs, 2);
}

static void check_answer(const char *text)
{
    ck_assert_uint_eq(rig_wait_used(REQUESTS).len, strlen(text) + 1);
    ck_assert_str_eq((const char *)rig_guest(ANSWER_GPA, 100), text);
}

static void check_echo(const char *text)
{
    offer(text);
    rig_kick(REQUESTS);
    check_answer(text);
}

START_TEST(requests_reach_the_process_and_come_back)
{
    start();
    bring_up();
    for (unsigned i = 0; i < 40; i++)
        check_echo(i % 2 ? "one" : "another");
    ck_assert_uint_eq(fake.nchains, 40);
    ck_assert_uint_eq(fake.acked, VERSION_1 | VIRTIO_FEATURE(30));
}
END_TEST

START_TEST(a_process_that_acknowledges_nothing_will_do)
{
    fake.protocol_features = 0;
    start();
    bring_up();
    check_echo("hello");
}
END_TEST

START_TEST(tag_and_queues_are_told)
{
    struct virtio_fs_config config;

    start();
    rig.dev->ops->config_read(rig.dev, 0, &config, sizeof(config));
    ck_assert_mem_eq(config.tag, "a-tag-that-is-as-long-as-it-can-be-36", sizeof(config.tag));
    ck_assert_uint_eq(le32toh(config.num_request_queues), 1);
}
END_TEST

START_TEST(requests_from_before_driver_ok_need_no_kick)
{
    start();
    ck_assert(driver_negotiate(rig.mmio, VERSION_1));
    driver_ring_init(&rig.rings[REQUESTS], rig.mem, RIG_RING_GPA(1), 16, false);
    ck_assert(driver_setup_queue(rig.mmio, REQUESTS, &rig.rings[REQUESTS]));
    offer("early");
    (void)driver_show(&rig.rings[REQUESTS]);
    driver_set_driver_ok(rig.mmio);
    check_answer("early");
}
END_TEST

START_TEST(a_driver_begins_anew_after_a_reset)
{
    start();
    for (unsigned i = 0; i < 3; i++) {
        bring_up();
        check_echo("first");
        check_echo("second");
    }
    driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
    ck_assert(!fake.queues[REQUESTS].enabled);
    ck_assert_uint_eq(nlost, 0);
}
END_TEST

START_TEST(pause_takes_the_queues_away_until_it_ends)
{
    start();
    bring_up();
    check_echo("before");
    rig_pause();
    offer("meanwhile");
    rig_kick(REQUESTS);
    ck_assert(rig_nothing_used(REQUESTS));
    ck_assert_uint_eq(fake.nchains, 1);
    rig_resume();
    check_answer("meanwhile");
    rig_resume(); /* without a pause */
    check_echo("after");
    rig_pause();
    driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
    rig_resume();
    bring_up();
    check_echo("again");
}
END_TEST

/* ---- processes that are not what they should be ---------------------------------------------- */

static unsigned count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* Of each message before the first driver, and of each fault. */
START_TEST(processes_that_are_unfit_are_refused)
{
    static const struct {
        enum fake_vhost_fault fault;
        uint32_t at;
        int error;
    } cases[] = {
        {FAKE_VHOST_CLOSES, 1, -ECONNRESET},    {FAKE_VHOST_CLOSES, 5, -ECONNRESET},
        {FAKE_VHOST_HANGS, 1, -ETIMEDOUT},      {FAKE_VHOST_HANGS, 15, -ETIMEDOUT},
        {FAKE_VHOST_HANGS, 3, -ETIMEDOUT},      {FAKE_VHOST_HALF, 1, -ETIMEDOUT},
        {FAKE_VHOST_HALF, 15, -ETIMEDOUT},      {FAKE_VHOST_REFUSES, 5, -EPROTO},
        {FAKE_VHOST_WRONG_REQUEST, 1, -EPROTO}, {FAKE_VHOST_WRONG_REQUEST, 3, -EPROTO},
        {FAKE_VHOST_WRONG_LEN, 1, -EPROTO},     {FAKE_VHOST_WRONG_LEN, 5, -EPROTO},
        {FAKE_VHOST_WRONG_FLAGS, 15, -EPROTO},
    };
    const unsigned before = count_fds();

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const uint64_t begin_ns = monotonic_ns();
        struct virtio_dev *dev;

        fake_vhost_user_init(&fake);
        fake.fault = cases[i].fault;
        fake.at = cases[i].at;
        fake_vhost_user_start(&fake);
        ck_assert_msg(make_device(answers() ? PATIENT_MS : TIMEOUT_MS, PATIENT_MS, &dev) ==
                          cases[i].error,
                      "case %zu", i);
        ck_assert_uint_lt(monotonic_ns() - begin_ns, PATIENT_MS * NS_PER_MS);
        fake_vhost_user_end(&fake);
        ck_assert_uint_eq(count_fds(), before);
    }
    fake_vhost_user_init(&fake);
    start();
}
END_TEST

START_TEST(processes_that_can_do_too_little_are_refused)
{
    static const unsigned needed[] = {VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX,
                                      VIRTIO_F_VERSION_1, 30};

    for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
        struct virtio_dev *dev;

        fake_vhost_user_init(&fake);
        fake.features &= ~VIRTIO_FEATURE(needed[i]);
        fake_vhost_user_start(&fake);
        ck_assert_int_eq(make_device(PATIENT_MS, PATIENT_MS, &dev), -EPROTO);
        fake_vhost_user_end(&fake);
    }
    fake_vhost_user_init(&fake);
    start();
}
END_TEST

START_TEST(descriptors_that_nobody_asked_for_are_closed)
{
    unsigned before;

    fake.fault = FAKE_VHOST_MANY_FDS;
    fake.at = 11;
    start();
    bring_up();
    before = count_fds();
    for (unsigned i = 0; i < 5; i++) {
        rig_pause();
        rig_resume();
    }
    rig_settle();
    check_echo("hello"); /* the process has its queues again */
    ck_assert_uint_eq(count_fds(), before);
}
END_TEST

static void wait_until_lost(void)
{
    const uint64_t deadline_ns = monotonic_ns() + 10 * NS_PER_S;

    while (nlost == 0 && monotonic_ns() < deadline_ns)
        usleep(1000);
    rig_settle();
    ck_assert_uint_eq(nlost, 1);
}

/* The device may ask for a reset at any step. */
static void try_bring_up(void)
{
    (void)driver_negotiate(rig.mmio, VERSION_1);
    driver_ring_init(&rig.rings[REQUESTS], rig.mem, RIG_RING_GPA(REQUESTS), 16, false);
    ck_assert(driver_setup_queue(rig.mmio, REQUESTS, &rig.rings[REQUESTS]));
    driver_set_driver_ok(rig.mmio);
}

/* At every message there is; a vCPU that waits goes on. */
START_TEST(a_process_that_fails_is_lost_and_nobody_waits)
{
    static const struct {
        enum fake_vhost_fault fault;
        uint32_t at;
        int error;
    } cases[] = {
        {FAKE_VHOST_CLOSES, 2, -ECONNRESET},     {FAKE_VHOST_CLOSES, 8, -ECONNRESET},
        {FAKE_VHOST_CLOSES, 11, -ECONNRESET},    {FAKE_VHOST_CLOSES, 12, -ECONNRESET},
        {FAKE_VHOST_HANGS, 2, -ETIMEDOUT},       {FAKE_VHOST_HANGS, 9, -ETIMEDOUT},
        {FAKE_VHOST_HANGS, 11, -ETIMEDOUT},      {FAKE_VHOST_HALF, 11, -ETIMEDOUT},
        {FAKE_VHOST_REFUSES, 10, -EPROTO},       {FAKE_VHOST_REFUSES, 18, -EPROTO},
        {FAKE_VHOST_WRONG_REQUEST, 11, -EPROTO}, {FAKE_VHOST_WRONG_LEN, 13, -EPROTO},
        {FAKE_VHOST_GARBAGE, 11, -EPROTO},
    };
    const uint64_t begin_ns = monotonic_ns();

    fake.fault = cases[_i].fault;
    fake.at = cases[_i].at;
    start();
    if (fake.at == 11) {
        bring_up();
        check_echo("hello");
        driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
    } else {
        try_bring_up();
        ck_assert(rig_needs_reset() == (cases[_i].error != -ECONNRESET));
    }
    ck_assert_uint_lt(monotonic_ns() - begin_ns, PATIENT_MS * NS_PER_MS);
    ck_assert_uint_eq(nlost, 1);
    ck_assert_int_eq(lost_error, cases[_i].error);
    /* Nor does it come back. */
    try_bring_up();
    ck_assert(rig_needs_reset() == (cases[_i].error != -ECONNRESET));
    ck_assert_uint_eq(nlost, 1);
}
END_TEST

static void offer_request(uint64_t unique)
{
    const struct fuse_in_header in = {.len = sizeof(in), .opcode = FUSE_STATFS, .unique = unique};
    const struct driver_buf bufs[] = {{TEXT_GPA, sizeof(in), false}, {ANSWER_GPA, 100, true}};

    memcpy(rig_guest(TEXT_GPA, sizeof(in)), &in, sizeof(in));
    (void)driver_add(&rig.rings[REQUESTS], bufs, 2);
}

static void check_refusal(uint64_t unique)
{
    const struct fuse_out_header *out = (const void *)rig_guest(ANSWER_GPA, sizeof(*out));

    ck_assert_uint_eq(rig_wait_used(REQUESTS).len, sizeof(*out));
    ck_assert_uint_eq(out->len, sizeof(*out));
    ck_assert_int_eq(out->error, -EIO);
    ck_assert_uint_eq(out->unique, unique);
}

static void check_refusing(uint64_t unique)
{
    offer_request(unique);
    rig_kick(REQUESTS);
    check_refusal(unique);
}

static void die(void)
{
    (void)shutdown(fake.own, SHUT_RDWR);
    wait_until_lost();
    ck_assert_int_eq(lost_error, -ECONNRESET);
    ck_assert(!rig_needs_reset());
}

START_TEST(requests_of_a_dead_process_fail)
{
    start();
    bring_up();
    for (unsigned i = 0; i < 20; i++) /* more than the ring has room for */
        check_echo("hello");
    fake.deaf = true;
    offer_request(7); /* it never answers this one */
    rig_kick(REQUESTS);
    die();
    check_refusal(7);
    for (uint64_t i = 8; i < 40; i++)
        check_refusing(i);
    rig_pause();
    offer_request(50);
    rig_kick(REQUESTS);
    ck_assert(rig_nothing_used(REQUESTS));
    rig_resume();
    check_refusal(50);
    bring_up();
    check_refusing(1);
    ck_assert_uint_eq(nlost, 1);
}
END_TEST

START_TEST(a_process_that_dies_before_the_driver_comes_is_missed_at_once)
{
    start();
    die();
    bring_up();
    check_refusing(1);
    ck_assert_uint_eq(nlost, 1);
}
END_TEST

START_TEST(a_process_that_dies_in_a_pause_is_missed_afterwards)
{
    start();
    bring_up();
    check_echo("hello");
    rig_pause();
    offer_request(3);
    rig_kick(REQUESTS);
    die();
    ck_assert(rig_nothing_used(REQUESTS));
    rig_resume();
    check_refusal(3);
    check_refusing(4);
    ck_assert(!rig_needs_reset());
}
END_TEST

/* Requests without an answer, with a short one, and a ring that is broken. */
START_TEST(odd_requests_of_a_dead_process_are_taken)
{
    const struct driver_buf odd[] = {{TEXT_GPA, 3, false}};
    const struct driver_buf little[] = {{TEXT_GPA, 40, false}, {ANSWER_GPA, 5, true}};

    start();
    bring_up();
    die();
    (void)driver_add(&rig.rings[REQUESTS], odd, 1);
    rig_kick(REQUESTS);
    ck_assert_uint_eq(rig_wait_used(REQUESTS).len, 0);
    (void)driver_add(&rig.rings[REQUESTS], little, 2);
    rig_kick(REQUESTS);
    ck_assert_uint_eq(rig_wait_used(REQUESTS).len, 5);
    driver_offer(&rig.rings[REQUESTS], 999);
    rig_kick(REQUESTS);
    rig_settle();
    ck_assert(rig_needs_reset());
}
END_TEST

/* Each message would be waited for. */
START_TEST(a_process_that_is_lost_is_not_asked_again)
{
    struct vhost_user user;
    uint16_t next;

    fake.fault = FAKE_VHOST_HANGS;
    fake.at = 2;
    fake_vhost_user_start(&fake);
    ck_assert_int_eq(vhost_user_open(&user, fake.sock, PATIENT_MS, VERSION_1, rig.mem), 0);
    user.timeout_ms = TIMEOUT_MS;
    ck_assert_int_eq(vhost_user_set_features(&user, VERSION_1), -ETIMEDOUT);
    ck_assert_int_eq(vhost_user_set_features(&user, VERSION_1), -EPIPE);
    ck_assert_int_eq(vhost_user_stop(&user, 0, &next), -EPIPE);
    vhost_user_close(&user);
    fake_vhost_user_end(&fake);

    fake_vhost_user_init(&fake);
    start();
}
END_TEST

START_TEST(pause_of_a_process_that_hangs_ends)
{
    fake.fault = FAKE_VHOST_HANGS;
    fake.at = 11;
    start();
    bring_up();
    rig_pause();
    ck_assert_uint_eq(nlost, 1);
    ck_assert(rig_needs_reset());
}
END_TEST

/* Eventfds are shared with it, and so is whether reading and writing them waits. */
START_TEST(a_process_that_spoils_its_descriptors_makes_nobody_wait)
{
    eventfd_t kicks;
    int kick;

    fake.deaf = true;
    start();
    bring_up();
    kick = rig.dev->kick_fds[REQUESTS];
    ck_assert_int_eq(eventfd_read(kick, &kicks), 0);
    ck_assert_int_eq(fcntl(kick, F_SETFL, 0), 0);
    ck_assert_int_eq(fcntl(fake.queues[REQUESTS].call, F_SETFL, 0), 0);
    ck_assert_int_eq(eventfd_write(kick, UINT64_MAX - 1), 0);
    rig_pause();
    rig_resume();
    rig_settle();
    driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
    ck_assert_uint_eq(nlost, 0);
}
END_TEST

/* When the vCPU waits for the answer. */
static void *cancel_soon(void *opaque)
{
    for (unsigned i = 0; fake.last != 11 && i < PATIENT_MS; i++)
        usleep(1000);
    virtio_fs_cancel(rig.dev);
    return NULL;
}

/* The guest is gone: it is no loss, and nobody waits for the time-out. */
START_TEST(cancelling_ends_what_waits)
{
    const uint64_t begin_ns = monotonic_ns();
    pthread_t thread;

    fake.fault = FAKE_VHOST_HANGS;
    fake.at = 11;
    start_with(PATIENT_MS);
    bring_up();
    check_echo("hello");
    ck_assert_int_eq(pthread_create(&thread, NULL, cancel_soon, NULL), 0);
    driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
    ck_assert_uint_lt(monotonic_ns() - begin_ns, PATIENT_MS * NS_PER_MS);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(nlost, 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *failing = tcase_create("failing");

    unit_case_with(suite, "good", set_up, tear_down, requests_reach_the_process_and_come_back,
                   a_process_that_acknowledges_nothing_will_do, tag_and_queues_are_told,
                   requests_from_before_driver_ok_need_no_kick, a_driver_begins_anew_after_a_reset,
                   pause_takes_the_queues_away_until_it_ends);
    unit_case_with(suite, "bad", set_up, tear_down, processes_that_are_unfit_are_refused,
                   processes_that_can_do_too_little_are_refused,
                   descriptors_that_nobody_asked_for_are_closed, requests_of_a_dead_process_fail,
                   a_process_that_dies_before_the_driver_comes_is_missed_at_once,
                   a_process_that_dies_in_a_pause_is_missed_afterwards,
                   odd_requests_of_a_dead_process_are_taken,
                   a_process_that_is_lost_is_not_asked_again, pause_of_a_process_that_hangs_ends,
                   a_process_that_spoils_its_descriptors_makes_nobody_wait,
                   cancelling_ends_what_waits);
    tcase_add_checked_fixture(failing, set_up, tear_down);
    tcase_add_loop_test(failing, a_process_that_fails_is_lost_and_nobody_waits, 0, 13);
    suite_add_tcase(suite, failing);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_fs", add_tests)
