// Any bytes at all: the reader refuses them, or gives tensors whose bytes lie inside the image and
// that can be written and read again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::Span<const char> image(reinterpret_cast<const char*>(data), size);
  const auto parsed = attnprune::ParseSafetensors(image, "fuzz");
  if (!parsed.ok()) return 0;
  for (const attnprune::TensorInfo& tensor : parsed->tensors()) {
    if (!parsed->Find(tensor.name).ok()) std::abort();
    (void)attnprune::ToDoubles(tensor).ok();
    (void)attnprune::ToStack(tensor).ok();
  }
  const absl::StatusOr<std::string> written =
      attnprune::SerializeSafetensors(parsed->tensors(), parsed->metadata());
  if (!written.ok() || !attnprune::ParseSafetensors(*written, "written").ok()) std::abort();
  return 0;
}
