#include "core/objective/passes.h"

#include <atomic>

namespace attnprune {
namespace {

std::atomic<int64_t> passes{0};

}  // namespace

int64_t SequencePasses() { return passes; }

void CountPasses(Index sequences) { passes += sequences; }

}  // namespace attnprune
