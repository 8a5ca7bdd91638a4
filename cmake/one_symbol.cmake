# cmake -DNM=<nm> "-DOBJECTS=<object files>" -P one_symbol.cmake
# Fails if one of them defines more than one symbol for the linker, or a weak one: that could be merged with
# the copy of another instruction set.
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND "${NM}" --defined-only --extern-only --demangle "${object}"
                  OUTPUT_VARIABLE listed OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  if(NOT listed MATCHES "^[0-9a-f]+ [TDRB] [^\n]+$")
    message(FATAL_ERROR "${object} defines\n${listed}")
  endif()
endforeach()
