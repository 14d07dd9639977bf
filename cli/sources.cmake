# The program. server/ and bench/ add their files and macros to target crank in their own
# sources.cmake (target_sources, target_compile_definitions CRANK_SERVER, CRANK_BENCH_...).
file(GLOB CRANK_CLI_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/cli/*.c)
add_executable(crank ${CRANK_CLI_SOURCES})
target_compile_definitions(crank PRIVATE _POSIX_C_SOURCE=200809L _DEFAULT_SOURCE)
target_include_directories(crank PRIVATE ${CMAKE_SOURCE_DIR})
target_link_libraries(crank PRIVATE crank_static ZLIB::ZLIB PkgConfig::JANSSON)
