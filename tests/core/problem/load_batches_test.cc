#include "core/problem/load_batches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/io/safetensors.h"
#include "tests/core/problem/temp_folder.h"
#include "tests/core/problem/test_problems.h"

namespace attnprune {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A version 1.0 .npy file of zeros in float32.
std::string NpyZeros(const std::string& shape, size_t elements) {
  std::string header =
      absl::StrCat("{'descr': '<f4', 'fortran_order': False, 'shape': ", shape, ", }");
  header.resize(118, ' ');
  header[117] = '\n';
  return std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + std::string(elements * 4, '\0');
}

class LoadBatchesFrom : public ::testing::Test {
 protected:
  // Writes tensors of these shapes, each over the same counting numbers.
  std::string Safetensors(const std::vector<std::pair<std::string, std::vector<Index>>>& shapes) {
    std::vector<TensorInfo> tensors;
    for (const auto& [name, shape] : shapes) {
      TensorInfo tensor = TensorOf(name, numbers_);
      size_t bytes = sizeof(float);
      for (const Index extent : shape) bytes *= static_cast<size_t>(extent);
      tensor.shape = shape;
      tensor.bytes = tensor.bytes.subspan(0, bytes);
      tensors.push_back(tensor);
    }
    return Written(tensors);
  }
  std::string Written(const std::vector<TensorInfo>& tensors) {
    const std::string path = folder_ / "x.safetensors";
    EXPECT_EQ(WriteSafetensors(path, tensors), absl::OkStatus());
    return path;
  }
  void ExpectRefused(const absl::StatusOr<Batches>& batches, const std::string& path,
                     const std::string& rule) {
    EXPECT_FALSE(batches.ok());
    EXPECT_THAT(batches.status().message(), AllOf(HasSubstr(path), HasSubstr(rule)));
  }

  TempFolder folder_;
  Matrix numbers_ = CountingMatrix(8, 8);
};

TEST_F(LoadBatchesFrom, AStackGivesABatchForEachSequence) {
  const absl::StatusOr<Batches> batches = LoadBatches(Safetensors({{"x", {4, 3, 2}}}), "x");
  ASSERT_TRUE(batches.ok()) << batches.status();
  EXPECT_EQ(batches->count(), 4);
  EXPECT_EQ(batches->length(3), 3);
  EXPECT_EQ(batches->features(), 2);
  EXPECT_EQ(batches->batch(1)(2, 1), numbers_.flat()[11]);
}

TEST_F(LoadBatchesFrom, AMatrixGivesOneBatch) {
  const absl::StatusOr<Batches> batches = LoadBatches(Safetensors({{"x", {3, 2}}}), "x");
  ASSERT_TRUE(batches.ok()) << batches.status();
  EXPECT_EQ(batches->count(), 1);
  EXPECT_EQ(batches->length(0), 3);
}

TEST_F(LoadBatchesFrom, TheOnlyFloatTensorNeedsNoName) {
  TensorInfo floats = TensorOf("activations", numbers_);
  TensorInfo ids = TensorOf("tokens", numbers_);
  ids.dtype = DType::kI32;
  const absl::StatusOr<Batches> batches = LoadBatches(Written({floats, ids}));
  ASSERT_TRUE(batches.ok()) << batches.status();
  EXPECT_EQ(batches->features(), 8);
}

TEST_F(LoadBatchesFrom, SeveralFloatTensorsMustBeNamed) {
  const std::string path = Safetensors({{"first", {3, 2}}, {"second", {3, 2}}});
  ExpectRefused(LoadBatches(path), path,
                "tensor must be named unless exactly one is of a float type, got 2: 'first', "
                "'second'");
}

TEST_F(LoadBatchesFrom, AFileWithoutFloatTensorsIsRefused) {
  TensorInfo ids = TensorOf("tokens", numbers_);
  ids.dtype = DType::kI32;
  const std::string path = Written({ids});
  ExpectRefused(LoadBatches(path), path, "exactly one is of a float type, got 0");
  ExpectRefused(LoadBatches(path, "tokens"), path, "'tokens'");
}

TEST_F(LoadBatchesFrom, ManyTensorsAreListedInPart) {
  std::vector<std::pair<std::string, std::vector<Index>>> shapes;
  for (int i = 10; i < 40; ++i) shapes.emplace_back(absl::StrCat("x", i), std::vector<Index>{3, 2});
  const std::string path = Safetensors(shapes);
  ExpectRefused(LoadBatches(path), path, "got 30: 'x10', 'x11'");
  ExpectRefused(LoadBatches(path), path, "'x29', ...");
}

TEST_F(LoadBatchesFrom, AnUnknownTensorIsRefused) {
  const std::string path = Safetensors({{"x", {3, 2}}});
  const absl::StatusOr<Batches> batches = LoadBatches(path, "y");
  EXPECT_EQ(batches.status().code(), absl::StatusCode::kNotFound);
  ExpectRefused(batches, path, "'y'");
}

TEST_F(LoadBatchesFrom, OtherShapesAreRefused) {
  for (const std::vector<Index>& shape : std::vector<std::vector<Index>>{
           {}, {6}, {2, 2, 2, 2}, {0, 4}, {4, 0}, {0, 2, 2}, {2, 0, 2}, {2, 2, 0}}) {
    const std::string path = Safetensors({{"x", shape}});
    ExpectRefused(LoadBatches(path), path,
                  absl::StrCat("tensor 'x' must have the shape (n, d) or (k, n, d), none of them "
                               "0, got ",
                               ShapeString(shape)));
  }
}

TEST_F(LoadBatchesFrom, AnNpyFileGivesTheSame) {
  folder_.Write("x.npy", NpyZeros("(4, 3, 2)", 24));
  const absl::StatusOr<Batches> batches = LoadBatches(folder_ / "x.npy");
  ASSERT_TRUE(batches.ok()) << batches.status();
  EXPECT_EQ(batches->count(), 4);
  EXPECT_EQ(batches->length(0), 3);
  EXPECT_EQ(batches->features(), 2);
}

TEST_F(LoadBatchesFrom, AnNpyFileHasNoTensorNames) {
  folder_.Write("x.npy", NpyZeros("(3, 2)", 6));
  ExpectRefused(LoadBatches(folder_ / "x.npy", "x"), folder_ / "x.npy",
                "tensor must not be named, as a .npy file has one without a name, got 'x'");
}

TEST_F(LoadBatchesFrom, AnNpyVectorIsRefused) {
  folder_.Write("x.npy", NpyZeros("(6,)", 6));
  ExpectRefused(LoadBatches(folder_ / "x.npy"), folder_ / "x.npy",
                "array must have the shape (n, d) or (k, n, d), none of them 0, got [6]");
}

TEST_F(LoadBatchesFrom, OtherKindsOfFileAreRefused) {
  ExpectRefused(LoadBatches("x.pt"), "'x.pt'", "file name must end in .safetensors or .npy");
}

TEST_F(LoadBatchesFrom, MissingFilesAreRefused) {
  for (const char* name : {"none.safetensors", "none.npy"}) {
    const absl::StatusOr<Batches> batches = LoadBatches(folder_ / name);
    EXPECT_EQ(batches.status().code(), absl::StatusCode::kNotFound);
    ExpectRefused(batches, folder_ / name, "");
  }
}

}  // namespace
}  // namespace attnprune
