/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/format/header.h"

#include <string.h>

void qcow2_feature_names(uint8_t data[QCOW2_FEATURE_NAMES_LEN])
{
    enum { INCOMPATIBLE, COMPATIBLE, AUTOCLEAR };
    static const struct {
        uint8_t kind;
        uint8_t bit;
        const char *name;
    } features[] = {
        {INCOMPATIBLE, 0, "dirty bit"},
        {INCOMPATIBLE, 1, "corrupt bit"},
        {INCOMPATIBLE, 2, "external data file"},
        {INCOMPATIBLE, 3, "compression type"},
        {INCOMPATIBLE, 4, "extended L2 entries"},
        {COMPATIBLE, 0, "lazy refcounts"},
        {AUTOCLEAR, 0, "bitmaps"},
        {AUTOCLEAR, 1, "raw external data"},
    };

    _Static_assert(sizeof(features) / sizeof(features[0]) == QCOW2_FEATURE_NAMES, "all of them");
    memset(data, 0, QCOW2_FEATURE_NAMES_LEN);
    for (size_t i = 0; i < QCOW2_FEATURE_NAMES; i++, data += FEATURE_ENTRY_LEN) {
        data[0] = features[i].kind;
        data[1] = features[i].bit;
        memcpy(data + 2, features[i].name, strlen(features[i].name));
    }
}
