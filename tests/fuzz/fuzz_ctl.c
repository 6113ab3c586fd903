/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM that answers minivmm-ctl with anything. The input: all that it sends, before it is asked.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"
#include "ctl/answer.h"
#include "ctl/facts.h"
#include "ctl/limits.h"
#include "ctl/link.h"
#include "ctl/sample.h"
#include "ctl/top_view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Nobody has to be waited for: the end comes after the input. */
#define TIMEOUT_MS 10000u
/* What a socket takes at once. */
#define INPUT_MAX (64u << 10)

static char folder[] = "/tmp/minivmm-fuzz-ctl-XXXXXX";
static char path[64];
static int listener = -1;

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void clean_up(void)
{
    (void)unlink(path);
    (void)rmdir(folder);
}

static void start_listening(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    must(mkdtemp(folder) != NULL);
    snprintf(path, sizeof(path), "%s/qmp", folder);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(listener, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    must(listen(listener, 1) == 0);
    must(atexit(clean_up) == 0);
}

/* Nothing that a terminal obeys but line ends, and nothing but UTF-8. */
static void check_page(const char *page)
{
    char *escaped = text_escaped(page, true);

    must(strcmp(escaped, page) == 0);
    free(escaped);
}

static void print_value(const json_t *value)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    answer_print(value, out);
    (void)fclose(out);
    for (size_t i = 0; i < len; i++)
        must(text[i] == '\n' || (text[i] >= ' ' && text[i] < 0x7f));
    free(text);
}

static void look_at(struct link *link)
{
    json_t *facts = facts_ask(link, NULL);
    size_t i;
    const json_t *disk;

    print_value(facts);
    json_array_foreach(json_object_get(facts, "disks"), i, disk)
    {
        json_t *limits = limits_of(disk);

        must(json_object_size(limits) >= 6);
        json_decref(limits);
    }
    json_decref(facts);
}

static void watch(struct link *link)
{
    struct sample before = {0}, after = {0};
    struct err err;
    json_t *rates;
    char *page = NULL;
    size_t len;
    FILE *out;

    if (sample_take(link, &before, &err) < 0 || sample_take(link, &after, &err) < 0) {
        sample_done(&before);
        return;
    }
    rates = sample_rates(&before, &after);
    for (unsigned size = 0; size < 90; size += 30) {
        out = open_memstream(&page, &len);
        top_view_print("vm", rates, size * 2, size, out);
        (void)fclose(out);
        check_page(page);
        free(page);
    }
    print_value(rates);
    json_decref(rates);
    sample_done(&before);
    sample_done(&after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct link *link = NULL;
    struct err err;
    json_t *event;
    int fd;

    if (size > INPUT_MAX)
        return 0;
    if (listener < 0)
        start_listening();
    must(link_connect(path, TIMEOUT_MS, &link, &err) == 0);
    fd = accept(listener, NULL, NULL);
    must(write(fd, data, size) == (ssize_t)size);
    must(shutdown(fd, SHUT_WR) == 0);
    if (link_negotiate(link, &err) == 0) {
        watch(link);
        look_at(link);
        if (link_next_event(link, &event, &err) == 0)
            json_decref(event);
    }
    link_close(link);
    close(fd);
    return 0;
}
