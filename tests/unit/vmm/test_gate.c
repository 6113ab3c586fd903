/* SPDX-License-Identifier: Apache-2.0 */
#include <execinfo.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "tests/lib/dice.h"
#include "tests/lib/unit.h"
#include "vmm/gate.h"

#define NVCPUS 4
#define NCLIENTS 4
#define HANG_S 60u

UNIT_USES_THREADS;

/*
 * A vCPU without a guest: it "runs" until it is called out, or exits by itself now and then, as the
 * test's dice say; in an exit it may ask for what vCPUs ask for.
 */
struct fake_vcpu {
    struct gate_thread gate;
    pthread_t thread;
    /* Stands for KVM_RUN: a sleep that nothing but a call ends. */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    void (*next_exit)(struct fake_vcpu *vcpu); /* lock: what the next exit does; NULL: nothing */
    uint64_t dice;                             /* 0: its exits ask for nothing */
    atomic_ulong entries;
    struct gate_work errand; /* that it posts to others */
    unsigned long works;     /* on its thread */
    bool called_out;         /* lock */
    bool sleeps;             /* until called; otherwise it exits at once */
    /* It runs guest code or deals with an exit; nobody may see that in a section. */
    atomic_bool is_inside;
};

static struct gate gate;
static struct fake_vcpu vcpus[NVCPUS];
static atomic_uint in_section;
static atomic_ulong errands;

static void fake_call(struct gate_thread *thread, bool on)
{
    struct fake_vcpu *vcpu = container_of(thread, struct fake_vcpu, gate);

    pthread_mutex_lock(&vcpu->lock);
    vcpu->called_out = on;
    pthread_cond_signal(&vcpu->wake);
    pthread_mutex_unlock(&vcpu->lock);
}

static void fake_run(struct fake_vcpu *vcpu)
{
    pthread_mutex_lock(&vcpu->lock);
    while (vcpu->sleeps && !vcpu->called_out && !vcpu->next_exit)
        pthread_cond_wait(&vcpu->wake, &vcpu->lock);
    pthread_mutex_unlock(&vcpu->lock);
}

static void let_exit(struct fake_vcpu *vcpu, void (*exit)(struct fake_vcpu *vcpu))
{
    pthread_mutex_lock(&vcpu->lock);
    vcpu->next_exit = exit;
    pthread_cond_signal(&vcpu->wake);
    pthread_mutex_unlock(&vcpu->lock);
}

static void take_exit(struct fake_vcpu *vcpu)
{
    void (*exit)(struct fake_vcpu * vcpu);

    pthread_mutex_lock(&vcpu->lock);
    exit = vcpu->next_exit;
    vcpu->next_exit = NULL;
    pthread_mutex_unlock(&vcpu->lock);
    if (exit)
        exit(vcpu);
}

static void check_outside(void)
{
    for (unsigned i = 0; i < NVCPUS; i++)
        ck_assert(!atomic_load(&vcpus[i].is_inside));
}

static void check_section(void)
{
    ck_assert_uint_eq(atomic_fetch_add(&in_section, 1), 0);
    check_outside();
    atomic_fetch_sub(&in_section, 1);
}

struct call {
    struct gate_work work;
    void (*fn)(void *opaque);
    void *opaque;
    sem_t done;
};

static void run_call(struct gate_work *work)
{
    struct call *call = container_of(work, struct call, work);

    call->fn(call->opaque);
    sem_post(&call->done);
}

/* Post work and wait until it is done. False: the thread does not run. Not on a vCPU's thread. */
static bool do_on(struct gate_thread *thread, void (*fn)(void *opaque), void *opaque)
{
    struct call call = {.work.run = run_call, .fn = fn, .opaque = opaque};

    bool posted;

    sem_init(&call.done, 0, 0);
    posted = gate_post(thread, &call.work);
    while (posted && sem_wait(&call.done) < 0)
        ; /* EINTR */
    sem_destroy(&call.done);
    return posted;
}

/* Work may have a section of its own. */
static void run_section(void *opaque)
{
    gate_begin_exclusive(&gate);
    check_section();
    gate_end_exclusive(&gate);
}

static void run_errand(struct gate_work *work)
{
    ck_assert_uint_eq(atomic_load(&in_section), 0);
    if (atomic_load(&errands) % 4 == 0)
        run_section(NULL);
}

static void count_work(void *opaque)
{
    struct fake_vcpu *vcpu = opaque;

    ck_assert(pthread_equal(pthread_self(), vcpu->thread));
    vcpu->works++;
}

/* An exit of a vCPU that asks for something itself: is_inside is what it was before. */
static void fake_exit(struct fake_vcpu *vcpu)
{
    struct fake_vcpu *other = &vcpus[dice_roll(&vcpu->dice, NVCPUS)];
    unsigned roll = dice_roll(&vcpu->dice, 256);

    if (roll < 16) {
        atomic_store(&vcpu->is_inside, false);
        gate_begin_exclusive(&gate);
        check_section();
        gate_end_exclusive(&gate);
        atomic_store(&vcpu->is_inside, true);
    } else if (roll < 24 && gate_post(&other->gate, &vcpu->errand)) {
        atomic_fetch_add(&errands, 1);
        usleep(100); /* guests that never rest would keep the clients from this machine's CPUs */
    }
}

static void *fake_main(void *arg)
{
    struct fake_vcpu *vcpu = arg;

    gate_enter(&vcpu->gate);
    while (gate_pass(&vcpu->gate)) {
        atomic_store(&vcpu->is_inside, true);
        /* With the guest's code running, nobody may be in a section. */
        ck_assert_uint_eq(atomic_load(&in_section), 0);
        atomic_fetch_add(&vcpu->entries, 1);
        fake_run(vcpu);
        take_exit(vcpu);
        if (vcpu->dice)
            fake_exit(vcpu);
        atomic_store(&vcpu->is_inside, false);
    }
    gate_leave(&vcpu->gate);
    return NULL;
}

static void start_vcpu(struct fake_vcpu *vcpu)
{
    gate_expect(&vcpu->gate);
    ck_assert_int_eq(pthread_create(&vcpu->thread, NULL, fake_main, vcpu), 0);
}

static void start_vcpus(bool sleep, uint64_t seed)
{
    memset(vcpus, 0, sizeof(vcpus));
    gate_init(&gate);
    for (unsigned i = 0; i < NVCPUS; i++) {
        pthread_mutex_init(&vcpus[i].lock, NULL);
        pthread_cond_init(&vcpus[i].wake, NULL);
        vcpus[i].gate.call = fake_call;
        vcpus[i].errand.run = run_errand;
        vcpus[i].sleeps = sleep;
        vcpus[i].dice = seed ? seed + i : 0;
        gate_add(&gate, &vcpus[i].gate);
    }
    for (unsigned i = 0; i < NVCPUS; i++)
        start_vcpu(&vcpus[i]);
    for (unsigned i = 0; i < NVCPUS; i++)
        while (atomic_load(&vcpus[i].entries) == 0)
            sched_yield();
}

static void end_vcpus(void)
{
    for (unsigned i = 0; i < NVCPUS; i++)
        gate_end(&vcpus[i].gate);
    for (unsigned i = 0; i < NVCPUS; i++) {
        pthread_join(vcpus[i].thread, NULL);
        pthread_cond_destroy(&vcpus[i].wake);
        pthread_mutex_destroy(&vcpus[i].lock);
    }
    gate_done(&gate);
}

static void set_up_asleep(void)
{
    start_vcpus(true, 0);
}

static void wait_for_entry(struct fake_vcpu *vcpu, unsigned long before)
{
    while (atomic_load(&vcpu->entries) == before)
        sched_yield();
}

/* ---- one thing at a time --------------------------------------------------------------------- */

START_TEST(held_threads_stay_out_until_the_last_release)
{
    unsigned long entries;

    gate_hold(&gate);
    gate_hold(&gate);
    gate_wait_clear(&gate);
    check_section();
    entries = atomic_load(&vcpus[0].entries);
    gate_release(&gate);
    for (unsigned i = 0; i < 100; i++)
        sched_yield();
    ck_assert_uint_eq(atomic_load(&vcpus[0].entries), entries);
    gate_release(&gate);
    wait_for_entry(&vcpus[0], entries);
}
END_TEST

START_TEST(call_reaches_a_thread_asleep_in_the_guest_and_a_held_one)
{
    ck_assert(do_on(&vcpus[1].gate, count_work, &vcpus[1]));
    ck_assert_uint_eq(vcpus[1].works, 1);
    gate_hold(&gate);
    ck_assert(do_on(&vcpus[1].gate, count_work, &vcpus[1]));
    ck_assert_uint_eq(vcpus[1].works, 2);
    gate_release(&gate);
}
END_TEST

START_TEST(sections_nest_and_their_owner_has_work_done)
{
    gate_begin_exclusive(&gate);
    gate_begin_exclusive(&gate);
    check_section();
    gate_end_exclusive(&gate);
    check_section();
    ck_assert(do_on(&vcpus[2].gate, count_work, &vcpus[2]));
    check_section();
    gate_end_exclusive(&gate);
    ck_assert_uint_eq(vcpus[2].works, 1);
}
END_TEST

struct post {
    struct gate_work work;
    atomic_uint runs;
};

static void run_post(struct gate_work *work)
{
    struct post *post = container_of(work, struct post, work);

    ck_assert_uint_eq(atomic_load(&in_section), 0);
    atomic_fetch_add(&post->runs, 1);
}

static void *post_main(void *arg)
{
    struct post *post = arg;

    ck_assert(gate_post(&vcpus[0].gate, &post->work));
    ck_assert(gate_post(&vcpus[0].gate, &post->work));
    return NULL;
}

START_TEST(work_of_others_waits_for_the_end_of_a_section)
{
    struct post post = {.work.run = run_post};
    pthread_t thread;

    gate_begin_exclusive(&gate);
    ck_assert_int_eq(pthread_create(&thread, NULL, post_main, &post), 0);
    pthread_join(thread, NULL);
    ck_assert(do_on(&vcpus[0].gate, count_work, &vcpus[0]));
    ck_assert_uint_eq(atomic_load(&post.runs), 0);
    gate_end_exclusive(&gate);
    while (atomic_load(&post.runs) == 0)
        sched_yield();
    ck_assert(do_on(&vcpus[0].gate, count_work, &vcpus[0]));
    ck_assert_uint_eq(atomic_load(&post.runs), 1);
}
END_TEST

START_TEST(end_reaches_a_held_thread_and_nobody_waits_for_one_that_left)
{
    gate_hold(&gate);
    gate_end(&vcpus[3].gate);
    pthread_join(vcpus[3].thread, NULL);
    ck_assert(!do_on(&vcpus[3].gate, count_work, &vcpus[3]));
    gate_release(&gate);
    gate_begin_exclusive(&gate);
    gate_end_exclusive(&gate);
    start_vcpu(&vcpus[3]);
}
END_TEST

/* A thread that is about to be started does it first of all; one that could not be, does none. */
START_TEST(work_for_a_thread_that_has_not_begun_is_done)
{
    struct post post = {.work.run = run_post};

    gate_end(&vcpus[3].gate);
    pthread_join(vcpus[3].thread, NULL);
    vcpus[3].gate.ending = false;
    ck_assert(!gate_post(&vcpus[3].gate, &post.work));
    gate_expect(&vcpus[3].gate);
    gate_leave(&vcpus[3].gate);
    ck_assert(!gate_post(&vcpus[3].gate, &post.work));
    gate_expect(&vcpus[3].gate);
    ck_assert(gate_post(&vcpus[3].gate, &post.work));
    ck_assert_uint_eq(atomic_load(&post.runs), 0);
    start_vcpu(&vcpus[3]);
    while (atomic_load(&post.runs) == 0)
        sched_yield();
}
END_TEST

static atomic_bool section_begun, section_may_end, went_on;

static void begin_section_in_an_exit(struct fake_vcpu *vcpu)
{
    gate_begin_exclusive(&gate);
    atomic_store(&section_begun, true);
    while (!atomic_load(&section_may_end))
        sched_yield();
    gate_end_exclusive(&gate);
    atomic_store(&went_on, true);
}

START_TEST(exit_that_ends_its_section_does_not_go_on_while_held)
{
    let_exit(&vcpus[0], begin_section_in_an_exit);
    while (!atomic_load(&section_begun))
        sched_yield();
    gate_hold(&gate);
    atomic_store(&section_may_end, true);
    gate_wait_clear(&gate);
    usleep(10000);
    ck_assert(!atomic_load(&went_on));
    gate_release(&gate);
    while (!atomic_load(&went_on))
        sched_yield();
}
END_TEST

/* Who holds the threads may hold them for long, and wait for what is asked of one. */
START_TEST(work_with_a_section_is_done_while_held)
{
    gate_hold(&gate);
    gate_wait_clear(&gate);
    for (unsigned i = 0; i < NVCPUS; i++)
        ck_assert(do_on(&vcpus[i].gate, run_section, NULL));
    check_outside();
    gate_release(&gate);
}
END_TEST

static atomic_uint nclears;

static void count_clear(struct gate *cleared)
{
    atomic_fetch_add(&nclears, 1);
}

START_TEST(who_asked_is_told_when_all_are_outside)
{
    gate.cleared = count_clear;
    gate_hold(&gate);
    while (atomic_load(&nclears) == 0)
        sched_yield();
    check_section();
    gate_release(&gate);
}
END_TEST

START_TEST(thread_that_is_kept_stays_out_while_the_others_run)
{
    unsigned long entries[2];

    gate_hold(&gate);
    gate_wait_clear(&gate);
    gate_keep(&vcpus[0].gate, true);
    entries[0] = atomic_load(&vcpus[0].entries);
    entries[1] = atomic_load(&vcpus[1].entries);
    gate_release(&gate);
    wait_for_entry(&vcpus[1], entries[1]);
    usleep(10000);
    ck_assert_uint_eq(atomic_load(&vcpus[0].entries), entries[0]);
    ck_assert(do_on(&vcpus[0].gate, count_work, &vcpus[0]));
    gate_keep(&vcpus[0].gate, false);
    wait_for_entry(&vcpus[0], entries[0]);
}
END_TEST

START_TEST(thread_that_is_kept_comes_out_and_can_end)
{
    unsigned long entries;

    gate_keep(&vcpus[0].gate, true);
    while (atomic_load(&vcpus[0].is_inside))
        sched_yield();
    entries = atomic_load(&vcpus[0].entries);
    usleep(10000);
    ck_assert_uint_eq(atomic_load(&vcpus[0].entries), entries);
    gate_end(&vcpus[0].gate);
    pthread_join(vcpus[0].thread, NULL);
    vcpus[0].gate.kept = false;
    vcpus[0].gate.ending = false;
    start_vcpu(&vcpus[0]);
}
END_TEST

/* ---- everything at once ---------------------------------------------------------------------- */

static atomic_ulong steps;
static uint64_t client_seed;

static void show_stack(int signo)
{
    void *frames[32];

    backtrace_symbols_fd(frames, backtrace(frames, ARRAY_SIZE(frames)), STDERR_FILENO);
}

/* Stacks of all threads, then the end: whoever reads them sees who waits for whom. */
static void report_hang(const pthread_t *clients)
{
    fprintf(stderr, "no step for %u s; the stacks of clients and vCPUs:\n", HANG_S);
    for (unsigned i = 0; i < NCLIENTS; i++) {
        (void)pthread_kill(clients[i], SIGUSR2);
        sleep(1);
    }
    for (unsigned i = 0; i < NVCPUS; i++) {
        (void)pthread_kill(vcpus[i].thread, SIGUSR2);
        sleep(1);
    }
    ck_abort_msg("a hang");
}

static void random_step(uint64_t *dice)
{
    struct fake_vcpu *vcpu = &vcpus[dice_roll(dice, NVCPUS)];
    unsigned depth = 1 + dice_roll(dice, 2);

    switch (dice_roll(dice, 5)) {
    case 0:
        gate_hold(&gate);
        gate_wait_clear(&gate);
        for (unsigned i = 0; i < 100; i++)
            check_outside();
        gate_release(&gate);
        break;
    case 1:
        ck_assert(do_on(&vcpu->gate, count_work, vcpu));
        break;
    case 2:
        gate_keep(&vcpu->gate, true);
        ck_assert(do_on(&vcpu->gate, count_work, vcpu));
        gate_keep(&vcpu->gate, false);
        break;
    default:
        for (unsigned i = 0; i < depth; i++)
            gate_begin_exclusive(&gate);
        check_section();
        if (dice_roll(dice, 2))
            ck_assert(do_on(&vcpu->gate, count_work, vcpu));
        for (unsigned i = 0; i < depth; i++)
            gate_end_exclusive(&gate);
        break;
    }
}

static void *client_main(void *arg)
{
    uint64_t dice = client_seed + (uintptr_t)arg;
    unsigned nsteps = unit_number("GATE_STEPS", 2000);

    for (unsigned i = 0; i < nsteps; i++) {
        random_step(&dice);
        atomic_fetch_add(&steps, 1);
    }
    return NULL;
}

static void wait_for_clients(const pthread_t *clients)
{
    for (unsigned i = 0; i < NCLIENTS; i++) {
        unsigned long before = atomic_load(&steps);
        struct timespec deadline;

        for (;;) {
            clock_gettime(CLOCK_REALTIME, &deadline);
            deadline.tv_sec += HANG_S;
            if (pthread_timedjoin_np(clients[i], NULL, &deadline) == 0)
                break;
            if (atomic_load(&steps) == before)
                report_hang(clients);
            before = atomic_load(&steps);
        }
    }
}

static void stress(bool sleep)
{
    pthread_t clients[NCLIENTS];
    struct sigaction action = {.sa_handler = show_stack};

    ck_assert_int_eq(sigaction(SIGUSR2, &action, NULL), 0);
    start_vcpus(sleep, client_seed + NCLIENTS);
    for (uintptr_t i = 0; i < NCLIENTS; i++)
        ck_assert_int_eq(pthread_create(&clients[i], NULL, client_main, (void *)i), 0);
    wait_for_clients(clients);
    end_vcpus();
    ck_assert_uint_gt(atomic_load(&errands), 0);
}

START_TEST(random_requests_of_clients_and_vcpus_that_run)
{
    stress(false);
}
END_TEST

START_TEST(random_requests_of_clients_and_vcpus_that_sleep)
{
    stress(true);
}
END_TEST

static void add_tests(Suite *suite)
{
    client_seed = unit_seed();
    unit_case_with(
        suite, "one", set_up_asleep, end_vcpus, held_threads_stay_out_until_the_last_release,
        call_reaches_a_thread_asleep_in_the_guest_and_a_held_one,
        sections_nest_and_their_owner_has_work_done, work_of_others_waits_for_the_end_of_a_section,
        end_reaches_a_held_thread_and_nobody_waits_for_one_that_left,
        work_for_a_thread_that_has_not_begun_is_done,
        exit_that_ends_its_section_does_not_go_on_while_held,
        work_with_a_section_is_done_while_held, who_asked_is_told_when_all_are_outside,
        thread_that_is_kept_stays_out_while_the_others_run,
        thread_that_is_kept_comes_out_and_can_end);
    unit_case(suite, "random", random_requests_of_clients_and_vcpus_that_run,
              random_requests_of_clients_and_vcpus_that_sleep);
}

UNIT_MAIN("gate", add_tests)
