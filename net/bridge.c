/* SPDX-License-Identifier: Apache-2.0 */
#include "net/bridge.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/helper_process.h"
#include "net/tap.h"

/* How long the helper may take; it makes a few system calls. */
#define HELPER_MS 10000
#define HELPER_END_MS 1000

static const char helper_paths[][40] = {
    "/usr/lib/qemu/qemu-bridge-helper",     /* Debian */
    "/usr/libexec/qemu-bridge-helper",      /* Fedora */
    "/usr/lib/qemu-bridge-helper",          /* Arch Linux */
    "/usr/local/libexec/qemu-bridge-helper" /* QEMU's own */
};

static const char *find_helper(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(helper_paths); i++) {
        if (access(helper_paths[i], X_OK) == 0)
            return helper_paths[i];
    }
    return NULL;
}

/* Receive a descriptor: it comes with one byte. Returns it, or -errno; -EPIPE: none came. */
static int receive_fd(int sock)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    const struct cmsghdr *header;
    ssize_t n = recvmsg(sock, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    int fd;

    if (n < 0)
        return -errno;
    header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
        header->cmsg_len != CMSG_LEN(sizeof(int)))
        return -EPIPE;
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return fd;
}

/* Wait for what the helper sends, or for its end. Returns the descriptor or -errno. */
static int wait_for_fd(struct helper_process *process, int sock, const char *bridge,
                       struct err *err)
{
    int r = helper_process_wait(process, sock, HELPER_MS);
    int fd = r == -ETIMEDOUT ? r : receive_fd(sock); /* it may have sent it and ended */

    if (fd >= 0)
        return fd;
    if (helper_process_wait(process, -1, HELPER_END_MS) == -ESRCH)
        return err_set(err, fd, "bridge %s: qemu-bridge-helper: %s", bridge,
                       helper_process_fate(process));
    return err_set_errno(err, fd, "bridge %s: qemu-bridge-helper sent no interface", bridge);
}

static int run_helper(const char *helper, const char *bridge, int pair[2], struct err *err)
{
    char bridge_arg[IFNAMSIZ + 8];
    const char *const argv[] = {helper, "--use-vnet", "--fd=3", bridge_arg, NULL};
    const struct helper_spec spec = {
        .name = "qemu-bridge-helper", .argv = argv, .fds = &pair[1], .nfds = 1};
    struct helper_process *process;
    int r;

    (void)snprintf(bridge_arg, sizeof(bridge_arg), "--br=%s", bridge); /* its length was checked */
    r = helper_process_start(&spec, &process, err);
    close(pair[1]);
    if (r < 0)
        return r;
    r = wait_for_fd(process, pair[0], bridge, err);
    helper_process_end(process, HELPER_END_MS);
    return r;
}

int bridge_open(const char *bridge, const char *helper, struct net **ret_net, struct err *err)
{
    size_t len = strlen(bridge);
    int pair[2];
    int fd;
    int r;

    if (len == 0 || len >= IFNAMSIZ)
        return err_set(err, -EINVAL, "'%.200s': expected the name of a bridge", bridge);
    if (!helper)
        helper = find_helper();
    if (!helper)
        return err_set(err, -ENOENT,
                       "bridge %s: qemu-bridge-helper was not found: install QEMU "
                       "(qemu-system-common), or make a tap on the bridge and use tap=",
                       bridge);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_set_errno(err, -errno, "bridge %s: cannot make a socket", bridge);
    fd = run_helper(helper, bridge, pair, err);
    close(pair[0]);
    if (fd < 0)
        return fd;
    r = tap_open_fd(fd, ret_net, err);
    if (r < 0)
        close(fd);
    return r;
}
