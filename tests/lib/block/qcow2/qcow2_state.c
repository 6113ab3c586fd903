/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/qcow2/qcow2_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/qcow2.h"
#include "tests/lib/block/qcow2/qemu_oracle.h"
#include "tests/lib/unit.h"

#define SECTOR BLOCK_SECTOR_SIZE

static void fail_state(const struct qcow2_state *state, const char *wrong)
{
    ck_abort_msg("%s, after %zu operations: %s", state->what, state->at, wrong);
}

static struct block *open_state(const struct qcow2_state *state, bool readonly)
{
    static struct mem_env env;

    return qcow2_rig_open(&env, state->disks, readonly);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void check_tables(const struct qcow2_state *state, const struct mem_disk *disk)
{
    struct qcow2_image_check check;

    qcow2_image_check(disk, &check);
    if (check.errors > 0)
        fail_state(state, check.first);
}

void qcow2_state_verify_base(const struct qcow2_state *state)
{
    if (state->rig->layout.backing == QCOW2_ON_QCOW2)
        check_tables(state, &state->disks[QCOW2_RIG_BASE]);
}

void qcow2_state_check_beside(const struct qcow2_state *state)
{
    struct block_options options = {.path = state->disks[QCOW2_RIG_TOP].name,
                                    .format = BLOCK_FORMAT_QCOW2,
                                    .readonly = true,
                                    .flags = BLOCK_OPEN_CHECK};
    struct block_check_result result;
    struct qcow2_image_check check;
    struct mem_env env;
    struct block *block;
    struct err err = {0};

    qcow2_image_check(&state->disks[QCOW2_RIG_TOP], &check);
    mem_env_init(&env);
    for (unsigned i = 0; i < QCOW2_RIG_DISKS; i++)
        mem_env_add(&env, &state->disks[i]);
    if (block_open_in(&env.env, &options, &block, &err) < 0 ||
        block_check(block, 0, NULL, &result, &err) < 0)
        fail_state(state, err.msg);
    if (result.corruptions > 0 || result.check_errors > 0)
        fail_state(state, "our own check finds errors where there are none");
    if (result.leaks != check.leaks)
        fail_state(state, "our own check finds another number of leaks");
    ck_assert_int_eq(block_close(block), 0);
}

/* ---- contents -------------------------------------------------------------------------------- */

static void verify_contents(const struct qcow2_state *state)
{
    size_t settled = qcow2_rig_settled(state->rig, state->at);
    struct block *block = open_state(state, true);
    const char *wrong = qcow2_rig_verify(state->rig, block, state->at, settled);

    if (!wrong && state->rig->layout.data == QCOW2_DATA_FILE_RAW)
        wrong = qcow2_rig_verify_raw(state->rig, &state->disks[QCOW2_RIG_DATA], block->len,
                                     state->at, settled);
    if (wrong)
        fail_state(state, wrong);
    ck_assert_int_eq(block_close(block), 0);
}

/* Whoever opens an image for writing that says that its counts are out of date makes them right. */
static bool recover(const struct qcow2_state *state)
{
    const uint8_t *hdr = state->disks[QCOW2_RIG_TOP].data;

    if (load_be32(hdr + 4) < 3 || !(load_be64(hdr + HDR_INCOMPATIBLE) & QCOW2_INCOMPAT_DIRTY))
        return false;
    ck_assert_int_eq(block_close(open_state(state, false)), 0);
    return true;
}

void qcow2_state_verify(const struct qcow2_state *state)
{
    verify_contents(state);
    if (recover(state))
        verify_contents(state);
    check_tables(state, &state->disks[QCOW2_RIG_TOP]);
}

void qcow2_state_verify_snapshots(const struct qcow2_state *state)
{
    const char *wrong = qcow2_rig_verify_snapshots(state->rig, state->disks, state->at);

    if (wrong)
        fail_state(state, wrong);
}

static uint8_t *read_all(const struct qcow2_state *state, uint64_t *ret_len)
{
    struct block *block = open_state(state, true);
    uint8_t *data = malloc(block->len);

    ck_assert_ptr_nonnull(data);
    ck_assert_int_eq(mem_block_read(block, 0, data, block->len), 0);
    *ret_len = block->len;
    ck_assert_int_eq(block_close(block), 0);
    return data;
}

void qcow2_state_ask_qemu(const struct qcow2_state *state)
{
    uint64_t len;
    uint8_t *contents = read_all(state, &len);
    const char *wrong = qemu_oracle_check(state->disks, QCOW2_RIG_DISKS, contents, len);

    if (wrong)
        fail_state(state, wrong);
    free(contents);
}

/* ---- going on -------------------------------------------------------------------------------- */

/* One write, or zeroes; `data` is what the disk shows, and is to show. */
static void write_some(struct qcow2_rig *rig, struct block *block, int i, uint8_t *data)
{
    uint64_t len = block->len;
    uint64_t off = (uint64_t)qcow2_rig_random(rig, (unsigned)(len / SECTOR)) * SECTOR;
    uint64_t n = min_u64((1ull + qcow2_rig_random(rig, 40)) * SECTOR, len - off);
    unsigned flags = i % 8 == 3 ? BLOCK_REQ_UNMAP : 0;

    if (i % 4 == 3) {
        memset(data + off, 0, n);
        ck_assert_int_eq(mem_block_op(block, BLOCK_WRITE_ZEROES, flags, off, n), 0);
    } else {
        memset(data + off, i + 1, n);
        ck_assert_int_eq(mem_block_write(block, off, data + off, n), 0);
    }
}

void qcow2_state_use_further(const struct qcow2_state *state)
{
    uint64_t len;
    uint8_t *expected = read_all(state, &len);
    struct block *block = open_state(state, false);
    uint8_t *data;

    for (int i = 0; i < 12; i++) {
        write_some(state->rig, block, i, expected);
        if (i == 6)
            ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), 0);
    }
    ck_assert_int_eq(block_close(block), 0);
    check_tables(state, &state->disks[QCOW2_RIG_TOP]);
    qcow2_state_verify_snapshots(state);
    data = read_all(state, &len);
    if (memcmp(data, expected, len) != 0)
        fail_state(state, "what was written afterwards is not there");
    free(data);
    free(expected);
}
