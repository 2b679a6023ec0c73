// The attention kernels on whole heads, with memory of their own: as a test wants to call them.
#ifndef ATTNPRUNE_TESTS_SUPPORT_WHOLE_ATTENTION_H_
#define ATTNPRUNE_TESTS_SUPPORT_WHOLE_ATTENTION_H_

#include <algorithm>
#include <vector>

#include "core/kernels/attention.h"

namespace attnprune::testing {

// Packed storage to a dense n x n matrix.
inline Matrix Unpack(const AttentionLayout& layout, const float* packed) {
  Matrix out(layout.tokens(), layout.tokens());
  for (const AttentionBlock& block : layout.blocks()) {
    for (Index i = 0; i < block.rows; ++i) {
      std::copy_n(packed + block.offset + i * block.stride, block.keys,
                  out.row(block.row + i) + block.key);
    }
  }
  return out;
}

// AttentionHead's; the bias padded to whole vectors, or empty for none.
struct LogitOptions {
  std::vector<float> key_bias;
  float softcap = 0;
};

// One head's keys, packed, and scratch for it.
class WholeAttention {
 public:
  WholeAttention(const AttentionLayout& layout, MatrixView b, float scale,
                 const AttentionKernels& kernels = AttentionKernelsOfThisCpu(),
                 const LogitOptions& options = {})
      : layout_(layout),
        kernels_(kernels),
        scale_(scale),
        options_(options),
        room_(1, KeyPanelFloats(b.rows(), b.cols(), PanelUse::kGradients)),
        scratch_(1, AttentionScratchSize(layout, b.cols())) {
    float* straight = room_.data() + PanelFloats(b.rows(), b.cols());
    kernels.pack_keys(b.data(), b.stride(), b.rows(), b.cols(), room_.data(), straight);
    keys_ = {b.rows(), b.cols(), room_.data(), straight};
  }

  // f of queries `a` into packed storage, or only what rebuilds it.
  double Dense(MatrixView a, float* packed) {
    return kernels_.dense(Head(a), scratch_.data(), packed, nullptr, nullptr);
  }
  DenseRows DenseToRebuild(MatrixView a) {
    row_max_ = Matrix(1, a.rows());
    row_inverse_sum_ = Matrix(1, a.rows());
    kernels_.dense(Head(a), scratch_.data(), nullptr, row_max_.data(), row_inverse_sum_.data());
    return {nullptr,          a.data(),        a.stride(),
            keys_.transposed, row_max_.data(), row_inverse_sum_.data()};
  }
  double Difference(MatrixView a, const DenseRows& dense) {
    return kernels_.difference(Head(a), dense, scratch_.data(), nullptr);
  }
  double SmallestLog(MatrixView a, const DenseRows& dense) {
    double smallest = 0;
    kernels_.difference(Head(a), dense, scratch_.data(), &smallest);
    return smallest;
  }
  double LossGradient(MatrixView a, const DenseRows& dense, MutableMatrixView d_a,
                      MutableMatrixView d_b) {
    return kernels_.loss_gradient(Head(a), dense, scratch_.data(), d_a.data(), d_a.stride(),
                                  d_b.rows() == 0 ? nullptr : d_b.data(), d_b.stride());
  }

 private:
  AttentionHead Head(MatrixView a) const {
    AttentionHead head = HeadOf(layout_, a, keys_, scale_);
    if (!options_.key_bias.empty()) head.key_bias = options_.key_bias.data();
    head.softcap = options_.softcap;
    return head;
  }

  const AttentionLayout& layout_;
  const AttentionKernels& kernels_;
  const float scale_;
  const LogitOptions options_;
  Matrix room_, scratch_, row_max_, row_inverse_sum_;
  KeyPanels keys_;
};

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SUPPORT_WHOLE_ATTENTION_H_
