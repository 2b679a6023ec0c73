// The linear problems of tests/data/golden/baselines*.safetensors with their float64 answers.
#ifndef ATTNPRUNE_TESTS_CORE_METHODS_GOLDEN_BASELINES_H_
#define ATTNPRUNE_TESTS_CORE_METHODS_GOLDEN_BASELINES_H_

#include <algorithm>
#include <string>
#include <vector>

#include "core/io/safetensors.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"
#include "tests/support/matrices.h"
#include "tests/support/paths.h"

namespace attnprune::testing {

inline constexpr const char* kGoldenBaselines[] = {"baselines", "baselines_blocks_dead"};

struct GoldenBaselines {
  Matrix w, x;  // out x in and tokens x in, rounded to float32
  std::vector<double> exact_w, exact_x;
  double rho, percdamp;
  Index blocksize;
  BitMask magnitude, wanda, wanda_2_4;
  std::vector<double> sparsegpt, sparsegpt_2_4;  // weights
};

// Throws where the file is not as expected: a test that cannot read its data fails.
inline GoldenBaselines LoadGoldenBaselines(const std::string& name) {
  const SafetensorsFile file =
      SafetensorsFile::Open(TestData("/golden/") + name + ".safetensors").value();
  const auto number = [&](const char* key) { return std::stod(file.metadata().at(key)); };
  const auto mask = [&](const char* tensor) {
    const Matrix kept = file.ReadMatrix(tensor).value();
    return MaskOfNonZeros(kept);
  };
  const auto doubles = [&](const char* tensor) { return ToDoubles(**file.Find(tensor)).value(); };
  return {.w = file.ReadMatrix("w").value(),
          .x = file.ReadMatrix("x").value(),
          .exact_w = doubles("w"),
          .exact_x = doubles("x"),
          .rho = number("rho"),
          .percdamp = number("percdamp"),
          .blocksize = static_cast<Index>(number("blocksize")),
          .magnitude = mask("magnitude.mask"),
          .wanda = mask("wanda.mask"),
          .wanda_2_4 = mask("wanda_2_4.mask"),
          .sparsegpt = doubles("sparsegpt.weights"),
          .sparsegpt_2_4 = doubles("sparsegpt_2_4.weights")};
}

// Comparison groups, `group` consecutive scores each, in which the largest score to go and the
// smallest to stay differ by less than relative_tolerance: where float32 may rightly choose
// otherwise than float64.
inline Index CountNearTies(const std::vector<double>& scores, Index group, Index pruned,
                           double relative_tolerance) {
  Index ties = 0;
  for (auto begin = scores.begin(); begin != scores.end(); begin += group) {
    std::vector<double> sorted(begin, begin + group);
    std::sort(sorted.begin(), sorted.end());
    const double goes = sorted[static_cast<size_t>(pruned - 1)];
    const double stays = sorted[static_cast<size_t>(pruned)];
    if (stays - goes <= relative_tolerance * stays) ++ties;
  }
  return ties;
}

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_CORE_METHODS_GOLDEN_BASELINES_H_
