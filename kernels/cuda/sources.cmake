# The GPU kernels: every .cu becomes PTX text (gzip, with line numbers, for the emulator and for GPUs
# newer than this nvcc) and, with CRANK_CUDA_TARGETS, one fatbin of cubins; both are embedded into the
# library. Without nvcc everything else builds and `--device cuda` says that there are no kernels.
#
#   CRANK_NVCC          nvcc to use; found in PATH, /usr/local/cuda and .cache/cuda by itself; OFF: none
#   CRANK_NVTX          folder with nvtx3/nvToolsExt.h; found beside nvcc's headers; OFF: none
#   CRANK_CUDA_TARGETS  "all", or a list of 80;86;89;90a;100;120; empty: PTX only, which every GPU
#                       from sm_80 on compiles when it first loads it (builds in a fifth of the time)
set(CRANK_CUDA_TARGETS "" CACHE STRING "GPU code to compile ahead: all, or a list; empty: PTX only")
file(GLOB CRANK_NVCC_CACHED ${CMAKE_SOURCE_DIR}/.cache/cuda/*/bin/nvcc
    ${CMAKE_SOURCE_DIR}/.cache/cuda/*/*/bin/nvcc
    ${CMAKE_SOURCE_DIR}/.cache/cuda/lib/python*/site-packages/nvidia/*/bin/nvcc)
list(APPEND CRANK_NVCC_CACHED /usr/local/cuda/bin/nvcc)
list(TRANSFORM CRANK_NVCC_CACHED REPLACE "/nvcc$" "" OUTPUT_VARIABLE CRANK_NVCC_FOLDERS)
find_program(CRANK_NVCC nvcc HINTS ENV CUDA_PATH PATH_SUFFIXES bin PATHS ${CRANK_NVCC_FOLDERS})

# NVTX is headers alone: beside nvcc's, or from PyPI (nvidia-nvtx). Without them ops are not named for
# profilers, and `info` says so when somebody asks for it.
get_filename_component(CRANK_NVCC_ROOT "${CRANK_NVCC}" DIRECTORY)
file(GLOB CRANK_NVTX_CACHED ${CMAKE_SOURCE_DIR}/.cache/cuda/nvidia/*/include)
find_path(CRANK_NVTX nvtx3/nvToolsExt.h HINTS ${CRANK_NVCC_ROOT}/../include PATHS ${CRANK_NVTX_CACHED}
    /usr/local/cuda/include DOC "folder of nvtx3/nvToolsExt.h; OFF: none")
if(CRANK_NVTX AND EXISTS ${CRANK_NVTX}/nvtx3/nvToolsExt.h)
    set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/cuda/nvtx.c PROPERTIES
        COMPILE_DEFINITIONS CRANK_NVTX COMPILE_OPTIONS "-isystem;${CRANK_NVTX}")
    message(STATUS "NVTX: ${CRANK_NVTX}")
else()
    message(STATUS "NVTX: no header: ops are not named for profilers")
endif()

set(CRANK_CUDA_DIR ${CMAKE_BINARY_DIR}/kernels)
file(MAKE_DIRECTORY ${CRANK_CUDA_DIR})
set(embed "/* Written by kernels/cuda/sources.cmake. */\n#include \"kernels/cuda/image.h\"\n\n")
set(table "")
set(CRANK_CUDA_FILES)
set(version 0)
if(CRANK_NVCC)
    execute_process(COMMAND ${CRANK_NVCC} --version OUTPUT_VARIABLE text ERROR_QUIET)
    if(text MATCHES "release ([0-9]+)\\.([0-9]+)")
        math(EXPR version "${CMAKE_MATCH_1} * 1000 + ${CMAKE_MATCH_2} * 10")
    endif()
    if(version LESS 12000)
        message(STATUS "CUDA: ${CRANK_NVCC} is older than 12.0 or does not run: no GPU kernels")
        set(version 0)
    endif()
endif()

if(version GREATER 0)
    # One front-end run per virtual architecture; code for sm_90a and later may use what came with it.
    set(wanted ${CRANK_CUDA_TARGETS})
    if(wanted STREQUAL "all")
        set(wanted 80 86 89 90a 100 120)
        if(version LESS 12080)
            set(wanted 80 86 89 90a)
        endif()
    endif()
    set(ampere)
    set(later)
    set(codes)
    foreach(target IN LISTS wanted)
        if(target MATCHES "^8")
            list(APPEND ampere sm_${target})
        elseif(target MATCHES "a$")
            list(APPEND codes -gencode arch=compute_${target},code=sm_${target})
        else()
            list(APPEND later sm_${target})
        endif()
    endforeach()
    if(ampere)
        list(JOIN ampere "," text)
        list(APPEND codes -gencode arch=compute_80,code=[${text}])
    endif()
    if(later)
        list(JOIN later "," text)
        list(APPEND codes -gencode arch=compute_90,code=[${text}])
    endif()
    set(smaller)
    if(NOT version LESS 12080)
        set(smaller --compress-mode=size)
    endif()
    # Flags that decide bits: no -use_fast_math; contraction is what the kernels' sums are written for.
    set(flags -std=c++17 -O3 -I. -Xcudafe --display_error_number)
    file(GLOB kernels CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
    foreach(source IN LISTS kernels)
        get_filename_component(name ${source} NAME_WE)
        set(out ${CRANK_CUDA_DIR}/${name})
        add_custom_command(OUTPUT ${out}.ptx.gz
            COMMAND ${CRANK_NVCC} ${flags} -arch=compute_80 -lineinfo -ptx -MD -MF ${out}.ptx.d
                -MT ${out}.ptx.gz -o ${out}.ptx ${source}
            # Paths of the machine that compiled are nobody's business.
            COMMAND sed -e "s#\"${CMAKE_SOURCE_DIR}/\\(\\./\\)*#\"#" ${out}.ptx > ${out}.short.ptx
            COMMAND gzip -9 -n -c ${out}.short.ptx > ${out}.ptx.gz
            DEPENDS ${source} DEPFILE ${out}.ptx.d WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
            COMMENT "Compiling ${source} to PTX" VERBATIM)
        list(APPEND CRANK_CUDA_FILES ${out}.ptx.gz)
        if(name STREQUAL "abi_check") # compiled for its assertions only
            continue()
        endif()
        string(APPEND embed "CUDA_EMBED(${name}_ptx, \"${out}.ptx.gz\")\n")
        set(cubins "NULL, NULL")
        if(codes)
            add_custom_command(OUTPUT ${out}.fatbin
                COMMAND ${CRANK_NVCC} ${flags} ${codes} ${smaller} -fatbin -MD -MF ${out}.fatbin.d
                    -MT ${out}.fatbin -o ${out}.fatbin ${source}
                DEPENDS ${source} DEPFILE ${out}.fatbin.d WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
                COMMENT "Compiling ${source} for ${wanted}" VERBATIM)
            list(APPEND CRANK_CUDA_FILES ${out}.fatbin)
            string(APPEND embed "CUDA_EMBED(${name}_cubins, \"${out}.fatbin\")\n")
            set(cubins "${name}_cubins, ${name}_cubins_end")
        endif()
        string(APPEND table "    {\"${name}\", ${cubins}, ${name}_ptx, ${name}_ptx_end},\n")
    endforeach()
    message(STATUS "CUDA: ${CRANK_NVCC}, PTX and ${CRANK_CUDA_TARGETS}")
else()
    message(STATUS "CUDA: no nvcc: this build has no GPU kernels")
endif()

string(APPEND embed "\nconst int cuda_image_version = ${version};\n"
    "const cuda_image cuda_images[] = {\n${table}    {NULL, NULL, NULL, NULL, NULL}};\n")
file(CONFIGURE OUTPUT ${CRANK_CUDA_DIR}/embed.c CONTENT "${embed}" @ONLY)
set_source_files_properties(${CRANK_CUDA_DIR}/embed.c PROPERTIES OBJECT_DEPENDS "${CRANK_CUDA_FILES}")
list(APPEND CRANK_SOURCES ${CRANK_CUDA_DIR}/embed.c)
list(APPEND CRANK_PRIVATE_LIBRARIES ZLIB::ZLIB) # for the PTX
