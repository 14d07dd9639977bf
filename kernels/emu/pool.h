/* Memory that lives and dies with a PTX module: bump allocation in chunks, freed as a whole. */
#ifndef CRANK_EMU_POOL_H
#define CRANK_EMU_POOL_H

#include <stddef.h>

typedef struct pool_chunk pool_chunk;
typedef struct pool {
    pool_chunk *chunks;
    size_t used, capacity; /* of the newest chunk */
} pool;

/* Zeroed and 16-byte aligned; NULL when memory is out. */
void *pool_take(pool *p, size_t count, size_t size);
char *pool_text(pool *p, const char *text, size_t bytes);
void pool_free(pool *p);

/* Makes room for one more element of a growing array whose capacity doubles; 0 when memory is out.
 * The old array stays in the pool. */
int pool_grow(pool *p, void **array, size_t *capacity, size_t count, size_t size);

#endif
