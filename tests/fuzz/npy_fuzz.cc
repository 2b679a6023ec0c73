// Any bytes at all: the reader refuses them, or gives an array whose values fill its shape.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "core/io/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::Span<const char> image(reinterpret_cast<const char*>(data), size);
  const auto array = attnprune::ParseNpy(image, "fuzz");
  if (!array.ok()) return 0;
  attnprune::Index elements = 1;
  for (const attnprune::Index dimension : array->shape) elements *= dimension;
  if (array->shape.empty() || elements != array->values.size()) std::abort();
  if (static_cast<size_t>(elements) > size) std::abort();  // an element takes at least two bytes
  return 0;
}
