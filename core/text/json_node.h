// A value of a JSON file together with its place in it, so that every refusal names the file, the
// key, the rule and the value: "tokenizer.json: model.type must be 'BPE', got 'Unigram'".
#ifndef ATTNPRUNE_CORE_TEXT_JSON_NODE_H_
#define ATTNPRUNE_CORE_TEXT_JSON_NODE_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace attnprune {

// A view: the JSON must outlive it. A key that is absent is a null value.
class JsonNode {
 public:
  // The whole of `file`.
  JsonNode(const nlohmann::json& root, std::string file) : value_(&root), file_(std::move(file)) {}

  const nlohmann::json& value() const { return *value_; }
  std::string name() const;  // "FILE: KEY"
  bool IsNull() const;
  bool IsObject() const;
  bool Is(absl::string_view text) const;  // a string that equals `text`

  JsonNode operator[](absl::string_view key) const;  // null too where this is no object
  JsonNode operator[](size_t index) const;           // of an array that has it

  // INVALID_ARGUMENT "FILE: KEY must RULE, got VALUE".
  absl::Status Must(absl::string_view rule) const;

  absl::Status CheckObject() const;
  absl::StatusOr<std::vector<JsonNode>> Items() const;  // of an array
  absl::StatusOr<std::string> String() const;
  absl::StatusOr<bool> BoolOr(bool otherwise) const;  // null: `otherwise`
  absl::StatusOr<int32_t> TokenId() const;            // in [0, 2^31 - 2]

 private:
  JsonNode(const nlohmann::json& value, std::string file, std::string key)
      : value_(&value), file_(std::move(file)), key_(std::move(key)) {}

  const nlohmann::json* value_;
  std::string file_;
  std::string key_;  // empty: the file's whole
};

// Whether it is a whole number that JsonNode::TokenId takes.
bool IsTokenId(const nlohmann::json& value);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_JSON_NODE_H_
