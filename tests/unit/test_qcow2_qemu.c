/*
 * The qcow2 engine beside QEMU's: images made by one and used by the other.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/mem_file.h"
#include "tests/lib/unit.h"
#include "vmm/base/bytes.h"

#define DISK_SIZE (4u << 20)

static char dir[] = "/tmp/minivmm-qemu-XXXXXX";
static char image[64];
static unsigned base_seed;
static unsigned seed;
static uint8_t model[DISK_SIZE];
static uint8_t buf[DISK_SIZE];

static unsigned rnd(unsigned below)
{
    return (unsigned)rand_r(&seed) % below;
}

/* Run a shell command in the temporary folder; its exit status. */
static int PRINTF_LIKE(1, 2) shell(const char *fmt, ...)
{
    char command[1024];
    va_list args;
    int n = snprintf(command, sizeof(command), "cd %s && ", dir);

    va_start(args, fmt);
    vsnprintf(command + n, sizeof(command) - (size_t)n, fmt, args);
    va_end(args);
    return system(command); /* NOLINT: commands of our own */
}

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(image, sizeof(image), "%s/image", dir);
    memset(model, 0, sizeof(model));
    seed = base_seed;
}

static void teardown(void)
{
    ck_assert_int_eq(shell("rm -rf %s", dir), 0);
}

static struct block *open_image(bool readonly)
{
    struct block_options options = {
        .path = image, .readonly = readonly, .discard = true, .cache = BLOCK_CACHE_UNSAFE};
    struct block *block;
    struct err err = {0};

    ck_assert_msg(block_open(&options, &block, &err) == 0, "%s", err.msg);
    return block;
}

static void assert_reads_as_model(void)
{
    struct block *block = open_image(true);

    ck_assert_int_eq(mem_block_read(block, 0, buf, DISK_SIZE), 0);
    for (size_t i = 0; i < DISK_SIZE; i++)
        if (buf[i] != model[i])
            ck_abort_msg("offset %zu: %u, expected %u", i, buf[i], model[i]);
    ck_assert_int_eq(block_close(block), 0);
}

static void save_model(void)
{
    char path[80];
    FILE *file;

    snprintf(path, sizeof(path), "%s/model", dir);
    file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(model, 1, DISK_SIZE, file), DISK_SIZE);
    ck_assert_int_eq(fclose(file), 0);
}

/* QEMU sees no fault, and the same contents. */
static void assert_qemu_agrees(void)
{
    ck_assert_int_eq(shell("qemu-img check -q -f qcow2 image"), 0);
    save_model();
    ck_assert_int_eq(shell("qemu-img compare -q -f raw -F qcow2 model image"), 0);
}

static void pick(uint64_t *ret_off, uint64_t *ret_len)
{
    *ret_off = rnd(DISK_SIZE / 512) * 512ull;
    *ret_len = min_u64((1 + rnd(rnd(4) ? 64 : 1000)) * 512ull, DISK_SIZE - *ret_off);
}

static void write_some(unsigned n)
{
    struct block *block = open_image(false);

    for (unsigned i = 0; i < n; i++) {
        uint64_t off;
        uint64_t len;

        pick(&off, &len);
        if (rnd(4)) {
            memset(model + off, 1 + (int)rnd(255), len);
            ck_assert_int_eq(mem_block_write(block, off, model + off, len), 0);
        } else {
            memset(model + off, 0, len);
            ck_assert_int_eq(
                mem_block_op(block, BLOCK_WRITE_ZEROES, rnd(2) ? BLOCK_REQ_UNMAP : 0, off, len), 0);
        }
    }
    ck_assert_int_eq(block_close(block), 0);
}

/* The same by qemu-io, in one run. */
static void qemu_write_some(unsigned n)
{
    static char commands[4096];
    int at = 0;

    for (unsigned i = 0; i < n; i++) {
        unsigned byte = 1 + rnd(255);
        uint64_t off;
        uint64_t len;

        pick(&off, &len);
        if (rnd(4)) {
            memset(model + off, (int)byte, len);
            at += snprintf(commands + at, sizeof(commands) - (size_t)at,
                           " -c 'write -P %u %llu %llu'", byte, (unsigned long long)off,
                           (unsigned long long)len);
        } else {
            memset(model + off, 0, len);
            at += snprintf(commands + at, sizeof(commands) - (size_t)at,
                           " -c 'write -z %s %llu %llu'", rnd(2) ? "-u" : "",
                           (unsigned long long)off, (unsigned long long)len);
        }
    }
    ck_assert_int_eq(shell("qemu-io -t unsafe -f qcow2%s image > /dev/null", commands), 0);
}

/* ---- handing images back and forth ------------------------------------------------------------------------- */

static const char *const variants[] = {
    "cluster_size=64k",
    "cluster_size=512",
    "cluster_size=512,refcount_bits=64",
    "cluster_size=4k,refcount_bits=1",
    "cluster_size=64k,refcount_bits=2",
    "cluster_size=2M,refcount_bits=8",
    "cluster_size=64k,compat=0.10",
    "cluster_size=64k,lazy_refcounts=on",
    "cluster_size=64k,preallocation=metadata",
    "cluster_size=64k,compression_type=zstd",
    "extended_l2=on",
    "extended_l2=on,cluster_size=16k",
    "extended_l2=on,cluster_size=2M,refcount_bits=1",
    "extended_l2=on,preallocation=metadata",
    "data_file=data",
    "data_file=data,data_file_raw=on",
    "data_file=data,extended_l2=on,cluster_size=128k",
};

START_TEST(image_is_handed_back_and_forth)
{
    printf("%s: seed %u\n", variants[_i], seed);
    ck_assert_int_eq(shell("qemu-img create -q -f qcow2 -o %s image 4M", variants[_i]), 0);
    for (int round = 0; round < 3; round++) {
        write_some(30);
        assert_qemu_agrees();
        qemu_write_some(15);
        assert_reads_as_model();
    }
}
END_TEST

static void make_base(const char *format)
{
    for (unsigned i = 0; i < DISK_SIZE; i++)
        model[i] = (uint8_t)(rnd(8) ? i >> 14 : rnd(256));
    memset(model + (1 << 20), 0, 1 << 20);
    save_model();
    ck_assert_int_eq(shell("qemu-img convert -f raw -O %s model base", format), 0);
}

static const struct base {
    const char *convert;
    const char *format;
    const char *options; /* of the overlay */
} bases[] = {
    {"raw", "raw", "extended_l2=on,cluster_size=32k"},
    {"qcow2 -c", "qcow2", "extended_l2=on"},
    {"qcow2 -o extended_l2=on", "qcow2", "data_file=data"},
    {"raw", "raw", "compat=v3"},
    {"qcow2 -o cluster_size=4k", "qcow2", "compat=v3"},
    {"qcow2 -c", "qcow2", "compat=v3"},
    {"qcow2 -c -o compression_type=zstd", "qcow2", "compat=v3"},
};

START_TEST(overlays_copy_what_they_do_not_write)
{
    make_base(bases[_i].convert);
    ck_assert_int_eq(shell("qemu-img create -q -f qcow2 -b base -F %s -o %s image",
                           bases[_i].format, bases[_i].options),
                     0);
    assert_reads_as_model();
    for (int round = 0; round < 2; round++) {
        write_some(30);
        assert_qemu_agrees();
        qemu_write_some(10);
        assert_reads_as_model();
    }
}
END_TEST

START_TEST(compressed_images_are_read_and_overwritten)
{
    static const char *const options[] = {"", "-o compression_type=zstd", "-o cluster_size=4k",
                                          "-o cluster_size=2M",
                                          "-o compression_type=zstd,cluster_size=2M"};

    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        make_base("raw");
        ck_assert_int_eq(shell("qemu-img convert -f raw -O qcow2 -c %s model image", options[i]),
                         0);
        assert_reads_as_model();
        write_some(30);
        assert_qemu_agrees();
    }
}
END_TEST

START_TEST(snapshots_keep_what_was_there)
{
    static uint8_t before[DISK_SIZE];

    ck_assert_int_eq(shell("qemu-img create -q -f qcow2 -o %s image 4M",
                           _i ? "cluster_size=1k" : "cluster_size=64k"),
                     0);
    write_some(40);
    memcpy(before, model, DISK_SIZE);
    ck_assert_int_eq(shell("qemu-img snapshot -c one image"), 0);
    write_some(40);
    assert_qemu_agrees();
    ck_assert_int_eq(shell("qemu-img snapshot -c two image"), 0);
    write_some(20);
    assert_qemu_agrees();
    ck_assert_int_eq(shell("qemu-img snapshot -d two image"), 0);
    write_some(20);
    assert_qemu_agrees();
    ck_assert_int_eq(shell("qemu-img snapshot -a one image"), 0);
    memcpy(model, before, DISK_SIZE);
    assert_reads_as_model();
    write_some(20);
    assert_qemu_agrees();
}
END_TEST

/* ---- locks ------------------------------------------------------------------------------------------------ */

START_TEST(qemu_and_we_keep_each_other_out)
{
    struct block_options options = {.path = image};
    struct block *block;
    struct err err = {0};
    int r;

    ck_assert_int_eq(shell("qemu-img create -q -f qcow2 image 4M"), 0);
    block = open_image(false);
    ck_assert_int_ne(shell("qemu-img info image > /dev/null 2>&1"), 0);
    ck_assert_int_ne(shell("qemu-io -c 'write 0 512' image > /dev/null 2>&1"), 0);
    ck_assert_int_eq(shell("qemu-img info -U image > /dev/null"), 0);
    ck_assert_int_eq(block_close(block), 0);

    block = open_image(true);
    ck_assert_int_eq(shell("qemu-img info image > /dev/null"), 0);
    ck_assert_int_ne(shell("qemu-io -c 'write 0 512' image > /dev/null 2>&1"), 0);
    ck_assert_int_eq(block_close(block), 0);

    /* It says when it has the image open. */
    ck_assert_int_eq(shell("mkfifo go; (echo 'read 0 512'; cat go) | qemu-io image > out 2>&1 &"),
                     0);
    ck_assert_int_eq(shell("until grep -q 'read 512' out; do sleep 0.05; done"), 0);
    r = block_open(&options, &block, &err);
    options.readonly = true;
    if (r == -EAGAIN)
        r = block_open(&options, &block, &err);
    ck_assert_int_eq(shell("echo q > go; wait"), 0);
    ck_assert_int_eq(r, -EAGAIN);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("qemu");
    const char *text = getenv("SEED");

    base_seed = text ? (unsigned)strtoul(text, NULL, 0) : (unsigned)time(NULL);
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, image_is_handed_back_and_forth, 0, ARRAY_SIZE(variants));
    tcase_add_loop_test(tcase, overlays_copy_what_they_do_not_write, 0, ARRAY_SIZE(bases));
    tcase_add_test(tcase, compressed_images_are_read_and_overwritten);
    tcase_add_loop_test(tcase, snapshots_keep_what_was_there, 0, 2);
    tcase_add_test(tcase, qemu_and_we_keep_each_other_out);
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    if (system("qemu-img --version > /dev/null 2>&1 && qemu-io --version > /dev/null 2>&1") != 0) {
        printf("not run: qemu-img and qemu-io are missing (Debian package qemu-utils)\n");
        return UNIT_SKIP;
    }
    return unit_main("qcow2_qemu", add_tests);
}
