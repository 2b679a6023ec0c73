// How many bytes of dense attention matrices may be kept at once.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_ATTENTION_BUDGET_H_
#define ATTNPRUNE_CORE_OBJECTIVE_ATTENTION_BUDGET_H_

#include <atomic>
#include <cstdint>

namespace attnprune {

// The objectives of one run share one. Objectives that do not fit keep each row's softmax
// normalisation only and make f again at every use: slower, the same bits. Thread-safe.
class AttentionBudget {
 public:
  // bytes: at least 0.
  explicit AttentionBudget(int64_t bytes) : left_(bytes) {}
  AttentionBudget(const AttentionBudget&) = delete;
  AttentionBudget& operator=(const AttentionBudget&) = delete;

  // Takes `bytes`, to be given back, or nothing if fewer are left.
  bool Take(int64_t bytes) {
    int64_t left = left_.load();
    do {
      if (bytes > left) return false;
    } while (!left_.compare_exchange_weak(left, left - bytes));
    return true;
  }
  void GiveBack(int64_t bytes) { left_.fetch_add(bytes); }

 private:
  std::atomic<int64_t> left_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_ATTENTION_BUDGET_H_
