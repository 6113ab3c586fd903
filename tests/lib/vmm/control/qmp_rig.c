/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/vmm/control/qmp_rig.h"

#include <check.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "vmm/control/qmp_builtin.h"

struct pause {
    struct loop_timer timer;
    struct loop *loop;
};

static void on_time(struct loop_timer *timer)
{
    loop_stop(container_of(timer, struct pause, timer)->loop);
}

void qmp_rig_settle(struct qmp_rig *rig)
{
    struct pause pause = {.timer.expired = on_time, .loop = rig->loop};

    loop_arm(rig->loop, &pause.timer, 2 * NS_PER_MS);
    ck_assert_int_eq(loop_run(rig->loop), 0);
    loop_disarm(&pause.timer);
}

void qmp_rig_init(struct qmp_rig *rig, const struct qmp_commands *commands, void *opaque)
{
    struct qmp_options options = {
        .tables = rig->tables, .ntables = 2, .opaque = opaque, .patience_ns = QMP_RIG_PATIENCE_NS};

    rig->tables[0] = &qmp_builtin_commands;
    rig->tables[1] = commands;
    ck_assert_int_eq(loop_new(&rig->loop), 0);
    options.loop = rig->loop;
    ck_assert_int_eq(qmp_new(&options, &rig->qmp), 0);
}

void qmp_rig_done(struct qmp_rig *rig)
{
    qmp_free(rig->qmp);
    loop_free(rig->loop);
}

int qmp_rig_connect(struct qmp_rig *rig)
{
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    ck_assert_int_eq(qmp_add_client(rig->qmp, QMP_DOOR_ADDRESS, fds[0]), 0);
    return fds[1];
}

void qmp_rig_send(int fd, const char *text)
{
    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

const char *qmp_rig_receive(struct qmp_rig *rig, int fd)
{
    static char text[2u << 20];
    size_t len = 0;
    ssize_t n;

    qmp_rig_settle(rig);
    while ((n = recv(fd, text + len, sizeof(text) - len - 1, 0)) > 0) {
        len += (size_t)n;
        qmp_rig_settle(rig);
    }
    text[len] = '\0';
    return len == 0 && n == 0 ? "EOF" : text;
}

const char *qmp_rig_ask(struct qmp_rig *rig, int fd, const char *text)
{
    qmp_rig_send(fd, text);
    return qmp_rig_receive(rig, fd);
}

int qmp_rig_connect_negotiated(struct qmp_rig *rig)
{
    int fd = qmp_rig_connect(rig);

    ck_assert(strstr(qmp_rig_receive(rig, fd), "{\"QMP\":{\"version\":{\"qemu\":{\"major\":"));
    ck_assert_str_eq(qmp_rig_ask(rig, fd, "{\"execute\":\"qmp_capabilities\"}"),
                     "{\"return\":{}}\r\n");
    return fd;
}
