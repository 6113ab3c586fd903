/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of the process between its options and its exit code: opens what outlives a guest, runs
 * the guest, runs it again after a reset if so wanted, obeys signals, closes everything in order.
 */
#ifndef MINIVMM_RUNNER_H
#define MINIVMM_RUNNER_H

#include "base/err.h"
#include "vmm/config/config.h"

/*
 * Run the VM. *err is filled for EXIT_SETUP and EXIT_VMM, and for any code if it is to be told
 * that something went wrong on the way out. The signals of ending.h are blocked already.
 */
enum exit_code runner_run(const struct config *config, struct err *err);

#endif
