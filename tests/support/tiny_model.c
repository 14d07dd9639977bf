#define _POSIX_C_SOURCE 200809L
#include "support/tiny_model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/golden.h"
#include "support/process.h"

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "tiny model: %s %s: %s\n", what, path, strerror(errno));
    abort();
}

void tiny_write(const char *dir, const char *name, const void *data, size_t bytes)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) {
        fail("cannot write", path);
    }
}

void tiny_copy(const char *from, const char *to)
{
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    if (in == NULL) fail("cannot read", from);
    if (out == NULL) fail("cannot write", to);
    char piece[65536];
    size_t n;
    while ((n = fread(piece, 1, sizeof piece, in)) > 0) {
        if (fwrite(piece, 1, n, out) != n) fail("cannot write", to);
    }
    fclose(in);
    if (fclose(out) != 0) fail("cannot write", to);
}

static void write_vocabulary(const char *dir)
{
    char text[8192];
    size_t used = 0;
    static const char *const specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    int n = 0;
    for (; n < 5; n++) used += (size_t)sprintf(text + used, "%s\n", specials[n]);
    for (char c = 'a'; c <= 'z'; c++, n++) used += (size_t)sprintf(text + used, "%c\n", c);
    for (char c = 'a'; c <= 'z'; c++, n++) used += (size_t)sprintf(text + used, "##%c\n", c);
    for (char c = '0'; c <= '9'; c++, n++) used += (size_t)sprintf(text + used, "%c\n", c);
    for (char c = '0'; c <= '9'; c++, n++) used += (size_t)sprintf(text + used, "##%c\n", c);
    for (; n < 300; n++) used += (size_t)sprintf(text + used, "w%d\n", n);
    tiny_write(dir, "vocab.txt", text, used);
    static const char settings[] = "{\"do_lower_case\": true, \"tokenizer_class\": "
                                   "\"BertTokenizer\", \"model_max_length\": 48}";
    tiny_write(dir, "tokenizer_config.json", settings, sizeof settings - 1);
}

/* What this process has made; a child that ends leaves it alone. */
static char made[8][512];
static int n_made;
static pid_t maker;

static void remove_made(void)
{
    if (getpid() != maker) return;
    for (int i = 0; i < n_made; i++) process_remove_folder(made[i]);
}

static void remove_at_exit(const char *dir)
{
    if (n_made == sizeof made / sizeof made[0]) fail("one folder too many for a test:", dir);
    maker = getpid();
    if (n_made == 0) atexit(remove_made);
    snprintf(made[n_made++], sizeof made[0], "%s", dir);
}

int tiny_model_make(char dir[512], const char *test_name)
{
    char golden_dir[512], from[1024], to[1024];
    if (!golden_find(golden_dir, "bert-h64")) return 0;
    snprintf(dir, 512, CRANK_BINARY_DIR "/tiny.%s.%ld", test_name, (long)getpid());
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) fail("cannot make", dir);
    remove_at_exit(dir);
    static const char *const files[] = {"config.json", "model.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(from, sizeof from, "%s/%s", golden_dir, files[i]);
        snprintf(to, sizeof to, "%s/%s", dir, files[i]);
        tiny_copy(from, to);
    }
    write_vocabulary(dir);
    return 1;
}
