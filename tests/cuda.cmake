# What ptxas makes of the GPU kernels: no spills, no local memory. For one target of each generation
# here; for all of them in bench/results/ptxas.md, which bench/ptxas_report.py writes.
if(CRANK_CUDA_FILES AND NOT CRANK_SANITIZE)
    set(command python3 ${CMAKE_SOURCE_DIR}/bench/ptxas_report.py --check --nvcc ${CRANK_NVCC}
        --ptx ${CRANK_CUDA_DIR})
    add_test(NAME cuda_ptxas COMMAND ${command} --targets 80,90)
    # With too few registers they do spill, and that must fail.
    add_test(NAME cuda_ptxas_finds_spills COMMAND ${command} --targets 80 --only gemm_f16
        --registers 32)
    set_tests_properties(cuda_ptxas_finds_spills PROPERTIES WILL_FAIL TRUE)
    set_tests_properties(cuda_ptxas cuda_ptxas_finds_spills PROPERTIES TIMEOUT 600)
    # The same code as instructions: nvdisasm is PyPI's nvidia-cuda-nvdisasm, which ./run setup fetches.
    find_program(CRANK_NVDISASM nvdisasm PATHS ${CMAKE_SOURCE_DIR}/.cache/nvdisasm/nvidia/cu13/bin)
    if(CRANK_NVDISASM)
        set(command python3 ${CMAKE_SOURCE_DIR}/bench/sass_report.py --check --nvcc ${CRANK_NVCC}
            --nvdisasm ${CRANK_NVDISASM} --ptx ${CRANK_CUDA_DIR} --targets 80)
        add_test(NAME cuda_sass COMMAND ${command})
        add_test(NAME cuda_sass_finds_local_memory COMMAND ${command} --only gemm_f16 --registers 32)
        set_tests_properties(cuda_sass_finds_local_memory PROPERTIES WILL_FAIL TRUE)
        set_tests_properties(cuda_sass cuda_sass_finds_local_memory PROPERTIES TIMEOUT 900)
    else()
        add_test(NAME cuda_sass COMMAND ${CMAKE_COMMAND} -E echo "SKIPPED: cuda_sass: no nvdisasm")
    endif()
elseif(NOT CRANK_SANITIZE)
    add_test(NAME cuda_ptxas COMMAND ${CMAKE_COMMAND} -E echo "SKIPPED: built without nvcc")
endif()

# A profiler's stand-in for tests of NVTX ranges.
if(CRANK_NVTX AND EXISTS ${CRANK_NVTX}/nvtx3/nvToolsExt.h)
    add_library(nvtx_injection MODULE ${CMAKE_CURRENT_SOURCE_DIR}/emu/nvtx_injection.c)
    target_include_directories(nvtx_injection SYSTEM PRIVATE ${CRANK_NVTX})
    set_target_properties(nvtx_injection PROPERTIES LIBRARY_OUTPUT_DIRECTORY
        ${CMAKE_BINARY_DIR}/emu C_VISIBILITY_PRESET hidden)
    add_dependencies(cuda_nvtx_test nvtx_injection)
endif()
