#include "core/methods/admm.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "core/kernels/finite.h"
#include "core/methods/linear_map.h"

namespace attnprune {
namespace {

constexpr double kFirstR = 0.1, kLeastR = 1e-6;
constexpr int kStepsBetweenLooks = 3, kStepsBeforeQuiet = 30;
constexpr double kMuch = 0.1, kSome = 0.005, kQuiet = 0.0003;  // changes over weights kept
constexpr Index kRowsPerShard = 64;

Index CountChanged(const BitMask& a, const BitMask& b) {
  Index changed = 0;
  for (size_t i = 0; i < a.bytes().size(); ++i) {
    changed += std::popcount(static_cast<uint8_t>(a.bytes()[i] ^ b.bytes()[i]));
  }
  return changed;
}

}  // namespace

void ForRowShards(Index rows, ThreadPool& pool, absl::FunctionRef<void(ShardRows, size_t)> work) {
  pool.ParallelFor(static_cast<Index>(RowShards(rows)), [&](Index i) {
    const Index first = i * kRowsPerShard;
    work({first, std::min(kRowsPerShard, rows - first)}, static_cast<size_t>(i));
  });
}

size_t RowShards(Index rows) {
  return static_cast<size_t>((rows + kRowsPerShard - 1) / kRowsPerShard);
}

AdmmState::AdmmState(Index outputs, Index inputs, const Sparsity& sparsity)
    : u(outputs, inputs),
      v(outputs, inputs),
      d(outputs, inputs),
      r(kFirstR),
      settled(sparsity.PrunedOf(outputs * inputs) == 0) {}

void AdmmState::Begin(const Matrix& from, const Sparsity& sparsity, ThreadPool& pool) {
  std::copy(from.flat().begin(), from.flat().end(), u.flat().begin());
  last_look = Binarize(Magnitudes(u), /*inputs_are_rows=*/false, sparsity, pool);
  last_look.ApplyInto(u, d);
  std::fill(v.flat().begin(), v.flat().end(), 0.0f);
}

void AdmmState::Project(const BitMask& support, ThreadPool& pool) {
  const auto rate = static_cast<float>(r);
  ForRowShards(u.rows(), pool, [&](ShardRows rows, size_t) {
    std::vector<uint8_t> kept(static_cast<size_t>(u.cols()));
    for (Index i = rows.first; i < rows.first + rows.count; ++i) {
      support.UnpackRow(i, absl::MakeSpan(kept));
      const float* const of_u = u.row(i);
      float *const of_v = v.row(i), *const of_d = d.row(i);
      for (Index j = 0; j < u.cols(); ++j) {
        of_d[j] = kept[static_cast<size_t>(j)] != 0 ? of_u[j] + of_v[j] / rate : 0.0f;
        of_v[j] += rate * (of_u[j] - of_d[j]);
      }
    }
  });
}

bool AdmmState::Look(const BitMask& support, int step) {
  if (step % kStepsBetweenLooks != 0) return false;
  const Index changed = CountChanged(support, last_look);
  const Index kept = std::max<Index>(1, support.size() - support.CountPruned());
  const double share = static_cast<double>(changed) / static_cast<double>(kept);
  last_look = support;
  if (share > kSome) {
    moving = true;
    r *= share > kMuch ? 1.3 : 1.2;
    return false;
  }
  if (moving) {
    settled = changed == 0 || (step >= kStepsBeforeQuiet && share < kQuiet);
    r *= 1.1;
    return false;
  }
  r /= 5;
  settled = r < kLeastR;
  return changed > 0;
}

bool AdmmState::finite() const {
  return AllFinite(u.flat()) && AllFinite(v.flat()) && AllFinite(d.flat());
}

}  // namespace attnprune
