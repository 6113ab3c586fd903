/* SPDX-License-Identifier: Apache-2.0 */
/* Pauses, with vCPUs that leave the guest late and devices that rest late. */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "base/bytes.h"
#include "tests/lib/dice.h"
#include "tests/lib/unit.h"
#include "vmm/pause.h"

#define NDEVS 3

/* A device that rests at once, or when the test says so. */
struct fake_dev {
    struct virtio_dev dev;
    bool late;
    struct virtio_pauser *pauser; /* NULL: it goes on */
    uint64_t ticket;
    unsigned npauses;
    unsigned nresumes;
};

/* A vCPU whose guest runs until it is called out, and then as long as `late` says. */
static struct {
    struct gate_thread thread;
    pthread_t id;
    sem_t called;
    sem_t may_leave;
    atomic_bool late;
    atomic_uint nentries;
} vcpu;

static struct {
    struct gate gate;
    struct loop *loop;
    struct pause pause;
    struct fake_dev devs[NDEVS];
    bool clock_runs;
    unsigned npaused;
} m;

static void rest(struct fake_dev *fake)
{
    if (fake->pauser)
        fake->pauser->paused(fake->pauser, fake->ticket);
}

static void fake_pause(struct virtio_dev *dev, struct virtio_pauser *pauser, uint64_t ticket)
{
    struct fake_dev *fake = container_of(dev, struct fake_dev, dev);

    /* Both were done before: a device could change what the guest's clock and CPUs see. */
    ck_assert(gate_is_clear(&m.gate));
    ck_assert(!m.clock_runs);
    fake->npauses++;
    fake->pauser = pauser;
    fake->ticket = ticket;
    if (!fake->late)
        rest(fake);
}

static void fake_resume(struct virtio_dev *dev)
{
    struct fake_dev *fake = container_of(dev, struct fake_dev, dev);

    fake->nresumes++;
    fake->pauser = NULL;
}

static const struct virtio_ops fake_ops = {.pause = fake_pause, .resume = fake_resume};

static void stop_clock(struct pause *pause)
{
    ck_assert(m.clock_runs);
    m.clock_runs = false;
}

static void start_clock(struct pause *pause)
{
    ck_assert(!m.clock_runs);
    ck_assert(gate_is_clear(&m.gate));
    m.clock_runs = true;
}

static void on_paused(struct pause *pause)
{
    ck_assert(gate_is_clear(&m.gate));
    m.npaused++;
}

static void on_cleared(struct gate *gate)
{
    pause_cleared(&m.pause);
}

/* ---- the vCPU -------------------------------------------------------------------------------- */

static void call_vcpu(struct gate_thread *thread, bool on)
{
    if (on)
        sem_post(&vcpu.called);
}

static void *vcpu_main(void *arg)
{
    gate_enter(&vcpu.thread);
    while (gate_pass(&vcpu.thread)) {
        atomic_fetch_add(&vcpu.nentries, 1);
        sem_wait(&vcpu.called);
        if (atomic_load(&vcpu.late))
            sem_wait(&vcpu.may_leave);
    }
    gate_leave(&vcpu.thread);
    return NULL;
}

static void wait_entered(void)
{
    while (gate_is_clear(&m.gate))
        sched_yield();
}

static void start_vcpu(void)
{
    ck_assert_int_eq(pthread_create(&vcpu.id, NULL, vcpu_main, NULL), 0);
}

/* ---- the loop, which the test itself runs ---------------------------------------------------- */

static void on_round(struct loop_timer *timer)
{
    loop_stop(m.loop);
}

/* What was posted until now, and some milliseconds of what others do. */
static void run_loop(void)
{
    struct loop_timer timer = {.expired = on_round};

    loop_arm(m.loop, &timer, 5000000);
    ck_assert_int_eq(loop_run(m.loop), 0);
}

static void run_until_paused(unsigned n)
{
    while (m.npaused < n)
        run_loop();
    ck_assert_uint_eq(m.npaused, n);
}

static void set_up(void)
{
    m = (typeof(m)){.clock_runs = true};
    vcpu = (typeof(vcpu)){.thread.call = call_vcpu};
    sem_init(&vcpu.called, 0, 0);
    sem_init(&vcpu.may_leave, 0, 0);
    ck_assert_int_eq(loop_new(&m.loop), 0);
    gate_init(&m.gate);
    gate_add(&m.gate, &vcpu.thread);
    m.gate.cleared = on_cleared;
    m.pause = (struct pause){
        .gate = &m.gate,
        .loop = m.loop,
        .stop_clock = stop_clock,
        .start_clock = start_clock,
        .paused = on_paused,
    };
    ck_assert_int_eq(pause_init(&m.pause, NDEVS), 0);
    for (unsigned i = 0; i < NDEVS; i++) {
        m.devs[i].dev.ops = &fake_ops;
        pause_add_device(&m.pause, &m.devs[i].dev);
    }
}

static void tear_down(void)
{
    gate_end(&vcpu.thread);
    atomic_store(&vcpu.late, false);
    sem_post(&vcpu.may_leave);
    if (vcpu.id)
        ck_assert_int_eq(pthread_join(vcpu.id, NULL), 0);
    pause_done(&m.pause);
    gate_done(&m.gate);
    loop_free(m.loop);
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(vcpu_devices_and_clock_stop_and_go_on)
{
    start_vcpu();
    wait_entered();
    for (unsigned turn = 1; turn <= 3; turn++) {
        unsigned nentries;

        pause_begin(&m.pause);
        run_until_paused(turn);
        ck_assert(!m.clock_runs);
        nentries = atomic_load(&vcpu.nentries);
        run_loop();
        ck_assert_uint_eq(atomic_load(&vcpu.nentries), nentries);
        pause_end(&m.pause);
        ck_assert(m.clock_runs);
        while (atomic_load(&vcpu.nentries) == nentries)
            sched_yield();
        for (unsigned i = 0; i < NDEVS; i++) {
            ck_assert_uint_eq(m.devs[i].npauses, turn);
            ck_assert_uint_eq(m.devs[i].nresumes, turn);
        }
    }
}
END_TEST

START_TEST(machine_that_was_not_started_pauses)
{
    pause_begin(&m.pause);
    run_until_paused(1);
    start_vcpu();
    run_loop();
    ck_assert_uint_eq(atomic_load(&vcpu.nentries), 0);
    pause_end(&m.pause);
    while (atomic_load(&vcpu.nentries) == 0)
        sched_yield();
}
END_TEST

START_TEST(vcpu_that_is_late_is_waited_for)
{
    start_vcpu();
    wait_entered();
    atomic_store(&vcpu.late, true);
    pause_begin(&m.pause);
    run_loop();
    ck_assert_uint_eq(m.npaused, 0);
    ck_assert(m.clock_runs);
    ck_assert_uint_eq(m.devs[0].npauses, 0);
    sem_post(&vcpu.may_leave);
    run_until_paused(1);
}
END_TEST

START_TEST(device_that_is_late_is_waited_for)
{
    m.devs[1].late = true;
    start_vcpu();
    pause_begin(&m.pause);
    run_loop();
    ck_assert_uint_eq(m.npaused, 0);
    rest(&m.devs[1]);
    run_until_paused(1);
}
END_TEST

START_TEST(pause_ended_on_the_way_is_not_reported)
{
    start_vcpu();
    wait_entered();
    atomic_store(&vcpu.late, true);
    pause_begin(&m.pause);
    run_loop();
    pause_end(&m.pause); /* before the vCPU left */
    atomic_store(&vcpu.late, false);
    sem_post(&vcpu.may_leave);
    run_loop();
    ck_assert_uint_eq(m.npaused, 0);
    ck_assert_uint_eq(m.devs[0].npauses, 0);
    ck_assert_uint_eq(m.devs[0].nresumes, 1); /* it may have asked for the pause, and wait */

    m.devs[2].late = true;
    pause_begin(&m.pause);
    run_loop();
    pause_end(&m.pause); /* before a device rested */
    run_loop();
    ck_assert_uint_eq(m.npaused, 0);
    ck_assert(m.clock_runs);
    ck_assert_uint_eq(m.devs[2].nresumes, 2);
}
END_TEST

/* A device may report the pause before, when a new one was asked for. */
START_TEST(old_reports_do_not_count)
{
    struct fake_dev old;

    m.devs[0].late = true;
    start_vcpu();
    pause_begin(&m.pause);
    run_loop();
    old = m.devs[0];
    pause_end(&m.pause);
    pause_begin(&m.pause);
    run_loop();
    rest(&old);
    run_loop();
    ck_assert_uint_eq(m.npaused, 0);
    rest(&m.devs[0]);
    run_until_paused(1);
}
END_TEST

/* The gate tells of every hold; another one's must not stand for ours. */
START_TEST(holds_of_others_do_not_count)
{
    start_vcpu();
    wait_entered();
    gate_hold(&m.gate);
    gate_wait_clear(&m.gate); /* reported, and not looked at yet */
    gate_release(&m.gate);
    wait_entered();
    atomic_store(&vcpu.late, true);
    pause_begin(&m.pause);
    run_loop();
    ck_assert_uint_eq(m.npaused, 0);
    ck_assert(m.clock_runs);
    sem_post(&vcpu.may_leave);
    run_until_paused(1);
    ck_assert_uint_eq(m.devs[0].npauses, 1);
}
END_TEST

START_TEST(machine_ends_in_any_state)
{
    m.devs[0].late = true;
    start_vcpu();
    wait_entered();
    atomic_store(&vcpu.late, _i == 0);
    pause_begin(&m.pause);
    if (_i != 2)
        run_loop();
    /* tear_down: works are cancelled, and the vCPU ends although it is held. */
}
END_TEST

/* Devices are being stopped on another thread. */
START_TEST(devices_of_a_guest_that_ends_are_not_asked_to_rest)
{
    start_vcpu();
    wait_entered();
    atomic_store(&vcpu.late, true);
    pause_begin(&m.pause);
    pause_give_up(&m.pause);
    sem_post(&vcpu.may_leave);
    for (unsigned i = 0; i < 10; i++)
        run_loop();
    ck_assert(gate_is_clear(&m.gate));
    ck_assert_uint_eq(m.devs[0].npauses, 0);
    ck_assert_uint_eq(m.npaused, 0);
}
END_TEST

START_TEST(devices_of_a_guest_that_ends_rest_unheard)
{
    m.devs[1].late = true;
    start_vcpu();
    pause_begin(&m.pause);
    run_loop();
    pause_give_up(&m.pause);
    rest(&m.devs[1]);
    run_loop();
    ck_assert_uint_eq(m.npaused, 0);
}
END_TEST

/* Thousands of pauses and their ends at any moment; each is over when it says so. */
START_TEST(pauses_at_any_moment)
{
    uint64_t dice = 14;
    unsigned expected = 0;

    start_vcpu();
    for (unsigned i = 0; i < 3000; i++) {
        unsigned npaused = m.npaused;

        pause_begin(&m.pause);
        if (dice_roll(&dice, 2) == 0) {
            while (m.npaused == npaused) {
                struct loop_timer timer = {.expired = on_round};

                loop_arm(m.loop, &timer, 10000);
                ck_assert_int_eq(loop_run(m.loop), 0);
            }
            expected++;
        }
        pause_end(&m.pause);
        ck_assert(m.clock_runs);
    }
    ck_assert_uint_ge(m.npaused, expected);
    wait_entered();
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("pause");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, vcpu_devices_and_clock_stop_and_go_on);
    tcase_add_test(tcase, machine_that_was_not_started_pauses);
    tcase_add_test(tcase, vcpu_that_is_late_is_waited_for);
    tcase_add_test(tcase, device_that_is_late_is_waited_for);
    tcase_add_test(tcase, pause_ended_on_the_way_is_not_reported);
    tcase_add_test(tcase, old_reports_do_not_count);
    tcase_add_test(tcase, holds_of_others_do_not_count);
    tcase_add_test(tcase, devices_of_a_guest_that_ends_are_not_asked_to_rest);
    tcase_add_test(tcase, devices_of_a_guest_that_ends_rest_unheard);
    tcase_add_loop_test(tcase, machine_ends_in_any_state, 0, 3);
    tcase_add_test(tcase, pauses_at_any_moment);
    suite_add_tcase(suite, tcase);
}

UNIT_USES_THREADS;
UNIT_MAIN("pause", add_tests)
