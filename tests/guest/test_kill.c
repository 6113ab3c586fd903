/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm is killed with SIGKILL while its guest writes, again and again: the image stays sound,
 * and everything the guest had flushed is there.
 *
 * The guest writes random runs of sectors, each filled with a number of its own, and flushes now
 * and then. After each flush it says on the serial port how many writes that covers. After the
 * kill, another program reads the image. A sector must hold its value from before this round or
 * from the last write that a flush covered, or from any later write.
 *
 * GUEST_SEED=N repeats the guests, though not the moments; GUEST_KILL_ROUNDS=N sets how many.
 */
#include <linux/virtio_blk.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/lib/guest/guest_disk.h"
#include "tests/lib/guest/guest_test.h"
#include "tests/lib/guest/random.h"
#include "vmm/config/config.h"

#define ROUNDS_DEFAULT 12u

/* Small enough to hit the same clusters often, large enough for several tables. */
#define DISK_LEN (16ull << 20)
#define SECTORS (DISK_LEN / BLOCK_SECTOR_SIZE)
#define WRITES_MAX 1500u
#define WRITE_SECTORS_MAX 160u

struct write {
    uint64_t sector;
    uint64_t nsectors;
    uint64_t value;
};

static struct write writes[WRITES_MAX];
static uint64_t before[SECTORS]; /* what each sector held when the round began */
static uint64_t next_value = 1;
static bool direct_io;

/* ---- qemu-img -------------------------------------------------------------------------------- */

/*
 * The kernel takes down the io_uring of a killed process in the background and drops the image's
 * lock only then.
 */
static void wait_for_unlock(void)
{
    unsigned tries = 100;

    while (scratch_shell("qemu-img info -f qcow2 image > log 2>&1") != 0 && --tries > 0)
        usleep(50000);
    if (tries == 0)
        ck_abort_msg("qemu-img info fails: %d", scratch_shell("cat log"));
}

static void check_image(void)
{
    enum { SOUND = 0, LEAKS = 3 }; /* 2: errors */
    int status = scratch_shell("qemu-img check -q -f qcow2 image");

    ck_assert_msg(status == SOUND || status == LEAKS, "qemu-img check says %d", status);
}

/* Read the image, sector by sector, into `ret_values`. */
static void read_image(uint64_t ret_values[SECTORS])
{
    uint8_t data[BLOCK_SECTOR_SIZE];
    FILE *file;

    scratch_ok("qemu-img convert -f qcow2 -O raw image raw");
    file = fopen(scratch_path("raw"), "rb");
    ck_assert_ptr_nonnull(file);
    for (uint64_t i = 0; i < SECTORS; i++) {
        ck_assert_uint_eq(fread(data, sizeof(data), 1, file), 1);
        ck_assert_msg(memcmp(data, data + 8, sizeof(data) - 8) == 0, "sector %llu is torn",
                      (unsigned long long)i);
        ret_values[i] = load_le64(data);
    }
    fclose(file);
}

/* ---- one round ------------------------------------------------------------------------------- */

static void write_guest(const char *kernel)
{
    struct guest_disk disk;
    struct guest guest;

    guest_init(&guest);
    guest_disk_init(&disk, &guest, 0);
    for (uint32_t i = 0; i < WRITES_MAX; i++) {
        struct write *write = &writes[i];

        write->nsectors = 1 + random_below(random_below(4) ? 8 : WRITE_SECTORS_MAX);
        write->sector = random_below(SECTORS - write->nsectors);
        write->value = next_value++;
        guest_fill(&guest, GUEST_DISK_BUFFER, write->value, write->nsectors * BLOCK_SECTOR_SIZE);
        guest_disk_request(&disk, VIRTIO_BLK_T_OUT, write->sector, GUEST_DISK_BUFFER,
                           (uint32_t)(write->nsectors * BLOCK_SECTOR_SIZE));
        if (random_below(8) != 0)
            continue;
        guest_disk_request(&disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
        guest_op(&guest, GUEST_ST64, GUEST_DISK_BUFFER, i + 1, 0);
        guest_op(&guest, GUEST_LD64, GUEST_DISK_BUFFER, 0, 0);
        guest_op(&guest, GUEST_PUT_ACC, 4, 0, 0);
    }
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    guest_write_kernel(&guest, kernel);
    guest_done(&guest);
}

/* Run the guest for a random time; returns how many writes are known to be flushed. */
static uint32_t run_and_kill(const char *kernel, const char *image)
{
    static const char *const options[] = {"", ",aio=threads", ",queues=2", ",cache=none"};
    char disk[512];
    const char *const args[] = {"--kernel", kernel, "--memory", GUEST_MEMORY, "--disk", disk, NULL};
    uint64_t run_us = random_below(300000);
    uint32_t flushed = 0;
    struct vm vm;

    snprintf(disk, sizeof(disk), "%s,format=qcow2%s", image,
             options[random_below(ARRAY_SIZE(options) - !direct_io)]);
    vm_start(&vm, args);
    /* The first flush proves that it runs at all. */
    ck_assert_msg(vm_wait_output_len(&vm, 4), "stderr: %s", vm_errors(&vm));
    usleep((useconds_t)run_us);
    kill(vm.pid, SIGKILL);
    assert_exit_code(&vm, vm_wait(&vm), -SIGKILL);
    /* The guest does not look at the status of its writes: one that failed would be told here. */
    ck_assert_str_eq(vm_errors(&vm), "");
    if (vm.out.len >= 4)
        flushed = load_le32(vm.out.data + (vm.out.len & ~(size_t)3) - 4);
    vm_done(&vm);
    return flushed;
}

static bool covers(const struct write *write, uint64_t sector)
{
    return sector >= write->sector && sector - write->sector < write->nsectors;
}

/* May the sector hold `value`, given how many writes were flushed? */
static bool is_allowed(uint64_t sector, uint64_t value, uint32_t flushed)
{
    uint64_t durable = before[sector];

    for (uint32_t i = 0; i < flushed; i++)
        if (covers(&writes[i], sector))
            durable = writes[i].value;
    if (value == durable)
        return true;
    for (uint32_t i = flushed; i < WRITES_MAX; i++)
        if (covers(&writes[i], sector) && writes[i].value == value)
            return true;
    return false;
}

static void round_of(const char *kernel, const char *image)
{
    static uint64_t after[SECTORS];
    uint32_t flushed;

    write_guest(kernel);
    flushed = run_and_kill(kernel, image);
    wait_for_unlock();
    check_image();
    read_image(after);
    for (uint64_t i = 0; i < SECTORS; i++)
        ck_assert_msg(is_allowed(i, after[i], flushed),
                      "sector %llu holds %llu, %u writes were flushed", (unsigned long long)i,
                      (unsigned long long)after[i], flushed);
    memcpy(before, after, sizeof(before));
}

START_TEST(killed_at_random_the_image_is_sound_and_flushed_data_is_there)
{
    static const char *const formats[] = {"cluster_size=65536", "cluster_size=4096",
                                          "cluster_size=512,refcount_bits=1"};
    unsigned rounds = unit_number("GUEST_KILL_ROUNDS", ROUNDS_DEFAULT);
    const char *kernel = scratch_path("kernel"), *image = scratch_path("image");

    direct_io = vm_has_direct_io();
    random_seed();
    scratch_ok("qemu-img create -q -f qcow2 -o %s image %llu", formats[_i], DISK_LEN);
    for (unsigned i = 0; i < rounds; i++)
        round_of(kernel, image);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("kill");

    tcase_add_loop_test(tcase, killed_at_random_the_image_is_sound_and_flushed_data_is_there, 0, 3);
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    return scratch_has_qemu() ? guest_test_main("guest kill", add_tests) : UNIT_SKIP;
}
