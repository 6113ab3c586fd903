/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many clients at once, each of which does what it likes, while the guest writes to its disk: each
 * request is answered once, in order, and the end comes when one of them wants it.
 */
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "block/create.h"
#include "tests/lib/guest/guest_disk.h"
#include "tests/lib/guest/guest_test.h"
#include "tests/lib/guest/qmp_client.h"
#include "tests/lib/guest/random.h"
#include "vmm/config/config.h"

#define CLIENTS 4u
#define REQUESTS 2000u

/* Requests of a client that it has not seen the answers of. */
#define OPEN_MAX 6u

static struct guest guest;
static struct vm vm;

static struct storm_client {
    struct qmp_client qmp;
    json_int_t asked; /* the ID of the last request */
    json_int_t answered;
} clients[CLIENTS];

static void set_up(void)
{
    guest_init(&guest);
}

static void tear_down(void)
{
    for (unsigned i = 0; i < CLIENTS; i++)
        qmp_client_close(&clients[i].qmp);
    vm_done(&vm);
    guest_done(&guest);
}

/* It writes to its disk and reads it, for longer than most of its lives are. */
static void make_busy(struct guest_disk *disk)
{
    guest_start_cpus(&guest);
    guest_disk_init(disk, &guest, 0);
    for (unsigned i = 0; i < 200; i++) {
        guest_disk_request(disk, VIRTIO_BLK_T_OUT, 128ul * (i % 16), GUEST_DISK_BUFFER, 65536);
        guest_disk_request(disk, VIRTIO_BLK_T_IN, 64ul * (i % 16), GUEST_DISK_BUFFER, 4096);
        if (i % 4 == 0)
            guest_disk_request(disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    }
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
}

/* The more often it stands here, the more often it is asked for. */
static const char *const wishes[] = {
    "\"stop\"",
    "\"stop\"",
    "\"cont\"",
    "\"cont\"",
    "\"cont\"",
    "\"query-status\"",
    "\"query-cpus-fast\"",
    "\"query-block\"",
    "\"query-blockstats\"",
    "\"query-stats\",\"arguments\":{\"target\":\"vcpu\"}",
    "\"query-stats\",\"arguments\":{\"target\":\"vm\"}",
    "\"human-monitor-command\",\"arguments\":{\"command-line\":\"info registers\",\"cpu-index\":1}",
    "\"human-monitor-command\",\"arguments\":{\"command-line\":\"x /4xg 0x200000\"}",
    "\"system_powerdown\"",
    "\"system_reset\"",
};

/* NOLINTBEGIN(bugprone-suspicious-missing-comma) */
static const char *const disk_wishes[] = {
    "\"stop\"",
    "\"cont\"",
    "\"cont\"",
    "\"query-block\"",
    "\"query-named-block-nodes\"",
    "\"query-block-jobs\"",
    "\"block_resize\",\"arguments\":{\"device\":\"vda\",\"size\":20971520}",
    "\"block_set_io_throttle\",\"arguments\":{\"device\":\"vda\",\"bps\":100000000,\"bps_rd\":0,"
    "\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0}",
    "\"block_set_io_throttle\",\"arguments\":{\"device\":\"vda\",\"bps\":0,\"bps_rd\":0,"
    "\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0}",
    "\"blockdev-snapshot-internal-sync\",\"arguments\":{\"device\":\"vda\",\"name\":\"a\"}",
    "\"blockdev-snapshot-delete-internal-sync\",\"arguments\":{\"device\":\"vda\",\"name\":\"a\"}",
    "\"block-stream\",\"arguments\":{\"device\":\"vda\"}",
    "\"block-commit\",\"arguments\":{\"device\":\"vda\"}",
    "\"block-commit\",\"arguments\":{\"device\":\"vda\",\"top-node\":\"#vda.1\"}",
    "\"block-stream\",\"arguments\":{\"device\":\"vda\",\"base-node\":\"#vda.2\"}",
    "\"block-job-complete\",\"arguments\":{\"device\":\"vda\"}",
    "\"block-job-complete\",\"arguments\":{\"device\":\"vda\"}",
    "\"block-job-pause\",\"arguments\":{\"device\":\"vda\"}",
    "\"block-job-resume\",\"arguments\":{\"device\":\"vda\"}",
    "\"block-job-cancel\",\"arguments\":{\"device\":\"vda\"}",
    "\"system_reset\"",
};
/* NOLINTEND(bugprone-suspicious-missing-comma) */

static void ask_for(struct storm_client *client, const char *wish)
{
    char text[600];

    snprintf(text, sizeof(text), "{\"id\":%lld,\"execute\":%s}\n", (long long)++client->asked,
             wish);
    qmp_client_send(&client->qmp, text);
}

static void ask(struct storm_client *client)
{
    ask_for(client, wishes[random_below(ARRAY_SIZE(wishes))]);
}

static void ask_of_disk(struct storm_client *client)
{
    static unsigned noverlays;
    char wish[500], name[32];

    if (random_below(20) > 0) {
        ask_for(client, disk_wishes[random_below(ARRAY_SIZE(disk_wishes))]);
        return;
    }
    snprintf(name, sizeof(name), "over%u", noverlays++);
    snprintf(
        wish, sizeof(wish),
        "\"blockdev-snapshot-sync\",\"arguments\":{\"device\":\"vda\",\"snapshot-file\":\"%s\"}",
        scratch_path(name));
    ask_for(client, wish);
}

/* Answers come in order, and what failed says why. Events are forgotten. */
static void take_answer(struct storm_client *client)
{
    json_t *answer = qmp_client_answer(&client->qmp);
    json_t *error = json_object_get(answer, "error");

    ck_assert_int_eq(json_integer_value(json_object_get(answer, "id")), ++client->answered);
    ck_assert(error || json_object_get(answer, "return"));
    if (error) {
        const char *desc = json_string_value(json_object_get(error, "desc"));

        ck_assert_str_ne(json_string_value(json_object_get(error, "class")), "CommandNotFound");
        ck_assert_msg(desc && *desc, "%s", json_dumps(answer, 0));
    }
    json_decref(answer);
    json_array_clear(client->qmp.events);
}

static void start(const char *image)
{
    const char *kernel = scratch_path("kernel");
    const char *path = scratch_path("qmp");
    char address[300];
    const char *const args[] = {"--kernel", kernel, "--memory", GUEST_MEMORY, "--cpus", "2",
                                "--disk",   image,  "--qmp",    address,      NULL};

    snprintf(address, sizeof(address), "unix:%s", path);
    guest_write_kernel(&guest, kernel);
    vm_start(&vm, args);
    for (unsigned i = 0; i < CLIENTS; i++)
        qmp_client_open(&clients[i].qmp, path);
}

/* Start, let clients ask at random, and end; the image is checked. */
static void storm(void (*ask_one)(struct storm_client *client), unsigned nrequests)
{
    const struct block_create_options image = {
        .path = scratch_path("disk.qcow2"), .format = BLOCK_FORMAT_QCOW2, .len = 16 * MIB};
    struct guest_disk disk;
    struct err err;

    random_seed();
    ck_assert_int_eq(block_create(&image, &err), 0);
    make_busy(&disk);
    start(image.path);
    for (unsigned i = 0; i < nrequests; i++) {
        struct storm_client *client = &clients[random_below(CLIENTS)];

        ask_one(client);
        while (client->asked - client->answered >= OPEN_MAX)
            take_answer(client);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        while (clients[i].answered < clients[i].asked)
            take_answer(&clients[i]);
    qmp_client_do(&clients[0].qmp, "quit", NULL);
    for (unsigned i = 0; i < CLIENTS; i++)
        qmp_client_end(&clients[i].qmp);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
    ck_assert_ptr_null(strstr(vm_errors(&vm), "flush failed")); /* also where a pause was cut off */
    if (scratch_has_qemu())
        scratch_ok("qemu-img check -q disk.qcow2");
}

START_TEST(every_request_is_answered_in_order)
{
    storm(ask, REQUESTS);
}
END_TEST

START_TEST(disks_are_changed_meanwhile)
{
    storm(ask_of_disk, REQUESTS / 4);
}
END_TEST

/* Requests are open, and nobody reads. */
START_TEST(end_comes_in_the_midst)
{
    static const char quit[] = "{\"execute\":\"quit\"}";
    const struct block_create_options image = {
        .path = scratch_path("disk.qcow2"), .format = BLOCK_FORMAT_QCOW2, .len = 16 * MIB};
    struct guest_disk disk;
    struct err err;

    random_seed();
    ck_assert_int_eq(block_create(&image, &err), 0);
    make_busy(&disk);
    start(image.path);
    for (unsigned i = 0; i < 40; i++)
        ask(&clients[random_below(CLIENTS)]);
    /* The first that arrives counts; the connections may be gone before the last is sent. */
    for (unsigned i = 0; i < CLIENTS; i++)
        (void)!send(clients[i].qmp.fd, quit, strlen(quit), MSG_NOSIGNAL);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_KILLED);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("storm");

    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, every_request_is_answered_in_order);
    tcase_add_test(tcase, disks_are_changed_meanwhile);
    tcase_add_loop_test(tcase, end_comes_in_the_midst, 0, 10);
    suite_add_tcase(suite, tcase);
}

GUEST_TEST_MAIN("qmp storm", add_tests)
