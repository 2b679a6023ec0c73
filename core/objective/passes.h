// Passes forward and back through a sequence: what gradients and curvatures cost.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_PASSES_H_
#define ATTNPRUNE_CORE_OBJECTIVE_PASSES_H_

#include <cstdint>

#include "core/tensor/matrix.h"

namespace attnprune {

// Of this process so far: what a method may take is seen to be kept. Callable from any thread.
int64_t SequencePasses();
void CountPasses(Index sequences);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_PASSES_H_
