/* SPDX-License-Identifier: Apache-2.0 */
#include "block/account.h"

#include "base/bytes.h"
#include "base/clock.h"

static struct account_counters *counters_of(struct account *account, enum block_op op)
{
    switch (op) {
    case BLOCK_READ:
        return &account->kinds[ACCOUNT_READ];
    case BLOCK_FLUSH:
        return &account->kinds[ACCOUNT_FLUSH];
    case BLOCK_DISCARD:
    case BLOCK_WRITE_ZEROES:
        return &account->kinds[ACCOUNT_UNMAP];
    case BLOCK_WRITE:
    case BLOCK_COPY:
        break;
    }
    return &account->kinds[ACCOUNT_WRITE];
}

void account_done(struct account *account, const struct block_req *req, uint64_t start_ns,
                  int result)
{
    struct account_counters *counters = counters_of(account, req->op);

    account->last_ns = monotonic_ns();
    counters->total_ns += account->last_ns - start_ns;
    if (result < 0) {
        counters->failed++;
        return;
    }
    counters->done++;
    counters->bytes += req->len;
    if (req->op == BLOCK_WRITE || req->op == BLOCK_WRITE_ZEROES)
        account->highest = max_u64(account->highest, req->off + req->len);
}

void account_refused(struct account *account, enum block_op op)
{
    counters_of(account, op)->refused++;
}
