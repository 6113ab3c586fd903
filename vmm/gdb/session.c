/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gdb/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "vmm/gdb/monitor.h"
#include "vmm/gdb/session_data.h"
#include "vmm/gdb/session_state.h"

/* Numbers of signals as gdb has them. */
#define SIGNAL_INT 2
#define SIGNAL_TRAP 5
#define SIGNAL_KILL 9

/* Bits of `qemu.sstep`: steps are on, without interrupts, without timers. Time goes on here. */
#define STEP_ENABLE 1u
#define STEP_NO_INTERRUPTS 2u

/* A thread's number, and those that stand for any and for all of them. */
#define THREAD_ANY 0u
#define THREAD_ALL UINT64_MAX

#define COMMAND_MAX 256u

static unsigned ncpus(const struct gdb_session *session)
{
    return session->target->ops->ncpus(session->target);
}

/* ---- replies --------------------------------------------------------------------------------- */

static void reply_ok(struct gdb_session *session)
{
    gdb_reply_text(&session->reply, "OK");
}

static void send_reply(struct gdb_session *session)
{
    gdb_reply_end(&session->reply);
    session->user->send(session->user, session->reply.data, session->reply.len);
}

/*
 * `watch:`, `awatch:` and the like say more than the signal; which breakpoint it was gdb finds out.
 */
static void reply_stop_reason(struct gdb_session *session)
{
    const struct gdb_hardware *watched = &session->breakpoints.hardware[session->stop.watch];

    switch (session->stop.kind) {
    case GDB_STOP_BREAKPOINT:
        if (session->tells_breakpoints)
            gdb_reply_text(&session->reply, "swbreak:;");
        break;
    case GDB_STOP_HARDWARE:
        if (session->tells_breakpoints)
            gdb_reply_text(&session->reply, "hwbreak:;");
        break;
    case GDB_STOP_WATCHED:
        gdb_reply_format(&session->reply, "%s:%llx;",
                         watched->type == GDB_WATCH_WRITE ? "watch" : "awatch",
                         (unsigned long long)watched->va);
        break;
    case GDB_STOP_ASKED:
    case GDB_STOP_STEPPED:
        break;
    }
}

static void reply_stop(struct gdb_session *session)
{
    unsigned signal = session->stop.kind == GDB_STOP_ASKED ? SIGNAL_INT : SIGNAL_TRAP;

    gdb_reply_format(&session->reply, "T%02xthread:%x;", signal, session->stop.cpu + 1);
    reply_stop_reason(session);
}

/* ---- the machine runs and stops -------------------------------------------------------------- */

/*
 * gdb keeps registers while the machine is stopped, and cannot be told before it lets it run that
 * they are of a guest that is no more: the answer is a stop at where the new one begins.
 */
static void run(struct gdb_session *session, const enum gdb_action *actions)
{
    const struct gdb_run how = {
        .actions = actions,
        .masks_interrupts = session->masks_interrupts,
        .breakpoints = &session->breakpoints,
    };

    if (session->was_reset) {
        session->was_reset = false;
        reply_stop(session);
        return;
    }
    session->state = GDB_RUNNING;
    session->target->ops->resume(session->target, &how);
}

/* Give it back to its owner, as if gdb had never been there. */
static void leave(struct gdb_session *session)
{
    gdb_breakpoints_remove_all(&session->breakpoints, session->target);
    session->state = GDB_OVER;
    if (session->trusted)
        session->target->ops->detach(session->target);
    else
        session->target->ops->withdraw(session->target);
    session->user->over(session->user);
}

void gdb_session_stopped(struct gdb_session *session, const struct gdb_stop *stop)
{
    enum gdb_session_state before = session->state;

    session->stop = *stop;
    session->cpu = stop->cpu;
    session->run_cpu = stop->cpu;
    switch (before) {
    case GDB_STARTING:
        session->state = GDB_STOPPED;
        session->user->listen(session->user, true);
        break;
    case GDB_RUNNING:
        session->state = GDB_STOPPED;
        gdb_reply_begin(&session->reply);
        reply_stop(session);
        send_reply(session);
        break;
    case GDB_LEAVING:
        leave(session);
        break;
    case GDB_STOPPED:
    case GDB_OVER:
        break;
    }
}

void gdb_session_restarted(struct gdb_session *session)
{
    size_t n = gdb_breakpoints_restore(&session->breakpoints, session->target);

    if (n > 0)
        log_warn("gdb: the guest was reset: %zu software breakpoint%s no longer in it", n,
                 n == 1 ? " is" : "s are");
    if (session->state != GDB_STOPPED)
        return;
    session->was_reset = true;
    session->stop = (struct gdb_stop){.kind = GDB_STOP_ASKED};
    session->cpu = session->run_cpu = session->stop.cpu;
}

void gdb_session_exited(struct gdb_session *session, unsigned code)
{
    bool hears = session->state == GDB_RUNNING || session->state == GDB_STOPPED;

    if (session->state == GDB_OVER)
        return;
    session->state = GDB_OVER;
    if (hears) {
        gdb_reply_begin(&session->reply);
        gdb_reply_format(&session->reply, "W%02x", code & 0xff);
        send_reply(session);
    }
    session->user->over(session->user);
}

void gdb_session_hang_up(struct gdb_session *session)
{
    switch (session->state) {
    case GDB_RUNNING:
        session->state = GDB_LEAVING;
        session->target->ops->stop(session->target);
        break;
    case GDB_STARTING:
        session->state = GDB_LEAVING;
        break;
    case GDB_STOPPED:
        leave(session);
        break;
    case GDB_LEAVING:
    case GDB_OVER:
        break;
    }
}

static void kill_guest(struct gdb_session *session)
{
    session->state = GDB_OVER;
    session->target->ops->kill(session->target);
    session->user->over(session->user);
}

/* ---- threads --------------------------------------------------------------------------------- */

static bool take_thread(const struct gdb_session *session, const char **text, uint64_t *ret_thread)
{
    if (gdb_take_word(text, "-1")) {
        *ret_thread = THREAD_ALL;
        return true;
    }
    return gdb_take_number(text, ret_thread) && *ret_thread <= ncpus(session);
}

/* `Hg` says which thread packets about registers mean, `Hc` which `c` and `s` mean. */
static void select_thread(struct gdb_session *session, const char *text)
{
    unsigned *cpu = *text == 'g' ? &session->cpu : &session->run_cpu;
    uint64_t thread;

    if ((*text != 'g' && *text != 'c') || (text++, !take_thread(session, &text, &thread))) {
        gdb_reply_error(&session->reply, -EINVAL);
        return;
    }
    if (thread != THREAD_ANY && thread != THREAD_ALL)
        *cpu = (unsigned)thread - 1;
    reply_ok(session);
}

static void is_thread_alive(struct gdb_session *session, const char *text)
{
    uint64_t thread;

    if (take_thread(session, &text, &thread) && thread != THREAD_ANY && thread != THREAD_ALL)
        reply_ok(session);
    else
        gdb_reply_error(&session->reply, -ESRCH);
}

static void list_threads(struct gdb_session *session)
{
    for (unsigned i = 1; i <= ncpus(session); i++)
        gdb_reply_format(&session->reply, "%c%x", i == 1 ? 'm' : ',', i);
}

static void describe_thread(struct gdb_session *session, const char *text)
{
    char name[64];
    uint64_t thread;
    int len;

    if (!take_thread(session, &text, &thread) || thread == THREAD_ANY || thread == THREAD_ALL) {
        gdb_reply_error(&session->reply, -ESRCH);
        return;
    }
    len = snprintf(name, sizeof(name), "CPU %u, %s", (unsigned)thread - 1,
                   session->target->ops->describe(session->target, (unsigned)thread - 1));
    gdb_reply_hex(&session->reply, name, min_u64((uint64_t)len, sizeof(name) - 1));
}

/* ---- continue and step ----------------------------------------------------------------------- */

static int set_rip(struct gdb_session *session, unsigned cpu, uint64_t rip)
{
    const struct gdb_target_ops *ops = session->target->ops;
    struct gdb_registers registers = {.rip = 0};
    int r = ops->get_registers(session->target, cpu, &registers);

    registers.rip = rip;
    return r < 0 ? r : ops->set_registers(session->target, cpu, &registers);
}

/* What all vCPUs shall do; GDB_STAY is 0. */
static enum gdb_action *new_actions(struct gdb_session *session)
{
    enum gdb_action *actions = NULL;

    if (session->run_cpu < ncpus(session)) /* not between two guests */
        actions = calloc(ncpus(session), sizeof(*actions));
    if (!actions)
        gdb_reply_error(&session->reply, -EAGAIN);
    return actions;
}

/* `c [ADDRESS]` lets all go on, `s [ADDRESS]` one thread a step. */
static void run_simply(struct gdb_session *session, bool step, const char *text)
{
    enum gdb_action *actions;
    uint64_t rip;
    int r = 0;

    if (gdb_take_number(&text, &rip))
        r = set_rip(session, session->run_cpu, rip);
    if (r < 0 || *text) {
        gdb_reply_error(&session->reply, r < 0 ? r : -EINVAL);
        return;
    }
    actions = new_actions(session);
    if (!actions)
        return;
    for (unsigned i = 0; !step && i < ncpus(session); i++)
        actions[i] = GDB_CONTINUE;
    if (step)
        actions[session->run_cpu] = GDB_STEP;
    run(session, actions);
    free(actions);
}

/* A signal for the guest means nothing: `C SIGNAL` is `c`, `S SIGNAL` is `s`. */
static bool take_action(const char **text, enum gdb_action *ret_action)
{
    char letter = **text;
    uint64_t signal;

    if (letter != 'c' && letter != 'C' && letter != 's' && letter != 'S')
        return false;
    (*text)++;
    if ((letter == 'C' || letter == 'S') && !gdb_take_number(text, &signal))
        return false;
    *ret_action = letter == 'c' || letter == 'C' ? GDB_CONTINUE : GDB_STEP;
    return true;
}

/* `;ACTION[:THREAD]…`: the first one that means a thread counts for it. False: no such list. */
static bool take_actions(struct gdb_session *session, const char *text, enum gdb_action *actions)
{
    bool given[UINT8_MAX + 1] = {false}, any = false;
    unsigned n = (unsigned)min_u64(ncpus(session), sizeof(given));

    while (*text) {
        uint64_t thread = THREAD_ALL;
        enum gdb_action action;

        if (!gdb_take_char(&text, ';') || !take_action(&text, &action))
            return false;
        if (gdb_take_char(&text, ':') && !take_thread(session, &text, &thread))
            return false;
        for (unsigned i = 0; i < n; i++) {
            if (given[i] || (thread != THREAD_ALL && thread != THREAD_ANY && thread != i + 1))
                continue;
            given[i] = any = true;
            actions[i] = action;
            if (thread == THREAD_ANY)
                break;
        }
    }
    return any;
}

static void run_as_listed(struct gdb_session *session, const char *text)
{
    enum gdb_action *actions = new_actions(session);

    if (!actions)
        return;
    if (take_actions(session, text, actions))
        run(session, actions);
    else
        gdb_reply_error(&session->reply, -EINVAL);
    free(actions);
}

static void on_v(struct gdb_session *session, const char *text)
{
    if (strcmp(text, "Cont?") == 0)
        gdb_reply_text(&session->reply, "vCont;c;C;s;S");
    else if (gdb_take_word(&text, "Cont"))
        run_as_listed(session, text);
}

/* ---- queries --------------------------------------------------------------------------------- */

static void reply_supported(struct gdb_session *session, const char *text)
{
    session->tells_breakpoints = strstr(text, "swbreak+") && strstr(text, "hwbreak+");
    gdb_reply_format(&session->reply,
                     "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;vContSupported+;"
                     "swbreak+;hwbreak+",
                     GDB_PACKET_MAX);
}

/* `OFFSET,LENGTH` of the description of the registers. */
static void reply_description(struct gdb_session *session, const char *text)
{
    uint64_t offset, len;
    size_t total, n;

    if (!session->description)
        session->description =
            gdb_describe_registers(session->target->ops->has_avx(session->target));
    if (!session->description || !gdb_take_number(&text, &offset) || !gdb_take_char(&text, ',') ||
        !gdb_take_number(&text, &len)) {
        gdb_reply_error(&session->reply, session->description ? -EINVAL : -ENOMEM);
        return;
    }
    total = strlen(session->description);
    offset = min_u64(offset, total);
    n = (size_t)min_u64(min_u64(len, GDB_PACKET_MAX / 2 - 1), total - offset);
    gdb_reply_text(&session->reply, offset + n < total ? "m" : "l");
    (void)gdb_reply_binary(&session->reply, session->description + offset, n); /* half of it fits */
}

/* The command of `monitor`, in hexadecimal. */
static void on_monitor(struct gdb_session *session, const char *text)
{
    char command[COMMAND_MAX + 1] = "";
    size_t len = strlen(text) / 2;

    if (len > COMMAND_MAX || !gdb_take_bytes(&text, command, len) || *text)
        gdb_reply_error(&session->reply, -EINVAL);
    else
        gdb_monitor(session, command);
}

/* As QEMU's: whether packets about memory mean physical addresses, and what steps leave out. */
static void on_qemu_query(struct gdb_session *session, const char *text)
{
    unsigned step = STEP_ENABLE | (session->masks_interrupts ? STEP_NO_INTERRUPTS : 0);

    if (strcmp(text, "PhyMemMode") == 0)
        gdb_reply_format(&session->reply, "%d", session->physical);
    else if (strcmp(text, "sstepbits") == 0)
        gdb_reply_format(&session->reply, "ENABLE=%x,NOIRQ=%x", STEP_ENABLE, STEP_NO_INTERRUPTS);
    else if (strcmp(text, "sstep") == 0)
        gdb_reply_format(&session->reply, "0x%x", step);
}

/* A number that may begin with 0x, as QEMU's manual writes it. */
static bool take_prefixed(const char **text, uint64_t *ret_value)
{
    return gdb_take_number(text, ret_value) &&
           (*ret_value != 0 || !gdb_take_char(text, 'x') || gdb_take_number(text, ret_value));
}

static void on_qemu_set(struct gdb_session *session, const char *text)
{
    uint64_t value;

    if (gdb_take_word(&text, "PhyMemMode:") && gdb_take_number(&text, &value)) {
        session->physical = value != 0;
        reply_ok(session);
    } else if (gdb_take_word(&text, "sstep=") && take_prefixed(&text, &value)) {
        session->masks_interrupts = (value & STEP_NO_INTERRUPTS) != 0;
        reply_ok(session);
    } else {
        gdb_reply_error(&session->reply, -EINVAL);
    }
}

static void on_query(struct gdb_session *session, const char *text)
{
    if (gdb_take_word(&text, "Supported"))
        reply_supported(session, text);
    else if (gdb_take_word(&text, "Xfer:features:read:target.xml:"))
        reply_description(session, text);
    else if (strcmp(text, "fThreadInfo") == 0)
        list_threads(session);
    else if (strcmp(text, "sThreadInfo") == 0)
        gdb_reply_text(&session->reply, "l");
    else if (gdb_take_word(&text, "ThreadExtraInfo,"))
        describe_thread(session, text);
    else if (strcmp(text, "C") == 0)
        gdb_reply_format(&session->reply, "QC%x", session->cpu + 1);
    else if (gdb_take_word(&text, "Attached"))
        gdb_reply_text(&session->reply, "1");
    else if (gdb_take_word(&text, "Symbol:"))
        reply_ok(session);
    else if (gdb_take_word(&text, "Rcmd,"))
        on_monitor(session, text);
    else if (gdb_take_word(&text, "qemu."))
        on_qemu_query(session, text);
}

static void on_set(struct gdb_session *session, const char *text)
{
    if (gdb_take_word(&text, "qemu."))
        on_qemu_set(session, text);
}

/* ---- packets --------------------------------------------------------------------------------- */

/* gdb acknowledges the answer still, so it is sent before acknowledgements end. */
static void end_acks(struct gdb_session *session)
{
    reply_ok(session);
    send_reply(session);
    session->no_ack = true;
}

/* `D` and `k`, `vKill`: gdb goes. False: something else. */
static bool is_farewell(struct gdb_session *session, const char *text)
{
    if (*text != 'D' && *text != 'k' && strncmp(text, "vKill", strlen("vKill")) != 0)
        return false;
    if (*text != 'k') { /* to which there is no answer */
        reply_ok(session);
        send_reply(session);
    }
    if (*text == 'D')
        leave(session);
    else
        kill_guest(session);
    return true;
}

/* An empty answer: not supported. */
static void on_command(struct gdb_session *session, const char *text, size_t len)
{
    char letter = *text++;

    switch (letter) {
    case '?':
        reply_stop(session);
        break;
    case 'g':
        gdb_get_registers(session);
        break;
    case 'G':
        gdb_set_registers(session, text);
        break;
    case 'p':
        gdb_get_register(session, text);
        break;
    case 'P':
        gdb_set_register(session, text);
        break;
    case 'm':
        gdb_read_memory(session, text);
        break;
    case 'M':
        gdb_write_memory(session, text);
        break;
    case 'X':
        gdb_write_memory_binary(session, text, len - 1);
        break;
    case 'z':
    case 'Z':
        gdb_breakpoint(session, letter == 'Z', text);
        break;
    case 'c':
    case 's':
        run_simply(session, letter == 's', text);
        break;
    case 'H':
        select_thread(session, text);
        break;
    case 'T':
        is_thread_alive(session, text);
        break;
    case 'q':
        on_query(session, text);
        break;
    case 'Q':
        on_set(session, text);
        break;
    case 'v':
        on_v(session, text);
        break;
    default:
        break;
    }
}

static void on_packet(struct gdb_session *session)
{
    const char *text = session->reader.data;

    gdb_reply_begin(&session->reply);
    if (strcmp(text, "QStartNoAckMode") == 0) {
        end_acks(session);
        return;
    }
    /* Everything else looks at the machine. gdb knows that it runs; whoever sends this does not. */
    if (session->state != GDB_STOPPED)
        gdb_reply_error(&session->reply, -EBUSY);
    else if (is_farewell(session, text))
        return;
    else
        on_command(session, text, session->reader.len);
    if (session->state == GDB_STOPPED || session->reply.len > 1)
        send_reply(session);
}

/* A web page can make a browser send a POST to a port of this machine, with packets in its body. */
static void refuse(struct gdb_session *session)
{
    static struct log_limit limit;

    (void)log_limited_at(&limit, LOG_WARN,
                         "gdb: a client that does not begin with a packet is sent away");
    gdb_session_hang_up(session);
}

static void on_input(struct gdb_session *session, enum gdb_input input)
{
    switch (input) {
    case GDB_INPUT_PACKET:
        session->trusted = true;
        if (!session->no_ack)
            session->user->send(session->user, "+", 1);
        on_packet(session);
        break;
    case GDB_INPUT_BAD:
        if (!session->no_ack)
            session->user->send(session->user, "-", 1);
        break;
    case GDB_INPUT_INTERRUPT:
        if (session->state == GDB_RUNNING)
            session->target->ops->stop(session->target);
        break;
    case GDB_INPUT_NAK:
        if (!session->no_ack && session->reply.len > 1)
            session->user->send(session->user, session->reply.data, session->reply.len);
        break;
    case GDB_INPUT_NONSENSE:
        if (!session->trusted)
            refuse(session);
        break;
    case GDB_INPUT_ACK:
    case GDB_INPUT_NONE:
        break;
    }
}

void gdb_session_input(struct gdb_session *session, const char *bytes, size_t len)
{
    while (len > 0 && session->state != GDB_OVER && session->state != GDB_LEAVING) {
        size_t taken;
        enum gdb_input input = gdb_reader_feed(&session->reader, bytes, len, &taken);

        on_input(session, input);
        bytes += taken;
        len -= taken;
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

int gdb_session_new(struct gdb_target *target, struct gdb_session_user *user,
                    struct gdb_session **ret_session)
{
    struct gdb_session *session = calloc(1, sizeof(*session));

    if (!session)
        return -ENOMEM;
    session->target = target;
    session->user = user;
    session->masks_interrupts = true;
    *ret_session = session;
    user->listen(user, false);
    target->ops->stop(target);
    return 0;
}

bool gdb_session_is_over(const struct gdb_session *session)
{
    return session->state == GDB_OVER;
}

void gdb_session_free(struct gdb_session *session)
{
    if (!session)
        return;
    free(session->description);
    free(session);
}
