#include "tests/reference/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/support/paths.h"

namespace attnprune::reference {
namespace {

template <typename T>
T OrThrow(absl::StatusOr<T> value) {
  if (!value.ok()) {
    ADD_FAILURE() << value.status();
    throw std::runtime_error(value.status().ToString());
  }
  return *std::move(value);
}

SafetensorsFile Open(const std::string& name) {
  return OrThrow(SafetensorsFile::Open(absl::StrCat(TestData("/golden/"), name, ".safetensors")));
}

AttentionMask ParseMask(const GoldenFile& golden) {
  const std::string kind = golden.Text("kind");
  if (kind == "causal" || kind == "full") return OrThrow(ParseAttentionMask(kind));
  return OrThrow(ParseAttentionMask(absl::StrCat(kind, ":", golden.Text("block"))));
}

}  // namespace

GoldenFile::GoldenFile(const std::string& name) : file_(Open(name)) {}

const TensorInfo& GoldenFile::Find(const std::string& tensor) {
  read_.insert(tensor);
  return *OrThrow(file_.Find(tensor));
}

std::vector<double> GoldenFile::Values(const std::string& tensor) {
  return OrThrow(ToDoubles(Find(tensor)));
}

Dense GoldenFile::ReadMatrix(const std::string& tensor) {
  const std::vector<Index> shape = Find(tensor).shape;
  const std::vector<double> values = Values(tensor);
  return Eigen::Map<const Dense>(values.data(), shape.at(0), shape.size() > 1 ? shape[1] : 1);
}

Vector GoldenFile::ReadVector(const std::string& tensor) { return ReadMatrix(tensor).col(0); }

double GoldenFile::ReadScalar(const std::string& tensor) {
  const std::vector<double> values = Values(tensor);
  EXPECT_EQ(values.size(), 1u) << tensor;
  return values.at(0);
}

std::vector<Dense> GoldenFile::ReadStack(const std::string& tensor) {
  std::vector<Index> shape = Find(tensor).shape;
  if (shape.size() == 2) shape.insert(shape.begin(), 1);
  const std::vector<double> values = Values(tensor);
  std::vector<Dense> stack;
  for (Index i = 0; i < shape.at(0); ++i) {
    const double* first = values.data() + i * shape[1] * shape[2];
    stack.push_back(Eigen::Map<const Dense>(first, shape[1], shape[2]));
  }
  return stack;
}

std::vector<std::string> GoldenFile::Unread() const {
  std::vector<std::string> unread;
  for (const std::string& name : file_.names()) {
    if (!read_.contains(name)) unread.push_back(name);
  }
  return unread;
}

std::string GoldenFile::Text(const std::string& key) const { return file_.metadata().at(key); }

double GoldenFile::Number(const std::string& key) const {
  double number = 0;
  if (!absl::SimpleAtod(Text(key), &number)) {
    throw std::runtime_error(absl::StrCat(key, " is not a number: ", Text(key)));
  }
  return number;
}

Index GoldenFile::batches() const {
  Index count = 0;
  while (file_.Contains(absl::StrCat("x.", count))) ++count;
  return count;
}

AttentionProblem GoldenFile::ReadProblem() {
  AttentionProblem problem = Text("problem") == "fused" ? ReadFused() : ReadProjections();
  for (Index j = 0; j < batches(); ++j) {
    problem.batches.push_back(ReadMatrix(absl::StrCat("x.", j)));
  }
  return problem;
}

AttentionProblem GoldenFile::ReadFused() {
  AttentionProblem problem;
  problem.weights = {ReadMatrix("w")};
  problem.attention = ParseMask(*this);
  problem.scale = Number("scale");
  return problem;
}

AttentionProblem GoldenFile::ReadProjections() {
  AttentionProblem problem;
  problem.weights = {ReadMatrix("w_q"), ReadMatrix("w_k")};
  problem.heads = static_cast<Index>(Number("heads"));
  problem.kv_heads = static_cast<Index>(Number("kv_heads"));
  EXPECT_EQ(Text("scale"), "1/sqrt(head_dim)");
  EXPECT_EQ(static_cast<Index>(Number("head_dim")), problem.head_dim());
  if (Text("rope_theta") != "None") {
    problem.rope =
        Rope{Number("rope_theta"), Text("rope_layout") == "interleaved" ? RopeLayout::kInterleaved
                                                                        : RopeLayout::kRotateHalf};
  }
  if (Contains("b_q")) problem.b_q = ReadVector("b_q");
  if (Contains("b_k")) problem.b_k = ReadVector("b_k");
  return problem;
}

std::vector<Dense> GoldenFile::ReadMasks() {
  if (Text("problem") == "fused") return {ReadMatrix("m")};
  return {ReadMatrix("m_q"), ReadMatrix("m_k")};
}

DescentOptions GoldenFile::Descent() const {
  DescentOptions options;
  options.lambda = Number("lam");
  options.eta = Number("eta");
  options.momentum = Number("momentum");
  options.steps = static_cast<int>(Number("steps"));
  return options;
}

std::vector<std::string> FusedGoldenFiles() {
  return {"fused_block", "fused_causal",    "fused_causal_scaled",
          "fused_full",  "fused_one_token", "fused_window"};
}

std::vector<std::string> ProjectionGoldenFiles() {
  return {"projection_gqa_rope", "projection_mha", "projection_mqa_interleaved"};
}

std::vector<std::string> BaselineGoldenFiles() { return {"baselines", "baselines_blocks_dead"}; }

std::vector<std::string> AttentionGoldenFiles() {
  std::vector<std::string> files = FusedGoldenFiles();
  for (const std::string& file : ProjectionGoldenFiles()) files.push_back(file);
  return files;
}

std::vector<std::string> GoldenFilesOnDisk() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(TestData("/golden"))) {
    files.push_back(entry.path().stem().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace attnprune::reference
