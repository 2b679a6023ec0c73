#include "core/text/post_processor.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace attnprune {
namespace {

using FindId = absl::FunctionRef<absl::optional<int32_t>(absl::string_view)>;

// Classes that write their own post_processor, with the bos_token that they have by default.
struct OverrulingClass {
  const char* name;
  const char* bos_token;
  const char* eos_token;
};
constexpr std::array<OverrulingClass, 4> kOverrulingClasses = {{
    {"LlamaTokenizer", "<s>", "</s>"},
    {"LlamaTokenizerFast", "<s>", "</s>"},
    {"GemmaTokenizer", "<bos>", "<eos>"},
    {"GemmaTokenizerFast", "<bos>", "<eos>"},
}};

// Ids that a special token of the template stands for.
absl::Status AppendIds(const JsonNode& special_token, std::vector<int32_t>* out) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto ids, special_token["ids"].Items());
  for (const JsonNode& node : ids) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const int32_t id, node.TokenId());
    out->push_back(id);
  }
  return absl::OkStatus();
}

absl::StatusOr<SpecialIds> ParseTemplate(const JsonNode& processor) {
  SpecialIds parsed;
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto items, processor["single"].Items());
  int sequences = 0;
  for (const JsonNode& item : items) {
    if (!item["Sequence"].IsNull()) {
      if (!item["Sequence"]["id"].Is("A")) return item["Sequence"]["id"].Must("be A");
      ++sequences;
      continue;
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::string name, item["SpecialToken"]["id"].String());
    ATTNPRUNE_RETURN_IF_ERROR(AppendIds(processor["special_tokens"][name],
                                        sequences == 0 ? &parsed.before : &parsed.after));
  }
  if (sequences != 1) return processor["single"].Must("have Sequence A exactly once");
  return parsed;
}

// ["<s>", 0]
absl::StatusOr<int32_t> ParseTokenAndId(const JsonNode& pair) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto items, pair.Items());
  if (items.size() != 2) return pair.Must("be a token and its id");
  return items[1].TokenId();
}

absl::StatusOr<SpecialIds> ParseClassAndSeparator(const JsonNode& processor) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int32_t before, ParseTokenAndId(processor["cls"]));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int32_t after, ParseTokenAndId(processor["sep"]));
  return SpecialIds{{before}, {after}};
}

// Each processor encloses what those before it have made.
absl::StatusOr<SpecialIds> ParseProcessors(const JsonNode& list) {
  SpecialIds parsed;
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto processors, list.Items());
  for (const JsonNode& processor : processors) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const SpecialIds outer, ParsePostProcessor(processor));
    parsed.before.insert(parsed.before.begin(), outer.before.begin(), outer.before.end());
    parsed.after.insert(parsed.after.end(), outer.after.begin(), outer.after.end());
  }
  return parsed;
}

// "<s>" or {"content": "<s>", ...}.
absl::StatusOr<int32_t> IdOfConfigToken(const JsonNode& given, const char* otherwise, FindId find) {
  const JsonNode content = given.IsObject() ? given["content"] : given;
  std::string token = otherwise;
  if (!content.IsNull()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(token, content.String());
  }
  const absl::optional<int32_t> id = find(token);
  if (id.has_value()) return *id;
  return given.Must(absl::StrCat("be a token that tokenizer.json has, such as ", otherwise));
}

const OverrulingClass* FindOverrulingClass(const JsonNode& name) {
  for (const OverrulingClass& overruling : kOverrulingClasses) {
    if (name.Is(overruling.name)) return &overruling;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<SpecialIds> ParsePostProcessor(const JsonNode& post_processor) {
  if (post_processor.IsNull()) return SpecialIds();
  ATTNPRUNE_RETURN_IF_ERROR(post_processor.CheckObject());
  const JsonNode type = post_processor["type"];
  if (type.Is("ByteLevel")) return SpecialIds();
  if (type.Is("TemplateProcessing")) return ParseTemplate(post_processor);
  if (type.Is("Sequence")) return ParseProcessors(post_processor["processors"]);
  if (type.Is("RobertaProcessing") || type.Is("BertProcessing")) {
    return ParseClassAndSeparator(post_processor);
  }
  return type.Must(
      "be TemplateProcessing, ByteLevel, RobertaProcessing, BertProcessing or Sequence, which are "
      "supported");
}

absl::StatusOr<absl::optional<SpecialIds>> SpecialIdsOfConfig(const JsonNode& config, FindId find) {
  const OverrulingClass* overruling = FindOverrulingClass(config["tokenizer_class"]);
  if (overruling == nullptr) return absl::optional<SpecialIds>();
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool add_bos, config["add_bos_token"].BoolOr(true));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool add_eos, config["add_eos_token"].BoolOr(false));
  SpecialIds ids;
  if (add_bos) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const int32_t id,
                               IdOfConfigToken(config["bos_token"], overruling->bos_token, find));
    ids.before.push_back(id);
  }
  if (add_eos) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const int32_t id,
                               IdOfConfigToken(config["eos_token"], overruling->eos_token, find));
    ids.after.push_back(id);
  }
  return absl::make_optional(std::move(ids));
}

}  // namespace attnprune
