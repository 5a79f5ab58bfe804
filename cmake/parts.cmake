# Three functions keep the build files plain lists.
#
#   part(NAME SOURCES a.c b.c LINKS x y)         a folder as one library; LINKS is its include rule
#   part_program(NAME SOURCES a.c LINKS x y)     an executable
#   part_test(NAME SOURCES a.c LINKS x y)        a unit test program, run by ctest as NAME
#
# The target unit_tests is all of the last kind, with the fuzz targets, and no other program.

# What the files of an instruction set are compiled with.
set(KERF_AVX512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c)

set(KERF_WARNINGS -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
                  -Wpointer-arith -Wcast-align -Wwrite-strings -Wvla)
if(KERF_WERROR)
  list(APPEND KERF_WARNINGS -Werror)
endif()

function(part_options target)
  target_compile_options(${target} PRIVATE ${KERF_WARNINGS} -fno-math-errno -ffp-contract=off)
  target_compile_definitions(${target} PRIVATE _GNU_SOURCE KERF_VERSION="${PROJECT_VERSION}")
  if(KERF_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=address,undefined -fno-omit-frame-pointer
                                             -fno-sanitize-recover=undefined)
    target_link_options(${target} PRIVATE -fsanitize=address,undefined)
  endif()
endfunction()

function(part name)
  cmake_parse_arguments(PART "" "" "SOURCES;LINKS" ${ARGN})
  add_library(kerf_${name} STATIC ${PART_SOURCES})
  part_options(kerf_${name})
  target_include_directories(kerf_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(kerf_${name} PUBLIC ${PART_LINKS})
endfunction()

function(part_program name)
  cmake_parse_arguments(PART "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${PART_SOURCES})
  part_options(${name})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${PART_LINKS})
endfunction()

add_custom_target(unit_tests)

function(part_test name)
  part_program(${name} ${ARGN})
  add_dependencies(unit_tests ${name})
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 300 SKIP_RETURN_CODE 77)
endfunction()
