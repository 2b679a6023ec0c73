#include "core/model/config_section.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"

namespace attnprune {
namespace {

using nlohmann::json;

// A value for a message; a list or an object may be long, so only its type.
std::string ToText(const json& value) {
  if (value.is_structured()) return absl::StrCat("an ", value.type_name());
  return value.is_string() ? Quoted(value.get_ref<const std::string&>()) : value.dump();
}

}  // namespace

const json* ConfigSection::Find(absl::string_view key) const {
  const auto it = object_.find(std::string(key));
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

bool ConfigSection::HasNull(absl::string_view key) const {
  const auto it = object_.find(std::string(key));
  return it != object_.end() && it->is_null();
}

absl::Status ConfigSection::Refuse(absl::string_view key, absl::string_view rule,
                                   const json& value) const {
  return absl::InvalidArgumentError(
      absl::StrCat(name_, key, " must ", rule, ", got ", ToText(value)));
}

absl::StatusOr<ConfigSection> ConfigSection::Below(absl::string_view key) const {
  const json* value = Find(key);
  if (value == nullptr || !value->is_object()) {
    return Refuse(key, "be an object", value == nullptr ? json() : *value);
  }
  return ConfigSection(*value, absl::StrCat(name_, key, "."));
}

absl::StatusOr<Index> ConfigSection::ToCount(absl::string_view key, const json& value,
                                             Index at_least) const {
  constexpr int64_t kMax = std::numeric_limits<int>::max();
  const bool fits = value.is_number_integer() && value <= kMax && value >= at_least;
  if (!fits) {
    return Refuse(key, absl::StrCat("be a whole number in [", at_least, ", ", kMax, "]"), value);
  }
  return value.get<Index>();
}

absl::StatusOr<Index> ConfigSection::Count(const std::vector<const char*>& keys) const {
  for (const char* key : keys) {
    if (const json* value = Find(key)) return ToCount(key, *value, 1);
  }
  return Refuse(keys.front(), "be given", json());
}

absl::StatusOr<Index> ConfigSection::CountOr(absl::string_view key, Index otherwise,
                                             Index at_least) const {
  const json* value = Find(key);
  return value == nullptr ? otherwise : ToCount(key, *value, at_least);
}

absl::StatusOr<double> ConfigSection::RealOr(absl::string_view key, double otherwise) const {
  const json* value = Find(key);
  if (value == nullptr) return otherwise;
  if (value->is_number() && std::isfinite(value->get<double>())) return value->get<double>();
  return Refuse(key, "be a finite number", *value);
}

absl::StatusOr<double> ConfigSection::PositiveOr(absl::string_view key, double otherwise) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const double value, RealOr(key, otherwise));
  if (value > 0 || Find(key) == nullptr) return value;
  return Refuse(key, "be above 0", *Find(key));
}

absl::StatusOr<bool> ConfigSection::SwitchOr(absl::string_view key, bool otherwise) const {
  const json* value = Find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) return Refuse(key, "be true or false", *value);
  return value->get<bool>();
}

absl::StatusOr<std::string> ConfigSection::TextOr(absl::string_view key,
                                                  absl::string_view otherwise) const {
  const json* value = Find(key);
  if (value == nullptr) return std::string(otherwise);
  if (!value->is_string()) return Refuse(key, "be a string", *value);
  return value->get<std::string>();
}

absl::StatusOr<std::vector<double>> ConfigSection::PositiveList(absl::string_view key) const {
  const json* value = Find(key);
  if (value == nullptr || !value->is_array()) {
    return Refuse(key, "be a list of numbers", value == nullptr ? json() : *value);
  }
  std::vector<double> out;
  for (const json& entry : *value) {
    const bool positive =
        entry.is_number() && std::isfinite(entry.get<double>()) && entry.get<double>() > 0;
    if (!positive) return Refuse(key, "hold finite numbers above 0 only", entry);
    out.push_back(entry.get<double>());
  }
  return out;
}

}  // namespace attnprune
