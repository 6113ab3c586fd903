/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to a CPU, which is this thread when it passes the gate.
 */
#include "base/bytes.h"
#include "tests/lib/unit.h"
#include "vmm/cpu_questions.h"

static struct loop *main_loop;
static struct gate gate;
static struct gate_thread cpu;
static struct cpu_questions questions;
static unsigned nlooked, nanswered;
static struct loop_work stop;

static void on_stop(struct loop_work *work)
{
    loop_stop(main_loop);
}

/* Do what was posted to the main loop before this. */
static void turn(void)
{
    loop_post(main_loop, &stop);
    ck_assert_int_eq(loop_run(main_loop), 0);
}

static void call(struct gate_thread *thread, bool on)
{
}

static void look(struct cpu_question *question)
{
    nlooked++;
}

static void answered(struct cpu_question *question)
{
    nanswered++;
}

static struct cpu_question first = {.look = look, .answered = answered};
static struct cpu_question second = {.look = look, .answered = answered};

static void set_up(void)
{
    nlooked = 0;
    nanswered = 0;
    stop.run = on_stop;
    cpu = (struct gate_thread){.call = call};
    ck_assert_int_eq(loop_new(&main_loop), 0);
    gate_init(&gate);
    gate_add(&gate, &cpu);
    cpu_questions_init(&questions, main_loop);
}

static void tear_down(void)
{
    gate_done(&gate);
    loop_free(main_loop);
}

START_TEST(cpu_looks_when_it_is_outside_and_the_answer_comes_on_the_loop)
{
    gate_expect(&cpu);
    gate_enter(&cpu);
    ck_assert(gate_pass(&cpu));
    cpu_questions_ask(&questions, &cpu, &first);
    turn();
    ck_assert_uint_eq(nlooked, 0);
    ck_assert(gate_pass(&cpu));
    ck_assert_uint_eq(nlooked, 1);
    ck_assert_uint_eq(nanswered, 0);
    turn();
    ck_assert_uint_eq(nanswered, 1);
    ck_assert(first.looked);
    cpu_questions_end(&questions);
    ck_assert_uint_eq(nanswered, 1);
    gate_leave(&cpu);
}
END_TEST

START_TEST(cpu_that_does_not_run_is_told_at_once)
{
    cpu_questions_ask(&questions, &cpu, &first);
    ck_assert_uint_eq(nlooked, 0);
    ck_assert_uint_eq(nanswered, 1);
    ck_assert(!first.looked);
}
END_TEST

/* One that leaves looks first; the main loop does not run any more. */
START_TEST(open_questions_are_answered_at_the_end)
{
    gate_expect(&cpu);
    cpu_questions_ask(&questions, &cpu, &first);
    gate_enter(&cpu);
    cpu_questions_ask(&questions, &cpu, &second);
    gate_leave(&cpu);
    cpu_questions_end(&questions);
    ck_assert_uint_eq(nlooked, 2);
    ck_assert_uint_eq(nanswered, 2);
    turn();
    ck_assert_uint_eq(nanswered, 2);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "questions", set_up, tear_down,
                   cpu_looks_when_it_is_outside_and_the_answer_comes_on_the_loop,
                   cpu_that_does_not_run_is_told_at_once, open_questions_are_answered_at_the_end);
}

UNIT_MAIN("cpu_questions", add_tests)
