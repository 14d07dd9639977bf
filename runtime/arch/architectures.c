/* One row per family: a new architecture is one file and one line here. */
#include <stddef.h>

#include "runtime/model.h"

extern const architecture architecture_bert, architecture_electra, architecture_distilbert;

const architecture *const architectures[] = {
    &architecture_bert,
    &architecture_electra,
    &architecture_distilbert,
    NULL,
};
