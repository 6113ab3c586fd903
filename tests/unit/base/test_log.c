/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/lib/unit.h"

/* stderr goes into a pipe; each test runs in a process of its own. */
static int read_end;

static void capture_stderr(void)
{
    int fds[2];

    ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
    ck_assert_int_eq(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20), 1 << 20);
    ck_assert_int_ge(dup2(fds[1], STDERR_FILENO), 0);
    close(fds[1]);
    read_end = fds[0];
}

/* Everything logged since the last call. */
static const char *captured(void)
{
    static char text[1 << 20];
    ssize_t n = read(read_end, text, sizeof(text) - 1);

    text[n < 0 ? 0 : n] = '\0';
    return text;
}

/* Threads called "log": sanitizers may have some of their own. */
static unsigned count_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;
    unsigned n = 0;

    ck_assert_ptr_nonnull(dir);
    while ((entry = readdir(dir))) {
        char path[300], name[16] = "";
        FILE *file;

        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        file = fopen(path, "r");
        if (!file)
            continue; /* not a thread, or not any more */
        n += fgets(name, sizeof(name), file) && strcmp(name, "log\n") == 0;
        fclose(file);
    }
    closedir(dir);
    return n;
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    for (text = strstr(text, what); text; text = strstr(text + 1, what))
        n++;
    return n;
}

START_TEST(line_has_program_level_and_newline)
{
    capture_stderr();
    log_error("disk %s: %d", "vda", 5);
    ck_assert_str_eq(captured(), "minivmm: error: disk vda: 5\n");
    log_warn("careful");
    ck_assert_str_eq(captured(), "minivmm: warn: careful\n");
}
END_TEST

START_TEST(levels_above_the_limit_are_silent)
{
    capture_stderr();
    log_info("not by default");
    ck_assert_str_eq(captured(), "");

    log_set_level(LOG_DEBUG);
    ck_assert(log_enabled(LOG_DEBUG));
    log_debug("now");
    ck_assert_str_eq(captured(), "minivmm: debug: now\n");

    log_set_level(LOG_ERROR);
    ck_assert(!log_enabled(LOG_WARN));
    log_warn("not any more");
    log_guest(LOG_WARN, "nor this");
    ck_assert_str_eq(captured(), "");
}
END_TEST

START_TEST(raw_terminal_gets_carriage_returns)
{
    capture_stderr();
    log_set_raw_terminal(true);
    log_error("one");
    ck_assert_str_eq(captured(), "minivmm: error: one\r\n");
    log_set_raw_terminal(false);
    log_error("two");
    ck_assert_str_eq(captured(), "minivmm: error: two\n");
}
END_TEST

START_TEST(control_characters_and_long_lines_are_tamed)
{
    char text[8192];

    capture_stderr();
    log_error("a\nb\033c");
    ck_assert_str_eq(captured(), "minivmm: error: a?b?c\n");

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_error("%s", text);
    ck_assert_uint_lt(strlen(captured()), 4096);
}
END_TEST

START_TEST(errno_survives)
{
    capture_stderr();
    close(STDERR_FILENO);
    errno = ENOSPC;
    log_error("into the void");
    ck_assert_int_eq(errno, ENOSPC);
}
END_TEST

START_TEST(guest_lines_are_limited_per_call_site)
{
    capture_stderr();
    for (int i = 0; i < 1000; i++)
        log_guest(LOG_WARN, "nonsense %d", i);
    log_guest(LOG_WARN, "another site");
    const char *text = captured();

    ck_assert_uint_eq(count(text, "nonsense"), LOG_LIMIT_BURST);
    ck_assert_uint_eq(count(text, "another site"), 1);
}
END_TEST

START_TEST(line_after_the_window_says_how_many_were_dropped)
{
    struct log_limit limit = {0};

    capture_stderr();
    for (int i = 0; i < 12; i++)
        log_limited_at(&limit, LOG_WARN, "early");
    (void)captured();
    limit.window_start_ns -= LOG_LIMIT_NS; /* as if that long had passed */
    log_limited_at(&limit, LOG_WARN, "late");
    ck_assert_str_eq(captured(), "minivmm: warn: late (7 such lines before not shown)\n");
    log_limited_at(&limit, LOG_WARN, "later");
    ck_assert_str_eq(captured(), "minivmm: warn: later\n");
}
END_TEST

#define THREADS 8
#define LINES 200ul /* of each thread */

static struct log_limit shared_limit;

static void *log_a_lot(void *opaque)
{
    for (size_t i = 0; i < LINES; i++) {
        log_limited_at(&shared_limit, LOG_WARN, "limited");
        log_error("free");
    }
    return NULL;
}

START_TEST(threads_share_a_limit_and_never_mix_lines)
{
    pthread_t threads[THREADS];

    capture_stderr();
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, log_a_lot, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    const char *text = captured();

    ck_assert_uint_eq(count(text, "minivmm: warn: limited\n"), LOG_LIMIT_BURST);
    ck_assert_uint_eq(count(text, "minivmm: error: free\n"), THREADS * LINES);
    ck_assert_uint_eq(count(text, "\n"), THREADS * LINES + LOG_LIMIT_BURST);
    ck_assert_uint_eq(shared_limit.dropped, THREADS * LINES - LOG_LIMIT_BURST);
}
END_TEST

/* ---- stderr that takes nothing --------------------------------------------------------------- */

#define SMALL_PIPE 4096u /* bytes: the least there is */

/* As capture_stderr, but whoever writes has to wait when the pipe is full. */
static void capture_stderr_in_a_small_pipe(void)
{
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_ge(fcntl(fds[1], F_SETPIPE_SZ, SMALL_PIPE), (int)SMALL_PIPE);
    ck_assert_int_ge(dup2(fds[1], STDERR_FILENO), 0);
    close(fds[1]);
    read_end = fds[0];
}

/* Read on until the text so far, from the first call on, is `enough`. */
static const char *read_until(bool (*enough)(const char *text))
{
    static char text[1 << 20];
    static size_t len;

    while (!enough(text)) {
        ssize_t n = read(read_end, text + len, sizeof(text) - 1 - len);

        ck_assert_int_gt(n, 0);
        len += (size_t)n;
        text[len] = '\0';
    }
    return text;
}

/* Each "line N" in `text` comes after the one before; how many are there? */
static unsigned count_in_order(const char *text)
{
    unsigned n = 0;
    int last = -1;
    int number;

    while ((text = strstr(text, "line "))) {
        text += 5;
        number = (int)strtol(text, NULL, 10);
        ck_assert_int_gt(number, last);
        last = number;
        n++;
    }
    return n;
}

/* There may be more than one report: room for it and another line comes and goes. */
static unsigned lost_in(const char *text)
{
    static const char before[] = "stderr was not read: ";
    unsigned n = 0;

    while ((text = strstr(text, before))) {
        text += sizeof(before) - 1;
        n += (unsigned)strtoul(text, NULL, 10);
    }
    return n;
}

#define MANY_LINES 10000u

static bool has_all_or_their_number(const char *text)
{
    return count(text, "\n") > 0 && text[strlen(text) - 1] == '\n' &&
           count_in_order(text) + lost_in(text) >= MANY_LINES;
}

static bool has_last_word(const char *text)
{
    return strstr(text, "last word\n") != NULL;
}

/* Were log_error to wait, this would not end. */
START_TEST(nobody_waits_for_stderr_and_lost_lines_are_counted)
{
    const char *text;

    capture_stderr_in_a_small_pipe();
    log_start_thread();
    for (unsigned i = 0; i < MANY_LINES; i++)
        log_error("line %u", i);
    ck_assert(!log_flush(1));

    text = read_until(has_all_or_their_number);
    ck_assert_uint_gt(lost_in(text), 0);
    ck_assert_uint_eq(count_in_order(text) + lost_in(text), MANY_LINES);
    ck_assert(log_flush(60000));
    log_error("last word");
    text = strstr(read_until(has_last_word), "minivmm: error: last word\n");
    ck_assert_ptr_nonnull(text);
}
END_TEST

/* What was lost is told where it would have been. */
START_TEST(loss_is_told_between_the_lines_before_and_after)
{
    char half[SMALL_PIPE];
    const char *text;

    capture_stderr_in_a_small_pipe();
    log_start_thread();
    for (unsigned i = 0; i < MANY_LINES; i++)
        log_error("line %u", i);
    for (unsigned i = 0; i < 8; i++) /* room in the buffer for some lines */
        ck_assert_int_gt(read(read_end, half, sizeof(half)), 0);
    log_error("last word");
    text = read_until(has_last_word);
    ck_assert_uint_gt(lost_in(text), 0);
    ck_assert_ptr_null(strstr(strstr(text, "last word"), "lost"));
}
END_TEST

START_TEST(flushed_lines_are_there_in_order)
{
    capture_stderr();
    log_start_thread();
    for (unsigned i = 0; i < 100; i++)
        log_error("line %u", i);
    log_say("the last word");
    ck_assert(log_flush(60000));
    const char *text = captured();

    ck_assert_uint_eq(count_in_order(text), 100);
    ck_assert_ptr_nonnull(strstr(text, "line 99\nminivmm: the last word\n"));
}
END_TEST

/* The thread is gone when it had nothing to do for a while, and comes again. */
START_TEST(idle_log_has_no_thread)
{
    capture_stderr();
    log_start_thread();
    for (int i = 0; i < 2; i++) {
        log_error("one");
        ck_assert(log_flush(60000));
        ck_assert_str_eq(captured(), "minivmm: error: one\n");
        for (unsigned tries = 0; tries < 60000 && count_threads() > 0; tries++)
            usleep(1000);
        ck_assert_uint_eq(count_threads(), 0);
    }
}
END_TEST

START_TEST(word_to_the_user_counts_at_every_level)
{
    capture_stderr();
    log_set_level(LOG_ERROR);
    log_say("power %s", "button");
    ck_assert_str_eq(captured(), "minivmm: power button\n");
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "log", line_has_program_level_and_newline, levels_above_the_limit_are_silent,
              raw_terminal_gets_carriage_returns, control_characters_and_long_lines_are_tamed,
              errno_survives, word_to_the_user_counts_at_every_level);
    unit_case(suite, "thread", nobody_waits_for_stderr_and_lost_lines_are_counted,
              loss_is_told_between_the_lines_before_and_after, flushed_lines_are_there_in_order,
              idle_log_has_no_thread);
    unit_case(suite, "limit", guest_lines_are_limited_per_call_site,
              line_after_the_window_says_how_many_were_dropped,
              threads_share_a_limit_and_never_mix_lines);
}

UNIT_USES_THREADS;
UNIT_MAIN("log", add_tests)
