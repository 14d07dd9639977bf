#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/emu/exec.h"

void exec_report(warp *w, const insn *in, int lane, uint32_t check, uint64_t address,
                 uint32_t other, const char *format, ...)
{
    const block *b = w->block;
    const launch *l = b->launch;
    const ptx_function *f = l->function;
    emu_report found;
    memset(&found, 0, sizeof found);
    found.check = check;
    snprintf(found.kernel, sizeof found.kernel, "%s", f->name);
    memcpy(found.block, b->id, sizeof found.block);
    uint32_t thread = warp_thread(w, lane);
    found.thread[0] = thread % l->threads[0];
    found.thread[1] = thread / l->threads[0] % l->threads[1];
    found.thread[2] = thread / l->threads[0] / l->threads[1];
    found.other_thread = other;
    found.address = address;
    found.ptx_line = in->line;
    ptx_describe_loc(l->module, f, in->loc, found.where, sizeof found.where);
    char text[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    snprintf(found.text, sizeof found.text,
             "%s: %.150s, address 0x%llx, kernel %.40s, block (%u,%u,%u), thread (%u,%u,%u), PTX "
             "line %u",
             emu_check_name(check), text, (unsigned long long)address, f->name, b->id[0], b->id[1],
             b->id[2], found.thread[0], found.thread[1], found.thread[2], in->line);
    reporter_add(l->reports, &found);
}
