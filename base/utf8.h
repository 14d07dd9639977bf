/* UTF-8 by length, never by NUL. Source: RFC 3629; overlongs, surrogates and values above U+10FFFF
 * are invalid. */
#ifndef CRANK_BASE_UTF8_H
#define CRANK_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define UTF8_REPLACEMENT 0xFFFDu

/* Decodes the character at text (bytes >= 1 left). Returns its width 1..4 and sets *code_point; on
 * invalid input returns -n, n >= 1 the length of the maximal ill-formed part (Unicode 3.9, the
 * "maximal subpart" that Rust's from_utf8_lossy and Python's errors="replace" turn into one
 * U+FFFD), and sets *code_point to U+FFFD. */
int utf8_decode(const uint8_t *text, size_t bytes, uint32_t *code_point);

/* Writes code_point (a scalar value) to out[0..3]; returns its width 1..4. */
int utf8_encode(uint32_t code_point, uint8_t *out);

/* The offset of the first invalid byte, or bytes when all of it is valid. */
size_t utf8_valid_prefix(const uint8_t *text, size_t bytes);

#endif
