// The golden files: problems with float64 answers.
#ifndef ATTNPRUNE_TESTS_REFERENCE_GOLDEN_H_
#define ATTNPRUNE_TESTS_REFERENCE_GOLDEN_H_

#include <set>
#include <string>
#include <vector>

#include "core/io/safetensors.h"
#include "tests/reference/algorithm1.h"
#include "tests/reference/attention_reference.h"

namespace attnprune::reference {

// One file of tests/data/golden. Remembers which tensors were read, so that a test can say that it
// left none out. A missing file, tensor or key fails the test and throws.
class GoldenFile {
 public:
  explicit GoldenFile(const std::string& name);  // "fused_causal"

  bool Contains(const std::string& tensor) const { return file_.Contains(tensor); }
  Dense ReadMatrix(const std::string& tensor);              // rank 2, or rank 1 as one column
  Vector ReadVector(const std::string& tensor);             // rank 1
  double ReadScalar(const std::string& tensor);             // one element
  std::vector<Dense> ReadStack(const std::string& tensor);  // rank 3, or rank 2 as a stack of one
  std::vector<std::string> Unread() const;

  std::string Text(const std::string& key) const;  // metadata
  double Number(const std::string& key) const;

  // Weights, biases, batches and options.
  AttentionProblem ReadProblem();
  std::vector<Dense> ReadMasks();
  Index batches() const;
  DescentOptions Descent() const;

 private:
  const TensorInfo& Find(const std::string& tensor);
  std::vector<double> Values(const std::string& tensor);
  AttentionProblem ReadFused();
  AttentionProblem ReadProjections();

  SafetensorsFile file_;
  std::set<std::string> read_;
};

// Every golden file, by name, of the two problems; the rest are the linear baselines'.
std::vector<std::string> FusedGoldenFiles();
std::vector<std::string> ProjectionGoldenFiles();
std::vector<std::string> BaselineGoldenFiles();
std::vector<std::string> AttentionGoldenFiles();  // the first two
std::vector<std::string> GoldenFilesOnDisk();     // sorted

}  // namespace attnprune::reference

#endif  // ATTNPRUNE_TESTS_REFERENCE_GOLDEN_H_
