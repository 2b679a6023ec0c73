#include "core/kernels/finite.h"

#include <algorithm>
#include <cmath>

namespace attnprune {
namespace {

constexpr size_t kBlock = 1024;

// No branch, so that the compiler can take many values at once.
bool BlockIsFinite(absl::Span<const float> block) {
  int finite = 1;
  for (const float value : block) finite &= int{std::isfinite(value)};
  return finite != 0;
}

}  // namespace

Index FirstNotFinite(absl::Span<const float> values) {
  for (size_t begin = 0; begin < values.size(); begin += kBlock) {
    const absl::Span<const float> block = values.subspan(begin, kBlock);
    if (BlockIsFinite(block)) continue;
    const auto bad =
        std::find_if(block.begin(), block.end(), [](float value) { return !std::isfinite(value); });
    return static_cast<Index>(begin) + (bad - block.begin());
  }
  return static_cast<Index>(values.size());
}

}  // namespace attnprune
