/* What a batch costs: us = fixed + slope * tokens, by least squares over measured batches, older
 * ones counting less and less. */
#ifndef CRANK_SERVER_COST_H
#define CRANK_SERVER_COST_H

typedef struct cost_model {
    double n, x, y, xx, xy; /* decayed sums */
    double fixed, slope;
} cost_model;

void cost_learn(cost_model *c, double tokens, double us);
double cost_of(const cost_model *c, double tokens);

#endif
