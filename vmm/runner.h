/*
 * The life of the process between its options and its exit code: opens what outlives a guest, runs
 * the guest, runs it again after a reset if so wanted, obeys signals, closes everything in order.
 */
#ifndef MINIVMM_RUNNER_H
#define MINIVMM_RUNNER_H

#include <signal.h>

#include "vmm/base/err.h"
#include "vmm/config.h"

/*
 * How long a guest that was asked to power off may take. systemd's own limit for a service that
 * does not stop is 90 s, but a guest in need of more than a minute is rather stuck than busy.
 */
#define RUNNER_POWER_OFF_TIMEOUT_S 60u

/*
 * The signals that press the power button. main blocks them before there are threads; the
 * runner reads them from a signalfd.
 */
void runner_get_signals(sigset_t *ret_set);

/*
 * Run the VM. *err is filled for EXIT_SETUP and EXIT_VMM, and for any code if it is to be told
 * that something went wrong on the way out.
 */
enum exit_code runner_run(const struct config *config, struct err *err);

#endif
