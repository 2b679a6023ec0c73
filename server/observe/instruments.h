// What metrics are counted with: atomics only. Adding takes no lock and never waits; reading while
// others add may see some of what they add in one call and the rest later.
#ifndef ATTNPRUNE_SERVER_OBSERVE_INSTRUMENTS_H_
#define ATTNPRUNE_SERVER_OBSERVE_INSTRUMENTS_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace attnprune {

// Only grows. Thread-safe.
class Counter {
 public:
  void Add(int64_t amount = 1) { value_.fetch_add(amount, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// Counts of values by size, and their sum. Thread-safe.
class Histogram {
 public:
  // bounds: upper bounds of the buckets but the last, ascending; they are in the bucket.
  explicit Histogram(const std::vector<double>& bounds)
      : bounds_(bounds), counts_(new Counter[bounds.size() + 1]) {}

  void Add(double value) {
    size_t bucket = 0;
    while (bucket < bounds_.size() && value > bounds_[bucket]) ++bucket;
    counts_[bucket].Add();
    double sum = sum_.load(std::memory_order_relaxed);
    while (!sum_.compare_exchange_weak(sum, sum + value, std::memory_order_relaxed)) {
    }
  }

  const std::vector<double>& bounds() const { return bounds_; }
  int64_t count(size_t bucket) const {
    return counts_[bucket].value();
  }  // bounds().size(): the last
  double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  const std::vector<double> bounds_;
  const std::unique_ptr<Counter[]> counts_;
  std::atomic<double> sum_{0};
};

// Counters by two labels whose values are fixed. Thread-safe.
class CounterTable {
 public:
  CounterTable(size_t rows, size_t columns)
      : columns_(columns), counters_(new Counter[rows * columns]) {}
  Counter& at(size_t row, size_t column) { return counters_[row * columns_ + column]; }
  const Counter& at(size_t row, size_t column) const { return counters_[row * columns_ + column]; }

 private:
  const size_t columns_;
  const std::unique_ptr<Counter[]> counters_;
};

// The values that a label can take, fixed when the server starts, by number:

// "other", which stands for all that are not there, and then `values`.
inline std::vector<std::string> WithOther(const std::vector<std::string>& values) {
  std::vector<std::string> all = {"other"};
  all.insert(all.end(), values.begin(), values.end());
  return all;
}

// The number of `value`; 0, which is "other", if it is not there.
template <typename Values>
size_t IndexIn(const Values& values, absl::string_view value) {
  const auto found = std::find(values.begin(), values.end(), value);
  return found == values.end() ? 0 : static_cast<size_t>(found - values.begin());
}

// Bytes of tensors that came and went, through both ports.
struct TransferMetrics {
  Counter uploaded, downloaded;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBSERVE_INSTRUMENTS_H_
