/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/process/crash.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/log.h"
#include "base/thread.h"
#include "vmm/console/console.h"

/* How long what was logged before a crash may take on its way to stderr. */
#define LAST_WORDS_MS 100u

/* What these do by default does not end the process. */
static const int harmless_signals[] = {SIGCHLD, SIGCONT, SIGURG,  SIGWINCH,
                                       SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};

/* SA_RESETHAND has put the default action back, so the signal ends the process. */
static void on_fatal_signal(int signo)
{
    console_restore_terminal();
    log_wait_in_handler(LAST_WORDS_MS);
    raise(signo);
}

static bool is_harmless(int signo)
{
    for (size_t i = 0; i < ARRAY_SIZE(harmless_signals); i++)
        if (harmless_signals[i] == signo)
            return true;
    return false;
}

void crash_set_up(void)
{
    struct sigaction fatal = {
        .sa_handler = on_fatal_signal,
        .sa_flags = SA_RESETHAND | SA_ONSTACK,
    };

    (void)thread_use_signal_stack(); /* to the end of the process */
    sigemptyset(&fatal.sa_mask);
    for (int signo = 1; signo <= SIGRTMAX; signo++) {
        struct sigaction before;

        /* It fails for those that cannot be caught. */
        if (!is_harmless(signo) && sigaction(signo, &fatal, &before) == 0 &&
            before.sa_handler == SIG_IGN)
            (void)sigaction(signo, &before, NULL); /* as it was, so it cannot fail */
    }
}
