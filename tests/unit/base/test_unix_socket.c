/* SPDX-License-Identifier: Apache-2.0 */
#include "base/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

static struct unix_socket ours;
static struct err err;

/* What happens meanwhile: called in the middle of listen, and of a later connect. */
static void (*before_listen)(void);
static void (*before_connect)(void);
static unsigned connects_before;

static void call_once(void (**hook)(void))
{
    void (*fn)(void) = *hook;

    *hook = NULL;
    if (fn)
        fn();
}

/* In place of the C library's. */
int listen(int fd, int len)
{
    call_once(&before_listen);
    return (int)syscall(SYS_listen, fd, len);
}

int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    if (!before_connect || connects_before-- == 0)
        call_once(&before_connect);
    return (int)syscall(SYS_connect, fd, addr, len);
}

static void set_up(void)
{
    scratch_set_up();
    memset(&err, 0, sizeof(err));
    ours.fd = -1;
    umask(0);
}

static void tear_down(void)
{
    unix_socket_close(&ours);
    scratch_tear_down();
}

static const char *path(void)
{
    return scratch_path("socket");
}

static struct sockaddr_un address(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path());
    return addr;
}

static int bind_one(int type)
{
    const struct sockaddr_un addr = address();
    int fd = socket(AF_UNIX, type, 0);

    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

/* As a process that was killed leaves it behind. */
static void leave_stale(void)
{
    close(bind_one(SOCK_STREAM));
}

static int try_connect(void)
{
    const struct sockaddr_un addr = address();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int r = connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;

    close(fd);
    return r;
}

static bool is_ours(void)
{
    struct stat st;

    return lstat(path(), &st) == 0 && st.st_ino == ours.made.st_ino;
}

static void assert_alone_in_folder(void)
{
    ck_assert_int_eq(scratch_shell("test \"$(ls -A)\" = socket"), 0);
}

static void assert_no_name_yet(void)
{
    ck_assert_int_eq(access(path(), F_OK), -1);
}

START_TEST(it_has_no_name_before_it_listens)
{
    before_listen = assert_no_name_yet;
    ck_assert_int_eq(unix_socket_listen(path(), &ours, &err), 0);
    ck_assert_ptr_null(before_listen);
    ck_assert_int_eq(try_connect(), 0);
    assert_alone_in_folder();
}
END_TEST

START_TEST(it_is_its_owners_alone)
{
    struct stat st;

    ck_assert_int_eq(unix_socket_listen(path(), &ours, &err), 0);
    ck_assert_int_eq(lstat(path(), &st), 0);
    ck_assert(S_ISSOCK(st.st_mode));
    ck_assert_int_eq(st.st_mode & 07777, 0600);
}
END_TEST

START_TEST(one_left_behind_is_replaced)
{
    leave_stale();
    ck_assert_int_eq(unix_socket_listen(path(), &ours, &err), 0);
    ck_assert_int_eq(try_connect(), 0);
    assert_alone_in_folder();
    unix_socket_close(&ours);
    ck_assert_int_eq(access(path(), F_OK), -1);
}
END_TEST

/* Looking at it does not make us a client: that one would get what is kept for the next. */
START_TEST(nobody_is_connected_to_one_that_is_kept)
{
    struct unix_socket other;

    ck_assert_int_eq(unix_socket_listen(path(), &ours, &err), 0);
    ck_assert_int_eq(unix_socket_listen(path(), &other, &err), -EADDRINUSE);
    ck_assert_int_eq(accept(ours.fd, NULL, NULL), -1);
    ck_assert_int_eq(errno, EAGAIN);
}
END_TEST

/* Other programs bind first and listen a moment later, and some sockets never listen. */
START_TEST(one_that_somebody_has_open_is_kept)
{
    const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};

    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        int fd = bind_one(types[i]);

        ck_assert_int_eq(unix_socket_listen(path(), &ours, &err), -EADDRINUSE);
        close(fd);
        ck_assert_int_eq(unix_socket_listen(path(), &ours, &err), 0);
        unix_socket_close(&ours);
    }
}
END_TEST

START_TEST(one_that_listens_is_kept)
{
    struct unix_socket other;

    ck_assert_int_eq(unix_socket_listen(path(), &ours, &err), 0);
    ck_assert_int_eq(unix_socket_listen(path(), &other, &err), -EADDRINUSE);
    ck_assert_int_eq(other.fd, -1);
    ck_assert_msg(strstr(err.msg, path()), "%s", err.msg);
    ck_assert(is_ours());
    assert_alone_in_folder();
}
END_TEST

/* Another VM finds the same socket left behind while we are looking at it. */
static void start_another(void)
{
    struct unix_socket other;

    ck_assert_int_lt(unix_socket_listen(path(), &other, &err), 0);
    ck_assert_msg(strstr(err.msg, "cannot be locked"), "%s", err.msg);
}

/* The first look is only to tell early; the second one is what counts. */
START_TEST(of_two_that_replace_the_same_one_gets_it)
{
    leave_stale();
    connects_before = 1;
    before_connect = start_another;
    ck_assert_int_eq(unix_socket_listen(path(), &ours, &err), 0);
    ck_assert_ptr_null(before_connect);
    ck_assert(is_ours());
    ck_assert_int_eq(try_connect(), 0);
    assert_alone_in_folder();
}
END_TEST

#define RACERS 4
#define ROUNDS 20

/* Try when `go` is closed. The loser ends at once, the winner when `done` is closed. */
static int race(int go, int done)
{
    char byte;

    if (read(go, &byte, 1) != 0 || unix_socket_listen(path(), &ours, &err) < 0)
        return 1;
    if (read(done, &byte, 1) != 0)
        return 2;
    return is_ours() ? 0 : 3;
}

static int next_result(void)
{
    int status;

    ck_assert_int_gt(wait(&status), 0);
    return WEXITSTATUS(status);
}

START_TEST(of_many_that_start_at_once_one_gets_it)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        int go[2], done[2];

        if (round % 2)
            leave_stale();
        ck_assert_int_eq(pipe(go), 0);
        ck_assert_int_eq(pipe(done), 0);
        for (unsigned i = 0; i < RACERS; i++) {
            if (fork() == 0) {
                close(go[1]);
                close(done[1]);
                _exit(race(go[0], done[0]));
            }
        }
        close(go[0]);
        close(go[1]);
        for (unsigned i = 0; i + 1 < RACERS; i++)
            ck_assert_int_eq(next_result(), 1);
        close(done[0]);
        close(done[1]);
        ck_assert_int_eq(next_result(), 0);
        ck_assert_int_eq(unlink(path()), 0); /* the winner did not close it */
    }
}
END_TEST

START_TEST(what_has_taken_its_place_is_kept)
{
    ck_assert_int_eq(unix_socket_listen(path(), &ours, &err), 0);
    ck_assert_int_eq(unlink(path()), 0);
    leave_stale();
    unix_socket_close(&ours);
    ck_assert_int_eq(access(path(), F_OK), 0);
}
END_TEST

START_TEST(files_and_links_are_kept)
{
    scratch_save("socket", "text", 4);
    ck_assert_int_eq(unix_socket_listen(path(), &ours, &err), -EADDRINUSE);
    scratch_ok("mv socket file && ln -s stale socket");
    ck_assert_int_eq(unix_socket_listen(path(), &ours, &err), -EADDRINUSE);
    scratch_ok("rm socket");
    leave_stale();
    scratch_ok("mv socket stale && ln -s stale socket");
    ck_assert_int_eq(unix_socket_listen(path(), &ours, &err), -EADDRINUSE);
    scratch_ok("test -L socket && test -S stale && test $(ls -A | wc -l) = 3");
}
END_TEST

/* The temporary name would be longer than the address allows. */
START_TEST(the_longest_path_is_taken)
{
    static char name[108];
    size_t dir_len = strlen(path()) - strlen("socket");

    snprintf(name, sizeof(name), "%.*s", (int)dir_len, path());
    memset(name + dir_len, 'x', 107 - dir_len);
    ck_assert_int_eq(unix_socket_listen(name, &ours, &err), 0);
    unix_socket_close(&ours);
    ck_assert_int_eq(scratch_shell("test -z \"$(ls -A)\""), 0);
}
END_TEST

START_TEST(a_folder_that_is_missing_is_named)
{
    ck_assert_int_eq(unix_socket_listen(scratch_path("missing/socket"), &ours, &err), -ENOENT);
    ck_assert_msg(strstr(err.msg, "missing/socket"), "%s", err.msg);
    ck_assert_int_eq(unix_socket_listen("/", &ours, &err), -EISDIR);
}
END_TEST

/* As for files: tests/unit/base/test_open_files.c has all ways to get there. */
START_TEST(a_link_that_anybody_may_have_made_leads_to_no_folder)
{
    scratch_ok("mkdir mine shared && chmod 777 shared && ln -s ../mine shared/link");
    ck_assert_int_eq(unix_socket_listen(scratch_path("shared/link/socket"), &ours, &err), -ELOOP);
    ck_assert_msg(strstr(err.msg, "is not followed"), "%s", err.msg);
    scratch_ok("test -z \"$(ls -A mine)\" && ln -s mine link");
    ck_assert_int_eq(unix_socket_listen(scratch_path("link/socket"), &ours, &err), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "new", set_up, tear_down, it_has_no_name_before_it_listens,
                   it_is_its_owners_alone, the_longest_path_is_taken,
                   a_folder_that_is_missing_is_named,
                   a_link_that_anybody_may_have_made_leads_to_no_folder);
    unit_case_with(suite, "in the way", set_up, tear_down, one_left_behind_is_replaced,
                   one_that_listens_is_kept, nobody_is_connected_to_one_that_is_kept,
                   one_that_somebody_has_open_is_kept, of_two_that_replace_the_same_one_gets_it,
                   of_many_that_start_at_once_one_gets_it, what_has_taken_its_place_is_kept,
                   files_and_links_are_kept);
}

UNIT_MAIN("unix socket", add_tests)
