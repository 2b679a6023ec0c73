// Any config.json: refused, or a layer whose numbers the rest of the core may rely on.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "core/problem/hf_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view json(reinterpret_cast<const char*>(data), size);
  const auto layer = attnprune::ParseHfConfig(json, "config.json", 0);
  if (!layer.ok()) return 0;
  const bool usable = layer->heads > 0 && layer->kv_heads > 0 && layer->head_dim > 0 &&
                      layer->hidden_size > 0 && layer->heads % layer->kv_heads == 0 &&
                      layer->head_dim % 2 == 0 && layer->rope.theta > 0;
  if (!usable) std::abort();
  return 0;
}
