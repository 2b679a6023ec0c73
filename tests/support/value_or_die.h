// For set-up that has to succeed.
#ifndef ATTNPRUNE_TESTS_SUPPORT_VALUE_OR_DIE_H_
#define ATTNPRUNE_TESTS_SUPPORT_VALUE_OR_DIE_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <utility>

#include "absl/status/statusor.h"

namespace attnprune::testing {

// The value; without one the test fails and the program ends.
template <typename Value>
Value ValueOrDie(absl::StatusOr<Value> value) {
  if (!value.ok()) {
    ADD_FAILURE() << value.status();
    std::abort();
  }
  return *std::move(value);
}

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SUPPORT_VALUE_OR_DIE_H_
