#ifndef ATTNPRUNE_TESTS_CORE_IO_INVALID_H_
#define ATTNPRUNE_TESTS_CORE_IO_INVALID_H_

#include "absl/status/status.h"

namespace attnprune {

inline constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

}  // namespace attnprune

#endif  // ATTNPRUNE_TESTS_CORE_IO_INVALID_H_
