/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "vmm/control/listener.h"

static struct loop *loop;
static struct listener *listener;
static struct err err;
static int taken; /* the last client's socket; -1: none came */
static int refusal;

static int on_client(int fd, void *opaque)
{
    ck_assert_ptr_eq(opaque, &taken);
    if (refusal < 0) {
        close(fd);
        return refusal;
    }
    taken = fd;
    loop_stop(loop);
    return 0;
}

static void stop_on_time(struct loop_timer *timer)
{
    loop_stop(loop);
}

static void set_up(void)
{
    scratch_set_up();
    taken = -1;
    refusal = 0;
    listener = NULL;
    memset(&err, 0, sizeof(err));
    ck_assert_int_eq(loop_new(&loop), 0);
}

static void tear_down(void)
{
    if (taken >= 0)
        close(taken);
    listener_free(listener);
    loop_free(loop);
    scratch_tear_down();
}

static int listen_at(const char *address)
{
    return listener_new(loop, address, on_client, &taken, &listener, &err);
}

START_TEST(client_of_a_unix_socket_is_taken)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char address[300];
    struct stat st;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    umask(0);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", scratch_path("s"));
    snprintf(address, sizeof(address), "unix:%s,server,nowait", addr.sun_path);
    ck_assert_int_eq(listen_at(address), 0);
    ck_assert_int_eq(stat(addr.sun_path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_int_ge(taken, 0);
    close(fd);
    listener_free(listener);
    listener = NULL;
    ck_assert_int_eq(stat(addr.sun_path, &st), -1);
}
END_TEST

/* A port that is free, most likely: one that the kernel has just given to somebody. */
static unsigned free_port(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    close(fd);
    return ntohs(addr.sin_port);
}

static int connect_to_port(unsigned port)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

START_TEST(client_of_a_port_is_taken_and_a_port_in_use_is_an_error)
{
    unsigned port = free_port();
    char address[64];
    struct listener *second;
    int fd;

    snprintf(address, sizeof(address), "tcp:127.0.0.1:%u", port);
    ck_assert_int_eq(listen_at(address), 0);
    ck_assert_int_eq(listener_new(loop, address, on_client, &taken, &second, &err), -EADDRINUSE);
    ck_assert(strstr(err.msg, address));
    fd = connect_to_port(port);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_int_ge(taken, 0);
    close(fd);
}
END_TEST

START_TEST(client_that_is_sent_away_does_not_end_it)
{
    unsigned port = free_port();
    char address[64];
    char byte;
    int fd;

    snprintf(address, sizeof(address), "tcp:127.0.0.1:%u", port);
    ck_assert_int_eq(listen_at(address), 0);
    refusal = -EUSERS;
    fd = connect_to_port(port);
    /* The next one is taken, so the one before was dealt with. */
    close(connect_to_port(port));
    while (recv(fd, &byte, 1, MSG_DONTWAIT) < 0) {
        struct loop_timer timer = {.expired = NULL};

        timer.expired = stop_on_time;
        loop_arm(loop, &timer, NS_PER_MS);
        ck_assert_int_eq(loop_run(loop), 0);
    }
    close(fd);
    refusal = 0;
    fd = connect_to_port(port);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_int_ge(taken, 0);
    close(fd);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "listener", set_up, tear_down, client_of_a_unix_socket_is_taken,
                   client_of_a_port_is_taken_and_a_port_in_use_is_an_error,
                   client_that_is_sent_away_does_not_end_it);
}

UNIT_MAIN("listener", add_tests)
