/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/idle_memory.h"
#include "base/thread.h"
#include "tests/lib/host_calls.h"
#include "tests/lib/unit.h"

#define PAGE_SIZE 4096u
#define DEPTH (64u << 10)

/* In the program's own data, which idle_memory_release has to leave alone. */
static int counter = 41;
static const char *const words[] = {"every", "word", "is", "still", "there"};

static bool is_resident(uintptr_t addr)
{
    unsigned char in_core;

    ck_assert_int_eq(mincore((void *)(addr & ~(uintptr_t)(PAGE_SIZE - 1)), PAGE_SIZE, &in_core), 0);
    return in_core & 1;
}

/* Sets an address in the middle of a frame that is gone then. */
__attribute__((noinline)) static void go_deep(uintptr_t *ret_addr)
{
    volatile char frame[DEPTH];

    for (size_t i = 0; i < sizeof(frame); i++)
        frame[i] = 1;
    *ret_addr = (uintptr_t)frame + DEPTH / 2;
}

static void *use_and_release(void *arg)
{
    char kept[300];
    uintptr_t deep;

    go_deep(&deep);
    memset(kept, 'k', sizeof(kept));
    ck_assert(is_resident(deep));
    idle_memory_release();
    ck_assert(!is_resident(deep));
    for (size_t i = 0; i < sizeof(kept); i++)
        ck_assert_int_eq(kept[i], 'k');
    return arg;
}

START_TEST(deep_frames_go_and_the_callers_stay)
{
    pthread_t thread;

    ck_assert_ptr_null(use_and_release(NULL));
    ck_assert_int_eq(thread_start(&thread, "deep", use_and_release, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

START_TEST(program_works_on)
{
    size_t len = 0;

    counter++;
    idle_memory_release();
    ck_assert_int_eq(counter, 42);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        len += strlen(words[i]);
    ck_assert_uint_eq(len, strlen("everywordisstillthere"));
}
END_TEST

/* What a debugger or a probe wrote into the program's code, here its constants. */
static const char constants[2 * PAGE_SIZE] = {1};

START_TEST(what_is_not_as_in_the_file_stays)
{
    uintptr_t page = ((uintptr_t)constants + PAGE_SIZE) & ~(uintptr_t)(PAGE_SIZE - 1);
    volatile char *byte = (volatile char *)page;

    ck_assert_int_eq(mprotect((void *)page, PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
    *byte = 'x';
    ck_assert_int_eq(mprotect((void *)page, PAGE_SIZE, PROT_READ), 0);
    idle_memory_release();
    ck_assert_int_eq(*byte, 'x');
}
END_TEST

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* Freed pieces below one that is still used: the C library itself would keep them. */
START_TEST(what_was_freed_goes)
{
    enum { PIECES = 64, PIECE = 8192 };
    char *pieces[PIECES];
    uintptr_t middle;

    for (int i = 0; i < PIECES; i++) {
        pieces[i] = malloc(PIECE);
        ck_assert_ptr_nonnull(pieces[i]);
        memset(pieces[i], 1, PIECE);
    }
    middle = (uintptr_t)pieces[PIECES / 2] + PIECE / 2;
    for (int i = 0; i < PIECES - 1; i++)
        free(pieces[i]);
    ck_assert(is_resident(middle));
    idle_memory_release();
    ck_assert(!is_resident(middle));
    ck_assert_int_eq(pieces[PIECES - 1][PIECE - 1], 1);
    free(pieces[PIECES - 1]);
}
END_TEST
#else
#define what_was_freed_goes program_works_on
#endif

START_TEST(what_all_use_stays_while_somebody_works)
{
    idle_memory_work_begins();
    idle_memory_work_begins();
    idle_memory_work_begins();
    idle_memory_work_ends();
    idle_memory_work_leaves();
    ck_assert_uint_eq(host_calls[HOST_TRIM].count, 0);
    idle_memory_work_ends();
    ck_assert_uint_eq(host_calls[HOST_TRIM].count, 1);
}
END_TEST

START_TEST(whoever_leaves_disturbs_nobody)
{
    idle_memory_work_begins();
    idle_memory_work_leaves();
    ck_assert_uint_eq(host_calls[HOST_TRIM].count, 0);
    idle_memory_work_begins();
    idle_memory_work_ends();
    ck_assert_uint_eq(host_calls[HOST_TRIM].count, 1);
}
END_TEST

static void *work_and_end(void *arg)
{
    uintptr_t deep;

    idle_memory_work_begins();
    go_deep(&deep);
    idle_memory_work_ends();
    ck_assert(!is_resident(deep));
    return arg;
}

START_TEST(each_thread_gives_back_its_own_stack)
{
    pthread_t thread;

    idle_memory_work_begins();
    ck_assert_int_eq(thread_start(&thread, "deep", work_and_end, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    idle_memory_work_leaves();
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "idle memory", deep_frames_go_and_the_callers_stay, program_works_on,
              what_is_not_as_in_the_file_stays, what_was_freed_goes);
    unit_case_with(suite, "work", host_calls_reset, NULL, what_all_use_stays_while_somebody_works,
                   whoever_leaves_disturbs_nobody, each_thread_gives_back_its_own_stack);
}

UNIT_USES_THREADS;
UNIT_MAIN("idle memory", add_tests)
