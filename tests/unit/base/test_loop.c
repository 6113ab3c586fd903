/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"
#include "tests/lib/unit.h"

#define MS 1000000ull

static struct loop *loop;

static void setup(void)
{
    ck_assert_int_eq(loop_new(&loop), 0);
}

static void teardown(void)
{
    loop_free(loop);
}

/* ---- file descriptors ------------------------------------------------------------------------ */

/* A watch on an eventfd that counts its calls; `then` is called from the callback. */
struct probe {
    struct loop_fd watch;
    unsigned calls;
    uint32_t events;
    void (*then)(struct probe *probe);
    struct probe *other;
};

static void probe_ready(struct loop_fd *watch, uint32_t events)
{
    struct probe *probe = container_of(watch, struct probe, watch);

    probe->calls++;
    probe->events = events;
    if (probe->then)
        probe->then(probe);
}

static void probe_init(struct probe *probe, bool ready)
{
    memset(probe, 0, sizeof(*probe));
    probe->watch.fd = eventfd(ready ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
    probe->watch.events = EPOLLIN;
    probe->watch.ready = probe_ready;
    ck_assert_int_ge(probe->watch.fd, 0);
    ck_assert_int_eq(loop_add_fd(loop, &probe->watch), 0);
}

static void probe_done(struct probe *probe)
{
    loop_remove_fd(&probe->watch);
    close(probe->watch.fd);
}

static void stop_loop(struct probe *probe)
{
    loop_stop(loop);
}

static void remove_other_and_stop(struct probe *probe)
{
    loop_remove_fd(&probe->other->watch);
    loop_stop(loop);
}

static void mute_other_and_stop(struct probe *probe)
{
    ck_assert_int_eq(loop_set_events(&probe->other->watch, 0), 0);
    loop_stop(loop);
}

static void free_self_and_stop(struct probe *probe)
{
    probe_done(probe);
    free(probe);
    loop_stop(loop);
}

static void replace_other_and_stop(struct probe *probe)
{
    probe_done(probe->other);
    probe_init(probe->other, false); /* the same address, perhaps the same fd, but not ready */
    loop_stop(loop);
}

START_TEST(ready_descriptor_is_reported)
{
    struct probe probe;

    probe_init(&probe, true);
    probe.then = stop_loop;
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(probe.calls, 1);
    ck_assert_uint_eq(probe.events, EPOLLIN);
    probe_done(&probe);
    loop_remove_fd(&probe.watch); /* harmless */
}
END_TEST

/* Both are ready in one round; whichever comes first takes the other out. */
static void check_pair(void (*then)(struct probe *probe), unsigned calls_together)
{
    struct probe a, b;

    probe_init(&a, true);
    probe_init(&b, true);
    a.other = &b;
    b.other = &a;
    a.then = then;
    b.then = then;
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(a.calls + b.calls, calls_together);
    probe_done(&a);
    probe_done(&b);
}

START_TEST(watch_removed_in_the_round_is_not_called)
{
    check_pair(remove_other_and_stop, 1);
}
END_TEST

START_TEST(lost_interest_counts_in_the_same_round)
{
    check_pair(mute_other_and_stop, 1);
}
END_TEST

START_TEST(watch_replaced_in_the_round_gets_no_old_event)
{
    struct probe a, b;

    probe_init(&a, true);
    probe_init(&b, true);
    a.other = &b;
    b.other = &a;
    a.then = replace_other_and_stop;
    b.then = replace_other_and_stop;
    ck_assert_int_eq(loop_run(loop), 0);
    /* probe_init cleared the count of the one that was replaced. */
    ck_assert_uint_eq(a.calls + b.calls, 1);
    probe_done(&a);
    probe_done(&b);
}
END_TEST

START_TEST(watch_may_free_itself)
{
    struct probe *probe = malloc(sizeof(*probe));

    probe_init(probe, true);
    probe->then = free_self_and_stop;
    ck_assert_int_eq(loop_run(loop), 0);
}
END_TEST

START_TEST(no_interest_still_reports_hang_up)
{
    struct probe probe = {.then = stop_loop};
    int fds[2];

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    probe.watch = (struct loop_fd){.fd = fds[0], .events = 0, .ready = probe_ready};
    ck_assert_int_eq(loop_add_fd(loop, &probe.watch), 0);
    close(fds[1]);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(probe.events, EPOLLHUP);
    probe_done(&probe);
}
END_TEST

START_TEST(regular_file_is_refused)
{
    struct loop_fd watch = {.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), .events = EPOLLIN};

    ck_assert_int_eq(loop_add_fd(loop, &watch), -EPERM);
    ck_assert_ptr_null(watch.loop);
    loop_remove_fd(&watch);
    close(watch.fd);
}
END_TEST

/* ---- timers ---------------------------------------------------------------------------------- */

#define TIMERS 5

static struct loop_timer timers[TIMERS];
static unsigned expired_order[TIMERS];
static unsigned nexpired;

static void timer_expired(struct loop_timer *timer)
{
    ck_assert_uint_ge(monotonic_ns(), timer->deadline_ns);
    expired_order[nexpired++] = (unsigned)(timer - timers);
    if (nexpired == TIMERS)
        loop_stop(loop);
}

START_TEST(timers_expire_in_order_and_never_early)
{
    static const unsigned after_ms[TIMERS] = {9, 3, 6, 0, 3};

    for (unsigned i = 0; i < TIMERS; i++) {
        timers[i].expired = timer_expired;
        loop_arm(loop, &timers[i], after_ms[i] * MS);
    }
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(nexpired, TIMERS);
    for (unsigned i = 1; i < TIMERS; i++)
        ck_assert_uint_le(timers[expired_order[i - 1]].deadline_ns,
                          timers[expired_order[i]].deadline_ns);
}
END_TEST

static void disarm_next_and_stop(struct loop_timer *timer)
{
    nexpired++;
    loop_disarm(timer + 1);
    loop_stop(loop);
}

START_TEST(timer_disarmed_in_the_round_does_not_expire)
{
    timers[0].expired = disarm_next_and_stop;
    timers[1].expired = disarm_next_and_stop;
    loop_arm(loop, &timers[0], 0);
    loop_arm(loop, &timers[1], 0);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(nexpired, 1);
    loop_disarm(&timers[1]); /* harmless */
}
END_TEST

static void rearm_until_five(struct loop_timer *timer)
{
    if (++nexpired == 5)
        loop_stop(loop);
    else
        loop_arm(loop, timer, 0);
}

START_TEST(timer_may_arm_itself_again)
{
    timers[0].expired = rearm_until_five;
    loop_arm(loop, &timers[0], UINT64_MAX); /* saturates */
    ck_assert_uint_eq(timers[0].deadline_ns, UINT64_MAX);
    loop_arm(loop, &timers[0], 0); /* replaces */
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(nexpired, 5);
}
END_TEST

/* ---- work from other threads ----------------------------------------------------------------- */

struct counter {
    struct loop_work work;
    unsigned runs;
    unsigned stop_after;
    bool again;
};

static void count_run(struct loop_work *work)
{
    struct counter *counter = container_of(work, struct counter, work);

    counter->runs++;
    if (counter->runs == counter->stop_after)
        loop_stop(loop);
    else if (counter->again)
        loop_post(loop, work);
}

START_TEST(work_posted_before_the_run_is_done_once)
{
    struct counter a = {.work.run = count_run};
    struct counter b = {.work.run = count_run, .stop_after = 1};

    loop_post(loop, &a.work);
    loop_post(loop, &a.work);
    loop_post(loop, &b.work);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(a.runs, 1);
    ck_assert_uint_eq(b.runs, 1);
}
END_TEST

START_TEST(work_taken_back_does_not_run)
{
    struct counter a = {.work.run = count_run};
    struct counter b = {.work.run = count_run, .stop_after = 1};

    loop_post(loop, &a.work);
    loop_post(loop, &b.work);
    loop_cancel(loop, &a.work);
    loop_cancel(loop, &a.work);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(a.runs, 0);
    ck_assert_uint_eq(b.runs, 1);
}
END_TEST

static void free_work(struct loop_work *work)
{
    free(work);
    loop_stop(loop);
}

START_TEST(work_may_free_itself)
{
    struct loop_work *work = calloc(1, sizeof(*work));

    work->run = free_work;
    loop_post(loop, work);
    ck_assert_int_eq(loop_run(loop), 0);
}
END_TEST

static void stop_after_three(struct probe *probe)
{
    if (probe->calls == 3)
        loop_stop(loop);
}

START_TEST(work_that_posts_itself_does_not_starve_descriptors)
{
    struct counter counter = {.work.run = count_run, .again = true};
    struct counter last = {.work.run = count_run, .stop_after = 1};
    struct probe probe;

    probe_init(&probe, true);
    probe.then = stop_after_three;
    loop_post(loop, &counter.work);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(counter.runs, 3);
    probe_done(&probe);

    counter.again = false;
    loop_post(loop, &last.work);
    ck_assert_int_eq(loop_run(loop), 0);
}
END_TEST

START_TEST(stop_before_run_is_not_lost)
{
    loop_stop(loop);
    ck_assert_int_eq(loop_run(loop), 0);
}
END_TEST

static void *run_loop(void *opaque)
{
    ck_assert_int_eq(loop_run(loop), 0);
    return NULL;
}

static pthread_t start_loop_thread(void)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, run_loop, NULL), 0);
    return thread;
}

static void stop_loop_thread(pthread_t thread)
{
    loop_stop(loop);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

#define POSTERS 4
#define POSTS 2000ul

static unsigned shared_count; /* owner: the loop's thread */

static void add_one(void *opaque)
{
    shared_count++;
}

static void *call_often(void *opaque)
{
    for (size_t i = 0; i < POSTS; i++)
        loop_call(loop, add_one, NULL);
    return NULL;
}

START_TEST(calls_from_many_threads_all_run)
{
    pthread_t runner = start_loop_thread();
    pthread_t posters[POSTERS];

    for (int i = 0; i < POSTERS; i++)
        ck_assert_int_eq(pthread_create(&posters[i], NULL, call_often, NULL), 0);
    for (int i = 0; i < POSTERS; i++)
        pthread_join(posters[i], NULL);
    stop_loop_thread(runner);
    ck_assert_uint_eq(shared_count, POSTERS * POSTS);
}
END_TEST

static void call_again(void *opaque)
{
    loop_call(loop, add_one, NULL);
    add_one(NULL);
}

START_TEST(call_on_the_own_thread_is_direct)
{
    pthread_t runner = start_loop_thread();

    loop_call(loop, call_again, NULL);
    stop_loop_thread(runner);
    ck_assert_uint_eq(shared_count, 2);
}
END_TEST

/* ---- sleeping -------------------------------------------------------------------------------- */

static unsigned sleeps;

static bool count_sleep(void *opaque)
{
    sleeps++;
    return false;
}

static void stop_from_work(struct loop_work *work)
{
    loop_stop(loop);
}

START_TEST(hook_runs_before_each_sleep_and_after_the_last_round)
{
    struct loop_work work = {.run = stop_from_work};

    loop_set_before_sleep(loop, count_sleep, NULL);
    loop_post(loop, &work);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(sleeps, 2);

    loop_set_before_sleep(loop, NULL, NULL);
    loop_post(loop, &work);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(sleeps, 2);
}
END_TEST

static void nothing(void *opaque)
{
}

START_TEST(idle_loop_does_not_wake_up)
{
    struct timespec pause = {.tv_nsec = 50 * MS};
    pthread_t runner;

    loop_set_before_sleep(loop, count_sleep, NULL);
    runner = start_loop_thread();
    loop_call(loop, nothing, NULL); /* it runs */
    nanosleep(&pause, NULL);
    stop_loop_thread(runner);
    ck_assert_uint_le(sleeps, 3); /* at the start, after the call, after the stop */
}
END_TEST

START_TEST(free_takes_null)
{
    loop_free(NULL);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "fds", setup, teardown, ready_descriptor_is_reported,
                   watch_removed_in_the_round_is_not_called, lost_interest_counts_in_the_same_round,
                   watch_replaced_in_the_round_gets_no_old_event, watch_may_free_itself,
                   no_interest_still_reports_hang_up, regular_file_is_refused);
    unit_case_with(suite, "timers", setup, teardown, timers_expire_in_order_and_never_early,
                   timer_disarmed_in_the_round_does_not_expire, timer_may_arm_itself_again);
    unit_case_with(suite, "work", setup, teardown, work_posted_before_the_run_is_done_once,
                   work_taken_back_does_not_run, work_may_free_itself,
                   work_that_posts_itself_does_not_starve_descriptors, stop_before_run_is_not_lost,
                   calls_from_many_threads_all_run, call_on_the_own_thread_is_direct);
    unit_case_with(suite, "sleep", setup, teardown,
                   hook_runs_before_each_sleep_and_after_the_last_round, idle_loop_does_not_wake_up,
                   free_takes_null);
}

UNIT_USES_THREADS;
UNIT_MAIN("loop", add_tests)
