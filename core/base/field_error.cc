#include "core/base/field_error.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"

namespace attnprune {
namespace {

constexpr absl::string_view kFieldPayload = "attnprune/field";

}  // namespace

absl::Status FieldError(absl::string_view field, absl::string_view rule_and_value) {
  return WithField(absl::InvalidArgumentError(absl::StrCat(field, " ", rule_and_value)), field);
}

absl::Status WithField(absl::Status status, absl::string_view field) {
  status.SetPayload(kFieldPayload, absl::Cord(field));
  return status;
}

std::string FieldAtFault(const absl::Status& status) {
  const absl::optional<absl::Cord> field = status.GetPayload(kFieldPayload);
  return field.has_value() ? std::string(*field) : "";
}

}  // namespace attnprune
