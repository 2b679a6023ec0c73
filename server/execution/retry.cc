#include "server/execution/retry.h"

namespace attnprune {

bool IsTransient(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsUnavailable(status);
}

absl::Status RetryTransient(absl::FunctionRef<absl::Status()> write,
                            absl::FunctionRef<bool()> wait_or_give_up,
                            absl::FunctionRef<void(const absl::Status&)> on_failure) {
  absl::Status status = write();
  if (!status.ok()) on_failure(status);
  while (!status.ok() && IsTransient(status) && !wait_or_give_up()) status = write();
  return status;
}

}  // namespace attnprune
