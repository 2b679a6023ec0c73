#include "core/text/tokenizer.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/mapped_file.h"
#include "core/io/messages.h"
#include "core/io/strict_json.h"
#include "core/text/added_tokens.h"
#include "core/text/bpe.h"
#include "core/text/bpe_encoder.h"
#include "core/text/json_node.h"
#include "core/text/normalizer.h"
#include "core/text/post_processor.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/unicode.h"

namespace attnprune {

struct Tokenizer::Parts {
  absl::Status AddTokens(const JsonNode& list);
  absl::Status ReadSpecialIds(const JsonNode& post_processor,
                              const absl::optional<NamedText>& config);
  absl::optional<int32_t> Find(absl::string_view token) const;

  BpeModel model;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  AddedTokenFinder raw_tokens;         // in text as given
  AddedTokenFinder normalized_tokens;  // in normalised text
  absl::flat_hash_map<std::string, int32_t> added_ids;
  int32_t largest_id = -1;
  SpecialIds special;
};

namespace {

constexpr int kTokenizerDepth = 64;  // of nested JSON; real files have 7

absl::StatusOr<nlohmann::json> ParseJsonFile(const NamedText& file) {
  absl::StatusOr<nlohmann::json> object = ParseStrictJson(file.text, kTokenizerDepth);
  if (!object.ok()) return Annotate(object.status(), file.name);
  return object;
}

absl::Status CheckVersion(const JsonNode& version) {
  if (version.IsNull() || version.Is("1.0")) return absl::OkStatus();
  return version.Must("be 1.0, the one that is known");
}

absl::Status CheckText(absl::string_view text) {
  if (text.size() > kLongestText) {
    return Refuse("text must have at most ", kLongestText, " bytes, got ", text.size());
  }
  const size_t good = WellFormedPrefix(text);
  if (good == text.size()) return absl::OkStatus();
  return Refuse("text must be UTF-8, but at byte ", good, " no character begins");
}

absl::Status NotFound(const std::string& folder) {
  return absl::NotFoundError(absl::StrCat(
      folder, " has no tokenizer.json; Python's transformers writes one: ",
      "AutoTokenizer.from_pretrained('", folder, "').save_pretrained('", folder, "')"));
}

absl::string_view TextOf(const MappedFile& file) {
  return {file.bytes().data(), file.bytes().size()};
}

}  // namespace

absl::Status Tokenizer::Parts::AddTokens(const JsonNode& list) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<AddedToken> tokens, ParseAddedTokens(list));
  for (const AddedToken& token : tokens) {
    if (const auto known = Find(token.content); known.has_value() && *known != token.id) {
      return Refuse(list.name(), " must give ", Quoted(token.content), " one id, got ", *known,
                    " and ", token.id);
    }
    added_ids[token.content] = token.id;
    largest_id = std::max(largest_id, token.id);
    if (!token.normalized) {
      raw_tokens.Add(token, token.content);
      continue;
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::string pattern, normalizer.Apply(token.content));
    normalized_tokens.Add(token, pattern);
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::Parts::ReadSpecialIds(const JsonNode& post_processor,
                                              const absl::optional<NamedText>& config) {
  ATTNPRUNE_ASSIGN_OR_RETURN(special, ParsePostProcessor(post_processor));
  if (!config.has_value()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const nlohmann::json object, ParseJsonFile(*config));
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const absl::optional<SpecialIds> overruling,
      SpecialIdsOfConfig(JsonNode(object, config->name),
                         [this](absl::string_view token) { return Find(token); }));
  if (overruling.has_value()) special = *overruling;
  return absl::OkStatus();
}

absl::optional<int32_t> Tokenizer::Parts::Find(absl::string_view token) const {
  const auto added = added_ids.find(token);
  if (added != added_ids.end()) return added->second;
  return model.Find(token);
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

absl::StatusOr<Tokenizer> Tokenizer::Open(const std::string& path) {
  const std::string folder = IsFolder(path) ? path : FolderOf(path);
  const std::string file = IsFolder(path) ? absl::StrCat(path, "/tokenizer.json") : path;
  absl::StatusOr<MappedFile> tokenizer = MappedFile::Open(file);
  if (absl::IsNotFound(tokenizer.status())) return NotFound(folder);
  ATTNPRUNE_RETURN_IF_ERROR(tokenizer.status());

  const std::string config_file = absl::StrCat(folder, "/tokenizer_config.json");
  const absl::StatusOr<MappedFile> config = MappedFile::Open(config_file);
  absl::optional<NamedText> config_text;
  if (!absl::IsNotFound(config.status())) {
    ATTNPRUNE_RETURN_IF_ERROR(config.status());
    config_text = NamedText{config_file, TextOf(*config)};
  }
  absl::StatusOr<Tokenizer> parsed = Parse({file, TextOf(*tokenizer)}, config_text);
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(tokenizer->bytes()));
  if (config.ok()) ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(config->bytes()));
  return parsed;
}

absl::StatusOr<Tokenizer> Tokenizer::Parse(const NamedText& tokenizer,
                                           const absl::optional<NamedText>& config) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const nlohmann::json object, ParseJsonFile(tokenizer));
  const JsonNode root(object, tokenizer.name);
  ATTNPRUNE_RETURN_IF_ERROR(CheckVersion(root["version"]));
  auto parts = std::make_unique<Parts>();
  ATTNPRUNE_ASSIGN_OR_RETURN(parts->model, BpeModel::Parse(root["model"]));
  ATTNPRUNE_ASSIGN_OR_RETURN(parts->normalizer, Normalizer::Parse(root["normalizer"]));
  ATTNPRUNE_ASSIGN_OR_RETURN(parts->pre_tokenizer, PreTokenizer::Parse(root["pre_tokenizer"]));
  parts->largest_id = parts->model.largest_id();
  ATTNPRUNE_RETURN_IF_ERROR(parts->AddTokens(root["added_tokens"]));
  ATTNPRUNE_RETURN_IF_ERROR(parts->ReadSpecialIds(root["post_processor"], config));
  for (const auto* ids : {&parts->special.before, &parts->special.after}) {
    for (const int32_t id : *ids) parts->largest_id = std::max(parts->largest_id, id);
  }
  return Tokenizer(std::move(parts));
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(absl::string_view text,
                                                       SpecialTokens special) const {
  ATTNPRUNE_RETURN_IF_ERROR(CheckText(text));
  std::vector<int32_t> ids;
  if (special == SpecialTokens::kAdd) ids = parts_->special.before;
  BpeEncoder encoder(parts_->model);
  const auto add_id = [&](int32_t id) { ids.push_back(id); };
  const auto add_word = [&](absl::string_view word) { return encoder.Append(word, &ids); };
  const auto add_piece = [&](absl::string_view piece) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::string normal, parts_->normalizer.Apply(piece));
    const auto add_words = [&](absl::string_view part) {
      const bool at_start = piece.data() == text.data() && part.data() == normal.data();
      return parts_->pre_tokenizer.ForEachWord(part, at_start, add_word);
    };
    return parts_->normalized_tokens.Cut(normal, add_words, add_id);
  };
  ATTNPRUNE_RETURN_IF_ERROR(parts_->raw_tokens.Cut(text, add_piece, add_id));
  if (special == SpecialTokens::kAdd) {
    ids.insert(ids.end(), parts_->special.after.begin(), parts_->special.after.end());
  }
  return ids;
}

int64_t Tokenizer::vocabulary_size() const { return int64_t{parts_->largest_id} + 1; }

}  // namespace attnprune
