/*
 * Making images in a given environment; private to block/. See block_create.
 */
#ifndef MINIVMM_BLOCK_CREATE_H
#define MINIVMM_BLOCK_CREATE_H

#include "block/image.h"
#include "block/open.h"

/* Where files come from: as block_open_in. */
int block_create_in(const struct block_env *env, const struct block_create_options *options,
                    struct err *err) MUST_CHECK;

#endif
