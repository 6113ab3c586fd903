/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A key that ends what is shown on a terminal, without a line end.
 */
#ifndef MINIVMM_CTL_KEYS_H
#define MINIVMM_CTL_KEYS_H

#include <stdbool.h>
#include <termios.h>

struct keys {
    int signals;  /* of SIGINT, SIGTERM, SIGHUP and SIGWINCH; -1: none */
    bool changed; /* the terminal is, and was: */
    struct termios before;
};

/* From now on keys come at once, unseen, and signals by keys_wait_for_quit, if `wanted`. */
void keys_begin(struct keys *keys, bool wanted);
void keys_end(struct keys *keys);

/*
 * Wait; shorter if the terminal has another size then. True: q, Ctrl-C or a signal says that it is
 * enough.
 */
bool keys_wait_for_quit(struct keys *keys, unsigned timeout_ms);

#endif
