/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/process/ending.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "vmm/config/config.h"
#include "vmm/console/console.h"
#include "vmm/process/ending_rules.h"

/* How long a process that ends by force waits until its last log lines are written. */
#define LAST_WORDS_MS 1000u

/*
 * QEMU takes the first three for a wish to end, too. `perl -e 'alarm…; exec…'` limits the time of a
 * program by SIGALRM. The daemon of an uninterruptible power supply sends SIGPWR when the power
 * ends.
 */
static const int end_signals[] = {SIGTERM, SIGINT, SIGHUP, SIGALRM, SIGPWR};

struct ending {
    struct ending_options options;
    struct loop *loop; /* of the thread here */
    pthread_t thread;
    struct loop_fd signals;
    struct loop_timer patience;   /* for a guest that was asked to power off, or for the closing */
    struct loop_timer deadline;   /* then it ends by force */
    struct loop_work insist_work; /* from the main thread */

    struct loop_work asked_work; /* to the main thread */
    struct loop_work insisted_work;

    pthread_mutex_t lock; /* guards the rest */
    struct ending_rules rules;
    unsigned signo; /* the first one that came */
    bool guest_ran; /* so there may be something to flush */
};

/* ---- the end by force ------------------------------------------------------------------------ */

/*
 * Other threads are somewhere: nothing is freed, and no lock is taken that one of them might hold
 * while it waits. No file is touched either, for its file system may be what hangs: a unix socket
 * stays, and the next start replaces it. The kernel closes what is open; a disk image is as after a
 * crash, which it survives.
 */
static void on_deadline(struct loop_timer *timer)
{
    struct ending *ending = container_of(timer, struct ending, deadline);
    bool guest_ran;

    pthread_mutex_lock(&ending->lock);
    guest_ran = ending->guest_ran;
    pthread_mutex_unlock(&ending->lock);

    console_restore_terminal();
    if (guest_ran) {
        ending->options.report(ending->options.opaque);
        log_say("not all could be closed in %u s: ended all the same", ENDING_CLOSE_S);
    }
    (void)log_flush(LAST_WORDS_MS);
    _exit(guest_ran ? EXIT_VMM : EXIT_KILLED);
}

static void limit_time(struct ending *ending, unsigned seconds)
{
    if (!ending->deadline.loop)
        loop_arm(ending->loop, &ending->deadline, seconds * NS_PER_S);
}

/* ---- requests, on the thread here ------------------------------------------------------------ */

static void insist(struct ending *ending)
{
    loop_disarm(&ending->patience);
    limit_time(ending, ENDING_CLOSE_S);
    loop_post(ending->options.loop, &ending->insisted_work);
}

/* The guest did not power off in time, or the closing takes too long. */
static void on_patience_over(struct loop_timer *timer)
{
    struct ending *ending = container_of(timer, struct ending, patience);
    enum ending_step step;
    enum ending_phase phase;

    pthread_mutex_lock(&ending->lock);
    step = ending_rules_insist(&ending->rules);
    phase = ending->rules.phase;
    pthread_mutex_unlock(&ending->lock);
    if (step != ENDING_INSIST)
        return;
    if (phase == ENDING_GUEST)
        log_say("the guest did not power off in %u s: it is ended",
                ending->options.shutdown_timeout_s);
    insist(ending);
}

static void on_insist_work(struct loop_work *work)
{
    struct ending *ending = container_of(work, struct ending, insist_work);
    enum ending_step step;

    pthread_mutex_lock(&ending->lock);
    step = ending_rules_insist(&ending->rules);
    pthread_mutex_unlock(&ending->lock);
    if (step == ENDING_INSIST)
        insist(ending);
}

static void be_patient(struct ending *ending)
{
    loop_arm(ending->loop, &ending->patience, ending->options.shutdown_timeout_s * NS_PER_S);
}

static void cancel_set_up(struct ending *ending, unsigned signo, bool guest_ran)
{
    if (guest_ran)
        log_say("signal %u: the guest is not started again", signo);
    else
        log_say("signal %u: ended before the guest ran", signo);
    limit_time(ending, guest_ran ? ENDING_CLOSE_S : ENDING_SET_UP_S);
    loop_post(ending->options.loop, &ending->insisted_work);
}

static void do_step(struct ending *ending, enum ending_step step, unsigned signo, bool guest_ran)
{
    switch (step) {
    case ENDING_NOTHING:
        return;
    case ENDING_CANCEL:
        cancel_set_up(ending, signo, guest_ran);
        return;
    case ENDING_ASK:
        be_patient(ending);
        loop_post(ending->options.loop, &ending->asked_work);
        return;
    case ENDING_WAIT:
        log_say("signal %u: the guest has ended, its disks are being closed; again to end in %u s "
                "at the latest",
                signo, ENDING_CLOSE_S);
        be_patient(ending);
        return;
    case ENDING_INSIST:
        log_say("signal %u: the guest is ended, and its disks are closed", signo);
        insist(ending);
        return;
    }
}

static void on_signal(struct loop_fd *watch, uint32_t events)
{
    struct ending *ending = container_of(watch, struct ending, signals);
    struct signalfd_siginfo info;
    enum ending_step step;
    bool guest_ran;

    if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
        return;
    pthread_mutex_lock(&ending->lock);
    step = ending_rules_signal(&ending->rules, monotonic_ns());
    if (step == ENDING_ASK && ending->options.shutdown_timeout_s == 0)
        step = ending_rules_insist(&ending->rules);
    if (step == ENDING_ASK)
        ending->signo = info.ssi_signo;
    guest_ran = ending->guest_ran;
    pthread_mutex_unlock(&ending->lock);
    do_step(ending, step, info.ssi_signo, guest_ran);
}

/* ---- on the main loop ------------------------------------------------------------------------ */

static void on_asked_work(struct loop_work *work)
{
    struct ending *ending = container_of(work, struct ending, asked_work);
    unsigned signo;

    pthread_mutex_lock(&ending->lock);
    signo = ending->signo;
    pthread_mutex_unlock(&ending->lock);
    ending->options.asked(ending->options.opaque, signo);
}

static void on_insisted_work(struct loop_work *work)
{
    struct ending *ending = container_of(work, struct ending, insisted_work);

    ending->options.insisted(ending->options.opaque);
}

bool ending_is_asked(struct ending *ending)
{
    bool asked;

    pthread_mutex_lock(&ending->lock);
    asked = ending->rules.asked;
    pthread_mutex_unlock(&ending->lock);
    return asked;
}

bool ending_begin_guest(struct ending *ending)
{
    bool begins;

    pthread_mutex_lock(&ending->lock);
    begins = ending_rules_begin_guest(&ending->rules);
    if (begins)
        ending->guest_ran = true;
    pthread_mutex_unlock(&ending->lock);
    return begins;
}

static void set_phase(struct ending *ending, enum ending_phase phase)
{
    pthread_mutex_lock(&ending->lock);
    ending->rules.phase = phase;
    pthread_mutex_unlock(&ending->lock);
}

void ending_begin_set_up(struct ending *ending)
{
    set_phase(ending, ENDING_SET_UP);
}

void ending_begin_closing(struct ending *ending)
{
    set_phase(ending, ENDING_CLOSING);
}

void ending_insist(struct ending *ending)
{
    loop_post(ending->loop, &ending->insist_work);
}

/* ---- the thread ------------------------------------------------------------------------------ */

void ending_get_signals(sigset_t *ret_set)
{
    sigemptyset(ret_set);
    for (size_t i = 0; i < ARRAY_SIZE(end_signals); i++) {
        int signo = end_signals[i];
        struct sigaction action;

        /*
         * A blocked signal arrives at a signalfd although it is ignored. That SIGTERM is ignored is
         * rather an oversight of our parent's than a wish.
         */
        if (signo != SIGTERM && sigaction(signo, NULL, &action) == 0 &&
            action.sa_handler == SIG_IGN)
            continue;
        sigaddset(ret_set, signo);
    }
}

static void *ending_main(void *arg)
{
    struct ending *ending = arg;
    int r = loop_run(ending->loop);

    /* epoll_wait does not fail on a descriptor and a buffer that are ours. */
    assert(r == 0);
    (void)r;
    return NULL;
}

static int watch_signals(struct ending *ending, struct err *err)
{
    sigset_t set;
    int r;

    ending_get_signals(&set);
    ending->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (ending->signals.fd < 0)
        return err_set_errno(err, -errno, "cannot make a signalfd");
    r = loop_add_fd(ending->loop, &ending->signals);
    return r < 0 ? err_set_errno(err, r, "cannot watch a signalfd") : 0;
}

static int start(struct ending *ending, struct err *err)
{
    int r = loop_new(&ending->loop);

    if (r < 0)
        return err_set_errno(err, r, "cannot make an event loop");
    r = watch_signals(ending, err);
    if (r < 0)
        return r;
    r = thread_start(&ending->thread, "end", ending_main, ending);
    return r < 0 ? err_set_errno(err, r, "cannot start a thread") : 0;
}

/* No thread runs. */
static void release(struct ending *ending)
{
    loop_disarm(&ending->patience);
    loop_disarm(&ending->deadline);
    if (ending->signals.fd >= 0) {
        loop_remove_fd(&ending->signals);
        close(ending->signals.fd);
    }
    if (ending->loop)
        loop_cancel(ending->loop, &ending->insist_work);
    loop_free(ending->loop);
    pthread_mutex_destroy(&ending->lock);
    free(ending);
}

int ending_new(const struct ending_options *options, struct ending **ret_ending, struct err *err)
{
    struct ending *ending = calloc(1, sizeof(*ending));
    int r;

    if (!ending)
        return err_set(err, -ENOMEM, "out of memory");
    ending->options = *options;
    ending->signals = (struct loop_fd){.fd = -1, .events = EPOLLIN, .ready = on_signal};
    ending->patience.expired = on_patience_over;
    ending->deadline.expired = on_deadline;
    ending->insist_work.run = on_insist_work;
    ending->asked_work.run = on_asked_work;
    ending->insisted_work.run = on_insisted_work;
    pthread_mutex_init(&ending->lock, NULL);

    r = start(ending, err);
    if (r < 0) {
        release(ending);
        return r;
    }
    *ret_ending = ending;
    return 0;
}

void ending_free(struct ending *ending)
{
    if (!ending)
        return;
    loop_stop(ending->loop);
    pthread_join(ending->thread, NULL);
    loop_cancel(ending->options.loop, &ending->asked_work);
    loop_cancel(ending->options.loop, &ending->insisted_work);
    release(ending);
}
