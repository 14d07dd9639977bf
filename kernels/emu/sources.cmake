# libcrank_emu.so: the CUDA driver for machines without a GPU. It stands alone (base/ is compiled
# in) and uses no NVIDIA file. exec_{integer,float,convert,mma,dot,shadow}.c are compiled once per instruction
# set of the host; the best one is chosen when a module is loaded.
file(GLOB CRANK_EMU_FILES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/emu/*.c)
set(CRANK_EMU_LANE_FILES integer float convert mma dot shadow)
foreach(name IN LISTS CRANK_EMU_LANE_FILES)
    list(REMOVE_ITEM CRANK_EMU_FILES ${CMAKE_SOURCE_DIR}/kernels/emu/exec_${name}.c)
endforeach()
set(CRANK_EMU_BASE ${CMAKE_SOURCE_DIR}/base/clock.c ${CMAKE_SOURCE_DIR}/base/memory.c
    ${CMAKE_SOURCE_DIR}/base/status.c
    ${CMAKE_SOURCE_DIR}/base/team.c ${CMAKE_SOURCE_DIR}/base/utf8.c)

# One is enough for fuzzing what is loaded, and three with coverage take minutes to build.
set(CRANK_EMU_ISAS base)
set(CRANK_EMU_X86 OFF)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT CRANK_FUZZ)
    set(CRANK_EMU_ISAS base avx2 avx512)
    set(CRANK_EMU_X86 ON)
endif()
set(CRANK_EMU_FLAGS_base)
set(CRANK_EMU_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi -mbmi2)
set(CRANK_EMU_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mbmi -mbmi2
    -mprefer-vector-width=512)
set(CRANK_EMU_OBJECTS)
foreach(isa IN LISTS CRANK_EMU_ISAS)
    set(target crank_emu_${isa})
    set(sources)
    foreach(name IN LISTS CRANK_EMU_LANE_FILES)
        list(APPEND sources ${CMAKE_SOURCE_DIR}/kernels/emu/exec_${name}.c)
    endforeach()
    add_library(${target} OBJECT ${sources})
    target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/base)
    target_compile_definitions(${target} PRIVATE EMU_ISA=${isa})
    target_compile_options(${target} PRIVATE ${CRANK_EMU_FLAGS_${isa}} -fno-trapping-math)
    if(CMAKE_C_COMPILER_ID STREQUAL "Clang") # a loop that it does not vectorise is only slower
        target_compile_options(${target} PRIVATE -Wno-pass-failed)
    endif()
    if(CMAKE_BUILD_TYPE STREQUAL "Release")
        target_compile_options(${target} PRIVATE -O3)
    endif()
    set_target_properties(${target} PROPERTIES C_VISIBILITY_PRESET hidden)
    list(APPEND CRANK_EMU_OBJECTS $<TARGET_OBJECTS:${target}>)
endforeach()

# The rest is an object library too: the fuzz target of the loader links it.
add_library(crank_emu_objects OBJECT ${CRANK_EMU_FILES})
target_include_directories(crank_emu_objects PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/base)
# mmap flags, clock_gettime, strnlen
target_compile_definitions(crank_emu_objects PRIVATE _DEFAULT_SOURCE)
if(CRANK_EMU_X86)
    target_compile_definitions(crank_emu_objects PRIVATE EMU_X86)
endif()
set_target_properties(crank_emu_objects PROPERTIES C_VISIBILITY_PRESET hidden)
list(APPEND CRANK_EMU_OBJECTS $<TARGET_OBJECTS:crank_emu_objects>)
set(CRANK_FUZZ_SOURCES_ptx ${CRANK_EMU_OBJECTS})

add_library(crank_emu SHARED ${CRANK_EMU_BASE} ${CRANK_EMU_OBJECTS})
target_include_directories(crank_emu PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/base)
target_compile_definitions(crank_emu PRIVATE _DEFAULT_SOURCE)
set_target_properties(crank_emu PROPERTIES C_VISIBILITY_PRESET hidden)
target_link_libraries(crank_emu PRIVATE Threads::Threads m)
# base/ is compiled in a second time: its symbols must not be given to a program that has its own.
target_link_options(crank_emu PRIVATE
    -Wl,--version-script=${CMAKE_SOURCE_DIR}/kernels/emu/exports.map)
set_target_properties(crank_emu PROPERTIES
    LINK_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/emu/exports.map)
if(NOT CRANK_SANITIZE)
    target_link_options(crank_emu PRIVATE -Wl,--no-undefined)
endif()
# exec_mma.c says why contraction changes no bits there.
set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/emu/exec_mma.c PROPERTIES
    COMPILE_OPTIONS -ffp-contract=fast)
set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/emu/exec_rounding.c PROPERTIES
    COMPILE_OPTIONS -frounding-math)

# crank-emu: the command. Only fatbin.c is shared with the library, which hides its own.
file(GLOB CRANK_EMU_COMMAND CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/emu/command/*.c)
add_executable(crank-emu ${CRANK_EMU_COMMAND} ${CMAKE_SOURCE_DIR}/kernels/emu/fatbin.c
    ${CMAKE_SOURCE_DIR}/base/memory.c ${CMAKE_SOURCE_DIR}/base/status.c
    ${CMAKE_SOURCE_DIR}/base/utf8.c)
target_include_directories(crank-emu PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/base)
target_compile_definitions(crank-emu PRIVATE _DEFAULT_SOURCE) # strnlen
target_link_libraries(crank-emu PRIVATE crank_emu m)
include(GNUInstallDirs)
set_target_properties(crank-emu PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
install(TARGETS crank-emu RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# ---- kernels of the tests: one fatbin per tests/emu/*.cu, where there is an nvcc --------------------
if(NOT CRANK_NVCC)
    find_program(CRANK_NVCC nvcc PATHS /usr/local/cuda/bin)
endif()
set(CRANK_EMU_FATBINS)
if(CRANK_NVCC AND CRANK_TESTS)
    file(GLOB CRANK_EMU_KERNELS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/emu/*.cu)
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/emu)
    foreach(path IN LISTS CRANK_EMU_KERNELS)
        get_filename_component(name ${path} NAME_WE)
        set(fatbin ${CMAKE_BINARY_DIR}/emu/${name}.fatbin)
        add_custom_command(OUTPUT ${fatbin}
            COMMAND ${CRANK_NVCC} -fatbin -gencode arch=compute_80,code=compute_80
                --compress-mode=none -lineinfo -O3 -o ${fatbin} ${path}
            DEPENDS ${path} VERBATIM)
        list(APPEND CRANK_EMU_FATBINS ${fatbin})
    endforeach()
    add_custom_target(crank_emu_kernels ALL DEPENDS ${CRANK_EMU_FATBINS})
endif()

# gpu-conformance: every primitive alone, on the emulator or on a GPU.
if(CRANK_TESTS)
    file(GLOB CRANK_CONFORMANCE CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/emu/conformance*.c)
    add_executable(gpu-conformance ${CRANK_CONFORMANCE})
    target_include_directories(gpu-conformance PRIVATE ${CMAKE_SOURCE_DIR})
    target_link_libraries(gpu-conformance PRIVATE m ${CMAKE_DL_LIBS})
endif()

# NVIDIA's headers, where they are, must agree with cuda_abi.h and cublaslt_abi.h.
if(CRANK_NVCC AND CRANK_TESTS)
    get_filename_component(folder ${CRANK_NVCC} DIRECTORY)
    find_path(CRANK_EMU_CUDA_INCLUDE cuda.h PATHS ${folder}/../include NO_DEFAULT_PATH)
    if(CRANK_EMU_CUDA_INCLUDE)
        add_library(crank_emu_abi_check OBJECT ${CMAKE_SOURCE_DIR}/tests/emu/abi_check.c)
        target_include_directories(crank_emu_abi_check PRIVATE ${CMAKE_SOURCE_DIR})
        target_include_directories(crank_emu_abi_check SYSTEM PRIVATE ${CRANK_EMU_CUDA_INCLUDE})
    endif()
endif()
