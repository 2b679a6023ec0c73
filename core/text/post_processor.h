// What a tokeniser puts before and after the ids of a text: tokenizer.json's post_processor, and
// what tokenizer_config.json says over it.
#ifndef ATTNPRUNE_CORE_TEXT_POST_PROCESSOR_H_
#define ATTNPRUNE_CORE_TEXT_POST_PROCESSOR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "core/text/json_node.h"

namespace attnprune {

struct SpecialIds {
  std::vector<int32_t> before;  // such as BOS
  std::vector<int32_t> after;   // such as EOS
};

// TemplateProcessing (of one text), RobertaProcessing, BertProcessing, ByteLevel and Sequences of
// them; null: no ids. INVALID_ARGUMENT names the key at fault.
absl::StatusOr<SpecialIds> ParsePostProcessor(const JsonNode& post_processor);

// transformers' LlamaTokenizer and GemmaTokenizer, also as ...Fast, overrule the file by
// add_bos_token (default true) and add_eos_token (default false) of tokenizer_config.json. nullopt:
// the file's post_processor holds, since the class is another. find: a token's id. INVALID_ARGUMENT
// names the key at fault, such as a bos_token without id.
absl::StatusOr<absl::optional<SpecialIds>> SpecialIdsOfConfig(
    const JsonNode& config,
    absl::FunctionRef<absl::optional<int32_t>(absl::string_view token)> find);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_POST_PROCESSOR_H_
