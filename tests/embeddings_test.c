/* Late interaction with documents from a file: the bits of the direct path, int8 within its bound,
 * files that belong to another model, and files that were tampered with. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crank.h"
#include "kernels/maxsim.h"
#include "memory.h"
#include "support/commands.h"
#include "support/golden.h"
#include "support/tiny_model.h"

#define DIM 24
#define WIDTH 64
#define N_DOCS 40

static crank_text text_of(const char *s)
{
    return (crank_text){s, strlen(s)};
}

/* ---- a ColBERT folder: the golden BERT's weights and a projection made from a seed ---- */

static void write_weights(const char *dir, unsigned seed)
{
    golden g;
    char path[1024];
    st_writer *w = NULL;
    safetensors *from = NULL;
    int64_t shape[2] = {DIM, WIDTH};
    cr_assert(golden_find(g.dir, "bert-h64"));
    snprintf(path, sizeof path, "%s/model.safetensors", g.dir);
    cr_assert_eq(safetensors_open(&from, path, NULL), CRANK_OK);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    cr_assert_eq(st_writer_open(&w, path, ST_WRITER_PLAIN, NULL), CRANK_OK);
    for (size_t i = 0; i < safetensors_count(from); i++) {
        const st_tensor *t = safetensors_at(from, i);
        cr_assert_eq(st_writer_tensor(w, t->name, t->type, t->rank, t->shape, NULL), CRANK_OK);
    }
    cr_assert_eq(st_writer_tensor(w, "linear.weight", DTYPE_F32, 2, shape, NULL), CRANK_OK);
    for (size_t i = 0; i < safetensors_count(from); i++) {
        const st_tensor *t = safetensors_at(from, i);
        void *data = malloc(t->bytes);
        cr_assert_eq(safetensors_read(from, t, data, NULL), CRANK_OK);
        cr_assert_eq(st_writer_write(w, data, t->bytes, NULL), CRANK_OK);
        free(data);
    }
    float linear[DIM * WIDTH];
    for (int i = 0; i < DIM * WIDTH; i++) {
        seed = seed * 1664525u + 1013904223u;
        linear[i] = (float)(seed >> 8) / 16777216.0f - 0.5f;
    }
    cr_assert_eq(st_writer_write(w, linear, sizeof linear, NULL), CRANK_OK);
    cr_assert_eq(st_writer_commit(w, NULL), CRANK_OK);
    st_writer_close(w);
    safetensors_close(from);
}

static void make_folder(char dir[512], const char *name, int document_length, unsigned seed)
{
    static const char config[] =
        "{\"model_type\": \"bert\", \"architectures\": [\"HF_ColBERT\"], \"hidden_size\": 64, "
        "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"intermediate_size\": %d, "
        "\"hidden_act\": \"gelu\", \"vocab_size\": %d, \"max_position_embeddings\": 48, "
        "\"type_vocab_size\": 2, \"layer_norm_eps\": 1e-12, \"pad_token_id\": 0}";
    char text[1024], path[1024];
    cr_assert(tiny_model_make(dir, name));
    safetensors *file = NULL;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    cr_assert_eq(safetensors_open(&file, path, NULL), CRANK_OK);
    int ffn =
        (int)safetensors_find(file, "bert.encoder.layer.0.intermediate.dense.weight")->shape[0];
    int vocab = (int)safetensors_find(file, "bert.embeddings.word_embeddings.weight")->shape[0];
    safetensors_close(file);
    int n = snprintf(text, sizeof text, config, ffn, vocab);
    tiny_write(dir, "config.json", text, (size_t)n);
    n = snprintf(text, sizeof text,
                 "{\"query_maxlen\": 12, \"doc_maxlen\": %d, \"dim\": %d, \"query_token_id\": "
                 "\"w298\", \"doc_token_id\": \"w299\", \"skiplist_words\": [\"w90\", \"w91\"]}",
                 document_length, DIM);
    tiny_write(dir, "artifact.metadata", text, (size_t)n);
    write_weights(dir, seed);
}

static char documents[N_DOCS][512];
static crank_text texts[N_DOCS];
static const char *ids[N_DOCS];
static char id_texts[N_DOCS][16];

/* Of 0 to 40 words, cut at the length; some words are skipped by the model. */
static void make_documents(void)
{
    unsigned seed = 7;
    for (int i = 0; i < N_DOCS; i++) {
        size_t used = 0;
        for (int k = 0; k < i * 7 % 41; k++) {
            seed = seed * 1664525u + 1013904223u;
            used += (size_t)sprintf(documents[i] + used, "w%u ", 80 + (seed >> 16) % 30);
        }
        texts[i] = (crank_text){documents[i], used};
        sprintf(id_texts[i], "doc-%d", i);
        ids[i] = id_texts[i];
    }
}

static crank_model *open_model(const char *path, crank_device device, crank_dtype type)
{
    crank_error error = {0};
    crank_model_options options = {
        .size = sizeof options, .device = device, .dtype = type, .load_threads = 1};
    crank_model *model = NULL;
    crank_status status = crank_model_open(&model, path, &options, &error);
    cr_assert_eq(status, CRANK_OK, "%s: %s", path, error.message);
    return model;
}

static crank_session *open_session(const crank_model *model)
{
    crank_session_options options = {.size = sizeof options, .n_threads = 2};
    crank_session *s = NULL;
    cr_assert_eq(crank_session_open(&s, model, &options, NULL), CRANK_OK);
    return s;
}

static const char *encode_to(crank_session *s, const char *dir, crank_dtype type)
{
    static char path[600];
    crank_error error = {0};
    snprintf(path, sizeof path, "%s/docs.%d.emb", dir, (int)type);
    crank_encode_options options = {.size = sizeof options, .dtype = type, .ids = ids};
    crank_usage usage;
    crank_status status = crank_encode(s, texts, N_DOCS, &options, path, &usage, &error);
    cr_assert_eq(status, CRANK_OK, "%s", error.message);
    cr_assert_eq(usage.pairs, N_DOCS);
    return path;
}

static crank_embeddings *open_embeddings(const char *path)
{
    crank_error error = {0};
    crank_embeddings *e = NULL;
    cr_assert_eq(crank_embeddings_open(&e, path, &error), CRANK_OK, "%s", error.message);
    return e;
}

/* ---- what they are for ---- */

Test(embeddings, rank_with_the_bits_of_the_direct_path)
{
    static const struct {
        crank_device device;
        crank_dtype type;
    } paths[] = {{CRANK_DEVICE_REF, CRANK_DTYPE_F32},
                 {CRANK_DEVICE_CPU, CRANK_DTYPE_F32},
                 {CRANK_DEVICE_CPU, CRANK_DTYPE_INT8}};
    char dir[512];
    make_folder(dir, "emb-bits", 30, 1);
    make_documents();
    crank_text query = text_of("w100 w85 w95");
    for (size_t p = 0; p < sizeof paths / sizeof paths[0]; p++) {
        crank_model *model = open_model(dir, paths[p].device, paths[p].type);
        crank_session *s = open_session(model);
        crank_embeddings *e = open_embeddings(encode_to(s, dir, CRANK_DTYPE_F32));
        crank_embeddings_info info = {.size = sizeof info};
        cr_assert_eq(crank_embeddings_describe(e, &info, NULL), CRANK_OK);
        cr_assert_eq(info.documents, N_DOCS);
        cr_assert_eq(info.dim, DIM);
        cr_assert_eq(info.bytes, info.vectors * DIM * sizeof(float));
        cr_assert_str_eq(info.dtype, "f32");
        cr_assert_str_eq(crank_embeddings_id(e, 3), "doc-3");
        cr_assert_null(crank_embeddings_id(e, N_DOCS));
        crank_result direct[N_DOCS], kept[N_DOCS];
        size_t n, n_kept;
        cr_assert_eq(crank_rank(s, query, texts, N_DOCS, NULL, direct, &n, NULL, NULL), CRANK_OK);
        crank_usage usage;
        crank_error error = {0};
        cr_assert_eq(
            crank_rank_embeddings(s, query, e, NULL, 0, NULL, kept, &n_kept, &usage, &error),
            CRANK_OK, "%s", error.message);
        cr_assert_eq(n_kept, n);
        cr_assert_eq(usage.tokens, 12, "the query alone, expanded");
        for (size_t i = 0; i < n; i++) {
            cr_expect_eq(direct[i].index, kept[i].index);
            cr_expect(memcmp(&direct[i].logit, &kept[i].logit, sizeof(float)) == 0, "%zu", i);
            cr_expect(memcmp(&direct[i].score, &kept[i].score, sizeof(float)) == 0, "%zu", i);
        }
        /* Candidates in any order, and the best few of them. */
        size_t candidates[3] = {direct[20].index, direct[3].index, direct[11].index};
        crank_score_options options = {.size = sizeof options, .top_k = 2};
        cr_assert_eq(
            crank_rank_embeddings(s, query, e, candidates, 3, &options, kept, &n_kept, NULL, NULL),
            CRANK_OK);
        cr_assert_eq(n_kept, 2);
        cr_expect_eq(kept[0].index, direct[3].index);
        cr_expect_eq(kept[0].logit, direct[3].logit);
        cr_expect_eq(kept[1].index, direct[11].index);
        candidates[1] = N_DOCS;
        cr_assert_eq(
            crank_rank_embeddings(s, query, e, candidates, 3, NULL, kept, &n_kept, NULL, &error),
            CRANK_INVALID_ARGUMENT);
        crank_embeddings_close(e);
        crank_session_close(s);
        crank_model_close(model);
    }
}

Test(embeddings, int8_stays_within_its_bound)
{
    char dir[512];
    make_folder(dir, "emb-int8", 30, 1);
    make_documents();
    crank_model *model = open_model(dir, CRANK_DEVICE_CPU, CRANK_DTYPE_F32);
    crank_session *s = open_session(model);
    crank_embeddings *e = open_embeddings(encode_to(s, dir, CRANK_DTYPE_INT8));
    crank_embeddings_info info = {.size = sizeof info};
    cr_assert_eq(crank_embeddings_describe(e, &info, NULL), CRANK_OK);
    cr_assert_str_eq(info.dtype, "int8");
    cr_assert_eq(info.bytes, info.vectors * DIM);
    double worst = 0;
    for (int q = 0; q < 20; q++) {
        char query[64];
        snprintf(query, sizeof query, "w%d w%d w%d", 80 + q, 90 + q, 100 + 2 * q);
        crank_result results[N_DOCS];
        float logits[N_DOCS];
        crank_pair pairs[N_DOCS];
        size_t n;
        for (int i = 0; i < N_DOCS; i++) pairs[i] = (crank_pair){text_of(query), texts[i]};
        cr_assert_eq(crank_score(s, pairs, N_DOCS, NULL, logits, NULL, NULL, NULL), CRANK_OK);
        cr_assert_eq(
            crank_rank_embeddings(s, text_of(query), e, NULL, 0, NULL, results, &n, NULL, NULL),
            CRANK_OK);
        for (size_t i = 0; i < n; i++) {
            double off = fabs((double)results[i].logit - (double)logits[results[i].index]);
            worst = off > worst ? off : worst;
        }
    }
    double bound = 12 * sqrt(DIM) / 127;
    printf("int8 embeddings: worst difference of a score %.4g, bound %.4g\n", worst, bound);
    cr_expect_leq(worst, bound / 8, "a score differs by %g", worst);
    crank_embeddings_close(e);
    crank_session_close(s);
    crank_model_close(model);
}

Test(embeddings, belong_to_a_model_whatever_its_dtype)
{
    char dir[512], other[512], shorter[512], file[600], path[600];
    make_folder(dir, "emb-own", 30, 1);
    make_folder(other, "emb-other", 30, 2);
    make_folder(shorter, "emb-short", 29, 1);
    make_documents();
    crank_error error = {0};
    crank_model *model = open_model(dir, CRANK_DEVICE_CPU, CRANK_DTYPE_F32);
    crank_session *s = open_session(model);
    snprintf(path, sizeof path, "%s", encode_to(s, dir, CRANK_DTYPE_F32));
    crank_session_close(s);
    crank_model_close(model);
    crank_embeddings *e = open_embeddings(path);
    snprintf(file, sizeof file, "%s/model.crank", dir);
    crank_convert_options convert = {.size = sizeof convert, .dtype = CRANK_DTYPE_INT8};
    cr_assert_eq(crank_convert(dir, file, &convert, &error), CRANK_OK, "%s", error.message);
    const struct {
        const char *path, *says;
        crank_status status;
    } cases[] = {{dir, NULL, CRANK_OK},
                 {file, NULL, CRANK_OK},
                 {other, "another model", CRANK_MODEL},
                 {shorter, "other document settings", CRANK_MODEL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        crank_result results[N_DOCS];
        size_t n;
        model = open_model(cases[i].path, CRANK_DEVICE_CPU, CRANK_DTYPE_AUTO);
        s = open_session(model);
        crank_status status =
            crank_rank_embeddings(s, text_of("w99"), e, NULL, 0, NULL, results, &n, NULL, &error);
        cr_expect_eq(status, cases[i].status, "case %zu: %s", i, error.message);
        if (cases[i].says != NULL) cr_expect(strstr(error.message, cases[i].says) != NULL);
        crank_session_close(s);
        crank_model_close(model);
    }
    /* Cross-encoders have no vectors of documents. */
    char plain[512];
    cr_assert(tiny_model_make(plain, "emb-plain"));
    model = open_model(plain, CRANK_DEVICE_CPU, CRANK_DTYPE_F32);
    s = open_session(model);
    cr_expect_eq(crank_encode(s, texts, 2, NULL, path, NULL, &error), CRANK_INVALID_ARGUMENT);
    cr_expect(strstr(error.message, "late interaction") != NULL, "%s", error.message);
    crank_session_close(s);
    crank_model_close(model);
    crank_embeddings_close(e);
}

Test(embeddings, no_documents_are_a_file_too)
{
    char dir[512], path[600];
    make_folder(dir, "emb-none", 30, 1);
    crank_model *model = open_model(dir, CRANK_DEVICE_CPU, CRANK_DTYPE_F32);
    crank_session *s = open_session(model);
    snprintf(path, sizeof path, "%s/none.emb", dir);
    crank_error error = {0};
    crank_status status = crank_encode(s, NULL, 0, NULL, path, NULL, &error);
    cr_assert_eq(status, CRANK_OK, "%s", error.message);
    crank_embeddings *e = open_embeddings(path);
    crank_result results[1];
    size_t n = 9;
    cr_assert_eq(crank_rank_embeddings(s, text_of("w9"), e, NULL, 0, NULL, results, &n, NULL, NULL),
                 CRANK_OK);
    cr_assert_eq(n, 0);
    crank_embeddings_close(e);
    crank_session_close(s);
    crank_model_close(model);
}

Test(embeddings, kernels_follow_the_instruction_set)
{
    cr_expect_eq(maxsim_kernel_for_level(NULL), maxsim_kernel_for(NULL));
    cr_expect_eq(maxsim_kernel_for_level("portable"), maxsim_kernel_for("portable"));
    cr_expect_eq(maxsim_kernel_for_level("neon-dotprod"), maxsim_kernel_for("portable"));
    if (maxsim_kernel_for("avx2") != NULL) {
        cr_expect_str_eq(maxsim_kernel_for_level("avx2-vnni")->isa, "avx2");
        cr_expect_str_eq(maxsim_kernel_for_level("avx2")->isa, "avx2");
    }
    if (maxsim_kernel_for("avx512-vnni") != NULL) {
        cr_expect_str_eq(maxsim_kernel_for_level("avx512-bf16")->isa, "avx512-vnni");
    }
}

/* ---- hostile files ---- */

/* A copy of an embeddings file with one tensor changed, or (name NULL) one metadata value. */
typedef struct change {
    const char *what;
    const char *tensor;
    dtype type; /* of the copy; DTYPE_COUNT: as it was */
    int drop;   /* elements fewer */
    size_t at;  /* byte that is overwritten */
    const char *bytes;
    size_t n_bytes;
    const char *key, *value; /* metadata */
    const char *says;
} change;

static void write_changed(const char *from_path, const char *to_path, const change *c)
{
    safetensors *from = NULL;
    st_writer *w = NULL;
    cr_assert_eq(safetensors_open(&from, from_path, NULL), CRANK_OK);
    cr_assert_eq(st_writer_open(&w, to_path, ST_WRITER_PLAIN, NULL), CRANK_OK);
    for (size_t i = 0; i < safetensors_metadata_count(from); i++) {
        const char *key, *value;
        safetensors_metadata_at(from, i, &key, &value);
        if (c->key != NULL && strcmp(key, c->key) == 0) value = c->value;
        if (value != NULL) cr_assert_eq(st_writer_metadata(w, key, value, NULL), CRANK_OK);
    }
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < safetensors_count(from); i++) {
            const st_tensor *t = safetensors_at(from, i);
            if (strncmp(t->name, ST_PAD_PREFIX, strlen(ST_PAD_PREFIX)) == 0) continue;
            int changed = c->tensor != NULL && strcmp(t->name, c->tensor) == 0;
            int64_t shape[ST_MAX_RANK];
            memcpy(shape, t->shape, sizeof shape);
            dtype type = changed && c->type != DTYPE_COUNT ? c->type : t->type;
            if (changed) shape[0] -= c->drop;
            size_t bytes = dtype_bytes(type);
            for (int d = 0; d < t->rank; d++) bytes *= (size_t)shape[d];
            if (pass == 0) {
                cr_assert_eq(st_writer_tensor(w, t->name, type, t->rank, shape, NULL), CRANK_OK);
                continue;
            }
            char *data = calloc(1, t->bytes + bytes + 16);
            cr_assert_eq(safetensors_read(from, t, data, NULL), CRANK_OK);
            if (changed && c->n_bytes > 0) memcpy(data + c->at, c->bytes, c->n_bytes);
            cr_assert_eq(st_writer_write(w, data, bytes, NULL), CRANK_OK);
            free(data);
        }
    }
    cr_assert_eq(st_writer_commit(w, NULL), CRANK_OK);
    st_writer_close(w);
    safetensors_close(from);
}

Test(embeddings, tampered_files_are_refused)
{
    static const change changes[] = {
        {"a count below zero", "counts", DTYPE_COUNT, 0, 0, "\xff\xff\xff\xff", 4, NULL, NULL,
         "counts do not add up"},
        {"a count too large", "counts", DTYPE_COUNT, 0, 4, "\xff\xff\xff\x7f", 4, NULL, NULL,
         "counts do not add up"},
        {"a count too small", "counts", DTYPE_COUNT, 0, 4, "\0\0\0\0", 4, NULL, NULL,
         "counts do not add up"},
        {"a document fewer", "counts", DTYPE_COUNT, 1, 0, NULL, 0, NULL, NULL,
         "counts do not add up"},
        {"counts of another type", "counts", DTYPE_I64, 0, 0, NULL, 0, NULL, NULL,
         "expected tensor counts"},
        {"vectors of another type", "vectors", DTYPE_F16, 0, 0, NULL, 0, NULL, NULL,
         "expected tensor vectors"},
        {"int8 without scales", "vectors", DTYPE_I8, 0, 0, NULL, 0, NULL, NULL,
         "expected tensor scales"},
        {"a NaN", "vectors", DTYPE_COUNT, 0, 8, "\0\0\xc0\x7f", 4, NULL, NULL, "not finite"},
        {"an id without an end", "ids", DTYPE_COUNT, 1, 0, NULL, 0, NULL, NULL, "ids"},
        {"an id too many", "ids", DTYPE_COUNT, 0, 2, "\0", 1, NULL, NULL, "ids"},
        {"ids of another type", "ids", DTYPE_I8, 0, 0, NULL, 0, NULL, NULL, "expected tensor ids"},
        {"another format", NULL, DTYPE_COUNT, 0, 0, NULL, 0, "crank.embeddings", "2",
         "another format"},
        {"no format", NULL, DTYPE_COUNT, 0, 0, NULL, 0, "crank.embeddings", NULL,
         "crank.embeddings is missing"},
        {"no fingerprint", NULL, DTYPE_COUNT, 0, 0, NULL, 0, "crank.fingerprint", NULL,
         "crank.fingerprint is missing"},
    };
    static const change int8_changes[] = {
        {"a scale below zero", "scales", DTYPE_COUNT, 0, 0, "\0\0\x80\xbf", 4, NULL, NULL,
         "scale is negative"},
        {"an infinite scale", "scales", DTYPE_COUNT, 0, 0, "\0\0\x80\x7f", 4, NULL, NULL,
         "scale is negative or not finite"},
        {"a scale fewer", "scales", DTYPE_COUNT, 1, 0, NULL, 0, NULL, NULL, "scales and vectors"},
    };
    char dir[512], path[600], bad[600];
    make_folder(dir, "emb-bad", 30, 1);
    make_documents();
    crank_model *model = open_model(dir, CRANK_DEVICE_CPU, CRANK_DTYPE_F32);
    crank_session *s = open_session(model);
    snprintf(bad, sizeof bad, "%s/bad.emb", dir);
    for (int type = 0; type < 2; type++) {
        const change *list = type ? int8_changes : changes;
        size_t n = type ? sizeof int8_changes / sizeof *list : sizeof changes / sizeof *list;
        snprintf(path, sizeof path, "%s",
                 encode_to(s, dir, type ? CRANK_DTYPE_INT8 : CRANK_DTYPE_F32));
        for (size_t i = 0; i < n; i++) {
            crank_error error = {0};
            crank_embeddings *e = NULL;
            write_changed(path, bad, &list[i]);
            crank_status status = crank_embeddings_open(&e, bad, &error);
            cr_expect_eq(status, CRANK_FORMAT, "%s: %s", list[i].what, error.message);
            cr_expect(strstr(error.message, list[i].says) != NULL, "%s: %s", list[i].what,
                      error.message);
            cr_expect_null(e);
            crank_embeddings_close(e);
        }
    }
    crank_session_close(s);
    crank_model_close(model);
}

/* Cut anywhere and changed anywhere: an error, or a file that ranks with finite scores. */
Test(embeddings, damaged_files_never_do_harm)
{
    char dir[512], path[600], bad[600];
    make_folder(dir, "emb-damage", 30, 1);
    make_documents();
    crank_model *model = open_model(dir, CRANK_DEVICE_CPU, CRANK_DTYPE_F32);
    crank_session *s = open_session(model);
    snprintf(bad, sizeof bad, "%s/bad.emb", dir);
    unsigned seed = 99;
    for (int type = 0; type < 2; type++) {
        size_t bytes, opened = 0;
        snprintf(path, sizeof path, "%s",
                 encode_to(s, dir, type ? CRANK_DTYPE_INT8 : CRANK_DTYPE_F32));
        char *good = process_read_file(path, &bytes);
        for (int round = 0; round < 1500; round++) {
            char *data = malloc(bytes);
            size_t n = bytes;
            memcpy(data, good, bytes);
            seed = seed * 1664525u + 1013904223u;
            if (round % 3 == 0) {
                n = round < 600 ? (size_t)round : (seed >> 4) % bytes;
            } else {
                size_t range = round % 3 == 1 ? 1400 : bytes; /* the header, or anywhere */
                size_t at = (seed >> 4) % (range < bytes ? range : bytes);
                data[at] = (char)(seed >> 24);
            }
            process_write_file(bad, data, n);
            free(data);
            crank_embeddings *e = NULL;
            crank_error error = {0};
            crank_status status = crank_embeddings_open(&e, bad, &error);
            cr_assert(status == CRANK_OK || error.message[0] != '\0');
            crank_embeddings_info info = {.size = sizeof info};
            if (status != CRANK_OK) continue;
            opened++;
            cr_assert_eq(crank_embeddings_describe(e, &info, NULL), CRANK_OK);
            crank_result *results = malloc((info.documents + 1) * sizeof *results);
            size_t n_results;
            status = crank_rank_embeddings(s, text_of("w99 w81"), e, NULL, 0, NULL, results,
                                           &n_results, NULL, NULL);
            for (size_t i = 0; status == CRANK_OK && i < n_results; i++) {
                cr_assert(isfinite(results[i].score));
            }
            free(results);
            crank_embeddings_close(e);
        }
        cr_expect_gt(opened, 100, "bits of vectors are nobody's business: %zu opened", opened);
        free(good);
    }
    crank_session_close(s);
    crank_model_close(model);
}

Test(embeddings, every_failing_allocation_is_an_error_and_nothing_more)
{
    char dir[512], path[600];
    make_folder(dir, "emb-oom", 30, 1);
    make_documents();
    crank_model *model = open_model(dir, CRANK_DEVICE_CPU, CRANK_DTYPE_F32);
    snprintf(path, sizeof path, "%s/oom.emb", dir);
    long n = 0;
    for (;; n++) {
        crank_error error = {0};
        crank_session *s = open_session(model);
        crank_embeddings *e = NULL;
        crank_result results[N_DOCS];
        size_t n_results;
        crank_encode_options options = {
            .size = sizeof options, .dtype = CRANK_DTYPE_INT8, .ids = ids};
        unlink(path);
        mem_fail_nth(n);
        crank_status status = crank_encode(s, texts, N_DOCS, &options, path, NULL, &error);
        if (status != CRANK_OK) cr_expect_neq(access(path, F_OK), 0, "allocation %ld", n);
        if (status == CRANK_OK) status = crank_embeddings_open(&e, path, &error);
        if (status == CRANK_OK) {
            status = crank_rank_embeddings(s, text_of("w99"), e, NULL, 0, NULL, results, &n_results,
                                           NULL, &error);
        }
        long made = mem_fail_nth(-1);
        crank_embeddings_close(e);
        crank_session_close(s);
        if (made <= n) {
            cr_assert_eq(status, CRANK_OK, "%s", error.message);
            break;
        }
        if (status == CRANK_OK) continue; /* an array grown in another thread did without */
        cr_assert_eq(status, CRANK_OUT_OF_MEMORY, "allocation %ld: %s", n, error.message);
    }
    cr_assert_gt(n, 30);
    crank_model_close(model);
}

/* ---- the commands ---- */

Test(embeddings, commands_encode_and_rank)
{
    char dir[512], docs[8192], path[600];
    make_folder(dir, "emb-cli", 30, 1);
    make_documents();
    size_t used = 0;
    for (int i = 0; i < 20; i++) {
        used += (size_t)sprintf(docs + used, "{\"id\": \"d%d\", \"text\": \"%.*s\"}\n", i,
                                (int)texts[i].bytes, texts[i].data);
    }
    snprintf(path, sizeof path, "%s/docs.emb", dir);
    process_result r = commands_run(docs, "encode", "-m", dir, "-o", path, NULL);
    commands_expect_code(&r, 0);
    process_free(&r);
    process_result direct =
        commands_run(docs, "rank", "-m", dir, "-q", "w99 w84", "--no-text", NULL);
    commands_expect_code(&direct, 0);
    process_result kept =
        commands_run(NULL, "rank", "-m", dir, "-q", "w99 w84", "--embeddings", path, NULL);
    commands_expect_code(&kept, 0);
    cr_expect_str_eq(kept.out, direct.out);
    process_free(&kept);
    process_free(&direct);
    kept = commands_run("d3\nd11\n", "rank", "-m", dir, "-q", "w99 w84", "--embeddings", path, "-",
                        NULL);
    commands_expect_code(&kept, 0);
    cr_expect_eq(commands_count_lines(kept.out), 2);
    process_free(&kept);
    kept = commands_run("d3\nnone\n", "rank", "-m", dir, "-q", "w99 w84", "--embeddings", path, "-",
                        NULL);
    commands_expect_code(&kept, 2);
    cr_expect(strstr(kept.err, ":2:") != NULL && strstr(kept.err, "none") != NULL, "%s", kept.err);
    process_free(&kept);
    kept = commands_run(NULL, "rank", "-m", dir, "-q", "x", "--embeddings", "/nowhere", NULL);
    commands_expect_code(&kept, 2);
    process_free(&kept);
}

/* Requests of 1, 20 and no documents, out of order: the scores are those of the texts. */
Test(embeddings, rerank_takes_documents_by_their_ids)
{
    char dir[512], docs[8192], path[600], texts_too[16384], ids_alone[2048];
    char run_path[600], queries_path[600], queries[64] = "q1\tw99 w84\nq2\tw7\n", run[2048];
    make_folder(dir, "emb-rerank", 30, 1);
    make_documents();
    size_t used = 0, t = 0, a = 0, n_run = 0;
    t += (size_t)sprintf(texts_too, "{\"qid\": \"q1\", \"query\": \"w99 w84\", \"docs\": [");
    a += (size_t)sprintf(ids_alone, "{\"qid\": \"q1\", \"query\": \"w99 w84\", \"docs\": [");
    for (int i = 0; i < 20; i++) {
        int d = i * 7 % 20;
        used += (size_t)sprintf(docs + used, "{\"id\": \"d%d\", \"text\": \"%.*s\"}\n", i,
                                (int)texts[i].bytes, texts[i].data);
        t += (size_t)sprintf(texts_too + t, "%s{\"docid\": \"d%d\", \"text\": \"%.*s\"}",
                             i ? ", " : "", d, (int)texts[d].bytes, texts[d].data);
        a += (size_t)sprintf(ids_alone + a, "%s{\"docid\": \"d%d\"}", i ? ", " : "", d);
        n_run += (size_t)sprintf(run + n_run, "q1 Q0 d%d %d %d x\n", d, i + 1, 100 - i);
    }
    sprintf(run + n_run, "q2 Q0 d5 1 1 x\n");
    sprintf(texts_too + t,
            "]}\n{\"qid\": \"none\", \"query\": \"w1\", \"docs\": []}\n{\"qid\": \"q2\", "
            "\"query\": \"w7\", \"docs\": [{\"docid\": \"d5\", \"text\": \"%.*s\"}]}\n",
            (int)texts[5].bytes, texts[5].data);
    sprintf(ids_alone + a, "]}\n{\"qid\": \"none\", \"query\": \"w1\", \"docs\": []}\n{\"qid\": "
                           "\"q2\", \"query\": \"w7\", \"docs\": [{\"docid\": \"d5\"}]}\n");
    snprintf(path, sizeof path, "%s/docs.emb", dir);
    snprintf(run_path, sizeof run_path, "%s/first.run", dir);
    snprintf(queries_path, sizeof queries_path, "%s/queries.tsv", dir);
    tiny_write(dir, "first.run", run, strlen(run));
    tiny_write(dir, "queries.tsv", queries, strlen(queries));
    process_result r = commands_run(docs, "encode", "-m", dir, "-o", path, NULL);
    commands_expect_code(&r, 0);
    process_free(&r);

    process_result direct = commands_run(texts_too, "rerank", "-m", dir, NULL);
    commands_expect_code(&direct, 0);
    cr_expect_eq(commands_count_lines(direct.out), 21);
    process_result kept = commands_run(ids_alone, "rerank", "-m", dir, "--embeddings", path, NULL);
    commands_expect_code(&kept, 0);
    cr_expect_str_eq(kept.out, direct.out);
    process_free(&kept);
    kept = commands_run(NULL, "rerank", "-m", dir, "--run", run_path, "--queries", queries_path,
                        "--embeddings", path, NULL);
    commands_expect_code(&kept, 0);
    cr_expect_str_eq(kept.out, direct.out);
    process_free(&kept);
    process_free(&direct);

    const char *other = "{\"qid\": \"q\", \"query\": \"x\", \"docs\": [{\"docid\": \"d20\"}]}\n";
    kept = commands_run(other, "rerank", "-m", dir, "--embeddings", path, NULL);
    commands_expect_code(&kept, 2);
    cr_expect(strstr(kept.err, "\"docs[0].docid\" d20 is not in") != NULL, "%s", kept.err);
    process_free(&kept);
    tiny_write(dir, "first.run", "q1 Q0 d99 1 1 x\n", strlen("q1 Q0 d99 1 1 x\n"));
    kept = commands_run(NULL, "rerank", "-m", dir, "--run", run_path, "--queries", queries_path,
                        "--embeddings", path, NULL);
    commands_expect_code(&kept, 2);
    cr_expect(strstr(kept.err, ":1: document d99 is not in") != NULL, "%s", kept.err);
    process_free(&kept);
    kept = commands_run(NULL, "rerank", "-m", dir, "--run", run_path, "--queries", queries_path,
                        "--embeddings", path, "--corpus", path, NULL);
    commands_expect_code(&kept, 2);
    process_free(&kept);
}
