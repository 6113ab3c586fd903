/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's Linux as a guest of back ends: it is behind a tap, which is tied to another back end,
 * in a network namespace of its own. So whole transfers by a real TCP go through two of them, with
 * the offloads that drivers agree to.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/open.h"
#include "tests/lib/net/netns.h"
#include "tests/lib/net/tie.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define PORT 7000
#define DOWN_LEN (8u << 20)
#define UP_LEN (2u << 20)
#define CONNECTIONS 100u

static struct loop *loop;
static struct tie tie, second_tie;
static struct err err;
static pid_t server;

static uint8_t byte_at(uint32_t at)
{
    return (uint8_t)(at * 13 + at / 509);
}

/* ---- both sides of a transfer, each in a process of its own ---------------------------------- */

static bool send_bytes(int fd, uint32_t len)
{
    static uint8_t bytes[100000];

    for (uint32_t at = 0; at < len;) {
        uint32_t part = len - at < sizeof(bytes) ? len - at : sizeof(bytes);

        for (uint32_t i = 0; i < part; i++)
            bytes[i] = byte_at(at + i);
        for (uint32_t sent = 0; sent < part;) {
            ssize_t n = send(fd, bytes + sent, part - sent, MSG_NOSIGNAL);

            if (n <= 0)
                return false;
            sent += (uint32_t)n;
        }
        at += part;
    }
    return true;
}

static bool receive_bytes(int fd, uint32_t len)
{
    static uint8_t bytes[100000];

    for (uint32_t at = 0; at < len;) {
        ssize_t n = recv(fd, bytes, len - at < sizeof(bytes) ? len - at : sizeof(bytes), 0);

        for (ssize_t i = 0; i < n; i++) {
            if (bytes[i] != byte_at(at++))
                return false;
        }
        if (n <= 0)
            return false;
    }
    return true;
}

static struct sockaddr_in address(const char *ip)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(PORT)};

    (void)inet_pton(AF_INET, ip, &addr.sin_addr); /* one of ours */
    return addr;
}

/* Also when a test fails. */
static void end_with_parent(void)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* Takes as much as the client says, and sends as much as it says. */
static void serve_one(int fd)
{
    uint32_t lens[2];

    if (recv(fd, lens, sizeof(lens), MSG_WAITALL) == sizeof(lens) && receive_bytes(fd, lens[0]) &&
        send_bytes(fd, lens[1]))
        (void)recv(fd, lens, 1, 0); /* until the client has it */
    close(fd);
}

/*
 * A process per client, until the test ends. Its windows are small: Debian 12's passt has the guest
 * send as much as they allow, and drops what its socket does not take.
 */
static void start_server(const char *ip)
{
    const struct sockaddr_in addr = address(ip);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int window = 64 << 10;

    ck_assert_int_eq(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &window, sizeof(window)), 0);
    ck_assert_int_eq(bind(listener, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(listen(listener, (int)CONNECTIONS), 0);
    server = fork();
    if (server != 0) {
        close(listener);
        return;
    }
    end_with_parent();
    (void)signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fork() == 0) {
            end_with_parent();
            serve_one(fd);
            _exit(0);
        }
        close(fd);
    }
}

static int open_connection(const char *ip, uint32_t up, uint32_t down)
{
    const struct sockaddr_in addr = address(ip);
    const uint32_t lens[] = {up, down};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        send(fd, lens, sizeof(lens), MSG_NOSIGNAL) != sizeof(lens))
        return -1;
    return fd;
}

static bool transfer(const char *ip, uint32_t up, uint32_t down)
{
    int fd = open_connection(ip, up, down);
    bool good = fd >= 0 && send_bytes(fd, up) && receive_bytes(fd, down);

    close(fd);
    return good;
}

static bool connect_many(const char *ip)
{
    int fds[CONNECTIONS];
    bool good = true;

    for (unsigned i = 0; i < CONNECTIONS; i++)
        fds[i] = open_connection(ip, 0, 10000);
    for (unsigned i = 0; i < CONNECTIONS; i++)
        good = good && fds[i] >= 0 && receive_bytes(fds[i], 10000);
    return good;
}

static bool do_all(const char *ip)
{
    return transfer(ip, 0, DOWN_LEN) && transfer(ip, UP_LEN, 0) && connect_many(ip);
}

/* ---- the loop in between --------------------------------------------------------------------- */

static void client_ended(struct loop_fd *watch, uint32_t events)
{
    loop_stop(loop);
}

/* Run the client in this namespace, and the loop until it has ended. */
static void run_client(const char *ip)
{
    struct loop_fd watch = {.ready = client_ended};
    int pipe_fds[2];
    int status;
    pid_t client;

    ck_assert_int_eq(pipe(pipe_fds), 0);
    client = fork();
    if (client == 0) {
        end_with_parent();
        _exit(do_all(ip) ? 0 : 1);
    }
    close(pipe_fds[1]);
    watch.fd = pipe_fds[0]; /* hung up when the client is gone */
    ck_assert_int_eq(loop_add_fd(loop, &watch), 0);
    ck_assert_int_eq(loop_run(loop), 0);
    loop_remove_fd(&watch);
    close(pipe_fds[0]);
    ck_assert_int_eq(waitpid(client, &status, 0), client);
    ck_assert_int_eq(status, 0);
}

static void set_up(void)
{
    scratch_set_up();
    memset(&err, 0, sizeof(err));
    netns_enter();
    ck_assert_int_eq(loop_new(&loop), 0);
}

static void tear_down(void)
{
    ck_assert_int_eq(kill(server, SIGKILL), 0);
    (void)waitpid(server, NULL, 0); /* it has been killed */
    loop_free(loop);
    scratch_tear_down();
}

static struct net *open_net(const struct net_options *options)
{
    struct net *net;

    ck_assert_int_eq(net_options_check(options, &err), 0);
    ck_assert_msg(net_open(options, &net, &err) == 0, "%s", err.msg);
    if (net->ops->wait_ready)
        ck_assert_msg(net->ops->wait_ready(net, &err) == 0, "%s", err.msg);
    return net;
}

static struct net *open_tap(const char *ip, unsigned mtu)
{
    struct net *net;

    scratch_ok("ip tuntap add tap0 mode tap");
    net = open_net(&(struct net_options){.kind = NET_TAP, .place = "tap0"});
    scratch_ok("ip link set tap0 mtu %u up && ip addr add %s/24 dev tap0", mtu, ip);
    return net;
}

static void close_tie(struct tie *which)
{
    tie_off(which);
    for (unsigned i = 0; i < 2; i++)
        which->ends[i].net->ops->close(which->ends[i].net);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void talk_through_passt(unsigned mtu)
{
    const struct net_options user = {.kind = NET_USER,
                                     .user = {.card = "eth0",
                                              .dns = (const char *const[]){"192.0.2.53"},
                                              .ndns = 1,
                                              .isolate = true}};
    struct net *passt;

    scratch_ok("ip addr add 203.0.113.1/32 dev lo && ip link add out type veth peer name beyond && "
               "ip addr add 198.51.100.2/24 dev out && ip link set out up && "
               "ip link set beyond up && ip route add default via 198.51.100.1");
    start_server("203.0.113.1");
    passt = open_net(&user);
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0); /* passt has stayed in the other one */
    tie_on(&tie, loop, open_tap("198.51.100.2", mtu), passt);
    scratch_ok("ip route add default via 198.51.100.1");
    run_client("203.0.113.1");
    if (mtu < 60000)
        ck_assert_uint_gt(tie.ends[0].nwhole, 0); /* segments went to passt uncut */
    close_tie(&tie);
}

START_TEST(a_linux_talks_through_passt)
{
    talk_through_passt(65520);
}
END_TEST

START_TEST(a_linux_talks_through_passt_in_small_packets)
{
    talk_through_passt(1500);
}
END_TEST

/* Each in a namespace of its own, with a stream between them. */
static void talk_through_a_socket(unsigned mtu)
{
    const struct net_options listening = {
        .kind = NET_UNIX, .place = scratch_path("wire"), .listens = true};
    const struct net_options connecting = {.kind = NET_UNIX, .place = scratch_path("wire")};
    struct net *tap = open_tap("192.0.2.1", mtu);

    start_server("192.0.2.1");
    tie_on(&tie, loop, tap, open_net(&listening));
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    tie_on(&second_tie, loop, open_tap("192.0.2.2", mtu), open_net(&connecting));
    run_client("192.0.2.1");
    ck_assert_uint_eq(tie.ends[0].nwhole + second_tie.ends[0].nwhole, 0); /* the wire takes none */
    close_tie(&second_tie);
    close_tie(&tie);
}

START_TEST(two_linuxes_talk_through_a_socket)
{
    talk_through_a_socket(1500);
}
END_TEST

START_TEST(two_linuxes_talk_through_a_socket_in_large_packets)
{
    talk_through_a_socket(65520);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("net_linux");

    /* Debian 12's passt waits for time-outs now and then. */
    tcase_set_timeout(tcase, 180);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_linux_talks_through_passt);
    tcase_add_test(tcase, a_linux_talks_through_passt_in_small_packets);
    tcase_add_test(tcase, two_linuxes_talk_through_a_socket);
    tcase_add_test(tcase, two_linuxes_talk_through_a_socket_in_large_packets);
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    return netns_is_possible("passt", true) ? unit_main("net_linux", add_tests) : UNIT_SKIP;
}
