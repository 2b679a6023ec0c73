// A JSON object of a model's config.json, read key by key.
#ifndef ATTNPRUNE_CORE_MODEL_CONFIG_SECTION_H_
#define ATTNPRUNE_CORE_MODEL_CONFIG_SECTION_H_

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// A null value counts as absent throughout, except where HasNull tells. The object must outlive it.
// Errors are INVALID_ARGUMENT "<name><key> must <rule>, got <value>".
class ConfigSection {
 public:
  // name: before every key in messages, such as "DIR/config.json: ".
  ConfigSection(const nlohmann::json& object, std::string name)
      : object_(object), name_(std::move(name)) {}

  const nlohmann::json* Find(absl::string_view key) const;
  bool HasNull(absl::string_view key) const;
  const nlohmann::json& object() const { return object_; }

  absl::Status Refuse(absl::string_view key, absl::string_view rule,
                      const nlohmann::json& value) const;
  // The object at a key that is there.
  absl::StatusOr<ConfigSection> Below(absl::string_view key) const;

  // The first of the keys that is there, a whole number in [at_least, 2^31).
  absl::StatusOr<Index> Count(const std::vector<const char*>& keys) const;
  absl::StatusOr<Index> CountOr(absl::string_view key, Index otherwise, Index at_least = 1) const;
  absl::StatusOr<double> RealOr(absl::string_view key, double otherwise) const;  // finite
  absl::StatusOr<double> PositiveOr(absl::string_view key, double otherwise) const;
  absl::StatusOr<bool> SwitchOr(absl::string_view key, bool otherwise) const;
  absl::StatusOr<std::string> TextOr(absl::string_view key, absl::string_view otherwise) const;
  absl::StatusOr<std::vector<double>> PositiveList(absl::string_view key) const;

 private:
  absl::StatusOr<Index> ToCount(absl::string_view key, const nlohmann::json& value,
                                Index at_least) const;

  const nlohmann::json& object_;
  std::string name_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_CONFIG_SECTION_H_
