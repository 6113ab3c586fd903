#include "tests/lib/qcow2_image.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"

#define OFF_MASK 0x00fffffffffffe00ull

static void set_count(uint8_t *block, unsigned order, uint64_t i, uint64_t value)
{
    unsigned bits = 1u << order;

    if (bits < 8) {
        unsigned shift = (unsigned)(i * bits % 8);

        block[i * bits / 8] &= (uint8_t) ~(((1u << bits) - 1) << shift);
        block[i * bits / 8] |= (uint8_t)(value << shift);
        return;
    }
    for (unsigned byte = 0; byte < bits / 8; byte++)
        block[(i + 1) * (bits / 8) - 1 - byte] = (uint8_t)(value >> (8 * byte));
}

static uint64_t get_count(const uint8_t *block, unsigned order, uint64_t i)
{
    unsigned bits = 1u << order;
    uint64_t value = 0;

    if (bits < 8)
        return (block[i * bits / 8] >> (i * bits % 8)) & ((1u << bits) - 1);
    for (unsigned byte = 0; byte < bits / 8; byte++)
        value = value << 8 | block[i * (bits / 8) + byte];
    return value;
}

static size_t add_extension(uint8_t *header, size_t at, uint32_t type, const char *text)
{
    size_t len = strlen(text);

    store_be32(header + at, type);
    store_be32(header + at + 4, (uint32_t)len);
    for (size_t i = 0; i < len; i++)
        header[at + 8 + i] = (uint8_t)text[i];
    return at + 8 + align_up(len, 8);
}

/* Clusters: header, refcount table, refcount block, L1 table. */
void qcow2_image_make(struct mem_disk *disk, const struct qcow2_image_options *options)
{
    unsigned version = options->version ? options->version : 3;
    unsigned bits = options->cluster_bits ? options->cluster_bits : 16;
    uint64_t cluster = 1ull << bits;
    uint64_t l1_entries = div_round_up(options->size, 1ull << (bits + bits - 3));
    uint64_t l1_clusters = div_round_up(max_u64(l1_entries, 1) * 8, cluster);
    uint64_t used = 3 + l1_clusters;
    size_t end = version == 3 ? 104 : 72;
    uint8_t *hdr = disk->data;

    memset(disk->data, 0, used * cluster);
    disk->len = used * cluster;
    store_be32(hdr, 0x514649fb);
    store_be32(hdr + 4, version);
    store_be32(hdr + 20, bits);
    store_be64(hdr + 24, options->size);
    store_be32(hdr + 36, (uint32_t)l1_entries);
    store_be64(hdr + 40, 3 * cluster);
    store_be64(hdr + 48, cluster);
    store_be32(hdr + 56, 1);
    if (version == 3) {
        store_be32(hdr + 96, options->refcount_order);
        store_be32(hdr + 100, 104);
    }
    if (options->backing_format)
        end = add_extension(hdr, end, 0xe2792aca, options->backing_format);
    if (options->backing) {
        store_be64(hdr + 8, end + 8);
        store_be32(hdr + 16, (uint32_t)strlen(options->backing));
        memcpy(hdr + end + 8, options->backing, strlen(options->backing));
    }
    store_be64(disk->data + cluster, 2 * cluster);
    for (uint64_t i = 0; i < used; i++)
        set_count(disk->data + 2 * cluster, options->refcount_order, i, 1);
}

/* ---- checking --------------------------------------------------------------------------------------- */

struct checker {
    const struct mem_disk *disk;
    struct qcow2_image_check *result;
    unsigned bits;
    uint64_t cluster;
    uint64_t nclusters;
    uint32_t *used;
};

static void error(struct checker *c, const char *what, uint64_t at)
{
    if (c->result->errors++ == 0)
        snprintf(c->result->first, sizeof(c->result->first), "%s at %#llx", what,
                 (unsigned long long)at);
}

static void use(struct checker *c, uint64_t host, uint64_t len, const char *what)
{
    if (len == 0)
        return;
    if (host % 512 && !strstr(what, "compressed"))
        error(c, what, host);
    for (uint64_t i = host >> c->bits; i <= (host + len - 1) >> c->bits; i++) {
        if (i >= c->nclusters)
            error(c, what, host);
        else
            c->used[i]++;
    }
}

static bool in_file(const struct checker *c, uint64_t host)
{
    return host % c->cluster == 0 && host >> c->bits < c->nclusters;
}

static void walk_l2(struct checker *c, uint64_t table)
{
    for (uint64_t i = 0; i < c->cluster / 8; i++) {
        uint64_t entry = load_be64(c->disk->data + table + i * 8);
        uint64_t host = entry & OFF_MASK;

        if (entry & (1ull << 62)) {
            unsigned off_bits = 62 - (c->bits - 8);
            uint64_t sectors = ((entry & ~(3ull << 62)) >> off_bits) + 1;

            host = entry & ((1ull << off_bits) - 1);
            use(c, host, sectors * 512 - host % 512, "compressed cluster");
        } else if (host) {
            use(c, host, c->cluster, "data cluster");
        }
    }
}

static void compare(struct checker *c, uint64_t reftable, uint64_t nentries, unsigned order)
{
    uint64_t per_block = c->cluster * 8 >> order;

    for (uint64_t i = 0; i < c->nclusters; i++) {
        uint64_t block = 0;
        uint64_t count = 0;

        if (i / per_block < nentries)
            block = load_be64(c->disk->data + reftable + i / per_block * 8);
        if (block && in_file(c, block))
            count = get_count(c->disk->data + block, order, i % per_block);
        if (count < c->used[i])
            error(c, "counted too low", i << c->bits);
        if (count > c->used[i])
            c->result->leaks++;
    }
}

void qcow2_image_check(const struct mem_disk *disk, struct qcow2_image_check *ret_check)
{
    const uint8_t *hdr = disk->data;
    struct checker c = {.disk = disk, .result = ret_check, .bits = load_be32(hdr + 20)};
    uint64_t l1 = load_be64(hdr + 40);
    uint64_t l1_entries = load_be32(hdr + 36);
    uint64_t reftable = load_be64(hdr + 48);
    uint64_t reftable_clusters = load_be32(hdr + 56);
    unsigned order = load_be32(hdr + 4) == 3 ? load_be32(hdr + 96) : 4;

    *ret_check = (struct qcow2_image_check){0};
    c.cluster = 1ull << c.bits;
    c.nclusters = div_round_up(disk->len, c.cluster);
    c.used = calloc(c.nclusters + 1, sizeof(*c.used));
    if (!c.used)
        abort();
    use(&c, 0, c.cluster, "header");
    use(&c, l1, l1_entries * 8, "L1 table");
    use(&c, reftable, reftable_clusters * c.cluster, "refcount table");
    for (uint64_t i = 0; i < reftable_clusters * c.cluster / 8; i++) {
        uint64_t block = load_be64(disk->data + reftable + i * 8) & OFF_MASK;

        if (block && !in_file(&c, block))
            error(&c, "refcount block outside", block);
        else if (block)
            use(&c, block, c.cluster, "refcount block");
    }
    for (uint64_t i = 0; i < l1_entries; i++) {
        uint64_t table = load_be64(disk->data + l1 + i * 8) & OFF_MASK;

        if (table && !in_file(&c, table)) {
            error(&c, "L2 table outside", table);
        } else if (table) {
            use(&c, table, c.cluster, "L2 table");
            walk_l2(&c, table);
        }
    }
    compare(&c, reftable, reftable_clusters * c.cluster / 8, order);
    free(c.used);
}
