// Tensor names that rows of the table of families share.
#ifndef ATTNPRUNE_CORE_MODEL_FAMILY_NAMES_H_
#define ATTNPRUNE_CORE_MODEL_FAMILY_NAMES_H_

#include <string>

#include "core/model/model_options.h"

namespace attnprune {

LayerNames LlamaLayer();
ModelNames LlamaModel();
LayerNames Gemma2Layer();
LayerNames Olmo2Layer();
LayerNames CohereLayer();
LayerNames Phi3Layer();
LayerNames PhiLayer();
LayerNames StableLmLayer();
LayerNames Starcoder2Layer();
LayerNames Gpt2Layer();
LayerNames GptJLayer();
LayerNames OptLayer();
LayerNames GroupedLayer(const std::string& attention);
LayerNames BertLayer();
ModelNames PhiModel();
ModelNames Gpt2Model();
ModelNames GptJModel();
ModelNames FalconModel();
ModelNames BloomModel();
ModelNames OptModel();
ModelNames GptNeoXModel();
ModelNames BertModel(const std::string& name);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_FAMILY_NAMES_H_
