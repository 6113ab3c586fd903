/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request to end means, given what has happened so far. No clock and no thread: ending.c has
 * those.
 *
 * One request often comes as several signals: timeout(1) signals its child and the process group, a
 * terminal that closes sends SIGHUP twice or after a SIGTERM. So signals within ENDING_PAUSE_NS
 * are one request, and only a later one insists.
 */
#ifndef MINIVMM_PROCESS_ENDING_RULES_H
#define MINIVMM_PROCESS_ENDING_RULES_H

#include <stdbool.h>
#include <stdint.h>

#define ENDING_PAUSE_NS 1000000000ull

enum ending_phase {
    ENDING_SET_UP,  /* no guest runs, but one is to */
    ENDING_GUEST,   /* a guest runs */
    ENDING_CLOSING, /* no guest will run any more */
};

enum ending_step {
    ENDING_NOTHING, /* the same request once more, or nothing is left to decide */
    ENDING_CANCEL,  /* start no guest */
    ENDING_ASK,     /* ask the guest to power off */
    ENDING_WAIT,    /* it ends already: give it the time that a guest has */
    ENDING_INSIST,  /* end without the guest */
};

/* All zero at the start. */
struct ending_rules {
    enum ending_phase phase;
    bool asked; /* a request came */
    bool insisted;
    uint64_t asked_ns; /* the first one; CLOCK_MONOTONIC */
};

/* A signal that asks for the end arrives. */
enum ending_step ending_rules_signal(struct ending_rules *rules, uint64_t now_ns);

/* Time is up, or somebody insists by other means than a signal. */
enum ending_step ending_rules_insist(struct ending_rules *rules);

/* May a guest start? No, if the end was asked for. */
bool ending_rules_begin_guest(struct ending_rules *rules);

#endif
