/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `--gdb`: the socket for gdb, joined with the machine that it debugs.
 *
 * Lives from the start of the first guest to the end of the process. Main thread only.
 */
#ifndef MINIVMM_DEBUG_SERVER_H
#define MINIVMM_DEBUG_SERVER_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"
#include "vmm/debug.h"
#include "vmm/kvm.h"

struct debug_server_options {
    const struct kvm *kvm;
    struct loop *loop;
    const char *address;
    bool waits;                 /* the first guest stands still until gdb lets it go on */
    void (*kill)(void *opaque); /* gdb ends the VM */
    void *opaque;
};

struct debug_server;

/* What the options name outlives it. 0, or a negative errno with *err filled. */
int debug_server_new(const struct debug_server_options *options, struct debug_server **ret_server,
                     struct err *err) MUST_CHECK;

/* For the machines. NULL for a server that is NULL. */
struct debug *debug_server_debug(struct debug_server *server);

/* Does gdb keep the guest from running? NULL is fine. */
enum debug_hold debug_server_hold(struct debug_server *server);

/*
 * A guest has ended, and is waited for: what gdb asks for meanwhile is about the next one, and
 * waits for that. NULL is fine.
 */
void debug_server_freeze(struct debug_server *server, bool freeze);

/* The last guest has ended, and the process will, with this exit code. NULL is fine. */
void debug_server_exited(struct debug_server *server, unsigned code);

/* No machine is attached. NULL is fine. */
void debug_server_free(struct debug_server *server);

#endif
