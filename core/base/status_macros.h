// Early return on a failed absl::Status or absl::StatusOr.
#ifndef ATTNPRUNE_CORE_BASE_STATUS_MACROS_H_
#define ATTNPRUNE_CORE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function if `expr` is not OK.
#define ATTNPRUNE_RETURN_IF_ERROR(expr)                                                 \
  do {                                                                                  \
    if (absl::Status status_macro_ = (expr); !status_macro_.ok()) return status_macro_; \
  } while (false)

// ATTNPRUNE_ASSIGN_OR_RETURN(Matrix w, LoadMatrix(path)); declares or assigns the value.
#define ATTNPRUNE_ASSIGN_OR_RETURN(lhs, expr) \
  ATTNPRUNE_ASSIGN_OR_RETURN_(ATTNPRUNE_CONCAT_(status_or_, __LINE__), lhs, expr)
#define ATTNPRUNE_ASSIGN_OR_RETURN_(tmp, lhs, expr) \
  auto tmp = (expr);                                \
  if (!tmp.ok()) return std::move(tmp).status();    \
  lhs = *std::move(tmp)
#define ATTNPRUNE_CONCAT_(a, b) ATTNPRUNE_CONCAT_INNER_(a, b)
#define ATTNPRUNE_CONCAT_INNER_(a, b) a##b

#endif  // ATTNPRUNE_CORE_BASE_STATUS_MACROS_H_
