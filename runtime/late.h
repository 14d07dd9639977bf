/* ColBERT as a re-ranker (Khattab and Zaharia 2020): a vector for every token, and MaxSim between a
 * query's and a document's. Stanford folders (HF_ColBERT, artifact.metadata) and PyLate folders
 * (modules.json with a Dense module, settings in config_sentence_transformers.json). */
#ifndef CRANK_RUNTIME_LATE_H
#define CRANK_RUNTIME_LATE_H

#include "kernels/maxsim.h"
#include "runtime/call.h"

/* Scores the call's pairs: c->outputs[i] is pair i's MaxSim. */
crank_status late_score(call *c, crank_error *error);

/* The ids of text `is_query` or document into ids, room for twice the longer length; no vectors
 * yet.
 */
pack_sequence late_compose(const call *c, const encoded *text, bool is_query, int32_t *ids);
/* Document vectors that take part in the maximum: how many of the sequence's. */
int32_t late_kept(const late_interaction *late, const pack_sequence *sequence);

/* Vectors of every token of texts (n_queries queries, then documents, n in all): rows[i] is the
 * first of text i's rows, c->sequences[i].length of them. Both in the session's memory. */
crank_status late_vectors(call *c, const encoded *texts, size_t n_queries, size_t n,
                          float **vectors, size_t **rows, crank_error *error);
/* Moves those of a document that take part to the front of its rows; returns how many. keep: room
 * for the sequence. */
int32_t late_compact(const late_interaction *late, float *vectors, const pack_sequence *sequence,
                     int32_t dim, uint8_t *keep);
/* scores[i]: MaxSim of the query's vectors against documents[i]. */
crank_status late_max_sim(crank_session *s, float *scores, const float *query, int32_t query_rows,
                          const maxsim_document *documents, size_t n, maxsim_type type,
                          crank_error *error);

#endif
