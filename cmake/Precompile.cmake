# Precompiled headers: parsing the standard library, Abseil, protobuf, gRPC and GoogleTest is most of what a
# file costs to compile. Foreign headers only, so that no edit of ours rebuilds everything. Each source still
# includes what it uses: the `tidy` preset compiles without them.
option(ATTNPRUNE_PRECOMPILE "Use precompiled headers" ON)

set(standard_headers
  <algorithm> <array> <atomic> <chrono> <cmath> <cstddef> <cstdint> <cstring> <deque> <functional> <limits>
  <map> <memory> <numeric> <set> <sstream> <string> <thread> <utility> <vector>)
set(abseil_headers
  "absl/functional/function_ref.h" "absl/status/status.h" "absl/status/statusor.h" "absl/strings/match.h"
  "absl/strings/numbers.h" "absl/strings/str_cat.h" "absl/strings/str_format.h" "absl/strings/str_join.h"
  "absl/strings/str_split.h" "absl/strings/string_view.h" "absl/time/clock.h" "absl/time/time.h"
  "absl/types/optional.h" "absl/types/span.h")
list(TRANSFORM abseil_headers REPLACE "(.+)" "<\\1>")
set(message_headers
  <attnprune/v1/errors.pb.h> <attnprune/v1/job.pb.h> <attnprune/v1/prune_service.pb.h>
  <attnprune/v1/tensor_service.pb.h>)
set(service_headers
  <grpcpp/grpcpp.h> <attnprune/v1/prune_service.grpc.pb.h> <attnprune/v1/tensor_service.grpc.pb.h>)
set(test_headers <gmock/gmock.h> <gtest/gtest.h> <filesystem> <fstream> <iostream> <random>)

# A set of headers: its targets say `attnprune_precompile(TARGET SET)`.
function(attnprune_header_set name)
  cmake_parse_arguments(ARG "" "" "HEADERS;DEPENDS;OPTIONS" ${ARGN})
  file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/precompiled/${name}.cc CONTENT "// Holds a precompiled header.\n")
  add_library(attnprune_headers_${name} OBJECT ${CMAKE_BINARY_DIR}/precompiled/${name}.cc)
  # The warnings too, because -Wpedantic defines macros.
  target_link_libraries(attnprune_headers_${name} PRIVATE ${ARG_DEPENDS} attnprune_warnings)
  target_compile_options(attnprune_headers_${name} PRIVATE ${ARG_OPTIONS})
  target_precompile_headers(attnprune_headers_${name} PRIVATE ${ARG_HEADERS})
endfunction()

if(ATTNPRUNE_PRECOMPILE)
  set(core ${standard_headers} ${abseil_headers})
  set(abseil absl::status absl::statusor absl::strings absl::function_ref absl::optional absl::span absl::time)
  attnprune_header_set(core HEADERS ${core} DEPENDS ${abseil})
  attnprune_header_set(messages HEADERS ${core} ${message_headers} DEPENDS ${abseil} attnprune_proto)
  if(ATTNPRUNE_WITH_GRPC)
    attnprune_header_set(services HEADERS ${core} ${message_headers} ${service_headers}
                         DEPENDS ${abseil} attnprune_grpc)
  endif()
  if(ATTNPRUNE_BUILD_TESTS)
    find_package(GTest CONFIG REQUIRED)
    set(core ${core} ${test_headers})
    attnprune_header_set(core_test HEADERS ${core} DEPENDS ${abseil} GTest::gmock OPTIONS ${ATTNPRUNE_TEST_OPTIONS})
    attnprune_header_set(messages_test HEADERS ${core} ${message_headers}
                         DEPENDS ${abseil} attnprune_proto GTest::gmock OPTIONS ${ATTNPRUNE_TEST_OPTIONS})
    if(ATTNPRUNE_WITH_GRPC)
      attnprune_header_set(services_test HEADERS ${core} ${message_headers} ${service_headers}
                           DEPENDS ${abseil} attnprune_grpc GTest::gmock OPTIONS ${ATTNPRUNE_TEST_OPTIONS})
    endif()
  endif()
endif()

function(attnprune_precompile target set)
  if(ATTNPRUNE_PRECOMPILE)
    target_precompile_headers(${target} REUSE_FROM attnprune_headers_${set})
  endif()
endfunction()
