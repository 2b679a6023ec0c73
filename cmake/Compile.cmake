# Language, optimisation, warnings and sanitizers, the same for every target of the project.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
find_program(CCACHE ccache)
if(CCACHE)
  # CCACHE_DEPEND: what is not in the cache is not preprocessed twice.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_DEPEND=1 ${CCACHE})
endif()

# Never -ffast-math: NaN checks, infinities and the order of sums are part of the results.
# core/ has -O3, which the rest would pay for in compile time and not gain from.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
# Line numbers are all that a sanitizer's report needs; core/ has -O2 there. -O0 takes ASan half of the compile time; TSan
# gains nothing by it, and its tests take a quarter longer.
if(ATTNPRUNE_SANITIZE MATCHES "address")
  set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g1")
elseif(ATTNPRUNE_SANITIZE)
  set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")
else()
  set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g")
endif()
add_compile_options(-march=${ATTNPRUNE_ARCH})
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # collects its garbage less often: a tenth less time for large units; the largest takes 2.1 GB, not 1.7
  add_compile_options(--param=ggc-min-heapsize=1000000)
endif()

# The release build is hardened (tests/system/test_hardening.py reads the programs): canaries on stacks, whose pages
# cannot be jumped over; checked copies; indirect branches to their targets only; an image that is moved at each
# start, with tables of functions that are read-only and no code that is writable. Sanitizers find more, and break
# beside _FORTIFY_SOURCE.
if(ATTNPRUNE_HARDENED AND NOT ATTNPRUNE_SANITIZE)
  add_compile_options("$<$<CONFIG:Release>:-fPIE;-fstack-protector-strong;-fstack-clash-protection;-fcf-protection;-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=2>")
  add_link_options("$<$<CONFIG:Release>:-pie;LINKER:-z,relro,-z,now,-z,noexecstack>")
endif()
find_program(GOLD ld.gold)
if(GOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # takes a third of the time of ld
  add_link_options(-fuse-ld=gold)
endif()

# CALLS_SYNC_STUBS, a property of targets that call gRPC's synchronous stubs: g++ 12 takes what it
# inlines of gRPC's headers there for a null dereference.
# -Wno-missing-field-initializers: {.threads = 2} leaves the other options at their defaults.
add_library(attnprune_warnings INTERFACE)
target_compile_options(attnprune_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wcast-align
  -Wunused -Wformat=2 -Wimplicit-fallthrough
  -Wno-missing-field-initializers
  $<$<NOT:$<BOOL:$<TARGET_PROPERTY:CALLS_SYNC_STUBS>>>:-Wnull-dereference>
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
  $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-cond -Wlogical-op -Wdouble-promotion>
  $<$<BOOL:${ATTNPRUNE_WERROR}>:-Werror>)
if(NOT ATTNPRUNE_ARCH STREQUAL "x86-64-v3")  # g++ 12's AVX-512 headers warn of themselves
  target_compile_options(attnprune_warnings INTERFACE
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized -Wno-uninitialized>)
endif()

if(ATTNPRUNE_SANITIZE)
  add_compile_options(-fsanitize=${ATTNPRUNE_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${ATTNPRUNE_SANITIZE})
endif()

# libFuzzer (tests/fuzz) sees which branches of the target's code are taken.
function(attnprune_fuzzed name)
  if(ATTNPRUNE_BUILD_FUZZERS)
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()

# attnprune_library(NAME sources... DEPENDS targets... [FUZZED]): one library a folder. FUZZED: it reads foreign bytes.
function(attnprune_library name)
  cmake_parse_arguments(ARG "FUZZED" "" "DEPENDS" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  if(ARG_FUZZED)
    attnprune_fuzzed(${name})
  endif()
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_DEPENDS} PRIVATE attnprune_warnings)
endfunction()

# Files that a unity build compiles by themselves.
function(attnprune_compile_alone)
  set_source_files_properties(${ARGN} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()
