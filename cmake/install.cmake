# cmake --install: the program, both libraries, the two public headers, a pkg-config file and a CMake
# package. A folder whose library part links another pkg-config module appends PREFIX:module to
# CRANK_PC_MODULES, as it was named in pkg_check_modules. zlib alone comes by find_package.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

list(APPEND CRANK_PC_MODULES JANSSON:jansson NETTLE:nettle XXHASH:libxxhash)
list(REMOVE_DUPLICATES CRANK_PC_MODULES)
string(REGEX REPLACE "[A-Z0-9_]+:" "" CRANK_PC_REQUIRES "${CRANK_PC_MODULES};zlib")
string(REPLACE ";" " " CRANK_PC_REQUIRES "${CRANK_PC_REQUIRES}")
string(REPLACE ";" " " CRANK_PC_MODULES "${CRANK_PC_MODULES}")

# Relocatable: the prefix is where the .pc file lies, two folders up.
set(CRANK_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
set(CRANK_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
file(RELATIVE_PATH CRANK_PC_UP "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(cmake/crank.pc.in ${CMAKE_BINARY_DIR}/crank.pc @ONLY)
configure_package_config_file(cmake/crankConfig.cmake.in ${CMAKE_BINARY_DIR}/crankConfig.cmake
    INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/crank)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/crankConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)

set_target_properties(crank_shared PROPERTIES EXPORT_NAME crank)
install(TARGETS crank_shared crank_static EXPORT crankTargets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS crank RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
if(TARGET crank_emu) # crank --device emu looks for it in ../lib
    install(TARGETS crank_emu LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
install(FILES runtime/crank.h base/crank_status.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT crankTargets NAMESPACE crank:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/crank)
install(FILES ${CMAKE_BINARY_DIR}/crankConfig.cmake ${CMAKE_BINARY_DIR}/crankConfigVersion.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/crank)
install(FILES ${CMAKE_BINARY_DIR}/crank.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
