/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to a VM's control socket, by QMP.
 *
 * Who listens there is believed nothing: messages are bounded in length and depth, everything has
 * a time limit, and a stream of events keeps nobody from an answer that does not come.
 */
#ifndef MINIVMM_CTL_LINK_H
#define MINIVMM_CTL_LINK_H

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "base/err.h"

/* Longest message. QEMU describes its commands in 200 KiB, minivmm sends 1 MiB at most. */
#define LINK_MESSAGE_MAX ((size_t)4 << 20)

/* Bytes of events that are kept while nobody asks for them; the oldest go first. */
#define LINK_EVENTS_MAX ((size_t)1 << 20)

struct link;

/*
 * Connect to `address`, the path of a unix socket or tcp:127.0.0.1:PORT; then agree on the
 * protocol; or both. Each call, of those below as well, takes at most `timeout_ms`.
 *
 * 0, or a negative errno with *err filled: -ENOENT, -ECONNREFUSED: nobody listens there;
 * -ETIMEDOUT; -ECONNRESET: it hung up; -EPROTO: that is no QMP.
 */
int link_connect(const char *address, unsigned timeout_ms, struct link **ret_link,
                 struct err *err) MUST_CHECK;
int link_negotiate(struct link *link, struct err *err) MUST_CHECK;
int link_open(const char *address, unsigned timeout_ms, struct link **ret_link,
              struct err *err) MUST_CHECK;

/* NULL is fine. */
void link_close(struct link *link);

/* The process that listens; 0: unknown. */
pid_t link_pid(const struct link *link);

void link_set_timeout(struct link *link, unsigned timeout_ms);

/* From now on all calls together end by then, on the clock of monotonic_ns. */
void link_set_deadline(struct link *link, uint64_t deadline_ns);

/*
 * Have a command carried out. `arguments` is stolen; NULL: none. *ret_value, to be freed, is what
 * came back; ret_value may be NULL. 0, or a negative errno with *err filled: CTL_REMOTE_ERROR with
 * the VM's words, or as above.
 */
int link_ask(struct link *link, const char *command, json_t *arguments, json_t **ret_value,
             struct err *err) MUST_CHECK;

/* The next event, to be freed: 0; or as above, -ECONNRESET at the end of the connection. */
int link_next_event(struct link *link, json_t **ret_event, struct err *err) MUST_CHECK;

#endif
