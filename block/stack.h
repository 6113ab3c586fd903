/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains that change while requests come: the requests move to another image of the chain.
 *
 * In an operation (live.h); `top` is attached and held. Afterwards the image that has the requests
 * is, and has to be released.
 */
#ifndef MINIVMM_BLOCK_STACK_H
#define MINIVMM_BLOCK_STACK_H

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"

/*
 * Put `overlay` on `top`: an image that is as long and has nothing of its own, opened without its
 * backing file, which its header says is `top`. First all that was written to `top` is made
 * durable, so that a flush of the overlay alone covers it; from then on `top` is only read, and
 * belongs to the overlay.
 *
 * 0; or a negative errno with *err filled: then nothing has changed, and the overlay is still the
 * caller's.
 */
int block_stack_put(struct block *top, struct block *overlay, struct err *err) MUST_CHECK;

/*
 * For what else changes chains. An image that is only read becomes one that is written, and back
 * again: then it is as if it had been closed, and opened for reading. No request is carried out on
 * it. 0 or -errno; the first with *err filled.
 */
int block_begin_writing(struct block *block, struct err *err) MUST_CHECK;
int block_end_writing(struct block *block);

/* The image so far below `top`, which is at depth 0; NULL: there is none. */
struct block *block_stack_at(struct block *top, unsigned depth);

/* Has an image room for this name of a backing file? 0, or -EINVAL with *err filled. */
int block_stack_check_name(const char *name, struct err *err) MUST_CHECK;

/*
 * `base`, or nothing if it is NULL, is the backing file of `overlay` from now on, by the name
 * `name`: so says its header, with one write. The images between the two are not needed any more:
 * *ret_dropped, for the caller to close. `overlay` is `top` or one of those below it, open for
 * writing, and shows the same without them. 0; or a negative errno with *err filled.
 */
int block_stack_drop(struct block *top, struct block *overlay, struct block *base, const char *name,
                     struct block **ret_dropped, struct err *err) MUST_CHECK;

/* The chain has another length: share the memory for caches anew. */
void block_share_memory(struct block *top);

#endif
