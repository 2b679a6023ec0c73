#include "server/execution/stored_weights.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/server/execution/execution_fixture.h"
#include "tests/support/matrices.h"

namespace attnprune::testing {
namespace {

class StoredWeights : public ExecutionTest {
 protected:
  // The weights of a fused problem with this one, and a result that prunes its second entry.
  static std::vector<JobTensor> InputsOf(const v1::TensorRef& weight) {
    std::vector<JobTensor> inputs = {DecodeTensor("weight", weight, int64_t{1} << 30).value()};
    inputs[0].matrix = "w";
    return inputs;
  }
  static PruneResult ResultOf(Matrix weights) {
    PrunedMatrix matrix;
    matrix.name = "w";
    matrix.mask = BitMask(weights.rows(), weights.cols(), true);
    matrix.mask.Prune(1);
    weights.data()[1] = 0;
    matrix.weights = std::move(weights);
    PruneResult result;
    result.matrices.push_back(std::move(matrix));
    return result;
  }
};

TEST_F(StoredWeights, AreRoundedToNearestEvenAndThatIsWhatIsJudged) {
  // bfloat16 has 8 bits of precision: 1 + 2^-8 is half way and goes to 1, 1 + 3 2^-8 to 1 + 2^-6.
  const v1::TensorRef weight = place_.Put(GaussianMatrix(2, 2, 1), DType::kBF16);
  PruneResult result = ResultOf(MatrixOf({{1.00390625f, 9}, {1.01171875f, -2}}));
  const auto bytes = RoundToStored(InputsOf(weight), place_.tensors(), &result);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(Values(result.matrices[0].weights), (std::vector<float>{1, 0, 1.015625f, -2}));
  float fetched[4];
  ASSERT_TRUE(ToFloat32(DType::kBF16, (*bytes)[0], fetched).ok());
  EXPECT_EQ(Values(result.matrices[0].weights), std::vector<float>(fetched, fetched + 4));
}

TEST_F(StoredWeights, OfDoublesKeepTheirBitsWhereTheMethodLeftThem) {
  const double dense[4] = {0.1, 0.2, 1.0 / 3, -4};
  std::string bytes(sizeof(dense), '\0');
  std::memcpy(bytes.data(), dense, sizeof(dense));
  v1::TensorRef weight;
  weight.set_sha256(*place_.tensors().Put(bytes));
  weight.set_dtype(v1::F64);
  PruneResult result = ResultOf(MatrixOf({{0.1f, 0.2f}, {0.5f, -4}}));  // 1/3 was changed
  const auto stored = RoundToStored(InputsOf(weight), place_.tensors(), &result);
  ASSERT_TRUE(stored.ok()) << stored.status();
  double values[4];
  ASSERT_EQ((*stored)[0].size(), sizeof(values));
  std::memcpy(values, (*stored)[0].data(), sizeof(values));
  EXPECT_EQ(std::vector<double>(values, values + 4), (std::vector<double>{0.1, 0, 0.5, -4}));
}

TEST_F(StoredWeights, TooLargeForTheDtypeAreRefused) {
  const v1::TensorRef weight = place_.Put(GaussianMatrix(2, 2, 1), DType::kF16);
  PruneResult result = ResultOf(MatrixOf({{70'000, 1}, {1, 1}}));
  const auto bytes = RoundToStored(InputsOf(weight), place_.tensors(), &result);
  EXPECT_TRUE(absl::IsOutOfRange(bytes.status())) << bytes.status();
}

}  // namespace
}  // namespace attnprune::testing
