/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target over files and folders named on the command line: the regression test of its
 * corpus, with any compiler and sanitizer.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replayed;

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat st;
    uint8_t *data;
    size_t len;

    if (!file || fstat(fileno(file), &st) < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        if (file)
            fclose(file);
        return -1;
    }
    data = malloc((size_t)st.st_size + 1);
    if (!data) {
        fclose(file);
        return -1;
    }
    len = fread(data, 1, (size_t)st.st_size, file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, len);
    free(data);
    replayed++;
    return 0;
}

static int replay_path(const char *path)
{
    struct dirent *entry;
    int result = 0;
    DIR *dir = opendir(path);

    if (!dir)
        return replay_file(path);
    while ((entry = readdir(dir))) {
        char name[4096];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (replay_path(name) < 0)
            result = -1;
    }
    closedir(dir);
    return result;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (replay_path(argv[i]) < 0)
            return EXIT_FAILURE;
    if (replayed == 0) {
        fprintf(stderr, "%s: nothing to replay\n", argv[0]);
        return EXIT_FAILURE;
    }
    printf("%u inputs replayed\n", replayed);
    return EXIT_SUCCESS;
}
