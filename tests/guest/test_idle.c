/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM costs beside its guest's work: idle, at its start with many disks, and at its end.
 */
#include <dirent.h>
#include <linux/virtio_blk.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/lib/guest/guest_disk.h"
#include "tests/lib/guest/guest_test.h"
#include "tests/lib/guest/qmp_client.h"
#include "vmm/config/config.h"

/* Far more than all else that minivmm maps: its mapping is the guest's memory. */
#define MEMORY "256M"
#define MEMORY_KIB (256u << 10)

/* Idle disks give memory back after 2 to 4 s without requests. */
#define SETTLE_S 6

/*
 * What docs/design.md promises, in KiB: resident; private dirty; both for another CPU or disk; and
 * private dirty for a network card.
 */
#define RSS_KIB 1024u
#define DIRTY_KIB 128u
#define MORE_KIB 64u
#define CARD_KIB 96u

#define POWER_OFF_MS 50u

/*
 * The longest start with so many disks. Where KVM has to wait for each of them, it takes 10 ms
 * each.
 */
#define MANY_DISKS 16u
#define START_MS 100u
#define TRIES 5

#define EXTRA 4u
#define DISKS_MAX (1 + EXTRA)

static struct guest guest;
static struct vm vm;

static const struct vm no_vm = {.pid = -1, .in = -1, .out.fd = -1, .err.fd = -1};

static void end_vm(void)
{
    vm_done(&vm);
    vm = no_vm;
}

static void set_up(void)
{
    vm = no_vm;
    guest_init(&guest);
}

static void tear_down(void)
{
    end_vm();
    guest_done(&guest);
}

/* ---- the VM ---------------------------------------------------------------------------------- */

static const char *make_disk(unsigned index)
{
    char name[16], command[512];
    const char *path;

    snprintf(name, sizeof(name), "disk%u", index);
    path = scratch_path(name);
    snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 '%s' 64M", path);
    ck_assert_int_eq(system(command), 0);
    return path;
}

enum use { READ, READ_AND_WRITE };

static char qmp_address[200]; /* of a control socket; empty: none */
static char net[200];         /* what --net says; empty: no network card */

/* Start a guest that uses each of its disks, says "idle", and is. */
static void start(unsigned ncpus, unsigned ndisks, enum use use, const struct vm_setup *setup)
{
    static struct guest_disk disks[DISKS_MAX];
    char cpus[8];
    const char *kernel = scratch_path("kernel");
    const char *args[VM_ARGS_MAX] = {"--kernel", kernel, "--memory", MEMORY, "--cpus", cpus};
    size_t n = 6;

    snprintf(cpus, sizeof(cpus), "%u", ncpus);
    for (unsigned i = 0; i < ndisks; i++) {
        args[n++] = "--disk";
        args[n++] = make_disk(i);
        guest_disk_init(&disks[i], &guest, i);
        guest_disk_request(&disks[i], VIRTIO_BLK_T_IN, 2048, GUEST_DISK_BUFFER, 65536);
        if (use == READ)
            continue;
        guest_disk_request(&disks[i], VIRTIO_BLK_T_OUT, 0, GUEST_DISK_BUFFER, 65536);
        guest_disk_request(&disks[i], VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    }
    if (qmp_address[0]) {
        args[n++] = "--qmp";
        args[n++] = qmp_address;
    }
    if (net[0]) {
        args[n++] = "--net";
        args[n++] = net;
    }
    guest_put_text(&guest, "idle");
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    guest_write_kernel(&guest, kernel);
    vm_start_with(&vm, args, setup);
    ck_assert_msg(vm_wait_output(&vm, "idle"), "stderr: %s", vm_errors(&vm));
}

/* ---- memory ---------------------------------------------------------------------------------- */

struct memory {
    unsigned rss;   /* KiB, without the guest's memory */
    unsigned dirty; /* the same: private and dirty */
    bool counts;    /* else it is that of libraries, and of sanitizers, as well */
};

/*
 * Pages of a file count as dirty when that file was just written, as a program is that was just
 * built. So of private mappings only what is no longer the file's counts.
 */
static struct memory memory_of(pid_t pid)
{
    struct memory sum = {.counts = true};
    char path[64], line[512], perms[8] = "";
    unsigned size = 0, value;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof(line), f)) {
        (void)sscanf(line, "%*x-%*x %7s", perms);
        if (strstr(line, "/libc.so"))
            sum.counts = false;
        if (sscanf(line, "Size: %u kB", &value) == 1)
            size = value;
        if (size >= MEMORY_KIB)
            continue;
        if (sscanf(line, "Rss: %u kB", &value) == 1)
            sum.rss += value;
        if (sscanf(line, perms[3] == 's' ? "Private_Dirty: %u kB" : "Anonymous: %u kB", &value) ==
            1)
            sum.dirty += value;
    }
    fclose(f);
    return sum;
}

static struct memory idle_memory(unsigned ncpus, unsigned ndisks, enum use use)
{
    static const struct vm_setup usual;
    struct memory memory;

    start(ncpus, ndisks, use, &usual);
    sleep(SETTLE_S);
    memory = memory_of(vm.pid);
    end_vm();
    guest_done(&guest);
    guest_init(&guest);
    return memory;
}

START_TEST(idle_vm_needs_little_memory)
{
    struct memory memory = idle_memory(1, 1, READ);

    printf("idle VM: RSS %u KiB, private dirty %u KiB\n", memory.rss, memory.dirty);
    if (memory.counts) {
        ck_assert_uint_le(memory.rss, RSS_KIB);
        ck_assert_uint_le(memory.dirty, DIRTY_KIB);
    }
}
END_TEST

START_TEST(another_cpu_or_disk_needs_little_memory)
{
    struct memory one = idle_memory(1, 1, READ_AND_WRITE);
    struct memory cpus = idle_memory(1 + EXTRA, 1, READ_AND_WRITE);
    struct memory disks = idle_memory(1, 1 + EXTRA, READ_AND_WRITE);

    printf("per CPU: RSS %u KiB, private dirty %u KiB; per disk: %u, %u\n",
           (cpus.rss - one.rss) / EXTRA, (cpus.dirty - one.dirty) / EXTRA,
           (disks.rss - one.rss) / EXTRA, (disks.dirty - one.dirty) / EXTRA);
    if (one.counts) {
        ck_assert_uint_le(cpus.rss, one.rss + EXTRA * MORE_KIB);
        ck_assert_uint_le(disks.rss, one.rss + EXTRA * MORE_KIB);
    }
}
END_TEST

START_TEST(network_card_needs_little_memory)
{
    struct memory without = idle_memory(1, 1, READ);
    struct memory with;

    snprintf(net, sizeof(net), "unix:%s,server", scratch_path("wire"));
    with = idle_memory(1, 1, READ);
    printf("network card: RSS %u KiB, private dirty %u KiB\n", with.rss - without.rss,
           with.dirty - without.dirty);
    if (with.counts)
        ck_assert_uint_le(with.dirty, without.dirty + CARD_KIB);
}
END_TEST

/* ---- wake-ups -------------------------------------------------------------------------------- */

/* How often threads of the process went to sleep, in all. KVM itself starts one in each process. */
static unsigned long wakeups_of(pid_t pid)
{
    unsigned long sum = 0, value;
    char path[320], line[256];
    struct dirent *task;
    DIR *tasks;

    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    tasks = opendir(path);
    ck_assert_ptr_nonnull(tasks);
    while ((task = readdir(tasks))) {
        bool ours = true;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/task/%s/status", pid, task->d_name);
        f = task->d_name[0] == '.' ? NULL : fopen(path, "r");
        while (f && fgets(line, sizeof(line), f)) {
            ours &= strncmp(line, "Name:\tkvm-", 10) != 0;
            if (ours && sscanf(line, "voluntary_ctxt_switches: %lu", &value) == 1)
                sum += value;
        }
        if (f)
            fclose(f);
    }
    closedir(tasks);
    return sum;
}

static void expect_no_wakeups(void)
{
    unsigned long before;

    sleep(SETTLE_S);
    before = wakeups_of(vm.pid);
    sleep(2);
    ck_assert_uint_eq(wakeups_of(vm.pid), before);
}

/* A client that has asked for much, and is still connected. */
START_TEST(idle_vm_with_a_client_never_wakes_up)
{
    static const struct vm_setup usual;
    struct qmp_client client;
    struct memory memory;

    snprintf(qmp_address, sizeof(qmp_address), "unix:%s", scratch_path("qmp"));
    start(1, 1, READ, &usual);
    qmp_client_open(&client, scratch_path("qmp"));
    for (unsigned i = 0; i < 10; i++) {
        qmp_client_do(&client, "query-qmp-schema", NULL);
        qmp_client_do(&client, "query-block", NULL);
        qmp_client_do(&client, "query-stats", "{\"target\":\"vcpu\"}");
    }
    expect_no_wakeups();
    memory = memory_of(vm.pid);
    printf("idle VM with a client: RSS %u KiB, private dirty %u KiB\n", memory.rss, memory.dirty);
    if (memory.counts)
        ck_assert_uint_le(memory.rss, RSS_KIB);
    qmp_client_close(&client);
}
END_TEST

START_TEST(idle_vm_on_a_pipe_never_wakes_up)
{
    static const struct vm_setup usual;

    start(2, 2, READ_AND_WRITE, &usual);
    expect_no_wakeups();
}
END_TEST

START_TEST(idle_vm_with_a_network_card_never_wakes_up)
{
    static const struct vm_setup usual;

    snprintf(net, sizeof(net), "unix:%s,server", scratch_path("wire"));
    start(1, 1, READ, &usual);
    expect_no_wakeups();
}
END_TEST

START_TEST(idle_vm_on_a_terminal_never_wakes_up)
{
    struct vm_setup setup = {0};
    int master;

    ck_assert_int_eq(openpty(&master, &setup.terminal, NULL, NULL, NULL), 0);
    start(1, 1, READ_AND_WRITE, &setup);
    expect_no_wakeups();
    close(setup.terminal);
    close(master);
}
END_TEST

/* ---- the start and the end ------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

START_TEST(vm_with_many_disks_starts_soon)
{
    const char *kernel = scratch_path("kernel");
    const char *args[VM_ARGS_MAX] = {"--kernel", kernel, "--memory", MEMORY};
    uint64_t best_ms = UINT64_MAX;

    for (unsigned i = 0; i < MANY_DISKS; i++) {
        args[4 + 2 * i] = "--disk";
        args[4 + 2 * i + 1] = make_disk(i);
    }
    guest_put_text(&guest, "started");
    guest_power_off(&guest);
    guest_write_kernel(&guest, kernel);
    for (int i = 0; i < TRIES; i++) {
        uint64_t start_ms = now_ms();

        end_vm();
        vm_start(&vm, args);
        ck_assert_msg(vm_wait_output(&vm, "started"), "stderr: %s", vm_errors(&vm));
        best_ms = min_u64(best_ms, now_ms() - start_ms);
        assert_exit_code(&vm, vm_wait(&vm), EXIT_POWER_OFF);
    }
    printf("start with %u disks: %llu ms\n", MANY_DISKS, (unsigned long long)best_ms);
    ck_assert_uint_le(best_ms, START_MS);
}
END_TEST

/* Milliseconds from the guest's last word, right before it powers off, to the process's end. */
static uint64_t power_off_once(void)
{
    const char *const args[] = {
        "--kernel", scratch_path("kernel"), "--memory", MEMORY, "--cpus", "4",
        "--disk",   make_disk(0),           NULL};
    uint64_t start_ms;

    vm_start(&vm, args);
    ck_assert_msg(vm_wait_output(&vm, "off"), "stderr: %s", vm_errors(&vm));
    start_ms = now_ms();
    assert_exit_code(&vm, vm_wait(&vm), EXIT_POWER_OFF);
    return now_ms() - start_ms;
}

START_TEST(vm_ends_soon_after_power_off)
{
    uint64_t best_ms = UINT64_MAX;
    struct guest_disk disk;

    guest_disk_init(&disk, &guest, 0);
    guest_disk_request(&disk, VIRTIO_BLK_T_IN, 0, GUEST_DISK_BUFFER, 65536);
    guest_put_text(&guest, "off");
    guest_power_off(&guest);
    guest_write_kernel(&guest, scratch_path("kernel"));
    for (int i = 0; i < TRIES; i++) {
        end_vm();
        best_ms = min_u64(best_ms, power_off_once());
    }
    printf("power-off to the end of the process: %llu ms\n", (unsigned long long)best_ms);
    ck_assert_uint_le(best_ms, POWER_OFF_MS);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("idle");

    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, idle_vm_needs_little_memory);
    tcase_add_test(tcase, another_cpu_or_disk_needs_little_memory);
    tcase_add_test(tcase, network_card_needs_little_memory);
    tcase_add_test(tcase, idle_vm_with_a_client_never_wakes_up);
    tcase_add_test(tcase, idle_vm_with_a_network_card_never_wakes_up);
    tcase_add_test(tcase, idle_vm_on_a_pipe_never_wakes_up);
    tcase_add_test(tcase, idle_vm_on_a_terminal_never_wakes_up);
    tcase_add_test(tcase, vm_with_many_disks_starts_soon);
    tcase_add_test(tcase, vm_ends_soon_after_power_off);
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    return scratch_has_qemu() ? guest_test_main("guest idle", add_tests) : UNIT_SKIP;
}
