/* Replays a corpus through a fuzz target without the engine: every file of the folders named, in
 * the order of their names, each from a block of exactly its size so that a sanitizer sees a byte
 * too much. A run without a file is skipped (exit status 77), one that cannot read a file fails. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SKIPPED 77

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int replay_file(const char *path, size_t size) {
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(size ? size : 1);
    int status = 1;
    if (file && data && fread(data, 1, size, file) == size) {
        LLVMFuzzerTestOneInput(data, size);
        status = 0;
    } else {
        perror(path);
    }
    free(data);
    if (file)
        fclose(file);
    return status;
}

static int replay_folder(const char *folder, int *n_files) {
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, alphasort), status = 0;
    for (int i = 0; i < n; i++) {
        char path[4096];
        struct stat info;
        int len = snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (len > 0 && (size_t)len < sizeof path && stat(path, &info) == 0 &&
            S_ISREG(info.st_mode)) {
            /* The name comes first: it is the last line when the target crashes. */
            fprintf(stderr, "%s\n", path);
            status |= replay_file(path, (size_t)info.st_size);
            ++*n_files;
        }
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return status;
}

int main(int argc, char **argv) {
    int n_files = 0, status = 0;
    for (int i = 1; i < argc; i++)
        status |= replay_folder(argv[i], &n_files);
    if (n_files == 0) {
        printf("skipped: no file in the corpus\n");
        return SKIPPED;
    }
    printf("%d files replayed\n", n_files);
    return status;
}
