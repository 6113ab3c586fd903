/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/socket.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/* A unix socket has no way to tell when there is room in its queue. */
#define RETRY_NS 10000000l

static int connect_until(int fd, const struct sockaddr_un *addr, uint64_t deadline_ns)
{
    const struct timespec pause = {.tv_nsec = RETRY_NS};

    while (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0) {
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        if (monotonic_ns() >= deadline_ns)
            return -ETIMEDOUT;
        (void)nanosleep(&pause, NULL);
    }
    return 0;
}

static bool is_something_else(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && !S_ISSOCK(st.st_mode);
}

static int fail(int r, const char *path, struct err *err)
{
    if (r == -ECONNREFUSED && is_something_else(path))
        return err_set(err, -ENOENT, "%s: that is no socket", path);
    switch (r) {
    case -ENOENT:
    case -ENOTDIR:
        return err_set(err, -ENOENT, "%s: there is no such socket", path);
    case -ECONNREFUSED:
        return err_set(err, r, "%s: nobody listens there any more", path);
    case -ETIMEDOUT:
        return err_set(err, r, "%s: no client is taken", path);
    default:
        return err_set_errno(err, r, "%s", path);
    }
}

int socket_connect(const char *path, uint64_t deadline_ns, int *ret_fd, pid_t *ret_pid,
                   struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t len = sizeof(peer);
    int r;
    int fd;

    if ((size_t)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path) >= sizeof(addr.sun_path))
        return err_set(err, -ENAMETOOLONG, "%s: expected a path of at most %zu bytes", path,
                       sizeof(addr.sun_path) - 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    r = fd < 0 ? -errno : connect_until(fd, &addr, deadline_ns);
    if (r < 0) {
        if (fd >= 0)
            close(fd);
        return fail(r, path, err);
    }
    *ret_pid = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 ? peer.pid : 0;
    *ret_fd = fd;
    return 0;
}
