/* Keeps the library non-empty when no helper is needed. */
typedef int support_is_not_empty;
