# Each instruction set's kernels are compiled for it alone; CPUID decides at run time which of them
# are called (levels.c). Elsewhere these files compile to nothing.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
    set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mbmi2 -mf16c)
    set(avx2 -mavx2 -mfma -mf16c -mbmi2)
    foreach(file IN ITEMS rows_avx512 tile_avx512 tile_avx512_int8
            tile_avx512_bf16_emulated)
        set_source_files_properties(kernels/cpu/${file}.c PROPERTIES COMPILE_OPTIONS "${avx512}")
    endforeach()
    set_source_files_properties(kernels/cpu/tile_avx512_vnni.c PROPERTIES
        COMPILE_OPTIONS "${avx512};-mavx512vnni")
    foreach(file IN ITEMS rows_avx512_bf16 tile_avx512_bf16)
        set_source_files_properties(kernels/cpu/${file}.c PROPERTIES
            COMPILE_OPTIONS "${avx512};-mavx512bf16")
    endforeach()
    foreach(file IN ITEMS rows_avx2 tile_avx2)
        set_source_files_properties(kernels/cpu/${file}.c PROPERTIES COMPILE_OPTIONS "${avx2}")
    endforeach()
endif()
