// The field at fault, carried by an absl::Status as a payload: the server hands it to clients as
// google.rpc.BadRequest.
#ifndef ATTNPRUNE_CORE_BASE_FIELD_ERROR_H_
#define ATTNPRUNE_CORE_BASE_FIELD_ERROR_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace attnprune {

// INVALID_ARGUMENT "<field> <rule_and_value>" with the field as its payload:
//   FieldError("job.labels", "must not be empty")
absl::Status FieldError(absl::string_view field, absl::string_view rule_and_value);

// INVALID_ARGUMENT "<field> must <rule>, got <value>", likewise; `value` is anything StrCat takes.
template <typename Value>
absl::Status MustError(absl::string_view field, absl::string_view rule, const Value& value) {
  return FieldError(field, absl::StrCat("must ", rule, ", got ", value));
}

// `status` (not OK) with `field` as the field at fault; code, message and other payloads stay.
absl::Status WithField(absl::Status status, absl::string_view field);

// The field at fault; empty if the status names none.
std::string FieldAtFault(const absl::Status& status);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_BASE_FIELD_ERROR_H_
