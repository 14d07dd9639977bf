# cmake -DOUT=embedded.c -DINPUTS=name=path,... -P embed.cmake: files as arrays of bytes.
string(REPLACE "," ";" inputs "${INPUTS}")
set(text "#include \"server/embedded.h\"\n")
foreach(input IN LISTS inputs)
    string(REGEX MATCH "^([a-z]+)=(.*)$" ignored "${input}")
    set(name ${CMAKE_MATCH_1})
    file(READ "${CMAKE_MATCH_2}" hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(APPEND text "const unsigned char embedded_${name}[] = {${bytes}0};\n"
        "const size_t embedded_${name}_bytes = sizeof embedded_${name} - 1;\n")
endforeach()
file(WRITE "${OUT}" "${text}")
