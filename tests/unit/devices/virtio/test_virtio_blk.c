/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: single requests, their layouts, features and configuration. */
#include <errno.h>
#include <string.h>

#include "tests/lib/devices/virtio/virtio_blk_rig.h"

static uint8_t segment_request(uint32_t type, uint64_t sector, uint32_t nsectors, uint32_t flags)
{
    const struct virtio_blk_discard_write_zeroes segment = {
        .sector = htole64(sector),
        .num_sectors = htole32(nsectors),
        .flags = htole32(flags),
    };

    memcpy(blk_guest(DATA_GPA, sizeof(segment)), &segment, sizeof(segment));
    return blk_request(type, 0, sizeof(segment), NULL);
}

static uint64_t config(size_t off, unsigned size)
{
    return virtio_mmio_bus_ops.read(blk.mmio, VIRTIO_MMIO_CONFIG + off, size);
}

#define CONFIG(field)                                                                              \
    config(offsetof(struct virtio_blk_config, field),                                              \
           sizeof(((struct virtio_blk_config *)0)->field))

START_TEST(read_brings_what_is_on_the_disk)
{
    uint32_t written;

    blk_bring_up();
    memset(blk.disk->data + 512ul * 7, 'r', 1024);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 7, 1024, &written), VIRTIO_BLK_S_OK);
    ck_assert_mem_eq(blk_guest(DATA_GPA, 1024), blk.disk->data + 512ul * 7, 1024);
    ck_assert_uint_eq(*blk_guest(DATA_GPA + 1024, 1), 0);
    ck_assert_uint_eq(written, 1025);
}
END_TEST

START_TEST(write_reaches_the_disk)
{
    uint32_t written;

    blk_bring_up();
    memset(blk_guest(DATA_GPA, 1536), 'w', 1536);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_OUT, DISK_SECTORS - 3, 1536, &written),
                      VIRTIO_BLK_S_OK);
    ck_assert_mem_eq(blk.disk->data + DISK_LEN - 1536, blk_guest(DATA_GPA, 1536), 1536);
    ck_assert_uint_eq(blk.disk->data[DISK_LEN - 1537], 0);
    ck_assert_uint_eq(written, 1);
}
END_TEST

START_TEST(flush_reaches_the_disk)
{
    blk_bring_up();
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_FLUSH, 0, 0, NULL), VIRTIO_BLK_S_OK);
    blk_settle();
    ck_assert_uint_eq(blk.disk->nflushes, 1);
}
END_TEST

START_TEST(id_is_padded_to_20_bytes)
{
    uint32_t written;

    blk_bring_up();
    memset(blk_guest(DATA_GPA, 32), UNTOUCHED, 32);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_GET_ID, 0, 20, &written), VIRTIO_BLK_S_OK);
    ck_assert_mem_eq(blk_guest(DATA_GPA, 21), "root-disk\0\0\0\0\0\0\0\0\0\0\0\xee", 21);
    ck_assert_uint_eq(written, 21);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_GET_ID, 0, 19, &written), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(written, 0);
}
END_TEST

START_TEST(discard_and_write_zeroes_pass_their_range_on)
{
    blk_bring_up();
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_DISCARD, 8, 16, 0), VIRTIO_BLK_S_OK);
    blk_settle();
    ck_assert_int_eq(blk.disk->last.op, BLOCK_DISCARD);
    ck_assert_uint_eq(blk.disk->last.off, 4096);
    ck_assert_uint_eq(blk.disk->last.len, 8192);
    ck_assert_uint_eq(blk.disk->last.flags, 0);

    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_WRITE_ZEROES, 0, DISK_SECTORS,
                                      VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
                      VIRTIO_BLK_S_OK);
    blk_settle();
    ck_assert_int_eq(blk.disk->last.op, BLOCK_WRITE_ZEROES);
    ck_assert_uint_eq(blk.disk->last.len, DISK_LEN);
    ck_assert_uint_eq(blk.disk->last.flags, BLOCK_REQ_UNMAP);

    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_WRITE_ZEROES, 1, 1, 0), VIRTIO_BLK_S_OK);
    blk_settle();
    ck_assert_uint_eq(blk.disk->last.flags, 0);
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

    blk_bring_up();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        ck_assert_msg(segment_request(cases[i].type, cases[i].sector, cases[i].nsectors,
                                      cases[i].flags) == cases[i].status,
                      "case %zu", i);
    /* No segment, half of one, two of them. */
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_DISCARD, 0, 0, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_DISCARD, 0, 8, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 32, NULL), VIRTIO_BLK_S_IOERR);
    blk_settle();
    ck_assert_uint_eq(blk.disk->nsubmitted, 0);
}
END_TEST

START_TEST(ranges_have_a_limit)
{
    const uint32_t max = 1 * GIB / 512;

    blk.disk->info.len = 4 * GIB; /* more than there is: nothing of this may reach the disk */
    blk_bring_up();
    ck_assert_uint_eq(CONFIG(max_discard_sectors), max);
    ck_assert_uint_eq(CONFIG(max_write_zeroes_sectors), max);
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_DISCARD, 0, max + 1, 0), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_WRITE_ZEROES, 0, max + 1, 0),
                      VIRTIO_BLK_S_IOERR);
    blk_settle();
    ck_assert_uint_eq(blk.disk->nsubmitted, 0);
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

    blk_bring_up();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        ck_assert_msg(blk_request(cases[i].type, cases[i].sector, cases[i].len, NULL) ==
                          cases[i].status,
                      "case %zu", i);
    blk_settle();
    ck_assert_uint_eq(blk.disk->nsubmitted, 0);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(requests_follow_the_logical_block)
{
    blk.disk->info.logical_block = 4096;
    blk_bring_up();
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 8, 4096, NULL), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 1, 4096, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_OUT, 0, 512, NULL), VIRTIO_BLK_S_IOERR);
}
END_TEST

START_TEST(failures_of_the_disk_reach_the_driver)
{
    uint32_t written;

    blk.disk->fail = -EIO;
    blk_bring_up();
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, &written), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(written, 0); /* nothing is promised about the data */
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_OUT, 0, 512, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_FLUSH, 0, 0, NULL), VIRTIO_BLK_S_IOERR);
    blk_settle();
    blk.disk->fail = -EOPNOTSUPP;
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_DISCARD, 0, 1, 0), VIRTIO_BLK_S_UNSUPP);
}
END_TEST

START_TEST(requests_are_counted)
{
    const struct account_counters *kinds = blk.port.account.kinds;

    blk_bring_up();
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 7, 1024, NULL), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_OUT, 8, 512, NULL), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_OUT, 2, 512, NULL), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_OUT, DISK_SECTORS, 512, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_SECURE_ERASE, 0, 16, NULL), VIRTIO_BLK_S_UNSUPP);
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_DISCARD, 16, 8, 0), VIRTIO_BLK_S_OK);
    blk_settle();
    blk.disk->fail = -EIO;
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_OUT, 20, 512, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_FLUSH, 0, 0, NULL), VIRTIO_BLK_S_IOERR);
    blk_settle();

    ck_assert_uint_eq(kinds[ACCOUNT_READ].done, 1);
    ck_assert_uint_eq(kinds[ACCOUNT_READ].bytes, 1024);
    ck_assert_uint_eq(kinds[ACCOUNT_READ].refused, 0);
    ck_assert_uint_eq(kinds[ACCOUNT_WRITE].done, 2);
    ck_assert_uint_eq(kinds[ACCOUNT_WRITE].bytes, 1024);
    ck_assert_uint_eq(kinds[ACCOUNT_WRITE].refused, 1);
    ck_assert_uint_eq(kinds[ACCOUNT_WRITE].failed, 1);
    ck_assert_uint_eq(kinds[ACCOUNT_UNMAP].done, 1);
    ck_assert_uint_eq(kinds[ACCOUNT_UNMAP].bytes, 4096);
    ck_assert_uint_eq(kinds[ACCOUNT_FLUSH].done, 0);
    ck_assert_uint_eq(kinds[ACCOUNT_FLUSH].failed, 1);
    ck_assert_uint_eq(blk.port.account.highest, 4608);
    ck_assert_uint_gt(kinds[ACCOUNT_READ].total_ns, 0);
    ck_assert_uint_ge(blk.port.account.kicks, 1);
    ck_assert_uint_ge(blk.port.account.interrupts, 1);
}
END_TEST

/* ---- layouts --------------------------------------------------------------------------------- */

static uint8_t run_bufs(const struct driver_buf *bufs, size_t nbufs, bool indirect)
{
    if (indirect)
        (void)driver_add_indirect(&blk.ring, TABLE_GPA, bufs, nbufs);
    else
        (void)driver_add(&blk.ring, bufs, nbufs);
    blk_kick();
    (void)blk_wait_used(&blk.ring);
    return *blk_guest(STATUS_GPA(0), 1);
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

    blk_bring_up();
    for (int indirect = 0; indirect < 2; indirect++) {
        blk_put_header(0, VIRTIO_BLK_T_OUT, 3);
        *blk_guest(DATA_GPA, 1) = 'a';
        memset(blk_guest(DATA_GPA + 4097, 500), 'b', 500);
        memset(blk_guest(DATA_GPA + 9000, 11), (uint8_t)('c' + indirect), 11);
        ck_assert_uint_eq(run_bufs(pieces, ARRAY_SIZE(pieces), indirect), VIRTIO_BLK_S_OK);
        data = blk.disk->data + 3ul * 512;
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

    blk_bring_up();
    blk_put_header(0, VIRTIO_BLK_T_OUT, 1);
    *blk_guest(STATUS_GPA(0), 1) = UNTOUCHED;
    /* The status byte lies in the data here, which is the driver's own problem; its offset: 16. */
    ck_assert_uint_eq(run_bufs(bufs, 2, false), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(blk.disk->data[512 + 16], UNTOUCHED);
}
END_TEST

START_TEST(data_and_status_may_share_a_buffer)
{
    /* The last byte of the last buffer is the status. */
    const struct driver_buf bufs[] = {{HEADER_GPA(0), 16, false}, {DATA_GPA, 513, true}};

    blk_bring_up();
    blk_put_header(0, VIRTIO_BLK_T_IN, 0);
    memset(blk.disk->data, 'd', 512);
    *blk_guest(DATA_GPA + 512, 1) = UNTOUCHED;
    (void)run_bufs(bufs, 2, false);
    ck_assert_uint_eq(*blk_guest(DATA_GPA + 511, 1), 'd');
    ck_assert_uint_eq(*blk_guest(DATA_GPA + 512, 1), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(short_header_is_an_error)
{
    const struct driver_buf bufs[] = {{HEADER_GPA(0), 15, false}, {STATUS_GPA(0), 1, true}};
    const struct driver_buf only_status = {STATUS_GPA(0), 1, true};

    blk_bring_up();
    blk_put_header(0, VIRTIO_BLK_T_FLUSH, 0);
    ck_assert_uint_eq(run_bufs(bufs, 2, false), VIRTIO_BLK_S_IOERR);
    blk_put_header(0, VIRTIO_BLK_T_FLUSH, 0);
    ck_assert_uint_eq(run_bufs(&only_status, 1, false), VIRTIO_BLK_S_IOERR);
}
END_TEST

START_TEST(request_without_a_status_is_given_back)
{
    const struct driver_buf buf = {HEADER_GPA(0), 16, false};

    blk_bring_up();
    blk_put_header(0, VIRTIO_BLK_T_OUT, 0);
    ck_assert_uint_eq(run_bufs(&buf, 1, false), UNTOUCHED);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
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
    blk_bring_up();
    blk_put_header(0, VIRTIO_BLK_T_OUT, 0);
    memset(blk_guest(DATA_GPA + 1024ul * 1022, 512), 'z', 512);
    ck_assert_uint_eq(run_bufs(bufs, VIRTQ_CHAIN_MAX, true), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(blk.disk->data[512ul * 1022 - 1], 'z');
    ck_assert_uint_eq(blk.disk->data[512ul * 1022], 0);
}
END_TEST

/* ---- features and configuration -------------------------------------------------------------- */

START_TEST(config_describes_the_disk)
{
    blk.disk->info.logical_block = 4096;
    blk.disk->info.physical_block = 16384;
    blk_start(3);
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
    ck_assert_uint_eq(driver_features(blk.mmio) & 0xffffff,
                      FEATURE(SEG_MAX) | FEATURE(BLK_SIZE) | FEATURE(TOPOLOGY) | FEATURE(FLUSH) |
                          FEATURE(CONFIG_WCE) | FEATURE(MQ) | FEATURE(DISCARD) |
                          FEATURE(WRITE_ZEROES));
}
END_TEST

START_TEST(readonly_disk_is_never_written)
{
    blk.disk->info.readonly = true;
    blk_bring_up();
    ck_assert(driver_features(blk.mmio) & FEATURE(RO));
    ck_assert(
        !(driver_features(blk.mmio) & (FEATURE(DISCARD) | FEATURE(WRITE_ZEROES) | FEATURE(MQ))));
    ck_assert_uint_eq(CONFIG(max_discard_seg), 0);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_OUT, 0, 512, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_DISCARD, 0, 1, 0), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_IOERR);
    blk_settle();
    ck_assert_uint_eq(blk.disk->nsubmitted, 0);
    ck_assert_uint_eq(blk.port.account.kinds[ACCOUNT_WRITE].refused, 1);
    ck_assert_uint_eq(blk.port.account.kinds[ACCOUNT_UNMAP].refused, 2);
    ck_assert_uint_eq(blk.port.account.kinds[ACCOUNT_READ].refused, 0);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_FLUSH, 0, 0, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(disk_without_discard_does_not_offer_it)
{
    blk.disk->info.discard = false;
    blk_bring_up();
    ck_assert(!(driver_features(blk.mmio) & FEATURE(DISCARD)));
    ck_assert_uint_eq(CONFIG(write_zeroes_may_unmap), 0);
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_DISCARD, 0, 1, 0), VIRTIO_BLK_S_UNSUPP);
    ck_assert_uint_eq(segment_request(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_OK);
}
END_TEST

static void set_wce(uint64_t value, unsigned size)
{
    virtio_mmio_bus_ops.write(
        blk.mmio, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, wce), size, value);
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

    blk_start(1);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        blk_bring_up_with(cases[i].features, 8);
        ck_assert_msg(blk.disk->writeback == cases[i].writeback, "case %zu", i);
        ck_assert_uint_eq(CONFIG(wce), cases[i].writeback);
    }
}
END_TEST

START_TEST(cache_mode_can_be_switched)
{
    blk_bring_up();
    set_wce(0, 1);
    ck_assert(!blk.disk->writeback);
    ck_assert_uint_eq(CONFIG(wce), 0);
    set_wce(0xff, 1);
    ck_assert(blk.disk->writeback);
    ck_assert_uint_eq(CONFIG(wce), 1);
    set_wce(0, 4); /* not the width of the field */
    ck_assert(blk.disk->writeback);

    blk_bring_up_with(VERSION_1 | FEATURE(FLUSH), 8);
    set_wce(0, 1); /* not negotiated */
    ck_assert(blk.disk->writeback);
    virtio_mmio_bus_ops.write(blk.mmio, VIRTIO_MMIO_CONFIG, 8, 0); /* the capacity stays */
    ck_assert_uint_eq(CONFIG(capacity), DISK_SECTORS);
}
END_TEST

static void add_tests(Suite *suite)
{
    blk_case(suite, "requests", read_brings_what_is_on_the_disk, write_reaches_the_disk,
             flush_reaches_the_disk, id_is_padded_to_20_bytes,
             discard_and_write_zeroes_pass_their_range_on, bad_segments_are_refused,
             ranges_have_a_limit, bad_requests_are_answered, requests_follow_the_logical_block,
             failures_of_the_disk_reach_the_driver, requests_are_counted);
    blk_case(suite, "layouts", header_data_and_status_may_be_split_anyhow,
             header_and_data_may_share_a_buffer, data_and_status_may_share_a_buffer,
             short_header_is_an_error, request_without_a_status_is_given_back,
             request_of_very_many_buffers);
    blk_case(suite, "config", config_describes_the_disk, readonly_disk_is_never_written,
             disk_without_discard_does_not_offer_it, driver_that_cannot_flush_gets_write_through,
             cache_mode_can_be_switched);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_blk", add_tests)
