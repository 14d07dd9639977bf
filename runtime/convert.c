/* crank_convert: a folder (or a converted file of no narrower dtype) becomes one self-contained
 * file. The file is safetensors: packed linears as U8, tables and norms as they are, the
 * tokenizer's image, and in the metadata the configs, the layout and where it came from. */
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "runtime/devices.h"
#include "runtime/reader.h"
#include "runtime/tokenize.h"
#include "weights/checksum.h"

static crank_status choose_layout(const model_reader *r, const crank_convert_options *options,
                                  const ops_layout **layout, crank_error *error)
{
    crank_device device = options->device;
    if (device == CRANK_DEVICE_AUTO) {
        device = device_find(CRANK_DEVICE_CPU) != NULL ? CRANK_DEVICE_CPU : CRANK_DEVICE_REF;
    }
    ops_dtype type = device_dtype(options->dtype);
    if (options->dtype == CRANK_DTYPE_AUTO) {
        type = device_layout(device, OPS_INT8) != NULL && !r->bi_encoder ? OPS_INT8 : OPS_F32;
    }
    *layout = device_layout(device, type);
    /* f16 is a fine way to store weights even where nothing computes in it. */
    if (*layout == NULL) *layout = device_layout(CRANK_DEVICE_CUDA, type);
    CRANK_CHECK(*layout != NULL, UNSUPPORTED, error,
                "this build has no weight layout for dtype %s on this device",
                ops_dtypes[type].name);
    return CRANK_OK;
}

static crank_status write_metadata(const model_reader *r, const ops_layout *layout,
                                   const char *checksum, st_writer *w, crank_error *error)
{
    char dims[256], dtypes[64];
    reader_dims_text(r, dims, sizeof dims);
    reader_dtypes(r, dtypes, sizeof dtypes);
    const struct {
        const char *key, *value;
    } pairs[] = {
        {"format", "crank"},
        {"crank.format", READER_FORMAT},
        {"crank.version", CRANK_VERSION},
        {"crank.name", reader_name(r)},
        {"crank.layout", layout->name},
        {"crank.dtype", ops_dtypes[layout->dtype].name},
        {"crank.dims", dims},
        {"crank.bi_encoder", r->bi_encoder ? "1" : "0"},
        {"crank.source_dtypes", dtypes},
        {"crank.source_sha256", checksum},
    };
    const late_interaction *late = &r->model->late;
    if (late->present && late->fingerprint[0] != '\0') {
        CRANK_TRY(st_writer_metadata(w, "crank.fingerprint", late->fingerprint, error));
    }
    const ranker *k = &r->model->ranker;
    if (k->head) {
        CRANK_TRY(st_writer_metadata(w, "crank.prompt", r->model->prompt, error));
    } else if (k->n_answers > 0) {
        char answers[16 * PROMPT_MAX_ANSWERS];
        size_t used = 0;
        for (int i = 0; i < k->n_answers; i++) {
            used += (size_t)snprintf(answers + used, sizeof answers - used, "%s#%d",
                                     i > 0 ? "," : "", k->answers[i]);
        }
        CRANK_TRY(st_writer_metadata(w, "crank.answers", answers, error));
        CRANK_TRY(st_writer_metadata(w, "crank.prompt", r->model->prompt, error));
        CRANK_TRY(
            st_writer_metadata(w, "crank.reduction", prompt_reduction_names[k->reduction], error));
    }
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        CRANK_TRY(st_writer_metadata(w, pairs[i].key, pairs[i].value, error));
    }
    return sentence_config_copy(w, &r->source, &r->sentence, error);
}

static crank_status write_file(model_reader *r, const ops_layout *layout, const char *destination,
                               const crank_convert_options *options, crank_error *error)
{
    st_writer *w = NULL;
    crank_tokenizer *from_file = NULL;
    char checksum[CHECKSUM_TEXT_BYTES];
    crank_status status;
    const char *kept = reader_metadata(r, "crank.source_sha256");
    if (kept != NULL) {
        snprintf(checksum, sizeof checksum, "%s", kept);
    } else {
        CRANK_TRY_GOTO(checksum_weights(checksum, r->file, error));
    }
    if (r->converted && safetensors_find(r->file, READER_TOKENIZER_TENSOR) != NULL) {
        CRANK_TRY_GOTO(tokenize_open_converted(&from_file, r->file, NULL, error));
    }
    const crank_tokenizer *text = r->converted ? from_file : r->text_tokenizer;
    CRANK_TRY_GOTO(st_writer_open(&w, destination, ST_WRITER_ALIGNED, error));
    CRANK_TRY_GOTO(write_metadata(r, layout, checksum, w, error));
    CRANK_TRY_GOTO(store_declare_file(&r->store, w, error));
    size_t image_bytes = 0;
    const void *image = NULL;
    if (text != NULL) {
        image = tokenizer_image(text->tok, &image_bytes);
        int64_t shape[1] = {(int64_t)image_bytes};
        CRANK_TRY_GOTO(st_writer_tensor(w, READER_TOKENIZER_TENSOR, DTYPE_U8, 1, shape, error));
    }
    CRANK_TRY_GOTO(
        store_write_file(&r->store, w, options->progress, options->progress_user, error));
    if (image != NULL) CRANK_TRY_GOTO(st_writer_write(w, image, image_bytes, error));
    CRANK_TRY_GOTO(st_writer_commit(w, error));
out:
    st_writer_close(w);
    crank_tokenizer_close(from_file);
    return status;
}

crank_status crank_convert(const char *source, const char *destination,
                           const crank_convert_options *options, crank_error *error)
{
    CRANK_CHECK(source != NULL && destination != NULL, INVALID_ARGUMENT, error,
                "crank_convert: source and destination must not be NULL");
    crank_convert_options settings;
    CRANK_TRY(options_read(&settings, sizeof settings, options, "crank_convert_options", error));
    crank_model *m = mem_zero(1, sizeof *m);
    CRANK_CHECK(m != NULL, OUT_OF_MEMORY, error, "no memory for a model");
    crank_model_options model_options = {.size = sizeof model_options,
                                         .bi_encoder = settings.bi_encoder,
                                         .prompt = settings.prompt,
                                         .answer_tokens = settings.answer_tokens,
                                         .reduction = settings.reduction};
    model_reader r = {.model = m, .options = &model_options};
    const ops_layout *layout;
    crank_status status;
    CRANK_TRY_GOTO(reader_open(&r, source, error));
    CRANK_TRY_GOTO(choose_layout(&r, &settings, &layout, error));
    /* A wider file would say that it holds what was rounded away. */
    const ops_layout *from = r.file_layout;
    CRANK_CHECK_GOTO(
        from == NULL || ops_dtypes[layout->dtype].bytes <= ops_dtypes[from->dtype].bytes,
        INVALID_ARGUMENT, error,
        "%s: expected a folder to make %s from, this is a converted file of rounded %s weights",
        source, ops_dtypes[layout->dtype].name, ops_dtypes[from->dtype].name);
    CRANK_TRY_GOTO(reader_declare(&r, layout, error));
    CRANK_TRY_GOTO(write_file(&r, layout, destination, &settings, error));
out:
    reader_close(&r);
    crank_model_close(m);
    return status;
}
