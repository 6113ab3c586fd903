#include "vmm/crash.h"

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/compiler.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/console.h"

/* How long what was logged before a crash may take on its way to stderr. */
#define LAST_WORDS_MS 100u

static const int fatal_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGQUIT, SIGSYS};

/* SA_RESETHAND has put the default action back, so the signal ends the process. */
static void on_fatal_signal(int signo)
{
    console_restore_terminal();
    log_wait_in_handler(LAST_WORDS_MS);
    raise(signo);
}

void crash_set_up(void)
{
    static uint8_t stack[THREAD_SIGNAL_STACK_SIZE];
    struct sigaction fatal = {
        .sa_handler = on_fatal_signal,
        .sa_flags = SA_RESETHAND | SA_ONSTACK,
    };

    thread_use_signal_stack(stack);
    sigemptyset(&fatal.sa_mask);
    for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
        (void)sigaction(fatal_signals[i], &fatal, NULL); /* fails for bad numbers only */
}
