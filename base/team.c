#define _GNU_SOURCE
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "memory.h"

#define SPIN_ROUNDS 2000 /* about 20-50 us of pauses: longer than the gap between two ops */

struct team {
    int n_threads;
    int n_started;
    pthread_t *threads;   /* [n_threads - 1] */
    pthread_mutex_t turn; /* one region at a time when sessions share the team */
    pthread_mutex_t lock; /* guards sleeping on `wake` and `finished` */
    pthread_cond_t wake;
    pthread_cond_t finished;
    team_work work;
    void *context;
    atomic_uint region; /* a new value starts a region; the last one, with `closing`, ends */
    atomic_int running; /* workers that have not finished this region */
    atomic_int closing;
};

typedef struct worker_start {
    team *t;
    int worker;
} worker_start;

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static unsigned await_region(team *t, unsigned seen)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        unsigned region = atomic_load_explicit(&t->region, memory_order_acquire);
        if (region != seen) return region;
        pause_cpu();
    }
    pthread_mutex_lock(&t->lock);
    unsigned region;
    while ((region = atomic_load_explicit(&t->region, memory_order_acquire)) == seen) {
        pthread_cond_wait(&t->wake, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return region;
}

static void *worker_main(void *argument)
{
    worker_start start = *(worker_start *)argument;
    mem_free(argument);
    team *t = start.t;
    unsigned seen = 0;
    for (;;) {
        seen = await_region(t, seen);
        if (atomic_load_explicit(&t->closing, memory_order_acquire)) return NULL;
        t->work(t->context, start.worker, t->n_threads);
        if (atomic_fetch_sub_explicit(&t->running, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&t->lock);
            pthread_cond_signal(&t->finished);
            pthread_mutex_unlock(&t->lock);
        }
    }
}

static int allowed_processors(cpu_set_t *set)
{
    CPU_ZERO(set);
    if (sched_getaffinity(0, sizeof *set, set) != 0) return 1;
    int n = CPU_COUNT(set);
    return n > 0 ? n : 1;
}

static void pin_thread(pthread_t thread, const cpu_set_t *allowed, int worker)
{
    int skip = worker % CPU_COUNT(allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, allowed) || skip-- > 0) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        pthread_setaffinity_np(thread, sizeof one, &one); /* a wish: failure changes no result */
        return;
    }
}

crank_status team_open(team **out, int n_threads, int pin, crank_error *error)
{
    *out = NULL;
    cpu_set_t allowed;
    int n_processors = allowed_processors(&allowed);
    if (n_threads == 0) n_threads = n_processors;
    CRANK_CHECK(n_threads >= 1 && n_threads <= 1024, INVALID_ARGUMENT, error,
                "threads: expected 1 to 1024, found %d", n_threads);
    team *t = mem_zero(1, sizeof *t);
    CRANK_CHECK(t != NULL, OUT_OF_MEMORY, error, "no memory for a team of threads");
    t->n_threads = n_threads;
    pthread_mutex_init(&t->turn, NULL);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    pthread_cond_init(&t->finished, NULL);
    crank_status status = CRANK_OK;
    t->threads = mem_array((size_t)n_threads, sizeof *t->threads);
    CRANK_CHECK_GOTO(t->threads != NULL, OUT_OF_MEMORY, error, "no memory for a team of threads");
    if (pin && CPU_COUNT(&allowed) > 0) pin_thread(pthread_self(), &allowed, 0);
    for (int worker = 1; worker < n_threads; worker++) {
        worker_start *start = mem_alloc(sizeof *start);
        CRANK_CHECK_GOTO(start != NULL, OUT_OF_MEMORY, error, "no memory for a thread");
        *start = (worker_start){t, worker};
        if (pthread_create(&t->threads[worker - 1], NULL, worker_main, start) != 0) {
            mem_free(start);
            status = status_fail(error, CRANK_OUT_OF_MEMORY, "thread %d of %d could not be started",
                                 worker, n_threads);
            goto out;
        }
        t->n_started++;
        if (pin && CPU_COUNT(&allowed) > 0) {
            pin_thread(t->threads[worker - 1], &allowed, worker);
        }
    }
    *out = t;
    t = NULL;
out:
    team_close(t);
    return status;
}

int team_size(const team *t)
{
    return t != NULL ? t->n_threads : 1;
}

static void start_region(team *t)
{
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add_explicit(&t->region, 1, memory_order_release);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

void team_run(team *t, team_work work, void *context)
{
    if (team_size(t) == 1) {
        work(context, 0, 1);
        return;
    }
    pthread_mutex_lock(&t->turn);
    t->work = work;
    t->context = context;
    atomic_store_explicit(&t->running, t->n_threads - 1, memory_order_relaxed);
    start_region(t);
    work(context, 0, t->n_threads);
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load_explicit(&t->running, memory_order_acquire) == 0) break;
        pause_cpu();
    }
    if (atomic_load_explicit(&t->running, memory_order_acquire) != 0) {
        pthread_mutex_lock(&t->lock);
        while (atomic_load_explicit(&t->running, memory_order_acquire) != 0) {
            pthread_cond_wait(&t->finished, &t->lock);
        }
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&t->turn);
}

void team_close(team *t)
{
    if (t == NULL) return;
    atomic_store_explicit(&t->closing, 1, memory_order_release);
    start_region(t);
    for (int i = 0; i < t->n_started; i++) pthread_join(t->threads[i], NULL);
    pthread_cond_destroy(&t->finished);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    pthread_mutex_destroy(&t->turn);
    mem_free(t->threads);
    mem_free(t);
}
