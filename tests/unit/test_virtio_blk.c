#include "devices/virtio_blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/fake_block.h"
#include "tests/lib/unit.h"
#include "tests/lib/virtio_driver.h"

#define MEM_LEN (16 * MIB)
#define DISK_LEN (1 * MIB)
#define DISK_SECTORS (DISK_LEN / 512)

/* Where things are in guest memory: rings, then one header and status per request, then data. */
#define RING_GPA(queue) (0x10000u + 0x10000u * (queue))
#define HEADER_GPA(i) (1 * MIB + 64 * (uint64_t)(i))
#define STATUS_GPA(i) (HEADER_GPA(i) + 32)
#define DATA_GPA (8 * MIB)
#define TABLE_GPA (4 * MIB)

#define FEATURE(name) VIRTIO_FEATURE(VIRTIO_BLK_F_##name)
#define EVENT_IDX VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX)
#define VERSION_1 VIRTIO_FEATURE(VIRTIO_F_VERSION_1)
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET

#define UNTOUCHED 0xee /* fill for what the device must not write */
#define TIMEOUT_MS 10000

static struct loop *loop;
static pthread_t loop_thread;
static struct block *disk;
static struct guest_mem *mem;
static struct irq irq;
static struct virtio_mmio *mmio;
static struct driver_ring ring;

static void *loop_main(void *arg)
{
    ck_assert_int_eq(loop_run(loop), 0);
    return NULL;
}

static void set_up(void)
{
    ck_assert_int_eq(loop_new(&loop), 0);
    disk = fake_block_new(loop, DISK_LEN);
    mem = driver_mem_new(MEM_LEN);
    ck_assert_int_eq(irq_init(&irq, 5), 0);
}

/* After the test has changed the disk to its taste. */
static void start_device(unsigned nqueues)
{
    const struct virtio_blk_options options = {
        .block = disk,
        .loop = loop,
        .serial = "root-disk",
        .nqueues = nqueues,
    };
    struct virtio_dev *dev;

    ck_assert_int_eq(pthread_create(&loop_thread, NULL, loop_main, NULL), 0);
    ck_assert_int_eq(virtio_blk_new(&options, mem, &dev), 0);
    ck_assert_int_eq(virtio_mmio_new(dev, &irq, &mmio), 0);
}

static void bring_up_with(uint64_t features, uint16_t size)
{
    ck_assert(driver_negotiate(mmio, features));
    driver_ring_init(&ring, mem, RING_GPA(0), size, features & EVENT_IDX);
    ck_assert(driver_setup_queue(mmio, 0, &ring));
    driver_set_driver_ok(mmio);
}

/* The usual beginning: one queue of 16, all features. */
static void bring_up(void)
{
    start_device(1);
    bring_up_with(driver_features(mmio), 16);
}

static void tear_down(void)
{
    virtio_mmio_free(mmio);
    loop_stop(loop);
    pthread_join(loop_thread, NULL);
    loop_free(loop);
    fake_block_free(disk);
    irq_done(&irq);
    guest_mem_free(mem);
}

static void nothing(void *opaque)
{
}

/* Wait until the loop has done what it was told before; its thread's data can be looked at then. */
static void settle(void)
{
    for (int i = 0; i < 4; i++)
        loop_call(loop, nothing, NULL);
}

/* ---- requests -------------------------------------------------------------------------------- */

static uint8_t *guest(uint64_t gpa, size_t len)
{
    return driver_at(mem, gpa, len);
}

static void put_header(unsigned i, uint32_t type, uint64_t sector)
{
    const struct virtio_blk_outhdr header = {.type = htole32(type), .sector = htole64(sector)};

    memcpy(guest(HEADER_GPA(i), sizeof(header)), &header, sizeof(header));
    *guest(STATUS_GPA(i), 1) = UNTOUCHED;
}

static void kick(void)
{
    if (driver_show(&ring))
        driver_kick(mmio, 0);
}

/* The next used element, waiting for an interrupt as a guest does. */
static struct vring_used_elem wait_used(struct driver_ring *from)
{
    struct vring_used_elem elem;

    while (!driver_take(from, &elem)) {
        if (driver_want_interrupt(from))
            continue;
        ck_assert_msg(driver_wait_irq(&irq, TIMEOUT_MS), "no interrupt");
        (void)driver_ack(mmio);
    }
    return elem;
}

/* Offer a request with one data buffer, or none, and do not wait. */
static uint16_t add_request(unsigned i, uint32_t type, uint64_t sector, uint64_t data_gpa,
                            uint32_t len)
{
    bool reads = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
    const struct driver_buf bufs[] = {
        {HEADER_GPA(i), sizeof(struct virtio_blk_outhdr), false},
        {data_gpa, len, reads},
        {STATUS_GPA(i), 1, true},
    };

    put_header(i, type, sector);
    return driver_add(&ring, bufs, 3);
}

/* Run one request; returns its status and, if wanted, what the used ring says was written. */
static uint8_t request(uint32_t type, uint64_t sector, uint32_t len, uint32_t *ret_written)
{
    uint16_t head = add_request(0, type, sector, DATA_GPA, len);
    struct vring_used_elem elem;

    kick();
    elem = wait_used(&ring);
    ck_assert_uint_eq(elem.id, head);
    if (ret_written)
        *ret_written = elem.len;
    return *guest(STATUS_GPA(0), 1);
}

static uint8_t segment_request(uint32_t type, uint64_t sector, uint32_t nsectors, uint32_t flags)
{
    const struct virtio_blk_discard_write_zeroes segment = {
        .sector = htole64(sector),
        .num_sectors = htole32(nsectors),
        .flags = htole32(flags),
    };

    memcpy(guest(DATA_GPA, sizeof(segment)), &segment, sizeof(segment));
    return request(type, 0, sizeof(segment), NULL);
}

START_TEST(read_brings_what_is_on_the_disk)
{
    uint32_t written;

    bring_up();
    memset(disk->data + 512ul * 7, 'r', 1024);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 7, 1024, &written), VIRTIO_BLK_S_OK);
    ck_assert_mem_eq(guest(DATA_GPA, 1024), disk->data + 512ul * 7, 1024);
    ck_assert_uint_eq(*guest(DATA_GPA + 1024, 1), 0);
    ck_assert_uint_eq(written, 1025);
}
END_TEST

START_TEST(write_reaches_the_disk)
{
    uint32_t written;

    bring_up();
    memset(guest(DATA_GPA, 1536), 'w', 1536);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, DISK_SECTORS - 3, 1536, &written), VIRTIO_BLK_S_OK);
    ck_assert_mem_eq(disk->data + DISK_LEN - 1536, guest(DATA_GPA, 1536), 1536);
    ck_assert_uint_eq(disk->data[DISK_LEN - 1537], 0);
    ck_assert_uint_eq(written, 1);
}
END_TEST

START_TEST(flush_reaches_the_disk)
{
    bring_up();
    ck_assert_uint_eq(request(VIRTIO_BLK_T_FLUSH, 0, 0, NULL), VIRTIO_BLK_S_OK);
    settle();
    ck_assert_uint_eq(disk->nflushes, 1);
}
END_TEST

START_TEST(id_is_padded_to_20_bytes)
{
    uint32_t written;

    bring_up();
    memset(guest(DATA_GPA, 32), UNTOUCHED, 32);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_GET_ID, 0, 20, &written), VIRTIO_BLK_S_OK);
    ck_assert_mem_eq(guest(DATA_GPA, 21), "root-disk\0\0\0\0\0\0\0\0\0\0\0\xee", 21);
    ck_assert_uint_eq(written, 21);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_GET_ID, 0, 19, &written), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(written, 0);
}
END_TEST

START_TEST(discard_and_write_zeroes_pass_their_range_on)
{
    bring_up();
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_DISCARD, 8, 16, 0), VIRTIO_BLK_S_OK);
    settle();
    ck_assert_int_eq(disk->last.op, BLOCK_DISCARD);
    ck_assert_uint_eq(disk->last.off, 4096);
    ck_assert_uint_eq(disk->last.len, 8192);
    ck_assert_uint_eq(disk->last.flags, 0);

    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_WRITE_ZEROES, 0, DISK_SECTORS,
                                      VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
                      VIRTIO_BLK_S_OK);
    settle();
    ck_assert_int_eq(disk->last.op, BLOCK_WRITE_ZEROES);
    ck_assert_uint_eq(disk->last.len, DISK_LEN);
    ck_assert_uint_eq(disk->last.flags, BLOCK_REQ_UNMAP);

    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_WRITE_ZEROES, 1, 1, 0), VIRTIO_BLK_S_OK);
    settle();
    ck_assert_uint_eq(disk->last.flags, 0);
}
END_TEST

START_TEST(bad_segments_are_refused)
{
    static const struct {
        uint32_t type;
        uint32_t flags;
        uint64_t sector;
        uint32_t nsectors;
        uint8_t status;
    } cases[] = {
        {VIRTIO_BLK_T_DISCARD, 1, 0, 1, VIRTIO_BLK_S_UNSUPP}, /* unmap is for write zeroes */
        {VIRTIO_BLK_T_DISCARD, 2, 0, 1, VIRTIO_BLK_S_UNSUPP},
        {VIRTIO_BLK_T_WRITE_ZEROES, 3, 0, 1, VIRTIO_BLK_S_UNSUPP},
        {VIRTIO_BLK_T_DISCARD, 0, DISK_SECTORS, 1, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_DISCARD, 0, DISK_SECTORS - 1, 2, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_DISCARD, 0, UINT64_MAX, 1, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_WRITE_ZEROES, 0, 1ull << 55, 1, VIRTIO_BLK_S_IOERR}, /* × 512 wraps */
        {VIRTIO_BLK_T_WRITE_ZEROES, 0, 0, UINT32_MAX, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_DISCARD, 0, 0, 0, VIRTIO_BLK_S_OK}, /* nothing to do */
    };

    bring_up();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        ck_assert_msg(segment_request(cases[i].type, cases[i].sector, cases[i].nsectors,
                                      cases[i].flags) == cases[i].status,
                      "case %zu", i);
    /* No segment, half of one, two of them. */
    ck_assert_uint_eq(request(VIRTIO_BLK_T_DISCARD, 0, 0, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_DISCARD, 0, 8, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 32, NULL), VIRTIO_BLK_S_IOERR);
    settle();
    ck_assert_uint_eq(disk->nsubmitted, 0);
}
END_TEST

START_TEST(bad_requests_are_answered)
{
    static const struct {
        uint32_t type;
        uint64_t sector;
        uint32_t len;
        uint8_t status;
    } cases[] = {
        {VIRTIO_BLK_T_IN, DISK_SECTORS, 512, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_IN, DISK_SECTORS - 1, 1024, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_IN, 0, 2 * DISK_LEN, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_OUT, UINT64_MAX, 512, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_OUT, 1ull << 55, 512, VIRTIO_BLK_S_IOERR},       /* × 512 is 0 */
        {VIRTIO_BLK_T_OUT, (1ull << 55) - 1, 512, VIRTIO_BLK_S_IOERR}, /* + 512 is 0 */
        {VIRTIO_BLK_T_IN, 0, 511, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_OUT, 0, 513, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_IN, 0, 0, VIRTIO_BLK_S_OK}, /* nothing is no error */
        {VIRTIO_BLK_T_OUT, DISK_SECTORS, 0, VIRTIO_BLK_S_OK},
        {VIRTIO_BLK_T_OUT, DISK_SECTORS + 1, 0, VIRTIO_BLK_S_IOERR},
        {2, 0, 512, VIRTIO_BLK_S_UNSUPP}, /* SCSI, of old */
        {VIRTIO_BLK_T_SECURE_ERASE, 0, 16, VIRTIO_BLK_S_UNSUPP},
        {0x80000000, 0, 512, VIRTIO_BLK_S_UNSUPP},
        {0xffffffff, UINT64_MAX, 0, VIRTIO_BLK_S_UNSUPP},
    };

    bring_up();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        ck_assert_msg(request(cases[i].type, cases[i].sector, cases[i].len, NULL) ==
                          cases[i].status,
                      "case %zu", i);
    settle();
    ck_assert_uint_eq(disk->nsubmitted, 0);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(requests_follow_the_logical_block)
{
    disk->info.logical_block = 4096;
    bring_up();
    ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 8, 4096, NULL), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 1, 4096, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, 0, 512, NULL), VIRTIO_BLK_S_IOERR);
}
END_TEST

START_TEST(failures_of_the_disk_reach_the_driver)
{
    uint32_t written;

    disk->fail = -EIO;
    bring_up();
    ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 0, 512, &written), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(written, 0); /* nothing is promised about the data */
    ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, 0, 512, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_FLUSH, 0, 0, NULL), VIRTIO_BLK_S_IOERR);
    settle();
    disk->fail = -EOPNOTSUPP;
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_DISCARD, 0, 1, 0), VIRTIO_BLK_S_UNSUPP);
}
END_TEST

/* ---- layouts --------------------------------------------------------------------------------- */

static uint8_t run_bufs(const struct driver_buf *bufs, size_t nbufs, bool indirect)
{
    if (indirect)
        (void)driver_add_indirect(&ring, TABLE_GPA, bufs, nbufs);
    else
        (void)driver_add(&ring, bufs, nbufs);
    kick();
    (void)wait_used(&ring);
    return *guest(STATUS_GPA(0), 1);
}

START_TEST(header_data_and_status_may_be_split_anyhow)
{
    /* Header in three, data in three odd pieces. */
    const struct driver_buf pieces[] = {
        {HEADER_GPA(0), 1, false}, {HEADER_GPA(0) + 1, 8, false}, {HEADER_GPA(0) + 9, 7, false},
        {DATA_GPA, 1, false},      {DATA_GPA + 4097, 500, false}, {DATA_GPA + 9000, 11, false},
        {STATUS_GPA(0), 1, true},
    };
    uint8_t *data;

    bring_up();
    for (int indirect = 0; indirect < 2; indirect++) {
        put_header(0, VIRTIO_BLK_T_OUT, 3);
        *guest(DATA_GPA, 1) = 'a';
        memset(guest(DATA_GPA + 4097, 500), 'b', 500);
        memset(guest(DATA_GPA + 9000, 11), (uint8_t)('c' + indirect), 11);
        ck_assert_uint_eq(run_bufs(pieces, ARRAY_SIZE(pieces), indirect), VIRTIO_BLK_S_OK);
        data = disk->data + 3ul * 512;
        ck_assert_uint_eq(data[0], 'a');
        ck_assert_uint_eq(data[1], 'b');
        ck_assert_uint_eq(data[500], 'b');
        ck_assert_uint_eq(data[501], 'c' + indirect);
        ck_assert_uint_eq(data[511], 'c' + indirect);
        ck_assert_uint_eq(data[512], 0);
    }
}
END_TEST

START_TEST(header_and_data_may_share_a_buffer)
{
    const struct driver_buf bufs[] = {{HEADER_GPA(0), 16 + 512, false}, {STATUS_GPA(0), 1, true}};

    bring_up();
    put_header(0, VIRTIO_BLK_T_OUT, 1);
    *guest(STATUS_GPA(0), 1) = UNTOUCHED;
    /* The status byte lies in the data here, which is the driver's own problem; its offset: 16. */
    ck_assert_uint_eq(run_bufs(bufs, 2, false), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(disk->data[512 + 16], UNTOUCHED);
}
END_TEST

START_TEST(data_and_status_may_share_a_buffer)
{
    /* The last byte of the last buffer is the status. */
    const struct driver_buf bufs[] = {{HEADER_GPA(0), 16, false}, {DATA_GPA, 513, true}};

    bring_up();
    put_header(0, VIRTIO_BLK_T_IN, 0);
    memset(disk->data, 'd', 512);
    *guest(DATA_GPA + 512, 1) = UNTOUCHED;
    (void)run_bufs(bufs, 2, false);
    ck_assert_uint_eq(*guest(DATA_GPA + 511, 1), 'd');
    ck_assert_uint_eq(*guest(DATA_GPA + 512, 1), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(short_header_is_an_error)
{
    const struct driver_buf bufs[] = {{HEADER_GPA(0), 15, false}, {STATUS_GPA(0), 1, true}};
    const struct driver_buf only_status = {STATUS_GPA(0), 1, true};

    bring_up();
    put_header(0, VIRTIO_BLK_T_FLUSH, 0);
    ck_assert_uint_eq(run_bufs(bufs, 2, false), VIRTIO_BLK_S_IOERR);
    put_header(0, VIRTIO_BLK_T_FLUSH, 0);
    ck_assert_uint_eq(run_bufs(&only_status, 1, false), VIRTIO_BLK_S_IOERR);
}
END_TEST

START_TEST(request_without_a_status_is_given_back)
{
    const struct driver_buf buf = {HEADER_GPA(0), 16, false};

    bring_up();
    put_header(0, VIRTIO_BLK_T_OUT, 0);
    ck_assert_uint_eq(run_bufs(&buf, 1, false), UNTOUCHED);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(request_of_very_many_buffers)
{
    static struct driver_buf bufs[VIRTQ_CHAIN_MAX];

    /* 1022 buffers of 512 bytes: about half of the disk. */
    bufs[0] = (struct driver_buf){HEADER_GPA(0), 16, false};
    for (unsigned i = 1; i < VIRTQ_CHAIN_MAX - 1; i++)
        bufs[i] = (struct driver_buf){DATA_GPA + 1024ull * i, 512, false};
    bufs[VIRTQ_CHAIN_MAX - 1] = (struct driver_buf){STATUS_GPA(0), 1, true};
    bring_up();
    put_header(0, VIRTIO_BLK_T_OUT, 0);
    memset(guest(DATA_GPA + 1024ul * 1022, 512), 'z', 512);
    ck_assert_uint_eq(run_bufs(bufs, VIRTQ_CHAIN_MAX, true), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(disk->data[512ul * 1022 - 1], 'z');
    ck_assert_uint_eq(disk->data[512ul * 1022], 0);
}
END_TEST

/* ---- features and configuration -------------------------------------------------------------- */

static uint64_t config(size_t off, unsigned size)
{
    return virtio_mmio_bus_ops.read(mmio, VIRTIO_MMIO_CONFIG + off, size);
}

#define CONFIG(field)                                                                              \
    config(offsetof(struct virtio_blk_config, field),                                              \
           sizeof(((struct virtio_blk_config *)0)->field))

START_TEST(config_describes_the_disk)
{
    disk->info.logical_block = 4096;
    disk->info.physical_block = 16384;
    start_device(3);
    ck_assert_uint_eq(CONFIG(capacity), DISK_SECTORS);
    ck_assert_uint_eq(CONFIG(seg_max), 254);
    ck_assert_uint_eq(CONFIG(blk_size), 4096);
    ck_assert_uint_eq(CONFIG(physical_block_exp), 2);
    ck_assert_uint_eq(CONFIG(min_io_size), 4);
    ck_assert_uint_eq(CONFIG(opt_io_size), 16);
    ck_assert_uint_eq(CONFIG(num_queues), 3);
    ck_assert_uint_eq(CONFIG(max_discard_seg), 1);
    ck_assert_uint_eq(CONFIG(discard_sector_alignment), 8);
    ck_assert_uint_eq(CONFIG(write_zeroes_may_unmap), 1);
    ck_assert_uint_eq(driver_features(mmio) & 0xffffff,
                      FEATURE(SEG_MAX) | FEATURE(BLK_SIZE) | FEATURE(TOPOLOGY) | FEATURE(FLUSH) |
                          FEATURE(CONFIG_WCE) | FEATURE(MQ) | FEATURE(DISCARD) |
                          FEATURE(WRITE_ZEROES));
}
END_TEST

START_TEST(readonly_disk_is_never_written)
{
    disk->info.readonly = true;
    bring_up();
    ck_assert(driver_features(mmio) & FEATURE(RO));
    ck_assert(!(driver_features(mmio) & (FEATURE(DISCARD) | FEATURE(WRITE_ZEROES) | FEATURE(MQ))));
    ck_assert_uint_eq(CONFIG(max_discard_seg), 0);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, 0, 512, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_DISCARD, 0, 1, 0), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_IOERR);
    settle();
    ck_assert_uint_eq(disk->nsubmitted, 0);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_FLUSH, 0, 0, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(disk_without_discard_does_not_offer_it)
{
    disk->info.discard = false;
    bring_up();
    ck_assert(!(driver_features(mmio) & FEATURE(DISCARD)));
    ck_assert_uint_eq(CONFIG(write_zeroes_may_unmap), 0);
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_DISCARD, 0, 1, 0), VIRTIO_BLK_S_UNSUPP);
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_OK);
}
END_TEST

static void set_wce(uint64_t value, unsigned size)
{
    virtio_mmio_bus_ops.write(mmio, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, wce),
                              size, value);
}

START_TEST(driver_that_cannot_flush_gets_write_through)
{
    static const struct {
        uint64_t features;
        bool writeback;
    } cases[] = {
        {VERSION_1, false},
        {VERSION_1 | FEATURE(CONFIG_WCE), false},
        {VERSION_1 | FEATURE(FLUSH), true},
        {VERSION_1 | FEATURE(FLUSH) | FEATURE(CONFIG_WCE), true},
    };

    start_device(1);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        bring_up_with(cases[i].features, 8);
        ck_assert_msg(disk->writeback == cases[i].writeback, "case %zu", i);
        ck_assert_uint_eq(CONFIG(wce), cases[i].writeback);
    }
}
END_TEST

START_TEST(cache_mode_can_be_switched)
{
    bring_up();
    set_wce(0, 1);
    ck_assert(!disk->writeback);
    ck_assert_uint_eq(CONFIG(wce), 0);
    set_wce(0xff, 1);
    ck_assert(disk->writeback);
    ck_assert_uint_eq(CONFIG(wce), 1);
    set_wce(0, 4); /* not the width of the field */
    ck_assert(disk->writeback);

    bring_up_with(VERSION_1 | FEATURE(FLUSH), 8);
    set_wce(0, 1); /* not negotiated */
    ck_assert(disk->writeback);
    virtio_mmio_bus_ops.write(mmio, VIRTIO_MMIO_CONFIG, 8, 0); /* the capacity stays */
    ck_assert_uint_eq(CONFIG(capacity), DISK_SECTORS);
}
END_TEST

/* ---- queues ---------------------------------------------------------------------------------- */

/* Offer `n` reads at once, then see each answered once. */
static void run_many(unsigned n)
{
    static bool seen[VIRTQ_SIZE_MAX];

    memset(seen, 0, sizeof(seen));
    for (unsigned i = 0; i < n; i++)
        (void)add_request(i, VIRTIO_BLK_T_IN, i, DATA_GPA + 512ull * i, 512);
    kick();
    for (unsigned i = 0; i < n; i++) {
        struct vring_used_elem elem = wait_used(&ring);

        ck_assert(!seen[elem.id]);
        seen[elem.id] = true;
        ck_assert_uint_eq(elem.len, 513);
    }
    for (unsigned i = 0; i < n; i++) {
        ck_assert_uint_eq(*guest(STATUS_GPA(i), 1), VIRTIO_BLK_S_OK);
        ck_assert_mem_eq(guest(DATA_GPA + 512ull * i, 512), disk->data + 512ull * i, 512);
    }
}

START_TEST(many_requests_complete_in_any_order)
{
    start_device(1);
    for (unsigned i = 0; i < DISK_LEN; i++)
        disk->data[i] = (uint8_t)(i / 512 * 7);
    for (unsigned newest = 0; newest < 2; newest++) {
        disk->newest = newest;
        bring_up_with(driver_features(mmio), 1024);
        for (unsigned turn = 0; turn < 5; turn++)
            run_many(1024 / 3);
        bring_up_with(VERSION_1, 1024);
        run_many(1024 / 3);
    }
}
END_TEST

START_TEST(completions_of_one_round_share_an_interrupt)
{
    eventfd_t edges;

    disk->hold = true;
    start_device(1);
    bring_up_with(VERSION_1, 64); /* without event indices every completion could have one */
    for (unsigned i = 0; i < 20; i++)
        (void)add_request(i, VIRTIO_BLK_T_IN, i, DATA_GPA, 512);
    kick();
    settle();
    loop_call(loop, fake_block_release, disk);
    settle();
    ck_assert_int_eq(eventfd_read(irq.fd, &edges), 0);
    ck_assert_uint_eq(edges, 1);
    for (unsigned i = 0; i < 20; i++)
        (void)wait_used(&ring);
}
END_TEST

START_TEST(requests_from_before_driver_ok_need_no_kick)
{
    start_device(1);
    ck_assert(driver_negotiate(mmio, driver_features(mmio)));
    driver_ring_init(&ring, mem, RING_GPA(0), 16, true);
    ck_assert(driver_setup_queue(mmio, 0, &ring));
    (void)add_request(0, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    (void)driver_show(&ring);
    driver_set_driver_ok(mmio);
    (void)wait_used(&ring);
    ck_assert_uint_eq(*guest(STATUS_GPA(0), 1), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(several_queues_work_side_by_side)
{
    struct driver_ring rings[3];

    start_device(3);
    ck_assert(driver_negotiate(mmio, driver_features(mmio)));
    for (unsigned i = 0; i < 3; i++) {
        driver_ring_init(&rings[i], mem, RING_GPA(i), 16, true);
        ck_assert(driver_setup_queue(mmio, i, &rings[i]));
    }
    driver_set_driver_ok(mmio);
    for (unsigned i = 0; i < 3; i++) {
        ring = rings[i];
        (void)add_request(i, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
        ck_assert(driver_show(&ring));
        driver_kick(mmio, i);
        rings[i] = ring;
    }
    for (unsigned i = 0; i < 3; i++) {
        (void)wait_used(&rings[i]);
        ck_assert_uint_eq(*guest(STATUS_GPA(i), 1), VIRTIO_BLK_S_OK);
    }
}
END_TEST

START_TEST(broken_ring_stops_the_device_until_reset)
{
    bring_up();
    driver_offer(&ring, 999);
    kick();
    ck_assert(driver_wait_irq(&irq, TIMEOUT_MS));
    ck_assert_uint_eq(driver_ack(mmio), VIRTIO_MMIO_INT_CONFIG);
    ck_assert(driver_read32(mmio, VIRTIO_MMIO_STATUS) & NEEDS_RESET);

    (void)add_request(0, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    driver_show(&ring);
    driver_kick(mmio, 0);
    settle();
    ck_assert_uint_eq(*guest(STATUS_GPA(0), 1), UNTOUCHED);

    bring_up_with(driver_features(mmio), 16);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_FLUSH, 0, 0, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(requests_before_a_broken_one_are_answered)
{
    bring_up();
    (void)add_request(0, VIRTIO_BLK_T_IN, 0, DATA_GPA, 512);
    driver_offer(&ring, 999);
    kick();
    (void)wait_used(&ring);
    ck_assert_uint_eq(*guest(STATUS_GPA(0), 1), VIRTIO_BLK_S_OK);
    ck_assert(driver_read32(mmio, VIRTIO_MMIO_STATUS) & NEEDS_RESET);
}
END_TEST

/* ---- reset ----------------------------------------------------------------------------------- */

static void *reset_device(void *arg)
{
    driver_write32(mmio, VIRTIO_MMIO_STATUS, 0);
    return NULL;
}

static void sleep_ms(unsigned ms)
{
    const struct timespec ts = {.tv_nsec = ms * 1000000L};

    nanosleep(&ts, NULL);
}

START_TEST(reset_waits_for_requests_in_flight)
{
    pthread_t vcpu;

    disk->hold = true;
    bring_up();
    for (unsigned i = 0; i < 4; i++)
        (void)add_request(i, VIRTIO_BLK_T_IN, i, DATA_GPA + 512ull * i, 512);
    kick();
    settle();
    ck_assert_int_eq(pthread_create(&vcpu, NULL, reset_device, NULL), 0);
    sleep_ms(30);
    /* It cannot be over; and another vCPU in its interrupt handler does not wait for it. */
    ck_assert_int_eq(pthread_tryjoin_np(vcpu, NULL), EBUSY);
    (void)driver_read32(mmio, VIRTIO_MMIO_INTERRUPT_STATUS);
    loop_call(loop, fake_block_release, disk);
    ck_assert_int_eq(pthread_join(vcpu, NULL), 0);
    settle();
    ck_assert_uint_eq(disk->in_flight, 0);
    ck_assert_uint_eq(driver_read32(mmio, VIRTIO_MMIO_STATUS), 0);

    bring_up_with(driver_features(mmio), 16);
    ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(end_of_the_machine_waits_for_requests_in_flight)
{
    bring_up();
    for (unsigned i = 0; i < 4; i++)
        (void)add_request(i, VIRTIO_BLK_T_OUT, i, DATA_GPA, 512);
    kick();
    settle(); /* tear_down frees the device; the fake checks that nothing is in flight */
}
END_TEST

/* A small generator, so that a failure can be repeated from its seed. */
static uint64_t random_state;

static uint32_t random_below(uint32_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % bound;
}

/* Memory of its own for each request that may be in flight: named by the head it is going to have. */
static void add_random_request(void)
{
    uint16_t head = ring.free[ring.nfree - 3];

    (void)add_request(head, random_below(3) ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT,
                      random_below(DISK_SECTORS - 8), DATA_GPA + 4096ull * head,
                      512 * (1 + random_below(8)));
}

/* Keep requests coming and look at some answers; leaves some in flight. */
static void random_traffic(unsigned nrounds)
{
    struct vring_used_elem elem;

    for (unsigned round = 0; round < nrounds; round++) {
        unsigned n = random_below(8);

        for (unsigned i = 0; i < n && ring.nfree >= 3; i++)
            add_random_request();
        kick();
        if (random_below(2))
            (void)driver_want_interrupt(&ring);
        while (driver_take(&ring, &elem))
            ;
    }
}

static bool is_untouched(const uint8_t *data, size_t len)
{
    return data[0] == UNTOUCHED && memcmp(data, data + 1, len - 1) == 0;
}

/* After a reset the memory is the guest's again: nothing of it may change. */
static void check_memory_left_alone(void)
{
    const size_t data_len = 4 * MIB; /* 1024 requests */
    const size_t rings_len = 64 * KIB;
    uint8_t *data = guest(DATA_GPA, data_len);
    uint8_t *rings = guest(RING_GPA(0), rings_len);

    memset(data, UNTOUCHED, data_len);
    memset(rings, UNTOUCHED, rings_len);
    settle();
    ck_assert(is_untouched(data, data_len));
    ck_assert(is_untouched(rings, rings_len));
}

START_TEST(resets_at_any_moment_leave_memory_alone)
{
    const char *seed = getenv("TEST_SEED");

    random_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) << 20 | (uint64_t)getpid();
    printf("TEST_SEED=%llu\n", (unsigned long long)random_state);

    start_device(1);
    for (unsigned turn = 0; turn < 60; turn++) {
        bring_up_with(random_below(2) ? driver_features(mmio) : VERSION_1,
                      (uint16_t)(1u << (2 + random_below(9))));
        random_traffic(random_below(60));
        if (random_below(2)) {
            driver_write32(mmio, VIRTIO_MMIO_QUEUE_SEL, 0);
            driver_write32(mmio, VIRTIO_MMIO_QUEUE_READY, 0);
        } else {
            driver_write32(mmio, VIRTIO_MMIO_STATUS, 0);
        }
        check_memory_left_alone();
    }
}
END_TEST

static void add_case(Suite *suite, const char *name, const TTest *const *tests, size_t ntests)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60); /* sanitizers on a busy machine */
    for (size_t i = 0; i < ntests; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
}

/* A test case in which each test has a disk of its own. */
#define disk_case(suite, name, ...)                                                                \
    do {                                                                                           \
        const TTest *const tests_[] = {__VA_ARGS__};                                               \
        add_case(suite, name, tests_, ARRAY_SIZE(tests_));                                         \
    } while (0)

static void add_tests(Suite *suite)
{
    disk_case(suite, "requests", read_brings_what_is_on_the_disk, write_reaches_the_disk,
              flush_reaches_the_disk, id_is_padded_to_20_bytes,
              discard_and_write_zeroes_pass_their_range_on, bad_segments_are_refused,
              bad_requests_are_answered, requests_follow_the_logical_block,
              failures_of_the_disk_reach_the_driver);
    disk_case(suite, "layouts", header_data_and_status_may_be_split_anyhow,
              header_and_data_may_share_a_buffer, data_and_status_may_share_a_buffer,
              short_header_is_an_error, request_without_a_status_is_given_back,
              request_of_very_many_buffers);
    disk_case(suite, "config", config_describes_the_disk, readonly_disk_is_never_written,
              disk_without_discard_does_not_offer_it, driver_that_cannot_flush_gets_write_through,
              cache_mode_can_be_switched);
    disk_case(suite, "queues", many_requests_complete_in_any_order,
              completions_of_one_round_share_an_interrupt,
              requests_from_before_driver_ok_need_no_kick, several_queues_work_side_by_side,
              broken_ring_stops_the_device_until_reset, requests_before_a_broken_one_are_answered);
    disk_case(suite, "reset", reset_waits_for_requests_in_flight,
              end_of_the_machine_waits_for_requests_in_flight,
              resets_at_any_moment_leave_memory_alone);
}

UNIT_MAIN("virtio_blk", add_tests)
