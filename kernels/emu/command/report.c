#include <string.h>

#include "kernels/emu/command/command.h"
#include "utf8.h"

static const char *const order_names[] = {"forward", "reverse", "random"};

static const char *result_name(int result)
{
    const char *name = NULL;
    cuGetErrorName(result, &name);
    return name != NULL ? name : "unknown error";
}

static bool is_clean(const command *c)
{
    return c->n_findings == 0 && c->result == 0 && !c->differ;
}

/* ---- text --------------------------------------------------------------------------------------
 */

static void print_findings(const command *c)
{
    for (size_t i = 0; i < c->n_findings; i++) {
        const emu_report *f = &c->findings[i];
        printf("  %s\n", f->text);
        if (f->where[0]) printf("      at %s\n", f->where);
        if (f->count > 1) printf("      %u times in one launch\n", f->count);
    }
}

static void print_class_counts(const emu_counters *n)
{
    printf("  instructions of threads");
    for (uint32_t i = 0, column = 0; i < EMU_N_CLASSES; i++) {
        if (n->thread_instructions[i] == 0) continue;
        printf("%s%s %llu", column % 5 == 0 ? "\n      " : ", ", emu_class_name(i),
               (unsigned long long)n->thread_instructions[i]);
        column++;
    }
    printf("\n");
}

static void print_counters(const emu_counters *n)
{
    typedef unsigned long long big;
    printf("counters\n");
    print_class_counts(n);
    printf("  %llu thread instructions, %llu warp instructions, %llu flops\n",
           (big)n->total_thread_instructions, (big)n->total_warp_instructions, (big)n->flops);
    printf(
        "  global: %llu requests, %llu sectors (%.2f a request), %llu bytes read, %llu written\n",
        (big)n->global_requests, (big)n->global_sectors,
        n->global_requests ? (double)n->global_sectors / (double)n->global_requests : 0.0,
        (big)n->global_read_bytes, (big)n->global_written_bytes);
    printf("  shared: %llu requests, %llu extra wavefronts, %llu bytes read, %llu written\n",
           (big)n->shared_requests, (big)n->shared_extra_wavefronts, (big)n->shared_read_bytes,
           (big)n->shared_written_bytes);
    printf("  %.1f ms on this machine, which says nothing about a GPU\n",
           (double)n->nanoseconds * 1e-6);
}

static size_t shown(const argument *a)
{
    static const uint32_t bytes[N_ELEMENTS] = {
#define ELEMENT_BYTES(name, size) size,
        ELEMENT_LIST(ELEMENT_BYTES)
#undef ELEMENT_BYTES
    };
    size_t n = a->n_bytes / bytes[a->type];
    return a->n_shown < n ? a->n_shown : n;
}

static void print_text(const command *c)
{
    printf("%s, grid (%u,%u,%u), block (%u,%u,%u), %u bytes of dynamic shared memory, sm_%u\n",
           c->kernel, c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2],
           c->shared_bytes, c->options.capability);
    if (c->n_findings > 0)
        printf("%zu finding%s\n", c->n_findings, c->n_findings == 1 ? "" : "s");
    else
        printf("nothing found%s\n", c->orders ? " in three orders" : "");
    print_findings(c);
    if (c->result != 0)
        printf("the launch failed: %s%s%s\n", result_name(c->result), c->message[0] ? ": " : "",
               c->message);
    if (c->differ)
        printf("the result depends on the order of blocks and warps: %s\n", c->difference);
    print_counters(&c->counters);
    if (c->lines != NULL)
        printf("busiest lines: share, thread instructions, global sectors, extra wavefronts\n%s",
               c->lines);
    for (size_t i = 0; i < c->n_arguments; i++) {
        const argument *a = &c->arguments[i];
        if (!a->is_buffer || a->n_shown == 0 || a->result == NULL) continue;
        printf("argument %zu, %s:", i + 1, element_names[a->type]);
        for (size_t k = 0; k < shown(a); k++) {
            char number[40];
            argument_number(number, sizeof number, a->type, a->result, k);
            printf(" %s", number);
        }
        printf("\n");
    }
}

/* ---- JSON --------------------------------------------------------------------------------------
 */

/* Names come from files that anybody wrote: what is no UTF-8 becomes '?'. */
static void json_text(const char *text)
{
    putchar('"');
    for (size_t left = strlen(text); left > 0;) {
        uint32_t point;
        int n = utf8_decode((const uint8_t *)text, left, &point);
        if (n < 0)
            putchar('?');
        else if (n == 1 && (point < 0x20 || point == 0x7f))
            printf("\\u%04x", point);
        else if (n == 1 && (point == '"' || point == '\\'))
            printf("\\%c", (int)point);
        else
            printf("%.*s", n, text);
        text += n < 0 ? -n : n;
        left -= (size_t)(n < 0 ? -n : n);
    }
    putchar('"');
}

static void json_findings(const command *c)
{
    printf("\"findings\":[");
    for (size_t i = 0; i < c->n_findings; i++) {
        const emu_report *f = &c->findings[i];
        printf("%s{\"check\":\"%s\",\"count\":%u,\"text\":", i ? "," : "", emu_check_name(f->check),
               f->count);
        json_text(f->text);
        printf(",\"where\":");
        json_text(f->where);
        printf(",\"block\":[%u,%u,%u],\"thread\":[%u,%u,%u],\"other_thread\":", f->block[0],
               f->block[1], f->block[2], f->thread[0], f->thread[1], f->thread[2]);
        if (f->other_thread == UINT32_MAX)
            printf("null");
        else
            printf("%u", f->other_thread);
        printf(",\"address\":\"0x%llx\",\"ptx_line\":%u}", (unsigned long long)f->address,
               f->ptx_line);
    }
    printf("]");
}

static void json_counters(const emu_counters *n)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {{"thread_instructions", n->total_thread_instructions},
                {"warp_instructions", n->total_warp_instructions},
                {"flops", n->flops},
                {"mma_f16", n->mma_f16},
                {"mma_bf16", n->mma_bf16},
                {"mma_s8", n->mma_s8},
                {"mma_other", n->mma_other},
                {"global_requests", n->global_requests},
                {"global_sectors", n->global_sectors},
                {"global_read_bytes", n->global_read_bytes},
                {"global_written_bytes", n->global_written_bytes},
                {"shared_requests", n->shared_requests},
                {"shared_extra_wavefronts", n->shared_extra_wavefronts},
                {"shared_read_bytes", n->shared_read_bytes},
                {"shared_written_bytes", n->shared_written_bytes}};
    printf("\"counters\":{");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        printf("\"%s\":%llu,", rows[i].name, (unsigned long long)rows[i].value);
    printf("\"classes\":{");
    for (uint32_t i = 0; i < EMU_N_CLASSES; i++)
        printf("%s\"%s\":%llu", i ? "," : "", emu_class_name(i),
               (unsigned long long)n->thread_instructions[i]);
    printf("}}");
}

static void json_buffers(const command *c)
{
    printf("\"buffers\":[");
    const char *comma = "";
    for (size_t i = 0; i < c->n_arguments; i++) {
        const argument *a = &c->arguments[i];
        if (!a->is_buffer || a->result == NULL) continue;
        printf("%s{\"argument\":%zu,\"bytes\":%zu,\"type\":\"%s\",\"values\":[", comma, i + 1,
               a->n_bytes, element_names[a->type]);
        comma = ",";
        for (size_t k = 0; k < shown(a); k++) {
            char number[40];
            argument_number(number, sizeof number, a->type, a->result, k);
            bool finite = strpbrk(number, "in") == NULL; /* JSON has no inf and no nan */
            printf("%s%s%s%s", k ? "," : "", finite ? "" : "\"", number, finite ? "" : "\"");
        }
        printf("]}");
    }
    printf("]");
}

static void print_json(const command *c)
{
    printf("{\"kernel\":");
    json_text(c->kernel);
    printf(",\"grid\":[%u,%u,%u],\"block\":[%u,%u,%u],\"shared_bytes\":%u,\"capability\":%u,"
           "\"order\":\"%s\",\"orders_agree\":%s,\"result\":\"%s\",\"message\":",
           c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2],
           c->shared_bytes, c->options.capability, order_names[c->options.schedule],
           !c->orders  ? "null"
           : c->differ ? "false"
                       : "true",
           result_name(c->result));
    json_text(c->differ ? c->difference : c->message);
    printf(",");
    json_findings(c);
    printf(",");
    json_counters(&c->counters);
    printf(",");
    json_buffers(c);
    printf(",\"lines\":[");
    for (const char *line = c->lines, *end; line != NULL && *line; line = end + 1) {
        char text[320];
        end = strchr(line, '\n');
        if (end == NULL) break;
        snprintf(text, sizeof text, "%.*s", (int)(end - line), line);
        if (line != c->lines) printf(",");
        json_text(text);
    }
    printf("]}\n");
}

command_exit command_print(const command *c)
{
    if (c->json)
        print_json(c);
    else
        print_text(c);
    return is_clean(c) ? COMMAND_OK : COMMAND_FINDINGS;
}
