/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console: the guest's terminal, where one is wanted. Its host's end is made and started
 * with the serial port's, by the runner.
 */
#ifndef MINIVMM_ATTACHED_CONSOLE_H
#define MINIVMM_ATTACHED_CONSOLE_H

#include "base/compiler.h"
#include "base/err.h"
#include "vmm/attached/attached.h"

/* A function of the table of kinds. */
int console_attach(struct attachments *attachments, struct err *err) MUST_CHECK;

#endif
