// Any config.json: refused, or options whose numbers the rest of the core may rely on.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "core/model/model_options.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view json(reinterpret_cast<const char*>(data), size);
  const auto options = attnprune::ParseModelOptions(json, "config.json");
  if (!options.ok()) return 0;
  bool usable = options->heads > 0 && options->kv_heads > 0 && options->head_dim > 0 &&
                options->hidden_size > 0 && options->ffn > 0 && options->vocab >= 0 &&
                options->heads % options->kv_heads == 0 && options->layer_count() > 0 &&
                options->attention_scale > 0;
  for (const attnprune::LayerAttention& layer : options->layers) {
    if (!layer.rope.has_value()) continue;
    usable = usable && layer.rope->dim >= 2 && layer.rope->dim <= options->head_dim &&
             layer.rope->theta > 0 && layer.rope->attention_factor > 0;
  }
  if (!usable) std::abort();
  return 0;
}
