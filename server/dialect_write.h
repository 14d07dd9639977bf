/* The writers that the table of dialects.c names. */
#ifndef CRANK_SERVER_DIALECT_WRITE_H
#define CRANK_SERVER_DIALECT_WRITE_H

#include "server/dialects.h"

void write_tei(text *out, const dialect_answer *answer);
void write_infinity(text *out, const dialect_answer *answer);
void write_voyage(text *out, const dialect_answer *answer);
void write_vllm(text *out, const dialect_answer *answer);
void write_cohere(text *out, const dialect_answer *answer);
void write_jina(text *out, const dialect_answer *answer);
void write_llama(text *out, const dialect_answer *answer);
void write_nim(text *out, const dialect_answer *answer);
void write_score(text *out, const dialect_answer *answer);

void error_tei(text *out, int status, dialect_fault fault, const char *message);
void error_openai(text *out, int status, dialect_fault fault, const char *message);
void error_llama(text *out, int status, dialect_fault fault, const char *message);
void error_cohere(text *out, int status, dialect_fault fault, const char *message);
void error_detail(text *out, int status, dialect_fault fault, const char *message);
void error_nim(text *out, int status, dialect_fault fault, const char *message);

const char *dialect_tei_type(dialect_fault fault);
const char *dialect_openai_type(dialect_fault fault);

#endif
