# bench/tokenizer_bench.c: timings of the tokenizer alone, also driven by bench/tokenizer_peers.py.
add_executable(tokenizer_bench EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/bench/tokenizer_bench.c)
target_link_libraries(tokenizer_bench PRIVATE crank_objects)
