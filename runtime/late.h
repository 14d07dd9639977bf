/* ColBERT as a re-ranker (Khattab and Zaharia 2020): a vector for every token, and MaxSim between a
 * query's and a document's. Stanford folders (HF_ColBERT, artifact.metadata) and PyLate folders
 * (modules.json with a Dense module, settings in config_sentence_transformers.json). */
#ifndef CRANK_RUNTIME_LATE_H
#define CRANK_RUNTIME_LATE_H

#include "runtime/call.h"

/* Scores the call's pairs: c->outputs[i] is pair i's MaxSim. */
crank_status late_score(call *c, crank_error *error);

#endif
