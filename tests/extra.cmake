# What some folders add to the tests; each keeps its own file.
include(${CMAKE_CURRENT_SOURCE_DIR}/server/tests.cmake)
include(${CMAKE_CURRENT_SOURCE_DIR}/emu/tests.cmake)
include(${CMAKE_CURRENT_SOURCE_DIR}/cuda.cmake)
