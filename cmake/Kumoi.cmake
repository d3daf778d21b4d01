# How every folder is built: one static library from the .cc files below it, headers by path from the
# root, warnings as errors. Sources are globbed with CONFIGURE_DEPENDS, so a new file needs no edit here.

add_library(kumoi_options INTERFACE)
target_compile_features(kumoi_options INTERFACE cxx_std_20)
target_include_directories(kumoi_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)
target_compile_options(kumoi_options INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wimplicit-fallthrough
  -Wno-missing-field-initializers  # designated initializers leave the rest at its default on purpose
  -fno-omit-frame-pointer)
if(CMAKE_BUILD_TYPE STREQUAL RelWithDebInfo)  # the linker of kumoi-vmm leaves out what nobody calls
  target_compile_options(kumoi_options INTERFACE -ffunction-sections -fdata-sections)
endif()
target_compile_definitions(kumoi_options INTERFACE _FILE_OFFSET_BITS=64)

if(KUMOI_SANITIZE)
  target_compile_options(kumoi_options INTERFACE -fsanitize=${KUMOI_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(kumoi_options INTERFACE -fsanitize=${KUMOI_SANITIZE})
endif()
if(KUMOI_FUZZ)
  target_compile_options(kumoi_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(KUMOI_COVERAGE)
  target_compile_options(kumoi_options INTERFACE --coverage)
  target_link_options(kumoi_options INTERFACE --coverage)
endif()
find_program(KUMOI_MOLD mold)
if(KUMOI_MOLD)
  target_link_options(kumoi_options INTERFACE -fuse-ld=mold)
endif()

# kumoi_archive(NAME): the library as an archive, target kumoi_libNAME. What kumoi-vmm needs is linked into it.
function(kumoi_archive name)
  find_library(KUMOI_LIB_${name} lib${name}.a REQUIRED)
  add_library(kumoi_lib${name} INTERFACE)
  target_link_libraries(kumoi_lib${name} INTERFACE ${KUMOI_LIB_${name}})
endfunction()

# kumoi_library(NAME [DEPENDS lib...] [EXCLUDE regex...]): static library of this folder's sources,
# without any main.cc.
function(kumoi_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;EXCLUDE;SOURCES" ${ARGN})
  if("SOURCES" IN_LIST ARGN)
    set(sources ${ARG_SOURCES})
  else()
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS *.cc)
  endif()
  list(FILTER sources EXCLUDE REGEX "(^|/)main\\.cc$")
  foreach(pattern IN LISTS ARG_EXCLUDE)
    list(FILTER sources EXCLUDE REGEX "${pattern}")
  endforeach()
  if(sources)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC kumoi_options ${ARG_DEPENDS})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE kumoi_options ${ARG_DEPENDS})
  endif()
endfunction()
