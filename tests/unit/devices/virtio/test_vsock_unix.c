/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of virtio-vsock: what programs say on its socket, and where the guest gets to. */
#include "devices/virtio/vsock_unix.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/loop_thread.h"
#include "tests/lib/scratch.h"
#include "tests/lib/settle.h"
#include "tests/lib/unit.h"

#define TIMEOUT_MS 10000

static struct loop_thread thread;
static struct vsock_unix *un;
static char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

/* A guest that keeps what it is given. Owner: the loop's thread, until it has counted it. */
static struct {
    struct vsock_guest guest;
    int fd;
    uint32_t port;
    unsigned n; /* atomic */
    int result;
} guest;

static int take_socket(struct vsock_guest *g, int fd, uint32_t port)
{
    guest.port = port;
    if (guest.result == 0)
        guest.fd = fd;
    __atomic_fetch_add(&guest.n, 1, __ATOMIC_SEQ_CST);
    return guest.result;
}

static unsigned guest_count(void)
{
    return __atomic_load_n(&guest.n, __ATOMIC_SEQ_CST);
}

static void set_up(void)
{
    struct err err;

    scratch_set_up();
    (void)snprintf(path, sizeof(path), "%s", scratch_path("v.sock"));
    ck_assert_int_eq(loop_thread_start(&thread, "devices", &err), 0);
    guest.guest.connect = take_socket;
    guest.fd = -1;
}

static void tear_down(void)
{
    vsock_unix_free(un);
    loop_thread_stop(&thread);
    loop_thread_free(&thread);
    if (guest.fd >= 0)
        close(guest.fd);
    scratch_tear_down();
}

static void set_guest(void *opaque)
{
    vsock_unix_host(un)->guest = opaque;
}

static void open_with(bool listen, const struct vsock_unix_map *maps, size_t nmaps)
{
    const struct vsock_unix_options options = {
        .path = path, .listen = listen, .maps = maps, .nmaps = nmaps, .loop = thread.loop};
    struct err err;

    ck_assert_int_eq(vsock_unix_new(&options, &un, &err), 0);
    loop_call(thread.loop, set_guest, &guest.guest);
}

static struct sockaddr_un address_of(const char *where)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    ck_assert_uint_lt(strlen(where), sizeof(addr.sun_path));
    memcpy(addr.sun_path, where, strlen(where) + 1);
    return addr;
}

static void connect_to_path(int fd)
{
    struct sockaddr_un addr = address_of(path);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
}

static int connect_client(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    connect_to_path(fd);
    return fd;
}

static int listen_at(const char *where)
{
    struct sockaddr_un addr = address_of(where);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(listen(fd, 0), 0);
    return fd;
}

static void say(int fd, const char *text, size_t len)
{
    ck_assert_int_eq(send(fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Closed; with bytes that were not read (a line that is none) the socket fails. */
static void expect_closed(int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    char c;

    ck_assert_int_eq(poll(&pfd, 1, TIMEOUT_MS), 1);
    ck_assert(recv(fd, &c, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET);
}

static void wait_for_guest(unsigned n)
{
    for (unsigned i = 0; i < TIMEOUT_MS; i++) {
        settle(thread.loop);
        if (guest_count() == n)
            return;
        (void)poll(NULL, 0, 1);
    }
    ck_abort_msg("%u connections, not %u", guest_count(), n);
}

/* ---- to the guest ---------------------------------------------------------------------------- */

START_TEST(client_says_which_port)
{
    char buf[16] = "";
    int fd;

    open_with(true, NULL, 0);
    fd = connect_client();
    say(fd, "CONNECT 52\nand more", 19);
    wait_for_guest(1);
    ck_assert_uint_eq(guest.port, 52);
    ck_assert_int_eq(recv(guest.fd, buf, sizeof(buf), 0), 8); /* what follows is for the guest */
    ck_assert_str_eq(buf, "and more");
    say(guest.fd, "OK 1\n", 5);
    ck_assert_int_eq(recv(fd, buf, sizeof(buf), 0), 5);
    close(fd);
}
END_TEST

START_TEST(line_in_pieces)
{
    const char *line = "connect 4294967294\n";
    int fd;

    open_with(true, NULL, 0);
    fd = connect_client();
    for (size_t i = 0; i < strlen(line); i++) {
        settle(thread.loop);
        ck_assert_uint_eq(guest_count(), 0);
        say(fd, line + i, 1);
    }
    wait_for_guest(1);
    ck_assert_uint_eq(guest.port, UINT32_MAX - 1);
    close(fd);
}
END_TEST

START_TEST(good_and_bad_lines)
{
    static const struct {
        const char *line;
        size_t len;
        bool good;
    } cases[] = {
#define LINE(text, good) {text, sizeof(text) - 1, good}
        LINE("CONNECT 1\n", true),
        LINE("CONNECT 0\n", true),
        LINE("Connect\t1\r\n", true),
        LINE("  CONNECT  1  \n", true),
        LINE("CONNECT 4294967295\n", false), /* any port */
        LINE("CONNECT 4294967296\n", false),
        LINE("CONNECT -1\n", false),
        LINE("CONNECT 1x\n", false),
        LINE("CONNECT 1 2\n", false),
        LINE("CONNECT\n", false),
        LINE("CONNECT1\n", false),
        LINE("\n", false),
        LINE("CONNECT 1\0\n", false),
        LINE("GET / HTTP/1.1\r\n", false),
        LINE("CONNECT 1                                                       \n", false),
        LINE("0123456789012345678901234567890123456789012345678901234567890123", false),
    };
    unsigned n = 0;

    open_with(true, NULL, 0);
    guest.result = -ENOBUFS; /* closed in any case */
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int fd = connect_client();

        say(fd, cases[i].line, cases[i].len);
        n += cases[i].good;
        expect_closed(fd);
        settle(thread.loop);
        ck_assert_msg(guest_count() == n, "line %zu", i);
        close(fd);
    }
}
END_TEST

START_TEST(without_a_guest_clients_are_sent_away)
{
    int fd;

    open_with(true, NULL, 0);
    loop_call(thread.loop, set_guest, NULL);
    fd = connect_client();
    say(fd, "CONNECT 52\n", 11);
    expect_closed(fd);
    close(fd);
    loop_call(thread.loop, set_guest, &guest.guest);
    fd = connect_client();
    say(fd, "CONNECT 52\n", 11);
    wait_for_guest(1);
    close(fd);
}
END_TEST

START_TEST(clients_that_leave)
{
    open_with(true, NULL, 0);
    for (unsigned i = 0; i < 3 * VSOCK_UNIX_CLIENTS_MAX; i++) {
        int fd = connect_client();

        if (i % 2)
            say(fd, "CONN", 4);
        if (i % 3 == 0)
            settle(thread.loop);
        close(fd);
    }
    settle(thread.loop);
    say(connect_client(), "CONNECT 52\n", 11);
    wait_for_guest(1);
}
END_TEST

START_TEST(silent_clients_keep_others_waiting_but_not_out)
{
    int silent[VSOCK_UNIX_CLIENTS_MAX];
    int fd;

    open_with(true, NULL, 0);
    for (unsigned i = 0; i < VSOCK_UNIX_CLIENTS_MAX; i++)
        silent[i] = connect_client();
    settle(thread.loop);
    fd = connect_client();
    say(fd, "CONNECT 52\n", 11);
    settle(thread.loop);
    ck_assert_uint_eq(guest_count(), 0);
    close(silent[10]);
    wait_for_guest(1);
    for (unsigned i = 0; i < VSOCK_UNIX_CLIENTS_MAX; i++)
        if (i != 10)
            close(silent[i]);
    close(fd);
}
END_TEST

START_TEST(hundred_clients_connect_at_once)
{
    open_with(true, NULL, 0);
    guest.result = -ENOBUFS;
    for (unsigned i = 0; i < 100; i++)
        say(connect_client(), "CONNECT 52\n", 11);
    wait_for_guest(100);
}
END_TEST

START_TEST(want_of_descriptors_passes)
{
    struct rlimit limit;
    struct rlimit low;
    int fd;

    open_with(true, NULL, 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    low.rlim_cur = 3;
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    connect_to_path(fd);
    say(fd, "CONNECT 52\n", 11);
    settle(thread.loop);
    ck_assert_uint_eq(guest_count(), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    wait_for_guest(1);
    close(fd);
}
END_TEST

/* ---- from the guest -------------------------------------------------------------------------- */

struct reach {
    uint32_t port;
    int fd;
};

static void connect_on_loop(void *opaque)
{
    struct reach *reach = opaque;
    struct vsock_host *host = vsock_unix_host(un);

    reach->fd = host->connect(host, reach->port);
}

static int reach(uint32_t port)
{
    struct reach call = {.port = port};

    loop_call(thread.loop, connect_on_loop, &call);
    return call.fd;
}

static void expect_reached(uint32_t port, int listener)
{
    int fd = reach(port);
    int other;

    ck_assert_int_ge(fd, 0);
    other = accept(listener, NULL, NULL);
    ck_assert_int_ge(other, 0);
    close(other);
    close(fd);
}

START_TEST(guest_reaches_sockets_by_their_ports)
{
    int listener = listen_at(scratch_path("v.sock_52"));
    int highest = listen_at(scratch_path("v.sock_4294967295"));

    open_with(true, NULL, 0);
    expect_reached(52, listener);
    expect_reached(UINT32_MAX, highest);
    ck_assert_int_eq(reach(53), -ENOENT);
    close(listener);
    ck_assert_int_eq(reach(52), -ECONNREFUSED);
    close(highest);
}
END_TEST

START_TEST(map_comes_before_the_rule)
{
    char mapped_path[sizeof(path)];
    int plain = listen_at(scratch_path("v.sock_52"));
    int mapped;

    (void)snprintf(mapped_path, sizeof(mapped_path), "%s", scratch_path("agent"));
    mapped = listen_at(mapped_path);
    {
        const struct vsock_unix_map maps[] = {{53, mapped_path}, {54, "/nowhere/at/all"}};

        open_with(true, maps, 2);
        expect_reached(53, mapped);
        expect_reached(52, plain);
        ck_assert_int_eq(reach(54), -ENOENT);
        vsock_unix_free(un);

        /* Without `listen` there is nothing but the map. */
        open_with(false, maps, 2);
        expect_reached(53, mapped);
        ck_assert_int_eq(reach(52), -ECONNREFUSED);
    }
    close(mapped);
    close(plain);
}
END_TEST

START_TEST(full_queue_is_told_from_nobody)
{
    int listener = listen_at(scratch_path("v.sock_52"));
    int fds[4];
    unsigned n = 0;

    open_with(true, NULL, 0);
    while (n < 4 && (fds[n] = reach(52)) >= 0)
        n++;
    ck_assert_uint_lt(n, 4);
    ck_assert_int_eq(fds[n], -EAGAIN);
    while (n > 0)
        close(fds[--n]);
    close(listener);
}
END_TEST

START_TEST(name_that_becomes_too_long)
{
    memset(path + strlen(path), 'x', sizeof(path) - 3 - strlen(path));
    open_with(true, NULL, 0);
    ck_assert_int_eq(reach(5), -ENOENT);
    ck_assert_int_eq(reach(52), -ENAMETOOLONG);
}
END_TEST

/* ---- the socket itself ----------------------------------------------------------------------- */

START_TEST(socket_is_the_owners_and_is_removed)
{
    struct stat st;

    umask(0);
    open_with(true, NULL, 0);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    vsock_unix_free(un);
    un = NULL;
    ck_assert_int_eq(stat(path, &st), -1);
}
END_TEST

START_TEST(socket_of_somebody_else_is_left_alone)
{
    const struct vsock_unix_options options = {.path = path, .listen = true, .loop = thread.loop};
    struct vsock_unix *other;
    struct err err;

    open_with(true, NULL, 0);
    ck_assert_int_eq(vsock_unix_new(&options, &other, &err), -EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(err.msg, "vsock: "));
    ck_assert_int_eq(access(path, F_OK), 0);
    vsock_unix_free(un);
    un = NULL;

    close(listen_at(path)); /* left behind by nobody that is there */
    open_with(true, NULL, 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "to the guest", set_up, tear_down, client_says_which_port, line_in_pieces,
                   good_and_bad_lines, without_a_guest_clients_are_sent_away, clients_that_leave,
                   silent_clients_keep_others_waiting_but_not_out, hundred_clients_connect_at_once,
                   want_of_descriptors_passes);
    unit_case_with(suite, "from the guest", set_up, tear_down, guest_reaches_sockets_by_their_ports,
                   map_comes_before_the_rule, full_queue_is_told_from_nobody,
                   name_that_becomes_too_long);
    unit_case_with(suite, "socket", set_up, tear_down, socket_is_the_owners_and_is_removed,
                   socket_of_somebody_else_is_left_alone);
}

UNIT_USES_THREADS;
UNIT_MAIN("vsock_unix", add_tests)
