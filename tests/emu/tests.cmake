# The emulator's tests that are programs: gpu-conformance, which ./run gpu runs unchanged on a GPU.
if(CRANK_EMU_FATBINS)
    add_dependencies(gpu-conformance crank_emu)
    add_test(NAME gpu_conformance COMMAND gpu-conformance --library $<TARGET_FILE:crank_emu>
        --kernels ${CMAKE_BINARY_DIR}/emu/conformance.fatbin)
else()
    add_test(NAME gpu_conformance COMMAND ${CMAKE_COMMAND} -E echo
        "SKIPPED: built without nvcc, no conformance kernels")
endif()
add_dependencies(emu_command_test crank-emu)
target_sources(ptx_replay PRIVATE ${CRANK_FUZZ_SOURCES_ptx})
