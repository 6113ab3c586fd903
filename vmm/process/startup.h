/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the time from exec to the first guest instruction goes: one line per step with --log
 * debug. compare/boot-time reads these lines.
 *
 * A line carries the time since main began and CLOCK_MONOTONIC, so that whoever started the
 * process can tell how long exec took.
 */
#ifndef MINIVMM_PROCESS_STARTUP_H
#define MINIVMM_PROCESS_STARTUP_H

/* The step that vCPU 0 reports right before it first enters the guest. */
#define STARTUP_FIRST_RUN "first KVM_RUN"

/* The first thing main does. */
void startup_begin(void);

/* A step is done. Any thread after startup_begin. */
void startup_step(const char *step);

#endif
