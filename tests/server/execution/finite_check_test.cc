#include <limits>
#include <vector>

#include "core/base/field_error.h"
#include "gtest/gtest.h"
#include "server/execution/job_tensor.h"

namespace attnprune {
namespace {

JobTensor Shaped(const std::vector<Index>& extents) {
  JobTensor tensor;
  tensor.field = "job.calibration[1]";
  tensor.extents = extents;
  return tensor;
}

// What is said of 24 values of that shape, the one at `index` infinite.
std::string Said(const std::vector<Index>& shape, size_t index) {
  std::vector<float> values(24, 1.0f);
  values[index] = -std::numeric_limits<float>::infinity();
  const absl::Status status = CheckFinite(Shaped(shape), values);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldAtFault(status), "job.calibration[1]");
  return std::string(status.message());
}

TEST(CheckFinite, NamesTheFieldAndThePlaceOfTheFirstValueThatIsNot) {
  const std::string rule = "job.calibration[1] must be finite in float32, got -inf at ";
  EXPECT_EQ(Said({2, 3, 4}, 17), rule + "batch 1, row 1, column 1");
  EXPECT_EQ(Said({6, 4}, 17), rule + "row 4, column 1");
  EXPECT_EQ(Said({24}, 17), rule + "entry 17");
  EXPECT_EQ(Said({2, 3, 4}, 0), rule + "batch 0, row 0, column 0");
  EXPECT_EQ(Said({2, 3, 4}, 23), rule + "batch 1, row 2, column 3");
}

TEST(CheckFinite, TakesTheLargestNumbersThereAre) {
  const std::vector<float> values = {std::numeric_limits<float>::max(), -1, 0,
                                     std::numeric_limits<float>::denorm_min()};
  EXPECT_TRUE(CheckFinite(Shaped({2, 2}), values).ok());
}

}  // namespace
}  // namespace attnprune
