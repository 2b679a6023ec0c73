// A tokenizer.json, a NUL byte and a text: each is refused, or the text becomes ids of the
// vocabulary.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "core/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view image(reinterpret_cast<const char*>(data), size);
  const size_t nul = std::min(image.find('\0'), size);
  const auto tokenizer = attnprune::Tokenizer::Parse({"tokenizer.json", image.substr(0, nul)});
  if (!tokenizer.ok()) return 0;
  const auto ids = tokenizer->Encode(image.substr(std::min(nul + 1, size)));
  if (!ids.ok()) return 0;
  const int64_t vocabulary = tokenizer->vocabulary_size();
  const auto fits = [&](int32_t id) { return id >= 0 && id < vocabulary; };
  if (!std::all_of(ids->begin(), ids->end(), fits)) std::abort();
  return 0;
}
