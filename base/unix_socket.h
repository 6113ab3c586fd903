/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A unix socket that this process listens on.
 *
 * Its name appears when it listens, and not before: a socket that refuses clients is one that a
 * process left behind, and is replaced. So it is made under a name of its own
 * (".minivmm-RANDOM" in the same folder) and linked to the wanted one. Replacing is done under a
 * lock of the folder (flock): of two VMs that find the same socket left behind one gets it, and the
 * other one is told that it is in use. There is no lock file that could be left behind.
 *
 * Only its owner can connect (mode 0600), whatever the umask. A symbolic link is never followed.
 */
#ifndef MINIVMM_BASE_UNIX_SOCKET_H
#define MINIVMM_BASE_UNIX_SOCKET_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/compiler.h"
#include "base/err.h"

struct unix_socket {
    int fd;           /* non-blocking; -1: none */
    const char *path; /* the caller's */
    struct stat made; /* what we made, so that we remove nothing else */
};

/* 0, or a negative errno with *err filled: nothing was made then, and ret_socket->fd is -1. */
int unix_socket_listen(const char *path, struct unix_socket *ret_socket,
                       struct err *err) MUST_CHECK;

/* Has a process the stream socket of this name? It notices nothing of the question. */
bool unix_socket_is_used(const char *path);

/* Remove the name, if it is still ours, and stop listening. Harmless without a socket. */
void unix_socket_close(struct unix_socket *sock);

#endif
