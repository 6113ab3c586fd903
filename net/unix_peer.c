/* SPDX-License-Identifier: Apache-2.0 */
#include "net/unix_peer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"

/* A hundred of the largest frames. The host may allow less, by a sysctl. */
#define SEND_BUFFER (8 * MIB)

int unix_peer_check_path(const char *path, struct err *err)
{
    const size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

    if (strlen(path) > max)
        return err_set(err, -ENAMETOOLONG, "%.200s: expected a socket path of at most %zu bytes",
                       path, max);
    return 0;
}

static int connect_to(int fd, const char *path, int type)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return -errno;
    /*
     * An address of the family alone: the kernel makes up a name, by which anybody finds the
     * socket. One that is connected takes nothing from others than its peer.
     */
    if (type == SOCK_DGRAM && bind(fd, (struct sockaddr *)&addr, sizeof(addr.sun_family)) < 0)
        return -errno;
    return 0;
}

int unix_peer_connect(const char *path, int type)
{
    int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int r;

    if (fd < 0)
        return -errno;
    r = connect_to(fd, path, type);
    if (r < 0) {
        close(fd);
        return r;
    }
    unix_peer_widen(fd);
    return fd;
}

void unix_peer_widen(int fd)
{
    const int size = SEND_BUFFER;

    /* Past the host's bound, where we may; else up to it. With less it works as well. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

void unix_search_succeeds(struct unix_search *search)
{
    backoff_succeed(&search->backoff);
    search->told = false;
    log_info("net %s: connected", search->path);
}

void unix_search_fails(struct unix_search *search, int r)
{
    if (search->told)
        return;
    search->told = true;
    log_guest(LOG_WARN, "net %s: no connection: %s: the link is down until there is one",
              search->path, strerror(-r));
}

void unix_search_later(struct unix_search *search, struct loop *loop)
{
    loop_arm(loop, &search->retry, backoff_next(&search->backoff));
}
