/* The table of models: a new one is a row here and a file of its own. */
#include "tokenizer/model.h"

#include <string.h>

static const tok_model *const models[] = {&tok_model_wordpiece, &tok_model_bpe, &tok_model_unigram};

enum { N_MODELS = sizeof models / sizeof *models };

const tok_model *tok_model_at(int i)
{
    return i >= 0 && i < N_MODELS ? models[i] : NULL;
}

const tok_model *tok_model_find(const char *type)
{
    for (int i = 0; i < N_MODELS; i++)
        if (strcmp(models[i]->type, type) == 0) return models[i];
    return NULL;
}
