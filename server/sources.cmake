# crank serve: an object library (tests and fuzzers use it too) that is linked into the program when
# its libraries are there.
if(CRANK_SERVER)
    pkg_check_modules(MICROHTTPD IMPORTED_TARGET libmicrohttpd)
    find_package(simdjson CONFIG QUIET)
    if(NOT MICROHTTPD_FOUND OR NOT simdjson_FOUND)
        message(WARNING "crank serve is left out: it needs libmicrohttpd-dev and libsimdjson-dev")
    else()
        set(CRANK_SERVER_FOUND TRUE)
    endif()
endif()
if(CRANK_SERVER_FOUND)
    set(embedded_files openapi=${CMAKE_SOURCE_DIR}/server/openapi.json
        page=${CMAKE_SOURCE_DIR}/server/page/index.html
        style=${CMAKE_SOURCE_DIR}/server/page/page.css
        script=${CMAKE_SOURCE_DIR}/server/page/page.js)
    string(REGEX REPLACE "[a-z]+=" "" embedded_depends "${embedded_files}")
    string(REPLACE ";" "," embedded_files "${embedded_files}")
    add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/server/embedded.c
        COMMAND ${CMAKE_COMMAND} -DOUT=${CMAKE_BINARY_DIR}/server/embedded.c
            -DINPUTS=${embedded_files} -P ${CMAKE_SOURCE_DIR}/server/embed.cmake
        DEPENDS ${embedded_depends} ${CMAKE_SOURCE_DIR}/server/embed.cmake VERBATIM)
    file(GLOB CRANK_SERVER_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/server/*.c
        ${CMAKE_SOURCE_DIR}/server/*.cc)
    list(REMOVE_ITEM CRANK_SERVER_SOURCES ${CMAKE_SOURCE_DIR}/server/serve.c)
    add_library(crank_server STATIC ${CRANK_SERVER_SOURCES}
        ${CMAKE_BINARY_DIR}/server/embedded.c)
    target_include_directories(crank_server PUBLIC ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/runtime
        ${CMAKE_SOURCE_DIR}/base)
    target_compile_definitions(crank_server PRIVATE _GNU_SOURCE INTERFACE CRANK_HAVE_SERVER)
    target_link_libraries(crank_server PUBLIC PkgConfig::MICROHTTPD simdjson::simdjson
        PkgConfig::NETTLE PkgConfig::XXHASH PkgConfig::JANSSON Threads::Threads)
    pkg_check_modules(HIREDIS IMPORTED_TARGET hiredis)
    if(HIREDIS_FOUND)
        target_compile_definitions(crank_server PRIVATE CRANK_REDIS)
        target_link_libraries(crank_server PUBLIC PkgConfig::HIREDIS)
    endif()
    target_sources(crank PRIVATE ${CMAKE_SOURCE_DIR}/server/serve.c ${CMAKE_SOURCE_DIR}/bench/load.c)
    target_compile_definitions(crank PRIVATE CRANK_SERVER CRANK_BENCH_LOAD)
    target_link_libraries(crank PRIVATE crank_server)
    foreach(name http_gate request_json http_dialects)
        set(CRANK_FUZZ_LIBRARIES_${name} crank_server)
    endforeach()
endif()
