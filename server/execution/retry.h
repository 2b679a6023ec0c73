// Writes that are tried again while what stands in their way may pass.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RETRY_H_
#define ATTNPRUNE_SERVER_EXECUTION_RETRY_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace attnprune {

// Whether a failure may pass: a full disk or a busy database may have room in a while.
bool IsTransient(const absl::Status& status);

// Repeats `write` while it fails with a transient error and wait_or_give_up(), called between two
// tries, returns false. on_failure: told of the first failure. Returns what the last try did.
absl::Status RetryTransient(absl::FunctionRef<absl::Status()> write,
                            absl::FunctionRef<bool()> wait_or_give_up,
                            absl::FunctionRef<void(const absl::Status&)> on_failure);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RETRY_H_
