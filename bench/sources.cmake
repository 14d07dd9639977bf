# Benchmarks of the program: bench ops (ops_bench.c) and its peaks.
target_sources(crank PRIVATE ${CMAKE_SOURCE_DIR}/bench/ops_bench.c ${CMAKE_SOURCE_DIR}/bench/peaks.c)
target_compile_definitions(crank PRIVATE CRANK_BENCH_OPS)
