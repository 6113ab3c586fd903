/* SPDX-License-Identifier: Apache-2.0 */
#include "base/co.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * The switch below keeps no shadow stack. Code that is compiled to have one (-fcf-protection=full
 * or =return) says so in the object, and takes the C library's switch, which keeps it.
 */
#if defined(__x86_64__) && !(defined(__CET__) && (__CET__ & 2))
#define OWN_SWITCH 1
#else
#include <ucontext.h>
#endif

#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#if __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

/*
 * Address space per stack; the pages below what a request touches (two or three) are never backed
 * by memory. The deepest user is a read through a chain of 64 images (BLOCK_CHAIN_MAX) at about
 * 1 KiB per layer. At worst a layer is six calls, and the Makefile bounds the frames of block/ to
 * 1 KiB: 384 KiB, which leaves 128 KiB for what the last layer calls. Sanitizers multiply frames
 * several times.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CO_STACK_SIZE (2048u * 1024)
#else
#define CO_STACK_SIZE (512u * 1024)
#endif
#define CO_GUARD_SIZE 4096u

#ifdef OWN_SWITCH
/* What a switch saves lives on the stack that it leaves; the stack pointer stands for all of it. */
struct co_context {
    void *sp;
};
#else
struct co_context {
    ucontext_t context;
};
#endif

/* Lives at the top of its own stack mapping, so that a coroutine is a single allocation. */
struct co {
    struct co_context context;
    struct co_sched *sched;
    void (*fn)(void *opaque);
    void *opaque;
    struct list link;   /* in the ready list, a wait queue or the idle list */
    const bool *cancel; /* NULL: its work is wanted in any case */
    bool ended;
    void *mapping;
#ifdef __SANITIZE_ADDRESS__
    void *fake_stack;
#endif
#ifdef __SANITIZE_THREAD__
    void *fiber;
#endif
};

/* The running coroutine and the stack of whoever resumed it. */
static __thread struct co *co_current;
static __thread struct co_context co_resumer;
#ifdef __SANITIZE_ADDRESS__
static __thread const void *resumer_stack;
static __thread size_t resumer_stack_size;
#endif
#ifdef __SANITIZE_THREAD__
static __thread void *resumer_fiber;
#endif

/* ---- the switch itself ----------------------------------------------------------------------- */

#ifdef OWN_SWITCH

/*
 * Save the callee-saved registers of the System V ABI on the stack, exchange stack pointers, and
 * return to where the other side called from. Nothing here changes MXCSR or the x87 control word,
 * so they need not be switched.
 */
void co_switch_stacks(void **save_sp, void *load_sp);

__asm__(".pushsection .text\n"
        ".globl co_switch_stacks\n"
        ".hidden co_switch_stacks\n"
        ".type co_switch_stacks, @function\n"
        "co_switch_stacks:\n"
        "    endbr64\n" /* it may be called through a pointer */
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size co_switch_stacks, . - co_switch_stacks\n"
        ".popsection\n");

static void context_switch(struct co_context *from, struct co_context *to)
{
    co_switch_stacks(&from->sp, to->sp);
}

static void context_make(struct co_context *context, void *stack, size_t len, void (*entry)(void))
{
    void **sp = (void **)(void *)((char *)stack + len);

    /*
     * What co_switch_stacks pops: six registers, then the address that its `ret` goes to. The word
     * above is the entry's return address, never used; it puts the stack where the ABI wants it at
     * a function's first instruction: 8 bytes off a multiple of 16.
     */
    *--sp = NULL;
    *--sp = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--sp = NULL;
    context->sp = sp;
}

#else

static void context_switch(struct co_context *from, struct co_context *to)
{
    if (swapcontext(&from->context, &to->context) < 0)
        abort();
}

static void context_make(struct co_context *context, void *stack, size_t len, void (*entry)(void))
{
    if (getcontext(&context->context) < 0)
        abort();
    context->context.uc_stack.ss_sp = stack;
    context->context.uc_stack.ss_size = len;
    context->context.uc_link = NULL;
    makecontext(&context->context, entry, 0);
}

#endif

/* ---- switches announced to the sanitizers ---------------------------------------------------- */

static void *stack_base(const struct co *co)
{
    return (char *)co->mapping + CO_GUARD_SIZE;
}

static size_t stack_len(const struct co *co)
{
    return (size_t)((const char *)co - (const char *)stack_base(co)) & ~(size_t)15;
}

static void enter(struct co *co)
{
#ifdef __SANITIZE_ADDRESS__
    void *fake_stack;

    __sanitizer_start_switch_fiber(&fake_stack, stack_base(co), stack_len(co));
#endif
#ifdef __SANITIZE_THREAD__
    resumer_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(co->fiber, 0);
#endif
    co_current = co;
    context_switch(&co_resumer, &co->context);
    co_current = NULL;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
#endif
}

/* On the coroutine's stack, first thing after being switched to. */
static void entered(struct co *co)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(co->fake_stack, &resumer_stack, &resumer_stack_size);
#else
    (void)co;
#endif
}

static void leave(struct co *co)
{
#ifdef __SANITIZE_ADDRESS__
    /* NULL tells ASan that this stack will not be returned to. */
    __sanitizer_start_switch_fiber(co->ended ? NULL : &co->fake_stack, resumer_stack,
                                   resumer_stack_size);
#endif
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(resumer_fiber, 0);
#endif
    context_switch(&co->context, &co_resumer);
}

/* ---- stacks ---------------------------------------------------------------------------------- */

static struct co *stack_map(void)
{
    size_t len = CO_GUARD_SIZE + CO_STACK_SIZE;
    struct co *co;
    char *mapping = mmap(NULL, len, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    if (mapping == MAP_FAILED)
        return NULL;
    if (mprotect(mapping, CO_GUARD_SIZE, PROT_NONE) < 0) {
        (void)munmap(mapping, len);
        return NULL;
    }
    co = (struct co *)(void *)(mapping + len - ((sizeof(*co) + 63) & ~(size_t)63));
    co->mapping = mapping;
#ifdef __SANITIZE_THREAD__
    co->fiber = __tsan_create_fiber(0);
#endif
    return co;
}

static void stack_unmap(struct co *co)
{
#ifdef __SANITIZE_THREAD__
    __tsan_destroy_fiber(co->fiber);
#endif
    /* Cannot fail for a mapping of our own. */
    (void)munmap(co->mapping, CO_GUARD_SIZE + CO_STACK_SIZE);
}

static struct co *stack_take(struct co_sched *sched)
{
    struct list *first = list_first(&sched->idle);

    if (!first)
        return stack_map();
    list_remove(first);
    sched->nidle--;
    return container_of(first, struct co, link);
}

static void trim_to(struct co_sched *sched, unsigned keep)
{
    while (sched->nidle > keep)
        stack_unmap(stack_take(sched));
}

/* ---- scheduler ------------------------------------------------------------------------------- */

void co_sched_init(struct co_sched *sched)
{
    list_init(&sched->ready);
    list_init(&sched->later);
    sched->spent = 0;
    list_init(&sched->idle);
    sched->nidle = 0;
    sched->live = 0;
}

void co_sched_done(struct co_sched *sched)
{
    assert(sched->live == 0);
    trim_to(sched, 0);
}

void co_sched_trim(struct co_sched *sched)
{
    if (sched->live == 0)
        trim_to(sched, CO_IDLE_STACKS);
}

void co_sched_release(struct co_sched *sched)
{
    trim_to(sched, 0);
}

static void co_main(void)
{
    struct co *co = co_current;

    entered(co);
    co->fn(co->opaque);
    co->ended = true;
    leave(co);
    abort(); /* an ended coroutine is never resumed */
}

int co_start(struct co_sched *sched, void (*fn)(void *opaque), void *opaque)
{
    struct co *co = stack_take(sched);

    if (!co)
        return -ENOMEM;
    co->sched = sched;
    co->fn = fn;
    co->opaque = opaque;
    co->ended = false;
    co->cancel = co_current ? co_current->cancel : NULL;
#ifdef __SANITIZE_ADDRESS__
    co->fake_stack = NULL;
#endif
    context_make(&co->context, stack_base(co), stack_len(co), co_main);
    sched->live++;
    list_add_tail(&sched->ready, &co->link);
    return 0;
}

bool co_sched_run(struct co_sched *sched)
{
    struct list *first;
    bool ran = false;

    assert(!co_current);
    while ((first = list_first(&sched->ready))) {
        struct co *co = container_of(first, struct co, link);

        list_remove(first);
        enter(co);
        ran = true;
        if (co->ended) {
            /* The stack used last is the one whose pages are warm: reuse it first. */
            list_add_head(&sched->idle, &co->link);
            sched->nidle++;
            sched->live--;
        }
    }
    return ran;
}

void co_sched_next_round(struct co_sched *sched)
{
    struct list *first;

    sched->spent = 0;
    while ((first = list_first(&sched->later))) {
        list_remove(first);
        list_add_tail(&sched->ready, first);
    }
}

bool co_sched_gave_way(const struct co_sched *sched)
{
    return !list_is_empty(&sched->later);
}

struct co *co_self(void)
{
    return co_current;
}

void co_suspend(void)
{
    struct co *co = co_current;

    assert(co);
    leave(co);
    entered(co);
}

void co_wake(struct co *co)
{
    list_add_tail(&co->sched->ready, &co->link);
}

void co_give_way(uint64_t cost)
{
    struct co *co = co_current;

    if (!co)
        return;
    while (co->sched->spent >= CO_ROUND_MAX) {
        list_add_tail(&co->sched->later, &co->link);
        co_suspend();
    }
    co->sched->spent += cost;
}

int co_turn(uint64_t cost)
{
    const bool *cancel = co_current ? co_current->cancel : NULL;

    co_give_way(cost);
    return cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED) ? -ECANCELED : 0;
}

void co_set_cancel(const bool *cancel)
{
    assert(co_current);
    co_current->cancel = cancel;
}

/* ---- waiting --------------------------------------------------------------------------------- */

void co_queue_init(struct co_queue *queue)
{
    list_init(&queue->waiting);
}

void co_queue_wait(struct co_queue *queue)
{
    assert(co_current);
    list_add_tail(&queue->waiting, &co_current->link);
    co_suspend();
}

bool co_queue_wake_one(struct co_queue *queue)
{
    struct list *first = list_first(&queue->waiting);

    if (!first)
        return false;
    list_remove(first);
    co_wake(container_of(first, struct co, link));
    return true;
}

void co_queue_wake_all(struct co_queue *queue)
{
    while (co_queue_wake_one(queue))
        ;
}

void co_mutex_init(struct co_mutex *mutex)
{
    mutex->locked = false;
    co_queue_init(&mutex->queue);
}

void co_mutex_lock(struct co_mutex *mutex)
{
    if (!mutex->locked) {
        mutex->locked = true;
        return;
    }
    co_queue_wait(&mutex->queue); /* the lock is handed over, still locked */
}

void co_mutex_unlock(struct co_mutex *mutex)
{
    assert(mutex->locked);
    if (!co_queue_wake_one(&mutex->queue))
        mutex->locked = false;
}

/* ---- groups ---------------------------------------------------------------------------------- */

void co_group_init(struct co_group *group)
{
    *group = (struct co_group){0};
}

int co_group_start(struct co_group *group, void (*fn)(void *opaque), void *opaque)
{
    int r;

    if (!co_current || co_current->sched->live >= CO_GROUP_MAX)
        return -EAGAIN;
    r = co_start(co_current->sched, fn, opaque);
    if (r == 0)
        group->live++;
    return r;
}

void co_group_done(struct co_group *group, int result)
{
    if (group->result == 0)
        group->result = result;
    if (--group->live == 0 && group->waiter)
        co_wake(group->waiter);
}

int co_group_wait(struct co_group *group)
{
    if (group->live > 0) {
        group->waiter = co_current;
        co_suspend();
        group->waiter = NULL;
    }
    return group->result;
}
