/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk_label.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct disk_label {
    struct disk_label *older;
    char *text;
};

static const struct disk_label *find(const struct disk_labels *labels, const char *text)
{
    const struct disk_label *label = labels->all;

    while (label && strcmp(label->text, text) != 0)
        label = label->older;
    return label;
}

/* The text is owned from now on. */
static const struct disk_label *add(struct disk_labels *labels, char *text)
{
    struct disk_label *label = malloc(sizeof(*label));

    if (!label) {
        free(text);
        return NULL;
    }
    *label = (struct disk_label){.older = labels->all, .text = text};
    labels->all = label;
    return label;
}

int disk_labels_set(struct disk_labels *labels, const char *name, const char *path)
{
    const struct disk_label *label;
    char *text;

    if (asprintf(&text, "disk %s (%s)", name, path) < 0)
        return -ENOMEM;
    label = find(labels, text);
    if (label)
        free(text);
    else
        label = add(labels, text);
    if (!label)
        return -ENOMEM;
    __atomic_store_n(&labels->now, label->text, __ATOMIC_RELEASE);
    return 0;
}

void disk_labels_done(struct disk_labels *labels)
{
    struct disk_label *label;

    while ((label = labels->all)) {
        labels->all = label->older;
        free(label->text);
        free(label);
    }
}
