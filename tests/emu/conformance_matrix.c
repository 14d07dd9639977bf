/* Matrices: mma, ldmatrix, movmatrix, cp.async, vectors in shared memory. Fragments are described
 * in the manual's own terms: groupID, threadID_in_group, element index i. */
#include <limits.h>

#include "tests/emu/conformance.h"

typedef enum element { F16, BF16, TF32, S8, U8 } element;

typedef struct mma_case {
    const char *name;
    int k;
    element a, b;
    int accumulates_f16, saturates;
} mma_case;

static int element_bits(element e)
{
    return e == TF32 ? 32 : e == S8 || e == U8 ? 8 : 16;
}

/* The manual's fragment of A (16 x k): element number i of a lane's fragment. */
static void a_place(int k, int bits, int lane, int i, int *row, int *column)
{
    int group = lane >> 2, thread = lane % 4;
    if (bits == 16 && k == 16) { /* .m16n8k16: rows for 0<=i<2 || 4<=i<6 */
        *row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
        *column = thread * 2 + (i & 1) + (i < 4 ? 0 : 8);
    } else if (bits == 16) { /* .m16n8k8 */
        *row = i < 2 ? group : group + 8;
        *column = thread * 2 + (i & 1);
    } else if (bits == 8 && k == 32) { /* .m16n8k32 */
        *row = (i < 4 || (i >= 8 && i < 12)) ? group : group + 8;
        *column = thread * 4 + (i & 3) + (i < 8 ? 0 : 16);
    } else if (bits == 8) { /* .m16n8k16 */
        *row = i < 4 ? group : group + 8;
        *column = thread * 4 + (i & 3);
    } else if (k == 8) { /* tf32 .m16n8k8 */
        *row = (i == 0 || i == 2) ? group : group + 8;
        *column = thread + (i < 2 ? 0 : 4);
    } else { /* tf32 .m16n8k4 */
        *row = i == 0 ? group : group + 8;
        *column = thread;
    }
}

static void b_place(int k, int bits, int lane, int i, int *row, int *column)
{
    int group = lane >> 2, thread = lane % 4;
    *column = group;
    if (bits == 16)
        *row = thread * 2 + (i & 1) + (i < 2 ? 0 : 8);
    else if (bits == 8)
        *row = thread * 4 + (i & 3) + (i < 4 ? 0 : 16);
    else
        *row = thread + (i == 0 ? 0 : 4);
    (void)k;
}

static void c_place(int lane, int i, int *row, int *column)
{
    *row = i < 2 ? lane >> 2 : (lane >> 2) + 8;
    *column = lane % 4 * 2 + (i & 1);
}

static uint32_t encode(element e, int value)
{
    switch (e) {
    case F16: return f16_round(value);
    case BF16: return bf16_round(value);
    case TF32: return as_bits((float)value);
    default: return (uint32_t)value & 0xff;
    }
}

/* Small integers; round `variant` 0 is one-hot in A, 1 one-hot in B, later ones random. */
static void fill_mma(const mma_case *m, run *r, int variant)
{
    int a[16][32] = {{0}}, b[32][8] = {{0}}, c[16][8];
    int low_a = m->a == U8 ? 0 : -7, low_b = m->b == U8 ? 0 : -7;
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < m->k; k++) a[i][k] = low_a + (int)(conformance_random() % 15);
    for (int k = 0; k < m->k; k++)
        for (int j = 0; j < 8; j++) b[k][j] = low_b + (int)(conformance_random() % 15);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++)
            c[i][j] = variant < 2 ? 0 : (int)(conformance_random() % 201) - 100;
    if (variant == 0) {
        memset(a, 0, sizeof a);
        a[conformance_random() % 16][conformance_random() % (uint32_t)m->k] = 3;
    }
    if (variant == 1) {
        memset(b, 0, sizeof b);
        b[conformance_random() % (uint32_t)m->k][conformance_random() % 8] = 5;
    }
    if (m->saturates)
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8; j++)
                c[i][j] = conformance_random() & 1 ? INT_MAX - (int)(conformance_random() % 50)
                                                   : INT_MIN + (int)(conformance_random() % 50);
    int bits = element_bits(m->a), per_register = 32 / bits;
    int a_registers = 16 * m->k / 32 / per_register, b_registers = m->k * 8 / 32 / per_register;
    int c_registers = m->accumulates_f16 ? 2 : 4;
    memset(r->in, 0, sizeof r->in);
    for (int lane = 0; lane < 32; lane++) {
        for (int i = 0; i < a_registers * per_register; i++) {
            int row, column;
            a_place(m->k, bits, lane, i, &row, &column);
            r->in[i / per_register * 32 + lane] |= encode(m->a, a[row][column])
                                                   << (i % per_register * bits % 32);
        }
        for (int i = 0; i < b_registers * per_register; i++) {
            int row, column;
            b_place(m->k, bits, lane, i, &row, &column);
            r->in[(a_registers + i / per_register) * 32 + lane] |=
                encode(m->b, b[row][column]) << (i % per_register * bits % 32);
        }
        for (int i = 0; i < 4; i++) {
            int row, column;
            c_place(lane, i, &row, &column);
            uint32_t *in = r->in + (a_registers + b_registers) * 32;
            int64_t sum = c[row][column];
            for (int k = 0; k < m->k; k++) sum += a[row][k] * b[k][column];
            if (m->accumulates_f16) {
                in[i / 2 * 32 + lane] |= f16_round(c[row][column]) << (i % 2 * 16);
                if (i % 2 == 0) r->expected[i / 2 * 32 + lane] = 0;
                r->expected[i / 2 * 32 + lane] |= f16_round(sum) << (i % 2 * 16);
            } else if (bits == 8) {
                in[i * 32 + lane] = (uint32_t)c[row][column];
                if (m->saturates) sum = sum > INT_MAX ? INT_MAX : sum < INT_MIN ? INT_MIN : sum;
                r->expected[i * 32 + lane] = (uint32_t)sum;
            } else {
                in[i * 32 + lane] = as_bits((float)c[row][column]);
                r->expected[i * 32 + lane] = as_bits((float)sum);
            }
        }
    }
    r->n_in = (uint32_t)(a_registers + b_registers + c_registers) * 32;
    r->n_out = (uint32_t)c_registers * 32;
    r->n_threads = 32;
}

static const mma_case mma_cases[] = {
    {"mma_m16n8k16_f16_f32", 16, F16, F16, 0, 0},
    {"mma_m16n8k16_bf16_f32", 16, BF16, BF16, 0, 0},
    {"mma_m16n8k16_f16_f16", 16, F16, F16, 1, 0},
    {"mma_m16n8k8_f16_f32", 8, F16, F16, 0, 0},
    {"mma_m16n8k8_bf16_f32", 8, BF16, BF16, 0, 0},
    {"mma_m16n8k8_f16_f16", 8, F16, F16, 1, 0},
    {"mma_m16n8k8_tf32_f32", 8, TF32, TF32, 0, 0},
    {"mma_m16n8k4_tf32_f32", 4, TF32, TF32, 0, 0},
    {"mma_m16n8k32_s8_s8", 32, S8, S8, 0, 0},
    {"mma_m16n8k32_u8_s8", 32, U8, S8, 0, 0},
    {"mma_m16n8k32_s8_u8", 32, S8, U8, 0, 0},
    {"mma_m16n8k32_u8_u8", 32, U8, U8, 0, 0},
    {"mma_m16n8k32_s8_s8_satfinite", 32, S8, S8, 0, 1},
    {"mma_m16n8k32_u8_s8_satfinite", 32, U8, S8, 0, 1},
    {"mma_m16n8k32_s8_u8_satfinite", 32, S8, U8, 0, 1},
    {"mma_m16n8k32_u8_u8_satfinite", 32, U8, U8, 0, 1},
    {"mma_m16n8k16_s8_s8", 16, S8, S8, 0, 0},
    {"mma_m16n8k16_u8_s8", 16, U8, S8, 0, 0},
    {"mma_m16n8k16_s8_u8", 16, S8, U8, 0, 0},
    {"mma_m16n8k16_u8_u8", 16, U8, U8, 0, 0},
    {"mma_m16n8k16_s8_s8_satfinite", 16, S8, S8, 0, 1},
    {"mma_m16n8k16_u8_s8_satfinite", 16, U8, S8, 0, 1},
    {"mma_m16n8k16_s8_u8_satfinite", 16, S8, U8, 0, 1},
    {"mma_m16n8k16_u8_u8_satfinite", 16, U8, U8, 0, 1},
};

typedef struct matrix_case {
    const char *name;
    int n, trans;
} matrix_case;

static void fill_matrix(const matrix_case *m, run *r)
{
    for (int i = 0; i < 128; i++) r->in[i] = conformance_random();
    /* Matrix i is rows 8 i .. 8 i + 7 of 16 bytes; lane l gets elements 2 (l % 4) and the next of
     * row l / 4, or, transposed, those of column l / 4. */
    const uint8_t *bytes = (const uint8_t *)r->in;
    for (int i = 0; i < m->n; i++)
        for (int lane = 0; lane < 32; lane++) {
            uint16_t pair[2];
            for (int e = 0; e < 2; e++) {
                int row = m->trans ? lane % 4 * 2 + e : lane / 4;
                int column = m->trans ? lane / 4 : lane % 4 * 2 + e;
                memcpy(&pair[e], bytes + (8 * i + row) * 16 + column * 2, 2);
            }
            r->expected[i * 32 + lane] = pair[0] | (uint32_t)pair[1] << 16;
        }
    r->n_in = 128;
    r->n_out = (uint32_t)m->n * 32;
    r->n_threads = 32;
}

static const matrix_case matrix_cases[] = {
    {"ldmatrix_x1", 1, 0},       {"ldmatrix_x2", 2, 0},       {"ldmatrix_x4", 4, 0},
    {"ldmatrix_x1_trans", 1, 1}, {"ldmatrix_x2_trans", 2, 1}, {"ldmatrix_x4_trans", 4, 1},
};

static void fill_movmatrix(run *r)
{
    uint16_t matrix[8][8];
    for (int lane = 0; lane < 32; lane++) {
        r->in[lane] = conformance_random();
        matrix[lane / 4][lane % 4 * 2] = (uint16_t)r->in[lane];
        matrix[lane / 4][lane % 4 * 2 + 1] = (uint16_t)(r->in[lane] >> 16);
    }
    for (int lane = 0; lane < 32; lane++)
        r->expected[lane] =
            matrix[lane % 4 * 2][lane / 4] | (uint32_t)matrix[lane % 4 * 2 + 1][lane / 4] << 16;
    r->n_in = r->n_out = r->n_threads = 32;
}

typedef struct async_case {
    const char *name;
    uint32_t bytes;
    int zero_fills;
} async_case;

static void fill_async(const async_case *c, run *r)
{
    for (int i = 0; i < 128; i++) r->in[i] = conformance_random();
    for (int i = 0; i < 32; i++) r->in[128 + i] = conformance_random() % (c->bytes + 1);
    r->in[128] = 0;
    r->in[129] = c->bytes;
    for (int i = 0; i < 128; i++) r->expected[i] = 0xeeeeeeee;
    uint8_t *to = (uint8_t *)r->expected;
    for (uint32_t lane = 0; lane < 32; lane++) {
        uint32_t n = c->zero_fills ? r->in[128 + lane] : c->bytes;
        memset(to + lane * c->bytes, 0, c->bytes);
        memcpy(to + lane * c->bytes, (const uint8_t *)r->in + lane * c->bytes, n);
    }
    r->n_in = 160;
    r->n_out = 128;
    r->n_threads = 32;
}

static const async_case async_cases[] = {
    {"cp_async_ca_4", 4, 0},         {"cp_async_ca_8", 8, 0},         {"cp_async_ca_16", 16, 0},
    {"cp_async_cg_16", 16, 0},       {"cp_async_ca_4_zfill", 4, 1},   {"cp_async_ca_8_zfill", 8, 1},
    {"cp_async_ca_16_zfill", 16, 1}, {"cp_async_cg_16_zfill", 16, 1},
};

/* Four groups in flight: all arrive. */
static void fill_groups(run *r)
{
    for (int i = 0; i < 128; i++) r->expected[i] = r->in[i] = conformance_random();
    r->n_in = r->n_out = 128;
    r->n_threads = 32;
}

/* Vectors through shared memory: lane l stores words of its own and loads those of lane 31 - l. */
static void fill_vectors(run *r, int n)
{
    for (int i = 0; i < 32 * n; i++) r->in[i] = conformance_random();
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < n; i++) r->expected[lane * n + i] = r->in[(31 - lane) * n + i];
    r->n_in = r->n_out = (uint32_t)(32 * n);
    r->n_threads = 32;
}

void conformance_matrices(conformance *c)
{
    for (size_t i = 0; i < LENGTH(mma_cases); i++) {
        if (!conformance_begins(c, mma_cases[i].name)) continue;
        for (int variant = 0; variant < 40; variant++) {
            fill_mma(&mma_cases[i], c->run, variant < 16 ? 0 : variant < 32 ? 1 : 2);
            if (!conformance_run(c, mma_cases[i].name, EXACT)) break;
        }
    }
    for (size_t i = 0; i < LENGTH(matrix_cases); i++)
        if (conformance_begins(c, matrix_cases[i].name)) {
            fill_matrix(&matrix_cases[i], c->run);
            conformance_run(c, matrix_cases[i].name, EXACT);
        }
    if (conformance_begins(c, "movmatrix_trans")) {
        fill_movmatrix(c->run);
        conformance_run(c, "movmatrix_trans", EXACT);
    }
    for (size_t i = 0; i < LENGTH(async_cases); i++)
        if (conformance_begins(c, async_cases[i].name)) {
            fill_async(&async_cases[i], c->run);
            conformance_run(c, async_cases[i].name, EXACT);
        }
    if (conformance_begins(c, "cp_async_groups")) {
        fill_groups(c->run);
        conformance_run(c, "cp_async_groups", EXACT);
    }
    static const char *const vector_names[] = {"shared_b32", "shared_v2", "shared_v4"};
    for (int i = 0; i < 3; i++)
        if (conformance_begins(c, vector_names[i])) {
            fill_vectors(c->run, 1 << i);
            conformance_run(c, vector_names[i], EXACT);
        }
}

/* The mnemonic that a case stands for. */
static void product_mnemonic(char *out, size_t bytes, const mma_case *m)
{
    static const char *const types[] = {"f16", "bf16", "tf32", "s8", "u8"};
    const char *sum = m->a == S8 || m->a == U8 ? "s32" : m->accumulates_f16 ? "f16" : "f32";
    snprintf(out, bytes, "mma.sync.aligned.m16n8k%d.row.col%s.%s.%s.%s.%s", m->k,
             m->saturates ? ".satfinite" : "", sum, types[m->a], types[m->b], sum);
}

int conformance_missing_products(const conformance *c)
{
    const char *(*instruction_name)(size_t);
    gpu_symbol(c->g.library, "emu_instruction_name", &instruction_name);
    int n = 0;
    const char *name;
    for (size_t i = 0; instruction_name != NULL && (name = instruction_name(i)) != NULL; i++) {
        int known = strncmp(name, "mma.", 4) != 0;
        for (size_t k = 0; k < LENGTH(mma_cases) && !known; k++) {
            char mnemonic[96];
            product_mnemonic(mnemonic, sizeof mnemonic, &mma_cases[k]);
            known = strcmp(name, mnemonic) == 0;
        }
        if (!known) printf("FAIL: no case for %s\n", name);
        n += !known;
    }
    return n;
}
