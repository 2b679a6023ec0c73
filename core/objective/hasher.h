// Digests of what a method's result depends on.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_HASHER_H_
#define ATTNPRUNE_CORE_OBJECTIVE_HASHER_H_

#include <xxhash.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Raised where kernels or the way that products are cut change results in their last bits: a run is
// not to go on from a state of another version with bits that neither gives.
inline constexpr int64_t kNumericsVersion = 2;

// XXH3 of values one behind the other. Not thread-safe.
class Hasher {
 public:
  Hasher() : state_(XXH3_createState(), XXH3_freeState) { XXH3_64bits_reset(state_.get()); }
  explicit Hasher(const XXH3_state_t& start) : Hasher() { XXH3_copyState(state_.get(), &start); }

  void Bytes(const void* data, size_t size) { XXH3_64bits_update(state_.get(), data, size); }
  void Integer(int64_t value) { Bytes(&value, sizeof(value)); }
  void Real(double value) { Bytes(&value, sizeof(value)); }
  void Text(absl::string_view text) {
    Integer(static_cast<int64_t>(text.size()));
    Bytes(text.data(), text.size());
  }
  void Floats(const std::vector<float>& values) {
    Integer(static_cast<int64_t>(values.size()));
    Bytes(values.data(), values.size() * sizeof(float));
  }
  void Reals(const std::vector<double>& values) {
    Integer(static_cast<int64_t>(values.size()));
    Bytes(values.data(), values.size() * sizeof(double));
  }
  void Rows(MatrixView matrix) {
    Integer(matrix.rows());
    Integer(matrix.cols());
    for (Index i = 0; i < matrix.rows(); ++i) {
      Bytes(matrix.row(i), static_cast<size_t>(matrix.cols()) * sizeof(float));
    }
  }
  uint64_t Digest() const { return XXH3_64bits_digest(state_.get()); }

  std::shared_ptr<const XXH3_state_t> state() const { return state_; }

 private:
  std::shared_ptr<XXH3_state_t> state_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_HASHER_H_
