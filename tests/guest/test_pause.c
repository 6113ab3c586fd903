/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that is paused: its time stands still, and its disk and its output lose nothing. */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/bytes.h"
#include "memory/layout_x86.h"
#include "tests/lib/dice.h"
#include "tests/lib/guest/guest_disk.h"
#include "tests/lib/guest/guest_test.h"
#include "tests/lib/guest/qmp_client.h"
#include "vmm/config/config.h"

static struct guest guest;
static struct vm vm;
static struct qmp_client client;

/* Start the guest with a control socket, and connect. `more` ends with NULL. */
static void start(const char *const more[])
{
    const char *kernel = scratch_path("kernel"), *socket = scratch_path("qmp");
    char address[512];
    const char *args[VM_ARGS_MAX] = {"--kernel",   kernel,  "--memory",
                                     GUEST_MEMORY, "--qmp", address};
    size_t n = 6;

    snprintf(address, sizeof(address), "unix:%s", socket);
    while (*more)
        args[n++] = *more++;
    guest_write_kernel(&guest, kernel);
    guest_done(&guest);
    vm_start(&vm, args);
    qmp_client_open(&client, socket);
}

static void end(void)
{
    qmp_client_do(&client, "quit", NULL);
    qmp_client_end(&client);
    qmp_client_close(&client);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    vm_done(&vm);
}

static void sleep_ms(long ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

/* ---- time ------------------------------------------------------------------------------------ */

#define MSR_KVM_SYSTEM_TIME 0x4b564d01u
#define PVCLOCK (GUEST_DATA + 0x1000u)
#define SAMPLE (GUEST_DATA + 0x2000u)
#define UART_STATUS (X86_PORT_COM1 + 5)
#define UART_THR_EMPTY 0x20u

/* What the guest prints again and again: the TSC, and what KVM writes for kvm-clock. */
struct sample {
    uint64_t tsc;
    uint32_t version;
    uint32_t pad0;
    uint64_t tsc_timestamp;
    uint64_t system_time;
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags;
    uint8_t pad[2];
};

static void print_the_time(void)
{
    size_t again;

    guest_init(&guest);
    guest_op(&guest, GUEST_WRMSR, MSR_KVM_SYSTEM_TIME, PVCLOCK | 1, 0);
    again = guest_op(&guest, GUEST_WAIT_IN8, UART_STATUS, UART_THR_EMPTY, 0);
    guest_op(&guest, GUEST_TSC, 0, 0, 0);
    guest_op(&guest, GUEST_ST64_ACC, SAMPLE, 0, 0);
    guest_op(&guest, GUEST_COPY, SAMPLE + 8, PVCLOCK, sizeof(struct sample) - 8);
    guest_op(&guest, GUEST_PUT, SAMPLE, sizeof(struct sample), 0);
    guest_op(&guest, GUEST_GOTO, again, 0, 0);
}

/* Nanoseconds of kvm-clock (Documentation/virt/kvm/x86/msr.rst). */
static uint64_t kvmclock_ns(const struct sample *sample)
{
    uint64_t ticks = sample->tsc - sample->tsc_timestamp;

    ticks = sample->tsc_shift < 0 ? ticks >> -sample->tsc_shift : ticks << sample->tsc_shift;
    return sample->system_time +
           (uint64_t)((unsigned __int128)ticks * sample->tsc_to_system_mul >> 32);
}

/* KVM did not write the clock's page between the reads of its parts, or of the TSC before it. */
static bool is_whole(const struct sample *sample)
{
    return sample->version % 2 == 0 && sample->tsc >= sample->tsc_timestamp;
}

static struct sample sample_at(size_t index)
{
    struct sample sample;

    memcpy(&sample, vm.out.data + index * sizeof(sample), sizeof(sample));
    return sample;
}

/* How far time goes between one sample and the next, at most. */
struct jump {
    uint64_t ticks;
    uint64_t ns;
};

static struct jump largest_jump(bool has_kvmclock)
{
    struct jump jump = {0};

    for (size_t i = 1; i < vm.out.len / sizeof(struct sample); i++) {
        struct sample a = sample_at(i - 1), b = sample_at(i);

        ck_assert_msg(b.tsc > a.tsc, "the TSC goes back from %llu to %llu",
                      (unsigned long long)a.tsc, (unsigned long long)b.tsc);
        jump.ticks = max_u64(jump.ticks, b.tsc - a.tsc);
        if (!has_kvmclock || !is_whole(&a) || !is_whole(&b))
            continue;
        ck_assert_uint_ge(kvmclock_ns(&b), kvmclock_ns(&a));
        jump.ns = max_u64(jump.ns, kvmclock_ns(&b) - kvmclock_ns(&a));
    }
    return jump;
}

#define PAUSE_MS 3000u

/*
 * A KVM without VT-x or SVM shows guests the host's own TSC, whatever its offset. A guest's own
 * begins with its start.
 */
static bool has_tsc_of_its_own(uint64_t host_tsc_before)
{
    if (sample_at(0).tsc < host_tsc_before)
        return true;
    printf("not tested: the TSC during a pause: this KVM shows guests the host's\n");
    return false;
}

START_TEST(time_stands_still)
{
    static const char *const more[] = {"--cpus", "2", NULL};
    struct jump jump;
    uint64_t before, ticks;

    print_the_time();
    before = __rdtsc();
    start(more);
    ck_assert(vm_wait_output_len(&vm, 100 * sizeof(struct sample)));
    qmp_client_do(&client, "stop", NULL);
    ticks = __rdtsc();
    sleep_ms(PAUSE_MS);
    ticks = __rdtsc() - ticks;
    qmp_client_do(&client, "cont", NULL);
    /* More than what the pipe and this process kept of the time before. */
    ck_assert(vm_wait_output_len(&vm, vm.out.len + 400000));
    /* A test machine that is busy needs some time, too, but less than the pause. */
    jump = largest_jump(sample_at(50).tsc_to_system_mul != 0);
    ck_assert_msg(jump.ns < PAUSE_MS * 500000ull, "kvm-clock jumps by %llu ns",
                  (unsigned long long)jump.ns);
    if (has_tsc_of_its_own(before))
        ck_assert_msg(jump.ticks < ticks / 2, "the TSC jumps by %llu of %llu ticks",
                      (unsigned long long)jump.ticks, (unsigned long long)ticks);
    end();
}
END_TEST

/* ---- disk ------------------------------------------------------------------------------------ */

#define WRITES 400u
#define WRITE_LEN 4096u

/* Each write has its number in all words. */
static void write_numbers(struct guest_disk *disk)
{
    guest_init(&guest);
    guest_disk_init(disk, &guest, 0);
    for (unsigned i = 0; i < WRITES; i++) {
        guest_fill(&guest, GUEST_DISK_BUFFER, i, WRITE_LEN);
        guest_disk_request(disk, VIRTIO_BLK_T_OUT, i * WRITE_LEN / 512, GUEST_DISK_BUFFER,
                           WRITE_LEN);
        guest_disk_put_status(disk);
        if (i % 50 == 49)
            guest_disk_request(disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    }
    guest_put_text(&guest, "done");
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
}

static void check_numbers(const char *image)
{
    static uint64_t words[WRITES * WRITE_LEN / 8];
    int fd;

    scratch_ok("qemu-img check -q %s", image);
    scratch_ok("qemu-img convert -O raw %s raw", image);
    fd = open(scratch_path("raw"), O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(read(fd, words, sizeof(words)), sizeof(words));
    close(fd);
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        ck_assert_uint_eq(words[i], i * 8 / WRITE_LEN);
}

START_TEST(disk_loses_nothing)
{
    const char *image = scratch_path("image");
    char option[512];
    const char *const more[] = {"--disk", option, NULL};
    struct guest_disk disk;
    uint64_t dice = 7;
    char *state;

    scratch_ok("qemu-img create -q -f qcow2 image 64M");
    snprintf(option, sizeof(option), "%s", image);
    write_numbers(&disk);
    start(more);
    for (unsigned i = 0; i < 100; i++) {
        qmp_client_do(&client, "stop", NULL);
        state = qmp_client_text(&client, "query-status", "status");
        ck_assert_str_eq(state, "paused");
        free(state);
        if (i % 20 == 0) /* sound, but for clusters that were taken for later */
            scratch_ok("qemu-img check -q -U %s >check 2>&1; r=$?; [ $r = 0 ] || [ $r = 3 ]",
                       image);
        qmp_client_do(&client, "cont", NULL);
        sleep_ms(dice_roll(&dice, 5));
    }
    ck_assert_msg(vm_wait_output(&vm, "done"), "stderr: %s", vm_errors(&vm));
    ck_assert_uint_eq(vm.out.len, WRITES + strlen("done"));
    for (unsigned i = 0; i < WRITES; i++)
        ck_assert_uint_eq(vm.out.data[i], VIRTIO_BLK_S_OK);
    end();
    check_numbers(image);
}
END_TEST

/* ---- everything at once ---------------------------------------------------------------------- */

#define CLIENTS 4u
#define REQUESTS 600u

/* What clients ask for; those of the monitor are work for a vCPU, and exclusive sections of it. */
struct wish {
    const char *command;
    const char *arguments;
};

/* A reset takes as long as a start: seldom. */
static struct wish random_wish(uint64_t *dice)
{
    static const struct wish reset = {"system_reset", NULL};
    static const struct wish wishes[] = {
        {"stop", NULL},
        {"cont", NULL},
        {"stop", NULL},
        {"cont", NULL},
        {"query-status", NULL},
        {"query-cpus-fast", NULL},
        {"human-monitor-command", "{\"command-line\":\"info registers\",\"cpu-index\":0}"},
        {"human-monitor-command", "{\"command-line\":\"info registers\",\"cpu-index\":2}"},
        {"human-monitor-command", "{\"command-line\":\"info registers -a\",\"cpu-index\":1}"},
        {"human-monitor-command", "{\"command-line\":\"x /8xg 0x200000\",\"cpu-index\":0}"},
        {"human-monitor-command", "{\"command-line\":\"xp /8xg 0x200000\",\"cpu-index\":2}"},
    };

    return dice_roll(dice, 50) == 0 ? reset : wishes[dice_roll(dice, ARRAY_SIZE(wishes))];
}

struct stress_client {
    pthread_t thread;
    uint64_t dice;
    atomic_uint ndone;
};

static void *ask_at_random(void *arg)
{
    struct stress_client *me = arg;
    struct qmp_client mine;

    qmp_client_open(&mine, scratch_path("qmp"));
    while (atomic_load(&me->ndone) < REQUESTS) {
        struct wish wish = random_wish(&me->dice);

        /* An answer, whatever it is: what others ask for may come between. */
        qmp_client_begin(&mine, wish.command, wish.arguments);
        json_decref(qmp_client_answer(&mine));
        atomic_fetch_add(&me->ndone, 1);
    }
    qmp_client_close(&mine);
    return NULL;
}

/* CPUs that are never idle, in the guest and in exits, and some that sleep. */
static void keep_busy(void)
{
    size_t again;

    guest_init(&guest);
    guest_start_cpus(&guest);
    guest_put_text(&guest, "alive");
    again = guest_op(&guest, GUEST_IN8, UART_STATUS, 0, 0);
    guest_op(&guest, GUEST_FILL_ACC, GUEST_DATA, 0, 20000);
    guest_op(&guest, GUEST_GOTO, again, 0, 0);
}

START_TEST(requests_of_many_clients_at_any_moment)
{
    static const char *const more[] = {"--cpus", "3", "--on-reboot", "restart", NULL};
    static struct stress_client clients[CLIENTS];
    unsigned nslept = 0, last = 0, now;

    keep_busy();
    start(more);
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = (struct stress_client){.dice = 100 + i};
        ck_assert_int_eq(pthread_create(&clients[i].thread, NULL, ask_at_random, &clients[i]), 0);
    }
    do {
        sleep_ms(100);
        now = 0;
        for (unsigned i = 0; i < CLIENTS; i++)
            now += atomic_load(&clients[i].ndone);
        nslept = now == last ? nslept + 1 : 0;
        last = now;
        if (nslept == VM_TIMEOUT_S * 10) {
            vm_print_threads(&vm);
            ck_abort_msg("it hangs after %u requests; stderr: %s", now, vm_errors(&vm));
        }
    } while (now < CLIENTS * REQUESTS);
    for (unsigned i = 0; i < CLIENTS; i++)
        ck_assert_int_eq(pthread_join(clients[i].thread, NULL), 0);

    /* It can still do everything. */
    qmp_client_do(&client, "stop", NULL);
    qmp_client_do(&client, "system_reset", NULL);
    qmp_client_do(&client, "cont", NULL);
    vm.out.len = 0;
    ck_assert_msg(vm_wait_output(&vm, "alive"), "stderr: %s", vm_errors(&vm));
    end();
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "pause", scratch_set_up, scratch_tear_down, time_stands_still,
                   disk_loses_nothing, requests_of_many_clients_at_any_moment);
}

GUEST_TEST_MAIN("guest pause", add_tests)
