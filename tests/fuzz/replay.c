/* Runs a fuzz target over files and folders of inputs: the kept corpora as plain tests, with any
 * compiler. Says how many inputs there were, in the form that ./run test counts. */
#define _DEFAULT_SOURCE
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) return 0;
    long bytes = ftell(file);
    rewind(file);
    /* Exactly as long as the input, so that the sanitizer sees a read past its end. */
    uint8_t *data = malloc(bytes > 0 ? (size_t)bytes : 1);
    size_t got = data && bytes > 0 ? fread(data, 1, (size_t)bytes, file) : 0;
    fclose(file);
    if (data && got == (size_t)bytes) LLVMFuzzerTestOneInput(data, got);
    free(data);
    return 1;
}

int main(int argc, char **argv)
{
    int n = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (!folder) {
            n += replay_file(argv[i]);
            continue;
        }
        for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            if (entry->d_name[0] != '.') n += replay_file(path);
        }
        closedir(folder);
    }
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    printf("%d inputs\n%s\n", n,
           n ? "1 passed, 0 failed, 0 skipped" : "0 passed, 0 failed, 1 skipped");
    return 0;
}
