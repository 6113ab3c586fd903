/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The name servers of the host.
 */
#ifndef MINIVMM_NET_RESOLVERS_H
#define MINIVMM_NET_RESOLVERS_H

#include <netinet/in.h>

/* As many as the C library looks at. */
#define RESOLVERS_MAX 3u

struct resolvers {
    unsigned n;
    char addrs[RESOLVERS_MAX][INET6_ADDRSTRLEN];
    unsigned nlocal; /* others, which only the host itself can reach */
};

/*
 * The name servers that a file in the form of resolv.conf(5) names; without the file there are
 * none.
 */
void resolvers_read(const char *path, struct resolvers *ret_resolvers);

#endif
