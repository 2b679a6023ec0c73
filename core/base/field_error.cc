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
  if (const absl::optional<absl::Cord> field = status.GetPayload(kFieldPayload)) {
    std::string name;
    absl::CopyCordToString(*field, &name);
    return name;
  }
  if (!absl::IsInvalidArgument(status)) return "";
  const absl::string_view message = status.message();
  const size_t end = message.find(" must ");
  if (end == absl::string_view::npos) return "";
  std::string field(message.substr(0, end));
  if (field.find(' ') != std::string::npos) field.clear();
  return field;
}

}  // namespace attnprune
