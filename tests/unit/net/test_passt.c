/* SPDX-License-Identifier: Apache-2.0 */
/* With programs that play passt: found by PATH, they have the socket as descriptor 3. */
#include "net/passt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/stream.h"
#include "tests/lib/host_calls.h"
#include "tests/lib/net/card.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

/* Read the frame that asks whether it works, and nothing else. */
#define READ_PROBE "dd bs=64 count=1 <&3 >/dev/null 2>&1; "

/* The same, and what follows happens when the test lets it: see go. */
#define READ_AND_WAIT READ_PROBE "until [ -e ${0%/*}/go ]; do sleep 0.01; done; "

#define ECHO READ_PROBE "exec cat <&3 >&3"

static struct card card;
static struct net *net;
static struct err err;
static const struct passt_options options = {
    .card = "eth1", .dns = (const char *const[]){"192.0.2.1"}, .ndns = 1};

/* Let passt be a program that says who it is, and goes on like this. */
static void play(const char *script)
{
    char text[1024];
    int len =
        snprintf(text, sizeof(text), "#!/bin/sh\necho $$ >>%s\n%s\n", scratch_path("pids"), script);

    scratch_save("passt", text, (size_t)len);
    ck_assert_int_eq(chmod(scratch_path("passt"), 0755), 0);
}

static void set_up(void)
{
    char path[1024];

    scratch_set_up();
    host_calls_reset();
    memset(&err, 0, sizeof(err));
    net = NULL;
    card_init(&card);
    snprintf(path, sizeof(path), "%s:/usr/bin:/bin", scratch_path("."));
    ck_assert_int_eq(setenv("PATH", path, 1), 0);
}

static void tear_down(void)
{
    card_done(&card);
    if (net)
        net->ops->close(net);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* nothing is left */
    scratch_tear_down();
}

static void go(void)
{
    scratch_save("go", "", 0);
}

static void start(const char *script)
{
    play(script);
    ck_assert_msg(passt_open(&options, &net, &err) == 0, "%s", err.msg);
}

static void start_ready(const char *script)
{
    start(script);
    ck_assert_msg(net->ops->wait_ready(net, &err) == 0, "%s", err.msg);
    card_attach(&card, net);
    ck_assert(net->link_up);
}

/* How many have been started, and the last one. */
static unsigned count_started(pid_t *ret_last)
{
    char text[1024];
    size_t len = scratch_load("pids", text, sizeof(text) - 1);
    unsigned n = 0;

    text[len] = '\0';
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        *ret_last = atoi(line);
        n++;
    }
    return n;
}

/* ---- the start ------------------------------------------------------------------------------- */

START_TEST(frames_go_to_passt_and_come_back)
{
    const uint32_t lens[] = {60, 65535};
    unsigned dropped;

    start_ready(ECHO);
    ck_assert_uint_eq(net->mtu, PASST_MTU_MAX);
    ck_assert_uint_eq(card_send(&card, lens, 2, &dropped), 2);
    card_wait(&card, &card.nreceived, 2);
    ck_assert_uint_eq(card.nbad, 0);
}
END_TEST

/* passt computes the checksums of what it sends, so the guest need not look at them. */
START_TEST(checksums_are_valid_for_a_driver_that_wants_to_know)
{
    unsigned dropped;

    start_ready(ECHO);
    ck_assert(net->offloads & 1ull << VIRTIO_NET_F_GUEST_CSUM);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(net->ops->set_offloads(net, (uint64_t)i << VIRTIO_NET_F_GUEST_CSUM), 0);
        ck_assert_uint_eq(card_send(&card, (uint32_t[]){60}, 1, &dropped), 1);
        card_wait(&card, &card.nreceived, i + 1);
        ck_assert_uint_eq(card.last_flags, i ? VIRTIO_NET_HDR_F_DATA_VALID : 0);
    }
}
END_TEST

/* One between two others, which name the host's loopback addresses. */
START_TEST(frames_of_an_isolated_guest_to_the_host_are_dropped)
{
    static struct virtio_net_hdr_v1 header;
    static uint8_t to_ip4[60] = {[12] = 8, 0, [30] = 127, 0, 0, 1};
    static uint8_t to_ip6[60] = {[12] = 0x86, 0xdd, [53] = 1};
    static uint8_t other[60];
    const struct iovec iov[][2] = {{{&header, NET_HDR_LEN}, {to_ip4, 60}},
                                   {{&header, NET_HDR_LEN}, {other, 60}},
                                   {{&header, NET_HDR_LEN}, {to_ip6, 60}}};

    card_fill(other, 60);
    play(ECHO);
    for (unsigned isolate = 0; isolate < 2; isolate++) {
        struct passt_options asked = options;
        struct net_frame frames[3];

        for (unsigned i = 0; i < 3; i++)
            frames[i] = (struct net_frame){.iov = iov[i], .niov = 2, .len = 60};
        asked.isolate = isolate;
        ck_assert_int_eq(passt_open(&asked, &net, &err), 0);
        ck_assert_int_eq(net->ops->wait_ready(net, &err), 0);
        card_attach(&card, net);
        card.nreceived = card.nbad = 0;
        ck_assert_uint_eq(net->ops->send(net, frames, 3), 3);
        ck_assert_int_eq(frames[0].dropped, isolate);
        ck_assert(!frames[1].dropped);
        ck_assert_int_eq(frames[2].dropped, isolate);
        card_wait(&card, &card.nreceived, isolate ? 1 : 3);
        card_turn(&card, 30);
        ck_assert_uint_eq(card.nreceived, isolate ? 1 : 3);
        ck_assert_uint_eq(card.nbad, isolate ? 0 : 2);
        card_detach(&card);
        net->ops->close(net);
        net = NULL;
    }
}
END_TEST

/* The kernel wakes who waits for that while it still counts a byte. */
START_TEST(a_probe_is_read_before_its_last_byte_is_counted)
{
    host_calls[HOST_OUTQ].fail = UINT_MAX;
    start_ready(READ_PROBE "exec sleep 1000");
    ck_assert_uint_gt(host_calls[HOST_OUTQ].count, 0);
}
END_TEST

START_TEST(missing_passt_is_told_with_what_helps)
{
    ck_assert_int_eq(setenv("PATH", scratch_path("."), 1), 0);
    ck_assert_int_eq(passt_open(&options, &net, &err), -ENOENT);
    ck_assert_msg(strstr(err.msg, "install the package"), "%s", err.msg);
}
END_TEST

START_TEST(an_end_at_the_start_is_told_with_cause_and_what_helps)
{
    static const struct {
        const char *script;
        const char *cause;
        const char *help;
    } cases[] = {
        {"echo 'No external routable interface for IPv4'; echo 'Failed to send 36 bytes to syslog';"
         "echo 'External interface not usable'; echo 'Failed to send 30 bytes to syslog'; exit 1",
         "exit status 1: External interface not usable: ", "default route"},
        {"echo \"Failed to bind any port for '-t 127.0.0.1/22:22', exiting\"; exit 1",
         "Failed to bind any port", "in use"},
        {"echo \"Couldn't listen on requested ports\"; exit 1", "listen on requested", "in use"},
        {"echo \"Couldn't create user namespace: Operation not permitted\"; exit 1",
         "create user namespace", "sysctl"},
        {"echo \"passt: unrecognized option '--hostname'\"; echo 'Usage: passt'; echo '  -f'; exit "
         "1",
         "'--hostname'", "too old"},
        {"exec 3>&-; sleep 0.2; echo 'something else'; exit 7", "exit status 7: something else",
         ""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        start(cases[i].script);
        ck_assert_int_eq(net->ops->wait_ready(net, &err), -EIO);
        ck_assert_msg(strstr(err.msg, cases[i].cause) && strstr(err.msg, cases[i].help), "%s",
                      err.msg);
        net->ops->close(net);
    }
    net = NULL;
}
END_TEST

/* ---- later ----------------------------------------------------------------------------------- */

START_TEST(one_that_ends_later_is_started_again)
{
    pid_t last;
    unsigned dropped;

    start_ready(READ_AND_WAIT "echo bye; exit 3");
    play("exec cat <&3 >&3");
    go();
    card_wait_link(&card, false);
    card_wait_link(&card, true);
    ck_assert_uint_eq(card_send(&card, (uint32_t[]){60}, 1, &dropped), 1);
    card_wait(&card, &card.nreceived, 1);
    ck_assert_uint_eq(card.nbad, 0);
    ck_assert_uint_eq(count_started(&last), 2);
}
END_TEST

/* What it says to us goes to a file from now on. */
static void catch_log(void)
{
    int fd = open(scratch_path("log"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    ck_assert_int_ge(dup2(fd, STDERR_FILENO), 0);
    close(fd);
}

/* Two cards can have a passt each. */
START_TEST(the_log_tells_whose_it_is)
{
    char log[1024];

    start_ready(READ_AND_WAIT "exit 3");
    play("exec cat <&3 >&3");
    catch_log();
    go();
    card_wait_link(&card, false);
    card_wait_link(&card, true);
    log[scratch_load("log", log, sizeof(log) - 1)] = '\0';
    ck_assert_msg(strstr(log, "net eth1: passt has ended (exit status 3): "), "%s", log);
    ck_assert_msg(strstr(log, "net eth1: passt was started again"), "%s", log);
}
END_TEST

/* It goes on, but is of no use any more. */
static void check_replaced(const char *script, const char *why)
{
    pid_t first, last;
    char log[1024];

    start_ready(script);
    ck_assert_uint_eq(count_started(&first), 1);
    play("exec cat <&3 >&3");
    catch_log();
    go();
    card_wait_link(&card, false);
    card_wait_link(&card, true);
    ck_assert_int_eq(kill(first, 0), -1);
    card_turn(&card, 50);
    ck_assert_uint_eq(count_started(&last), 2);
    log[scratch_load("log", log, sizeof(log) - 1)] = '\0';
    ck_assert_msg(strstr(log, why), "%s", log);
}

START_TEST(one_that_hangs_up_is_replaced)
{
    check_replaced(READ_AND_WAIT "exec 3>&-; exec sleep 1000", "passt has hung up");
}
END_TEST

START_TEST(one_that_sends_nonsense_is_replaced)
{
    check_replaced(READ_AND_WAIT "printf '\\000\\001\\000\\000' >&3; exec sleep 1000",
                   "passt: a frame of an impossible length");
}
END_TEST

START_TEST(one_that_cannot_be_started_again_is_tried_again)
{
    unsigned dropped;

    start_ready(READ_AND_WAIT "exit 3");
    go();
    ck_assert_int_eq(unlink(scratch_path("passt")), 0);
    ck_assert_int_eq(setenv("PATH", scratch_path("."), 1), 0);
    card_wait_link(&card, false);
    card_turn(&card, 150);
    ck_assert(!net->link_up);
    play("exec /bin/cat <&3 >&3");
    card_wait_link(&card, true);
    ck_assert_uint_eq(card_send(&card, (uint32_t[]){60}, 1, &dropped), 1);
    card_wait(&card, &card.nreceived, 1);
}
END_TEST

START_TEST(one_that_ended_between_guests_is_noticed_by_the_next)
{
    siginfo_t info;
    pid_t first;

    start_ready(READ_AND_WAIT "exit 3");
    ck_assert_uint_eq(count_started(&first), 1);
    card_detach(&card);
    play("exec cat <&3 >&3");
    go();
    ck_assert_int_eq(waitid(P_PID, (id_t)first, &info, WEXITED | WNOWAIT), 0);
    card_attach(&card, net);
    card_wait_link(&card, false);
    card_wait_link(&card, true);
}
END_TEST

START_TEST(the_next_guest_does_not_get_one_that_has_ended)
{
    pid_t last;

    start_ready(READ_AND_WAIT "exit 3");
    play("exec cat <&3 >&3");
    go();
    card_wait_link(&card, false);
    card_detach(&card);
    card_attach(&card, net);
    card_wait_link(&card, true);
    card_turn(&card, 50);
    ck_assert(net->link_up);
    ck_assert_uint_eq(count_started(&last), 2);
}
END_TEST

static void never(struct loop_fd *watch, uint32_t events)
{
    ck_abort_msg("woken");
}

START_TEST(a_loop_that_cannot_watch_it_is_an_error)
{
    struct loop_fd other = {.ready = never};

    start(ECHO);
    ck_assert_msg(net->ops->wait_ready(net, &err) == 0, "%s", err.msg);
    other.fd = container_of(net, struct stream, net)->wire.fd;
    ck_assert_int_eq(loop_add_fd(card.loop, &other), 0);
    ck_assert_int_eq(net->ops->attach(net, card.loop, &card.user), -EEXIST);
    loop_remove_fd(&other);
    card_attach(&card, net);
    ck_assert(net->link_up);
}
END_TEST

/* ---- the end --------------------------------------------------------------------------------- */

START_TEST(it_ends_with_the_card)
{
    uint64_t before = monotonic_ns();
    pid_t pid;

    start_ready(ECHO);
    ck_assert_uint_eq(count_started(&pid), 1);
    card_detach(&card);
    net->ops->close(net);
    net = NULL;
    ck_assert_int_eq(kill(pid, 0), -1);
    ck_assert_uint_lt(monotonic_ns() - before, 10 * NS_PER_S);
}
END_TEST

START_TEST(one_that_does_not_end_is_killed)
{
    pid_t pid;

    start_ready("trap '' TERM HUP PIPE; " READ_PROBE "while :; do sleep 1000; done");
    ck_assert_uint_eq(count_started(&pid), 1);
    card_detach(&card);
    net->ops->close(net);
    net = NULL;
    ck_assert_int_eq(kill(pid, 0), -1);
}
END_TEST

/* As when minivmm is killed: nobody closes anything but the kernel. */
static void check_end_of_killed(const char *script)
{
    pid_t vmm = fork();
    pid_t pid = 0;

    if (vmm == 0) {
        start_ready(script);
        kill(getpid(), SIGKILL);
    }
    ck_assert_int_eq(waitpid(vmm, NULL, 0), vmm);
    ck_assert_uint_eq(count_started(&pid), 1);
    for (unsigned i = 0; i < 2000 && kill(pid, 0) == 0; i++) {
        char path[64];
        char state = 0;
        FILE *file;

        /* It has ended too if nobody has waited for it yet. */
        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        file = fopen(path, "re");
        if (file) {
            (void)!fscanf(file, "%*d (%*[^)]) %c", &state);
            fclose(file);
        }
        if (state == 'Z')
            return;
        usleep(10000);
    }
    ck_assert_int_eq(kill(pid, 0), -1);
}

START_TEST(it_ends_with_a_process_that_is_killed)
{
    check_end_of_killed(ECHO);
}
END_TEST

START_TEST(one_that_hangs_ends_with_a_process_that_is_killed)
{
    check_end_of_killed(READ_PROBE "exec sleep 30");
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "start", set_up, tear_down, frames_go_to_passt_and_come_back,
                   checksums_are_valid_for_a_driver_that_wants_to_know,
                   frames_of_an_isolated_guest_to_the_host_are_dropped,
                   a_probe_is_read_before_its_last_byte_is_counted,
                   missing_passt_is_told_with_what_helps,
                   an_end_at_the_start_is_told_with_cause_and_what_helps);
    unit_case_with(
        suite, "later", set_up, tear_down, one_that_ends_later_is_started_again,
        the_log_tells_whose_it_is, one_that_hangs_up_is_replaced,
        one_that_sends_nonsense_is_replaced, one_that_cannot_be_started_again_is_tried_again,
        one_that_ended_between_guests_is_noticed_by_the_next,
        the_next_guest_does_not_get_one_that_has_ended, a_loop_that_cannot_watch_it_is_an_error);
    unit_case_with(suite, "end", set_up, tear_down, it_ends_with_the_card,
                   one_that_does_not_end_is_killed, it_ends_with_a_process_that_is_killed,
                   one_that_hangs_ends_with_a_process_that_is_killed);
}

UNIT_MAIN("passt", add_tests)
