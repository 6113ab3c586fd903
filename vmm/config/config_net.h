/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the user wants of a network card.
 *
 * Set-up only, on one thread.
 */
#ifndef MINIVMM_CONFIG_CONFIG_NET_H
#define MINIVMM_CONFIG_CONFIG_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "net/mac.h"
#include "net/open.h"

struct config_texts {
    char **list;
    size_t n;
};

struct config_net {
    char *kind; /* as net_options_set_kind takes it; NULL: none is given */
    struct config_texts forwards;
    struct config_texts dns;
    char *hostname; /* NULL: none */
    char *helper;   /* NULL: where distributions have it */
    bool isolate;
    bool server;
    bool vhost;
    unsigned mtu;   /* 0: the back end's own */
    struct mac mac; /* zero: one is made up */
    uint64_t bps;   /* 0: no limit */
    uint64_t pps;
};

void config_net_init(struct config_net *net);
void config_net_done(struct config_net *net);

/* 0, or -ENOMEM with *err filled. */
int config_texts_add(struct config_texts *texts, const char *text, struct err *err) MUST_CHECK;

/*
 * The options of its back end, which point into `net`. 0, or -EINVAL with *err filled: they do not
 * go together.
 */
int config_net_options(const struct config_net *net, struct net_options *ret_options,
                       struct err *err) MUST_CHECK;

/* The descriptor that the user gives it. False: none. */
bool config_net_fd(const struct config_net *net, int *ret_fd);

/* Do they go together? 0, or -EINVAL with *err filled. */
int config_nets_check(const struct config_net *nets, size_t n, struct err *err) MUST_CHECK;

#endif
