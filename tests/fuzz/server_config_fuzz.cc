// Any --config file of the server: refused as wrong usage, or flags.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "server/flags.h"
#include "tests/server/api/temporary_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const attnprune::TemporaryFolder folder;
  static const std::string path = folder.path() + "/server.toml";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  std::cout.setstate(std::ios::failbit);  // what is wrong with it is not to be read here
  std::cerr.setstate(std::ios::failbit);
  const char* const arguments[] = {"attnprune-server", "--config", path.c_str()};
  int exit_code = -1;
  const auto flags = attnprune::ParseServerFlags(3, arguments, &exit_code);
  const bool refused = exit_code == attnprune::kWrongUsage || exit_code == 0;  // 0: help, version
  if (flags.has_value() == refused) std::abort();
  return 0;
}
