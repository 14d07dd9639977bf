# Benchmarks of the program: bench ops, table and latency, and the peaks that they compare with.
target_sources(crank PRIVATE ${CMAKE_SOURCE_DIR}/bench/ops_bench.c
    ${CMAKE_SOURCE_DIR}/bench/decoder_step.c
    ${CMAKE_SOURCE_DIR}/bench/ops_side.c ${CMAKE_SOURCE_DIR}/bench/ops_cuda.c
    ${CMAKE_SOURCE_DIR}/bench/capture.c ${CMAKE_SOURCE_DIR}/bench/capture_take.c
    ${CMAKE_SOURCE_DIR}/bench/replay.c
    ${CMAKE_SOURCE_DIR}/bench/roofline.c ${CMAKE_SOURCE_DIR}/bench/peaks_gpu.c
    ${CMAKE_SOURCE_DIR}/bench/table_bench.c ${CMAKE_SOURCE_DIR}/bench/latency_bench.c
    ${CMAKE_SOURCE_DIR}/bench/peaks.c ${CMAKE_SOURCE_DIR}/bench/samples.c)
target_compile_definitions(crank PRIVATE CRANK_BENCH_OPS CRANK_BENCH_TABLE CRANK_BENCH_LATENCY)
