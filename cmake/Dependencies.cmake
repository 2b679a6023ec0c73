# Debian 12 packages; see dev.sh for their names.
find_package(absl CONFIG REQUIRED)
find_package(Protobuf REQUIRED)  # module mode, before gRPC
if(ATTNPRUNE_WITH_GRPC)
  find_package(gRPC CONFIG REQUIRED)
  find_package(CLI11 CONFIG REQUIRED)
endif()
find_package(spdlog CONFIG REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(Eigen3 CONFIG REQUIRED)
find_package(OpenBLAS CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(Threads REQUIRED)
find_package(Boost 1.74 REQUIRED)  # headers only: Beast, Asio, CRC
find_package(ZLIB REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(libpq REQUIRED IMPORTED_TARGET libpq)
pkg_check_modules(libcurl REQUIRED IMPORTED_TARGET libcurl)

# OpenBLAS's package sets variables only; a target keeps its include path out of our warnings.
add_library(attnprune_openblas INTERFACE)
target_include_directories(attnprune_openblas SYSTEM INTERFACE ${OpenBLAS_INCLUDE_DIRS})
target_link_libraries(attnprune_openblas INTERFACE ${OpenBLAS_LIBRARIES})

# Not its package's file, which wants OpenCL. Its threads are libgomp's.
if(ATTNPRUNE_WITH_ONEDNN)
  find_path(ONEDNN_INCLUDE_DIR oneapi/dnnl/dnnl.hpp REQUIRED)
  find_library(ONEDNN_LIBRARY dnnl REQUIRED)
  add_library(attnprune_onednn INTERFACE)
  target_include_directories(attnprune_onednn SYSTEM INTERFACE ${ONEDNN_INCLUDE_DIR})
  target_compile_definitions(attnprune_onednn INTERFACE ATTNPRUNE_HAS_ONEDNN)
  target_link_libraries(attnprune_onednn INTERFACE ${ONEDNN_LIBRARY} gomp)
endif()
