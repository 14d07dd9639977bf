/* One row per family: a new architecture is one file and one line here. */
#include <stddef.h>

#include "runtime/model.h"

/* clang-format off */
#define ARCHITECTURES(X) \
    X(bert) X(electra) X(distilbert) X(roberta) X(albert) X(mpnet) X(modernbert) X(deberta) X(gte) \
    X(nomic) X(t5)
/* clang-format on */

#define DECLARE(name) extern const architecture architecture_##name;
ARCHITECTURES(DECLARE)
#undef DECLARE

#define ROW(name) &architecture_##name,
const architecture *const architectures[] = {ARCHITECTURES(ROW) NULL};
#undef ROW
