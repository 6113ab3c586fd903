/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to a disk whose thread is a loop of the test, run by hand.
 */
#include "tests/lib/unit.h"
#include "vmm/disk_questions.h"

static struct loop *main_loop;
static struct block_port port;
static struct disk_questions questions;
static unsigned nlooked, nanswered;
static struct loop_work stop;
static struct loop *stopping; /* by `stop` */

static void on_stop(struct loop_work *work)
{
    loop_stop(stopping);
}

/* Do what was posted to a loop before this. */
static void turn(struct loop *loop)
{
    stopping = loop;
    loop_post(loop, &stop);
    ck_assert_int_eq(loop_run(loop), 0);
}

static void look(struct disk_question *question, const struct block_port *at)
{
    ck_assert_ptr_eq(at, &port);
    nlooked++;
}

static void answered(struct disk_question *question)
{
    nanswered++;
}

static struct disk_question first = {.look = look, .answered = answered};
static struct disk_question second = {.look = look, .answered = answered};

static void set_up(void)
{
    nlooked = 0;
    nanswered = 0;
    stop.run = on_stop;
    ck_assert_int_eq(loop_new(&main_loop), 0);
    ck_assert_int_eq(loop_new(&port.loop), 0);
    disk_questions_init(&questions, main_loop, &port);
}

static void tear_down(void)
{
    loop_free(port.loop);
    loop_free(main_loop);
}

START_TEST(disk_is_looked_at_on_its_loop_and_the_answer_comes_on_ours)
{
    disk_questions_ask(&questions, &first);
    turn(main_loop);
    ck_assert_uint_eq(nlooked, 0);
    turn(port.loop);
    ck_assert_uint_eq(nlooked, 1);
    ck_assert_uint_eq(nanswered, 0);
    turn(main_loop);
    ck_assert_uint_eq(nanswered, 1);
    disk_questions_end(&questions);
    ck_assert_uint_eq(nanswered, 1);
}
END_TEST

/* The main loop does not run any more. */
START_TEST(open_questions_are_answered_at_the_end)
{
    disk_questions_ask(&questions, &first);
    disk_questions_ask(&questions, &second);
    turn(port.loop);
    disk_questions_end(&questions);
    ck_assert_uint_eq(nlooked, 2);
    ck_assert_uint_eq(nanswered, 2);
    turn(main_loop);
    ck_assert_uint_eq(nanswered, 2);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "questions", set_up, tear_down,
                   disk_is_looked_at_on_its_loop_and_the_answer_comes_on_ours,
                   open_questions_are_answered_at_the_end);
}

UNIT_MAIN("disk_questions", add_tests)
