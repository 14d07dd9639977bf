/* base: status texts, UTF-8, arena, thread team. */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <string.h>

#include "memory.h"
#include "status.h"
#include "team.h"
#include "utf8.h"

Test(status, names_and_numbers_are_pinned)
{
    cr_assert_str_eq(crank_status_name(CRANK_OUT_OF_MEMORY), "OUT_OF_MEMORY");
    cr_assert_eq(CRANK_OUT_OF_MEMORY, -2);
    cr_assert_eq(CRANK_INTERNAL, -70);
    cr_assert_str_eq(crank_status_name((crank_status)-9999), "UNKNOWN");
}

Test(status, messages_from_hostile_names_are_one_printable_line)
{
    crank_error error;
    status_fail(&error, CRANK_FORMAT, "tensor %s", "a\nb\x1b[31m\xff");
    cr_assert_str_eq(error.message, "tensor a?b?[31m?");
    status_prefix(&error, CRANK_FORMAT, "model.safetensors");
    cr_assert_str_eq(error.message, "model.safetensors: tensor a?b?[31m?");
}

Test(status, long_messages_are_cut_on_a_character)
{
    char name[2000];
    for (size_t i = 0; i + 2 < sizeof name; i += 2) memcpy(name + i, "\xC3\xA9", 2);
    name[sizeof name - 2] = '\0';
    crank_error error;
    status_fail(&error, CRANK_FORMAT, "x%s", name);
    size_t bytes = strlen(error.message);
    cr_assert_geq(bytes, CRANK_ERROR_MESSAGE_BYTES - 4);
    cr_assert_eq(utf8_valid_prefix((const uint8_t *)error.message, bytes), bytes);
    cr_assert_null(strchr(error.message, '?'));
}

Test(utf8, every_scalar_value_round_trips)
{
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        if (c >= 0xD800 && c <= 0xDFFF) continue;
        uint8_t bytes[4];
        uint32_t back;
        int width = utf8_encode(c, bytes);
        cr_assert_eq(utf8_decode(bytes, (size_t)width, &back), width);
        cr_assert_eq(back, c);
    }
}

Test(utf8, ill_formed_parts_are_maximal)
{
    static const struct {
        const char *bytes;
        size_t n;
        int width;
    } cases[] = {
        {"\x80", 1, -1},         {"\xC0\xAF", 2, -1},         {"\xE0\x80\x80", 3, -1},
        {"\xED\xA0\x80", 3, -1}, {"\xF4\x90\x80\x80", 4, -1}, {"\xE2\x82", 2, -2},
        {"\xF0\x9F\x98", 3, -3}, {"\xF0\x9F\x98 ", 4, -3},    {"\xF5\x80\x80\x80", 4, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t c;
        cr_expect_eq(utf8_decode((const uint8_t *)cases[i].bytes, cases[i].n, &c), cases[i].width,
                     "case %zu", i);
        cr_expect_eq(c, UTF8_REPLACEMENT);
    }
}

Test(memory, nth_allocation_fails_once)
{
    mem_fail_nth(1);
    void *a = mem_alloc(8), *b = mem_alloc(8), *c = mem_alloc(8);
    cr_assert(a != NULL && b == NULL && c != NULL);
    cr_assert_eq(mem_fail_nth(-1), 3);
    mem_free(a);
    mem_free(c);
    cr_assert_null(mem_array(SIZE_MAX / 2, 3));
}

Test(memory, arena_refuses_what_does_not_fit)
{
    arena a;
    cr_assert_eq(arena_open(&a, 256, NULL), CRANK_OK);
    cr_assert_not_null(arena_take(&a, 65)); /* takes 128 */
    cr_assert_not_null(arena_take(&a, 128));
    cr_assert_null(arena_take(&a, 1));
    cr_assert_null(arena_take(&a, SIZE_MAX));
    arena_reset(&a);
    cr_assert_not_null(arena_take(&a, 256));
    cr_assert_eq(a.peak_bytes, 256);
    arena_close(&a);
    arena_close(&a);
}

static void count_worker(void *context, int worker, int n_workers)
{
    atomic_int *seen = context;
    cr_assert(worker >= 0 && worker < n_workers);
    atomic_fetch_add(&seen[worker], 1);
}

Test(team, each_worker_runs_once_per_region)
{
    team *t;
    cr_assert_eq(team_open(&t, 4, 0, NULL), CRANK_OK);
    atomic_int seen[4] = {0};
    for (int region = 0; region < 2000; region++) team_run(t, count_worker, seen);
    for (int worker = 0; worker < 4; worker++) cr_assert_eq(seen[worker], 2000);
    team_close(t);
    crank_error error;
    cr_assert_eq(team_open(&t, -1, 0, &error), CRANK_INVALID_ARGUMENT);
    cr_assert_eq(team_size(NULL), 1);
}
