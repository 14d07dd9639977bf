#include "server/cost.h"

#define MEMORY 0.97 /* what is left of a batch's weight one batch later: about 33 batches count */

void cost_learn(cost_model *c, double tokens, double us)
{
    c->n = c->n * MEMORY + 1;
    c->x = c->x * MEMORY + tokens;
    c->y = c->y * MEMORY + us;
    c->xx = c->xx * MEMORY + tokens * tokens;
    c->xy = c->xy * MEMORY + tokens * us;
    double spread = c->n * c->xx - c->x * c->x;
    double slope = spread > 1e-6 * c->n * c->xx ? (c->n * c->xy - c->x * c->y) / spread : -1;
    double fixed = (c->y - slope * c->x) / c->n;
    if (slope <= 0 || fixed < 0) { /* batches all alike, or noise: through the origin */
        slope = c->x > 0 ? c->y / c->x : 0;
        fixed = 0;
    }
    c->slope = slope;
    c->fixed = fixed;
}

double cost_of(const cost_model *c, double tokens)
{
    return tokens > 0 ? c->fixed + c->slope * tokens : 0;
}
