// Any model.safetensors.index.json: refused by name, or names of tensors that are nowhere: no file
// beside it is there.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

#include "core/io/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string folder = [] {
    char name[] = "/tmp/index-fuzz-XXXXXX";
    return std::string(mkdtemp(name));
  }();
  const std::string path = folder + "/model.safetensors.index.json";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  const auto checkpoint = attnprune::Checkpoint::Open(path);
  if (!checkpoint.ok()) return 0;
  for (const std::string& name : checkpoint->names()) {
    if (checkpoint->Find(name).ok()) std::abort();
  }
  return 0;
}
