include(${CMAKE_SOURCE_DIR}/tokenizer/bench.cmake)
