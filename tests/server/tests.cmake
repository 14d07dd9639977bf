# The server's tests: C units and fuzz targets link crank_server; the black box is Python's standard
# library; clients from PyPI are optional (skips are counted).
if(CRANK_SERVER_FOUND)
    foreach(name server_units_test server_scheduler_test server_race http_gate_replay request_json_replay
            http_dialects_replay)
        if(TARGET ${name})
            target_link_libraries(${name} PRIVATE crank_server)
        endif()
    endforeach()
    target_link_options(server_scheduler_test PRIVATE -Wl,--wrap=crank_score)
    find_package(Python3 COMPONENTS Interpreter QUIET)
    if(Python3_FOUND)
        foreach(name requests load page clients)
            add_test(NAME server_${name}
                COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/server/${name}_test.py)
            set_tests_properties(server_${name} PROPERTIES TIMEOUT 600 RUN_SERIAL TRUE
                ENVIRONMENT "CRANK=${CMAKE_BINARY_DIR}/crank;CRANK_SLOW=${CRANK_SANITIZE}")
        endforeach()
    endif()
endif()
if(TARGET server_race)
    add_dependencies(server_race crank)
    set_tests_properties(server_race PROPERTIES TIMEOUT 900 RUN_SERIAL TRUE)
endif()
