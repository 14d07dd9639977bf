/* What a module is loaded from: any bytes as a fatbin or PTX text, up to the decoded kernels. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/fatbin.h"
#include "kernels/emu/ptx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void promise(int holds)
{
    if (!holds) abort();
}

/* What the interpreter relies on without looking: lanes stay inside the code. */
static void check_function(const ptx_function *f)
{
    promise(f->name != NULL && f->n_code > 0);
    promise(f->code[f->n_code - 1].kind == KIND_EXIT);
    for (uint32_t pc = 0; pc < f->n_code; pc++) {
        const insn *in = &f->code[pc];
        if (in->kind == KIND_BRANCH) promise(in->target < f->n_code);
        if (in->kind == KIND_INDEXED) promise(in->target < f->n_tables);
        if (in->guarded) promise(in->guard < f->register_bytes);
        promise(in->loc < f->n_locs);
    }
    for (uint32_t i = 0; i < f->n_tables; i++)
        for (uint32_t k = 0; k < f->tables[i].n; k++) promise(f->tables[i].targets[k] < f->n_code);
    for (uint32_t i = 0; i < f->n_parameters; i++)
        promise((uint64_t)f->parameters[i].offset + f->parameters[i].bytes <= f->parameter_bytes);
}

static void load(const uint8_t *data, size_t size, uint32_t capability)
{
    const char *text = NULL;
    size_t bytes = 0;
    crank_error error = {0};
    crank_status status = fatbin_find_ptx(data, size, capability, &text, &bytes, &error);
    if (status != CRANK_OK) {
        promise(error.message[0] != 0);
        return;
    }
    promise(text >= (const char *)data && bytes <= size - (size_t)(text - (const char *)data));
    ptx_module *module = NULL;
    status = ptx_parse(&module, text, bytes, &error);
    promise(status == CRANK_OK ? module != NULL : error.message[0] != 0);
    if (status != CRANK_OK) return;
    for (uint32_t i = 0; i < module->n_functions; i++) check_function(module->functions[i]);
    ptx_free(module);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0; /* stands for an unknown size */
    load(data, size, 80);
    load(data, size, 90);
    return 0;
}
