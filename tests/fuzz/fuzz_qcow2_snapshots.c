/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of hostile qcow2 images: listed, shown, applied, taken, deleted, with writes between
 * (the input: hostile_image.h).
 */
#include <stdio.h>

#include "block/image.h"
#include "tests/lib/block/hostile_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One of the image's snapshots, or a name it need not have. */
static void pick_name(struct block *block, unsigned which, char *buf, size_t len)
{
    struct block_snapshot *list;
    struct err err;
    unsigned n;

    snprintf(buf, len, "%u", which);
    if (block_snapshot_list(block, &list, &n, &err) < 0)
        return;
    if (n > 0)
        snprintf(buf, len, "%s", which & 1 ? list[which % n].id : list[which % n].name);
    block_snapshot_list_free(list, n);
}

static void vm_state(struct block *block, const uint8_t *step)
{
    uint8_t buf[2048] = {step[2]};
    uint64_t off = (uint64_t)step[1] * sizeof(buf);

    if (block_vmstate_read(block, off, buf, sizeof(buf)) < 0)
        return;
    if (step[0] & 0x80 && block_vmstate_write(block, off, buf, sizeof(buf)) < 0)
        return;
}

static void run_operation(struct block *block, const uint8_t *step)
{
    struct block_snapshot snapshot = {.name = (char *)(uintptr_t) "new",
                                      .vm_state_len = step[2] & 1 ? step[3] * 512u : 0};
    char name[300];
    struct err err;
    int r = 0;

    pick_name(block, step[1], name, sizeof(name));
    switch (step[0] % 8) {
    case 0:
        r = block_snapshot_create(block, &snapshot, &err);
        break;
    case 1:
        r = block_snapshot_apply(block, name, &err);
        break;
    case 2:
        r = block_snapshot_delete(block, name, &err);
        break;
    default:
        vm_state(block, step);
        break;
    }
    (void)r; /* any result will do */
}

static void run_step(struct hostile_image *image, const uint8_t *step)
{
    if (step[0] % 8 < 4)
        run_operation(hostile_image_alone(image), step);
    else
        hostile_image_request(image, step);
}

static void show_all(struct hostile_image *image)
{
    for (unsigned i = 0; i < 4; i++) {
        char name[300];
        struct err err;

        if (!hostile_image_open(image, true))
            return;
        pick_name(image->block, i, name, sizeof(name));
        if (block_snapshot_show(image->block, name, &err) == 0)
            hostile_image_request(image, (const uint8_t[]){0, 0, 0, 255});
        hostile_image_close(image);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hostile_image image;

    if (!hostile_image_init(&image, data, size))
        return 0;
    show_all(&image);
    if (hostile_image_open(&image, false)) {
        for (unsigned i = 0; i < image.nsteps; i++)
            run_step(&image, image.steps + (size_t)i * HOSTILE_STEP_LEN);
        hostile_image_close(&image);
    }
    show_all(&image);
    hostile_image_done(&image);
    return 0;
}
