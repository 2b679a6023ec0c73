#include "core/text/json_node.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"

namespace attnprune {
namespace {

using nlohmann::json;

constexpr int64_t kLargestTokenId = std::numeric_limits<int32_t>::max() - 1;

// A list or an object may be long, so only its type.
std::string ValueText(const json& value) {
  if (value.is_structured()) return absl::StrCat("an ", value.type_name());
  return value.is_string() ? Quoted(value.get_ref<const std::string&>()) : value.dump();
}

}  // namespace

bool JsonNode::IsNull() const { return value_->is_null(); }

bool JsonNode::IsObject() const { return value_->is_object(); }

bool JsonNode::Is(absl::string_view text) const {
  return value_->is_string() && value_->get_ref<const std::string&>() == text;
}

JsonNode JsonNode::operator[](absl::string_view key) const {
  static const json kNull;
  const std::string name(key);
  const std::string place = key_.empty() ? name : absl::StrCat(key_, ".", key);
  if (!IsObject()) return {kNull, file_, place};
  const auto found = value_->find(name);
  return {found == value_->end() ? kNull : *found, file_, place};
}

JsonNode JsonNode::operator[](size_t index) const {
  return {(*value_)[index], file_, absl::StrCat(key_, "[", index, "]")};
}

std::string JsonNode::name() const { return absl::StrCat(file_, ": ", key_.empty() ? "it" : key_); }

absl::Status JsonNode::Must(absl::string_view rule) const {
  return Refuse(name(), " must ", rule, ", got ", ValueText(*value_));
}

absl::Status JsonNode::CheckObject() const {
  return IsObject() ? absl::OkStatus() : Must("be an object");
}

absl::StatusOr<std::vector<JsonNode>> JsonNode::Items() const {
  if (!value_->is_array()) return Must("be an array");
  std::vector<JsonNode> items;
  items.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) items.push_back((*this)[i]);
  return items;
}

absl::StatusOr<std::string> JsonNode::String() const {
  if (!value_->is_string()) return Must("be a string");
  return value_->get<std::string>();
}

absl::StatusOr<bool> JsonNode::BoolOr(bool otherwise) const {
  if (IsNull()) return otherwise;
  if (!value_->is_boolean()) return Must("be true or false");
  return value_->get<bool>();
}

absl::StatusOr<int32_t> JsonNode::TokenId() const {
  if (!IsTokenId(*value_)) {
    return Must(absl::StrCat("be a whole number in [0, ", kLargestTokenId, "]"));
  }
  return value_->get<int32_t>();
}

bool IsTokenId(const json& value) {
  return value.is_number_integer() && value >= 0 && value <= kLargestTokenId;
}

}  // namespace attnprune
