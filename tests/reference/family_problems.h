// Problems with what layers of other families have between projection and softmax.
#ifndef ATTNPRUNE_TESTS_REFERENCE_FAMILY_PROBLEMS_H_
#define ATTNPRUNE_TESTS_REFERENCE_FAMILY_PROBLEMS_H_

#include <vector>

#include "tests/reference/problems.h"

namespace attnprune::reference {

// Each option alone, and all of them together.
void AddFamilyRows(std::vector<ProblemRow>* rows);

}  // namespace attnprune::reference

#endif  // ATTNPRUNE_TESTS_REFERENCE_FAMILY_PROBLEMS_H_
