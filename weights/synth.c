#include "weights/synth.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "memory.h"
#include "weights/file.h"
#include "weights/safetensors.h"

/* The one place that knows the real shapes. */
static const synth_shape shapes[] = {
    /* name, type, L, D, H, F, embedding, positions, types, labels, epsilon, like */
    {"minilm-l6", "bert", 6, 384, 12, 1536, 384, 512, 2, 1, 1e-12,
     "cross-encoder/ms-marco-MiniLM-L6-v2"},
    {"minilm-l12", "bert", 12, 384, 12, 1536, 384, 512, 2, 1, 1e-12,
     "cross-encoder/ms-marco-MiniLM-L12-v2"},
    {"tinybert-l2", "bert", 2, 128, 2, 512, 128, 512, 2, 1, 1e-12,
     "cross-encoder/ms-marco-TinyBERT-L2-v2"},
    {"tinybert-l4", "bert", 4, 312, 12, 1200, 312, 512, 2, 1, 1e-12,
     "cross-encoder/ms-marco-TinyBERT-L4"},
    {"electra-base", "electra", 12, 768, 12, 3072, 768, 512, 2, 1, 1e-12,
     "cross-encoder/ms-marco-electra-base"},
    {"bert-base", "bert", 12, 768, 12, 3072, 768, 512, 2, 1, 1e-12,
     "nboost/pt-bert-base-uncased-msmarco"},
    {"bert-large", "bert", 24, 1024, 16, 4096, 1024, 512, 2, 1, 1e-12,
     "nboost/pt-bert-large-msmarco"},
};

const synth_shape *synth_shapes(size_t *n)
{
    *n = sizeof shapes / sizeof shapes[0];
    return shapes;
}

const synth_shape *synth_find(const char *name)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (strcmp(shapes[i].name, name) == 0) return &shapes[i];
    }
    return NULL;
}

/* ---- tensors
 * -------------------------------------------------------------------------------------*/

typedef enum fill { DRAWN, ONES, ZEROS } fill;
enum { BERT = 1, ELECTRA = 2, BOTH = 3, PROJECTED = 4 }; /* where a row counts */

/* '@' is the model type; a row with %d stands once a layer. Sizes: V vocabulary, P positions,
 * T types, E embedding width, D width, F FFN width, N labels, 0 none. Order as on the hub, where
 * it is alphabetical within a group. */
static const struct tensor_row {
    const char *name;
    char rows, cols;
    fill fill;
    int where;
} tensor_rows[] = {
    {"@.embeddings.LayerNorm.bias", 'E', 0, ZEROS, BOTH},
    {"@.embeddings.LayerNorm.weight", 'E', 0, ONES, BOTH},
    {"@.embeddings.position_embeddings.weight", 'P', 'E', DRAWN, BOTH},
    {"@.embeddings.token_type_embeddings.weight", 'T', 'E', DRAWN, BOTH},
    {"@.embeddings.word_embeddings.weight", 'V', 'E', DRAWN, BOTH},
    {"@.embeddings_project.bias", 'D', 0, DRAWN, ELECTRA | PROJECTED},
    {"@.embeddings_project.weight", 'D', 'E', DRAWN, ELECTRA | PROJECTED},
    {"@.encoder.layer.%d.attention.output.LayerNorm.bias", 'D', 0, ZEROS, BOTH},
    {"@.encoder.layer.%d.attention.output.LayerNorm.weight", 'D', 0, ONES, BOTH},
    {"@.encoder.layer.%d.attention.output.dense.bias", 'D', 0, DRAWN, BOTH},
    {"@.encoder.layer.%d.attention.output.dense.weight", 'D', 'D', DRAWN, BOTH},
    {"@.encoder.layer.%d.attention.self.key.bias", 'D', 0, DRAWN, BOTH},
    {"@.encoder.layer.%d.attention.self.key.weight", 'D', 'D', DRAWN, BOTH},
    {"@.encoder.layer.%d.attention.self.query.bias", 'D', 0, DRAWN, BOTH},
    {"@.encoder.layer.%d.attention.self.query.weight", 'D', 'D', DRAWN, BOTH},
    {"@.encoder.layer.%d.attention.self.value.bias", 'D', 0, DRAWN, BOTH},
    {"@.encoder.layer.%d.attention.self.value.weight", 'D', 'D', DRAWN, BOTH},
    {"@.encoder.layer.%d.intermediate.dense.bias", 'F', 0, DRAWN, BOTH},
    {"@.encoder.layer.%d.intermediate.dense.weight", 'F', 'D', DRAWN, BOTH},
    {"@.encoder.layer.%d.output.LayerNorm.bias", 'D', 0, ZEROS, BOTH},
    {"@.encoder.layer.%d.output.LayerNorm.weight", 'D', 0, ONES, BOTH},
    {"@.encoder.layer.%d.output.dense.bias", 'D', 0, DRAWN, BOTH},
    {"@.encoder.layer.%d.output.dense.weight", 'D', 'F', DRAWN, BOTH},
    {"@.pooler.dense.bias", 'D', 0, DRAWN, BERT},
    {"@.pooler.dense.weight", 'D', 'D', DRAWN, BERT},
    {"classifier.bias", 'N', 0, DRAWN, BERT},
    {"classifier.weight", 'N', 'D', DRAWN, BERT},
    {"classifier.dense.bias", 'D', 0, DRAWN, ELECTRA},
    {"classifier.dense.weight", 'D', 'D', DRAWN, ELECTRA},
    {"classifier.out_proj.bias", 'N', 0, DRAWN, ELECTRA},
    {"classifier.out_proj.weight", 'N', 'D', DRAWN, ELECTRA},
};
enum { N_TENSOR_ROWS = sizeof tensor_rows / sizeof tensor_rows[0] };

static int64_t size_of(const synth_shape *shape, char letter)
{
    switch (letter) {
    case 'V': return SYNTH_VOCAB;
    case 'P': return shape->positions;
    case 'T': return shape->types;
    case 'E': return shape->embedding_width;
    case 'D': return shape->width;
    case 'F': return shape->ffn;
    case 'N': return shape->labels;
    }
    return 1; /* no second dimension */
}

typedef struct synth_tensor {
    char name[96];
    int64_t shape[2], elements;
    int rank;
    fill fill;
} synth_tensor;

/* Walks the tensors of a shape in file order: layer by layer within the rows that have layers.
 * Start with a zeroed cursor; returns 0 at the end. */
typedef struct cursor {
    int row, layer;
} cursor;

static int is_layer_row(int row)
{
    return row < N_TENSOR_ROWS && strstr(tensor_rows[row].name, "%d") != NULL;
}

static int next_tensor(synth_tensor *tensor, cursor *at, const synth_shape *shape)
{
    int kind = strcmp(shape->model_type, "electra") == 0 ? ELECTRA : BERT;
    int projected = shape->embedding_width != shape->width;
    for (;;) {
        if (at->row >= N_TENSOR_ROWS) return 0;
        const struct tensor_row *row = &tensor_rows[at->row];
        int counts = (row->where & kind) != 0 && (projected || !(row->where & PROJECTED));
        int layer = at->layer;
        at->row++;
        if (strstr(row->name, "%d") != NULL && !is_layer_row(at->row)) {
            if (++at->layer < shape->layers) { /* back to the first row of a layer */
                while (is_layer_row(at->row - 1)) at->row--;
            }
        }
        if (!counts) continue;
        *tensor = (synth_tensor){.rank = row->cols != 0 ? 2 : 1, .fill = row->fill};
        tensor->shape[0] = size_of(shape, row->rows);
        tensor->shape[1] = size_of(shape, row->cols);
        tensor->elements = tensor->shape[0] * tensor->shape[1];
        const char *rest = row->name[0] == '@' ? row->name + 1 : row->name;
        const char *number = strstr(rest, "%d");
        const char *prefix = row->name[0] == '@' ? shape->model_type : "";
        if (number == NULL) {
            snprintf(tensor->name, sizeof tensor->name, "%s%s", prefix, rest);
        } else {
            snprintf(tensor->name, sizeof tensor->name, "%s%.*s%d%s", prefix, (int)(number - rest),
                     rest, layer, number + 2);
        }
        return 1;
    }
}

int64_t synth_parameters(const synth_shape *shape)
{
    synth_tensor tensor;
    cursor at = {0};
    int64_t sum = 0;
    while (next_tensor(&tensor, &at, shape)) sum += tensor.elements;
    return sum;
}

/* ---- numbers
 * -------------------------------------------------------------------------------------*/

/* Steele, Lea, Flood 2014 (SplitMix64), the finaliser with Stafford's constants "Mix13". */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static uint32_t sum_of_four(uint64_t x)
{
    return (uint32_t)((x & 0xFFFF) + (x >> 16 & 0xFFFF) + (x >> 32 & 0xFFFF) + (x >> 48));
}

/* Eight uniforms on 0..65535: mean 8 * 65535 / 2, variance 8 * (2^32 - 1) / 12. */
#define SUM_MEAN 262140
#define SUM_DEVIATION 53509.92f
#define DEVIATION 0.02f

static float draw(uint64_t key, uint64_t i)
{
    const uint64_t step = 0x9E3779B97F4A7C15u;
    uint32_t sum =
        sum_of_four(mix(key + step * (2 * i))) + sum_of_four(mix(key + step * (2 * i + 1)));
    return (float)((int32_t)sum - SUM_MEAN) * (DEVIATION / SUM_DEVIATION);
}

static crank_status write_tensor(st_writer *writer, const synth_tensor *tensor, uint64_t seed,
                                 float *buffer, size_t capacity, crank_error *error)
{
    uint64_t key = mix(XXH64(tensor->name, strlen(tensor->name), seed));
    uint64_t n = (uint64_t)tensor->elements;
    for (uint64_t done = 0; done < n;) {
        size_t count = n - done < capacity ? (size_t)(n - done) : capacity;
        for (size_t i = 0; i < count; i++) {
            buffer[i] = tensor->fill == DRAWN ? draw(key, done + i) : tensor->fill == ONES;
        }
        CRANK_TRY(st_writer_write_f32(writer, buffer, count, error));
        done += count;
    }
    return CRANK_OK;
}

static crank_status write_weights(const char *path, const synth_shape *shape, dtype type,
                                  uint64_t seed, crank_error *error)
{
    enum { BUFFER_FLOATS = 16384 };
    crank_status status = CRANK_OK;
    st_writer *writer = NULL;
    synth_tensor tensor;
    float *buffer = mem_array(BUFFER_FLOATS, sizeof *buffer);
    CRANK_CHECK_GOTO(buffer != NULL, OUT_OF_MEMORY, error, "%s: no memory for numbers", path);
    CRANK_TRY_GOTO(st_writer_open(&writer, path, ST_WRITER_PLAIN, error));
    CRANK_TRY_GOTO(st_writer_metadata(writer, "format", "pt", error));
    for (cursor at = {0}; next_tensor(&tensor, &at, shape);) {
        CRANK_TRY_GOTO(
            st_writer_tensor(writer, tensor.name, type, tensor.rank, tensor.shape, error));
    }
    for (cursor at = {0}; next_tensor(&tensor, &at, shape);) {
        CRANK_TRY_GOTO(write_tensor(writer, &tensor, seed, buffer, BUFFER_FLOATS, error));
    }
    CRANK_TRY_GOTO(st_writer_commit(writer, error));
out:
    st_writer_close(writer);
    mem_free(buffer);
    return status;
}

/* ---- the other files
 * -----------------------------------------------------------------------------*/

void synth_word(char word[6], int32_t i)
{
    word[0] = 'w';
    for (int letter = 1; letter < 5; letter++) {
        word[letter] = (char)('a' + i % 26);
        i /= 26;
    }
    word[5] = '\0';
}

static crank_status write_text(const char *path, const char *text, size_t bytes, crank_error *error)
{
    file_output *file;
    CRANK_TRY(file_create(&file, path, error));
    crank_status status = file_write(file, text, bytes, error);
    if (status == CRANK_OK) status = file_commit(file, error);
    file_discard(file);
    return status;
}

static crank_status write_vocabulary(const char *path, crank_error *error)
{
    static const char specials[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    enum { LINE = 6, WORDS = SYNTH_VOCAB - SYNTH_SPECIALS };
    size_t bytes = sizeof specials - 1 + (size_t)WORDS * LINE;
    char *text = mem_alloc(bytes);
    CRANK_CHECK(text != NULL, OUT_OF_MEMORY, error, "%s: no memory for it", path);
    memcpy(text, specials, sizeof specials - 1);
    for (int32_t i = 0; i < WORDS; i++) {
        char *line = text + sizeof specials - 1 + (size_t)i * LINE, word[LINE];
        synth_word(word, i);
        memcpy(line, word, LINE - 1);
        line[LINE - 1] = '\n';
    }
    crank_status status = write_text(path, text, bytes, error);
    mem_free(text);
    return status;
}

static const char tokenizer_config[] = "{\n"
                                       "  \"tokenizer_class\": \"BertTokenizer\",\n"
                                       "  \"do_lower_case\": true,\n"
                                       "  \"model_max_length\": 512,\n"
                                       "  \"pad_token\": \"[PAD]\",\n"
                                       "  \"unk_token\": \"[UNK]\",\n"
                                       "  \"cls_token\": \"[CLS]\",\n"
                                       "  \"sep_token\": \"[SEP]\",\n"
                                       "  \"mask_token\": \"[MASK]\"\n"
                                       "}\n";

static const char special_tokens[] = "{\n"
                                     "  \"pad_token\": \"[PAD]\",\n"
                                     "  \"unk_token\": \"[UNK]\",\n"
                                     "  \"cls_token\": \"[CLS]\",\n"
                                     "  \"sep_token\": \"[SEP]\",\n"
                                     "  \"mask_token\": \"[MASK]\"\n"
                                     "}\n";

static crank_status write_config(const char *path, const synth_shape *shape, dtype type,
                                 crank_error *error)
{
    int electra = strcmp(shape->model_type, "electra") == 0;
    char text[1600], embedding[64] = "", id_to_label[512] = "", label_to_id[512] = "";
    if (electra) {
        snprintf(embedding, sizeof embedding, "  \"embedding_size\": %d,\n",
                 shape->embedding_width);
    }
    for (int i = 0; i < shape->labels; i++) {
        size_t used = strlen(id_to_label);
        snprintf(id_to_label + used, sizeof id_to_label - used, "%s\n    \"%d\": \"LABEL_%d\"",
                 i > 0 ? "," : "", i, i);
        used = strlen(label_to_id);
        snprintf(label_to_id + used, sizeof label_to_id - used, "%s\n    \"LABEL_%d\": %d",
                 i > 0 ? "," : "", i, i);
    }
    int bytes = snprintf(text, sizeof text,
                         "{\n"
                         "  \"architectures\": [\n    \"%sForSequenceClassification\"\n  ],\n"
                         "  \"model_type\": \"%s\",\n"
                         "  \"vocab_size\": %d,\n"
                         "%s"
                         "  \"hidden_size\": %d,\n"
                         "  \"num_hidden_layers\": %d,\n"
                         "  \"num_attention_heads\": %d,\n"
                         "  \"intermediate_size\": %d,\n"
                         "  \"hidden_act\": \"gelu\",\n"
                         "  \"max_position_embeddings\": %d,\n"
                         "  \"type_vocab_size\": %d,\n"
                         "  \"layer_norm_eps\": %g,\n"
                         "  \"pad_token_id\": 0,\n"
                         "  \"hidden_dropout_prob\": 0.1,\n"
                         "  \"attention_probs_dropout_prob\": 0.1,\n"
                         "  \"id2label\": {%s\n  },\n"
                         "  \"label2id\": {%s\n  },\n"
                         "  \"torch_dtype\": \"%s\"\n"
                         "}\n",
                         electra ? "Electra" : "Bert", shape->model_type, SYNTH_VOCAB, embedding,
                         shape->width, shape->layers, shape->heads, shape->ffn, shape->positions,
                         shape->types, shape->norm_epsilon, id_to_label, label_to_id,
                         type == DTYPE_F16    ? "float16"
                         : type == DTYPE_BF16 ? "bfloat16"
                                              : "float32");
    return write_text(path, text, (size_t)bytes, error);
}

/* ---- the folder
 * ----------------------------------------------------------------------------------*/

/* In the order of writing: config.json last, without which a folder is no model. */
enum { VOCABULARY, TOKENIZER_CONFIG, SPECIAL_TOKENS, WEIGHTS, CONFIG, N_FILES };
static const char *const file_names[N_FILES] = {"vocab.txt", "tokenizer_config.json",
                                                "special_tokens_map.json", "model.safetensors",
                                                "config.json"};

static crank_status write_file(int which, const char *path, const synth_shape *shape, dtype type,
                               uint64_t seed, crank_error *error)
{
    switch (which) {
    case VOCABULARY: return write_vocabulary(path, error);
    case TOKENIZER_CONFIG:
        return write_text(path, tokenizer_config, sizeof tokenizer_config - 1, error);
    case SPECIAL_TOKENS: return write_text(path, special_tokens, sizeof special_tokens - 1, error);
    case WEIGHTS: return write_weights(path, shape, type, seed, error);
    default: return write_config(path, shape, type, error);
    }
}

crank_status synth_write(const char *dir, const synth_shape *shape, dtype type, uint64_t seed,
                         crank_error *error)
{
    crank_status status = CRANK_OK;
    char *paths[N_FILES] = {0};
    int done = 0;
    CRANK_CHECK(type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16, INVALID_ARGUMENT,
                error, "weights of dtype %s cannot be made, F32, F16 and BF16 can",
                dtype_name(type));
    int made = mkdir(dir, 0777) == 0;
    CRANK_CHECK(made || errno == EEXIST, IO, error, "%s: cannot make the folder: %s", dir,
                strerror(errno));
    for (int i = 0; i < N_FILES; i++) {
        paths[i] = file_join(dir, file_names[i]);
        CRANK_CHECK_GOTO(paths[i] != NULL, OUT_OF_MEMORY, error, "%s: no memory for its paths",
                         dir);
    }
    for (; done < N_FILES; done++) {
        CRANK_TRY_GOTO(write_file(done, paths[done], shape, type, seed, error));
    }
out:
    if (status != CRANK_OK) {
        for (int i = 0; i < done; i++) unlink(paths[i]);
        /* A file whose folder could not be synced stays; in a new folder it is ours alone. */
        if (made && done < N_FILES && paths[done] != NULL) unlink(paths[done]);
        if (made) rmdir(dir);
    }
    for (int i = 0; i < N_FILES; i++) mem_free(paths[i]);
    return status;
}
