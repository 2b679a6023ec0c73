// Checks a gradient against differences of the loss it claims to belong to.
#ifndef ATTNPRUNE_TESTS_REFERENCE_GRADIENT_CHECK_H_
#define ATTNPRUNE_TESTS_REFERENCE_GRADIENT_CHECK_H_

#include <gtest/gtest.h>

#include <vector>

#include "tests/reference/attention_reference.h"

namespace attnprune::reference {

// Derivatives of TotalLoss in every mask entry, and how far each may be from the truth.
struct NumericGradients {
  std::vector<Dense> value, error;
};

// Central differences D(h) and D(h/2) extrapolated to (4 D(h/2) - D(h)) / 3, h = 2^-9. `error` is
// |D(h/2) - D(h)|, three times the estimated error of D(h/2) alone, plus the rounding of the loss
// over h.
NumericGradients CentralDifferences(const AttentionProblem& problem,
                                    const std::vector<Dense>& masks, double lambda);

// Every |actual - expected| <= tolerance; else a failure that names the worst entry.
::testing::AssertionResult Near(const std::vector<Dense>& actual,
                                const std::vector<Dense>& expected,
                                const std::vector<Dense>& tolerance);
::testing::AssertionResult Near(const Dense& actual, const Dense& expected, const Dense& tolerance);
::testing::AssertionResult Near(const Dense& actual, const Dense& expected, double tolerance);

}  // namespace attnprune::reference

#endif  // ATTNPRUNE_TESTS_REFERENCE_GRADIENT_CHECK_H_
