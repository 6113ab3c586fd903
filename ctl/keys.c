/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/keys.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void fill_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGWINCH);
}

void keys_begin(struct keys *keys, bool wanted)
{
    struct termios now;
    sigset_t set;

    *keys = (struct keys){.signals = -1};
    if (!wanted)
        return;
    fill_set(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    keys->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &keys->before) < 0)
        return;
    now = keys->before;
    now.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    keys->changed = tcsetattr(STDIN_FILENO, TCSANOW, &now) == 0;
}

void keys_end(struct keys *keys)
{
    sigset_t set;

    if (keys->changed)
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &keys->before);
    if (keys->signals < 0)
        return;
    close(keys->signals);
    fill_set(&set);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* A key or signal is there: is it one that ends? The end of input ends, too. */
static bool is_quit(const struct keys *keys, const struct pollfd fds[2])
{
    struct signalfd_siginfo info;
    char key = 'q';

    if (fds[0].revents)
        return read(STDIN_FILENO, &key, 1) <= 0 || key == 'q';
    return fds[1].revents && read(keys->signals, &info, sizeof(info)) == sizeof(info) &&
           info.ssi_signo != SIGWINCH;
}

bool keys_wait_for_quit(struct keys *keys, unsigned timeout_ms)
{
    struct pollfd fds[2] = {
        {.fd = keys->changed ? STDIN_FILENO : -1, .events = POLLIN},
        {.fd = keys->signals, .events = POLLIN},
    };

    return poll(fds, 2, (int)timeout_ms) > 0 && is_quit(keys, fds);
}
