/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of QMP that says anything, after it has negotiated or before.
 *
 * Input: bit 0 of the first byte is whether it negotiates first; the rest is what it says, in
 * pieces of 1 to 64 bytes as the other bits say.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "vmm/control/qmp.h"
#include "vmm/control/qmp_builtin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a socket takes of a client that does not look at answers. */
#define SAID_MAX 16384u

static struct loop *loop;
static struct loop_work stop;

static void run_echo(struct qmp_request *request)
{
    const char *text = qmp_string(request, "text");

    qmp_return(request,
               json_pack("{s:s?,s:I}", "text", text, "number", qmp_integer(request, "number", 0)));
}

static const struct qmp_arg echo_args[] = {{"text", QMP_STRING, false},
                                           {"number", QMP_INTEGER, true}};

static const struct qmp_command commands[] = {{"echo", run_echo, echo_args, ARRAY_SIZE(echo_args)}};

static void stop_loop(struct loop_work *work)
{
    loop_stop(loop);
}

/* What is ready is dealt with before and after. */
static void turn(void)
{
    for (unsigned i = 0; i < 2; i++) {
        loop_post(loop, &stop);
        if (loop_run(loop) < 0)
            abort();
    }
}

static void read_all(int fd)
{
    char answers[4096];

    while (recv(fd, answers, sizeof(answers), MSG_DONTWAIT) > 0)
        ;
}

static void say(int fd, const uint8_t *data, size_t size, size_t step)
{
    for (size_t pos = 0; pos < size; pos += step) {
        size_t len = size - pos < step ? size - pos : step;

        if (send(fd, data + pos, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            break;
        turn();
        read_all(fd);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char negotiation[] = "{\"execute\":\"qmp_capabilities\"}";
    static const struct qmp_commands own = {commands, ARRAY_SIZE(commands)};
    const struct qmp_commands *const tables[] = {&qmp_builtin_commands, &own};
    struct qmp_options options = {.tables = tables, .ntables = ARRAY_SIZE(tables)};
    struct qmp *qmp;
    int fds[2];

    if (size == 0 || size > SAID_MAX)
        return 0;
    stop.run = stop_loop;
    if (loop_new(&loop) < 0)
        abort();
    options.loop = loop;
    if (qmp_new(&options, &qmp) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0 ||
        qmp_add_client(qmp, QMP_DOOR_ADDRESS, fds[0]) < 0)
        abort();
    if (data[0] & 1)
        say(fds[1], (const uint8_t *)negotiation, strlen(negotiation), strlen(negotiation));
    say(fds[1], data + 1, size - 1, 1 + data[0] / 4u);
    close(fds[1]);
    turn();
    qmp_free(qmp);
    loop_free(loop);
    return 0;
}
