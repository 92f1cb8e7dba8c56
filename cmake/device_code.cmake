# What the backend knows of its own device code: has_code_for() reads it to say why a GPU is not usable.

# cupel_device_code(OUT ARCHITECTURES): CMAKE_CUDA_ARCHITECTURES as numbers, joined by commas, since a
# definition on a command line may hold no semicolon.
function(cupel_device_code out architectures)
  if(architectures MATCHES "^all(-major)?$")
    # Code for every version from the compiler's first one on, and PTX for later ones.
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE known
                    COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCHALL "[0-9]+" known "${known}")
    list(SORT known COMPARE NATURAL)
    list(GET known 0 first)
    set(architectures "${first}-virtual")
  elseif(architectures STREQUAL "native")
    set(architectures ${CMAKE_CUDA_ARCHITECTURES_NATIVE})
  endif()
  foreach(entry IN LISTS architectures)
    if(NOT entry MATCHES "^[0-9]+[a-z]?(-real|-virtual)?$")
      message(FATAL_ERROR "CMAKE_CUDA_ARCHITECTURES: '${entry}' is no architecture")
    endif()
  endforeach()
  if(NOT architectures)
    message(FATAL_ERROR "CMAKE_CUDA_ARCHITECTURES is '${CMAKE_CUDA_ARCHITECTURES}', which stands for none here; "
                        "name some, such as 90")
  endif()
  list(JOIN architectures "," joined)
  set(${out} "${joined}" PARENT_SCOPE)
endfunction()
