#include "core/model/sampler.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/kernels/log_sum_exp.h"
#include "core/model/pass_estimate.h"
#include "core/model/token_draw.h"

namespace attnprune {
namespace {

// Of keys and values of the rows that are written side by side.
constexpr int64_t kCacheBytes = int64_t{2} << 30;
constexpr double kFloatBytes = sizeof(float);

// Draws that share a seed with these are of labels (head_backward.h), by other numbers.
constexpr uint64_t kStream = 0x5a3d1e5b0a7c4f21;

int64_t CacheBytesOfAToken(const ModelOptions& model) {
  return model.layer_count() * 2 * model.kv_heads * model.head_dim *
         static_cast<int64_t>(sizeof(float));
}

// A row on its way.
struct SampledRow {
  Index number, length;
  std::vector<int64_t>* ids;  // so far

  bool Has(Index position) const { return std::ssize(*ids) > position; }
};

// Each row's part of the real rows.
SampledSoFar Beginnings(const Tokens& real, const SampleOptions& options) {
  std::vector<Index> firsts;
  Index first = 0;
  for (const Index length : real.lengths) firsts.push_back(std::exchange(first, first + length));
  SampledSoFar rows;
  for (Index i = 0; i < options.rows; ++i) {
    const auto from = static_cast<size_t>(i % std::ssize(real.lengths));
    const auto begin = real.ids.begin() + firsts[from];
    rows.emplace_back(begin, begin + std::min(options.prefix, real.lengths[from]));
  }
  return rows;
}

// Whether the rows may be those of an interrupted call.
absl::Status CheckSoFar(const SampledSoFar& rows, const SampledSoFar& beginnings,
                        absl::Span<const Index> lengths, Index vocab) {
  if (rows.size() != beginnings.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(beginnings.size(), " rows are to be written, got ", rows.size()));
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::vector<int64_t>& begun = beginnings[i];
    const bool in_vocabulary = std::all_of(rows[i].begin(), rows[i].end(),
                                           [vocab](int64_t id) { return id >= 0 && id < vocab; });
    if (rows[i].size() < begun.size() || std::ssize(rows[i]) > lengths[i] || !in_vocabulary ||
        !std::equal(begun.begin(), begun.end(), rows[i].begin())) {
      return absl::InvalidArgumentError(absl::StrCat("row ", i, " is not one to go on from"));
    }
  }
  return absl::OkStatus();
}

class Sampling {
 public:
  Sampling(Forward& forward, CachedForward cached, const SampleOptions& options,
           const std::function<bool(double share)>& goes_on)
      : forward_(forward), cached_(std::move(cached)), options_(options), goes_on_(goes_on) {}

  // rows: longest first.
  absl::Status Run(absl::Span<SampledRow> rows) {
    for (const SampledRow& row : rows) {
      all_ += static_cast<double>(row.length);
      done_ += static_cast<double>(row.ids->size());
    }
    const int64_t of_token = CacheBytesOfAToken(forward_.options());
    for (size_t first = 0; first < rows.size();) {
      size_t end = first;
      int64_t bytes = 0;
      do {
        bytes += rows[end++].length * of_token;
      } while (end < rows.size() && bytes + rows[end].length * of_token <= kCacheBytes);
      ATTNPRUNE_RETURN_IF_ERROR(WriteTogether(rows.subspan(first, end - first)));
      first = end;
    }
    return absl::OkStatus();
  }

 private:
  absl::Status WriteTogether(absl::Span<SampledRow> rows) {
    const bool written = std::all_of(rows.begin(), rows.end(),
                                     [](const SampledRow& row) { return row.Has(row.length - 1); });
    if (written) return absl::OkStatus();
    std::vector<Index> lengths;
    for (const SampledRow& row : rows) lengths.push_back(row.length);
    cached_.Begin(lengths);
    for (Index t = 0; t + 1 < lengths[0]; ++t) {
      const auto ended = std::find_if(rows.begin(), rows.end(),
                                      [t](const SampledRow& row) { return row.length <= t + 1; });
      ATTNPRUNE_RETURN_IF_ERROR(
          Write(rows.subspan(0, static_cast<size_t>(ended - rows.begin())), t));
      if (goes_on_ && !goes_on_(done_ / all_)) return absl::CancelledError("interrupted");
    }
    return absl::OkStatus();
  }

  // The token behind position t, of rows that do not have it yet.
  absl::Status Write(absl::Span<SampledRow> rows, Index t) {
    std::vector<int64_t> ids;
    for (const SampledRow& row : rows) ids.push_back((*row.ids)[static_cast<size_t>(t)]);
    ATTNPRUNE_RETURN_IF_ERROR(cached_.Advance(ids));
    const auto lacking = std::count_if(rows.begin(), rows.end(),
                                       [t](const SampledRow& row) { return !row.Has(t + 1); });
    if (lacking == 0) return absl::OkStatus();
    ATTNPRUNE_RETURN_IF_ERROR(cached_.Logits(logits_));
    forward_.pool().ParallelFor(std::ssize(rows), [&](Index i) {
      const SampledRow& row = rows[static_cast<size_t>(i)];
      if (row.Has(t + 1)) return;
      row.ids->push_back(
          Draw(logits_.row(i), UniformOfDraw(options_.seed ^ kStream, row.number, t)));
    });
    done_ += static_cast<double>(lacking);
    return absl::OkStatus();
  }

  int64_t Draw(float* logits, double uniform) const {
    const Index count = logits_.cols();
    const auto cold = static_cast<float>(1 / options_.temperature);
    for (Index j = 0; j < count; ++j) logits[j] *= cold;
    LogSumExp all;
    all.Add(logits, count);
    ToProbabilities(all.value(), logits, count);
    TokenDraw draw{.uniform = uniform};
    draw.Pass(logits, count, 0, /*last_piece=*/true);
    return draw.token;
  }

  Forward& forward_;
  CachedForward cached_;
  const SampleOptions& options_;
  const std::function<bool(double share)>& goes_on_;
  Matrix logits_;
  double all_ = 0, done_ = 0;  // tokens
};

}  // namespace

absl::StatusOr<Tokens> SampleRows(Forward& forward, const Tokens& real,
                                  const SampleOptions& options,
                                  const std::function<bool(double share)>& goes_on,
                                  SampledSoFar* so_far) {
  ATTNPRUNE_RETURN_IF_ERROR(forward.CheckPredicts());
  ATTNPRUNE_RETURN_IF_ERROR(forward.Check(real));
  Tokens written;
  written.lengths = SampledLengths(real.lengths, options.rows);
  SampledSoFar own;
  SampledSoFar& ids = so_far != nullptr ? *so_far : own;
  SampledSoFar beginnings = Beginnings(real, options);
  if (ids.empty()) {
    ids = std::move(beginnings);
  } else {
    ATTNPRUNE_RETURN_IF_ERROR(
        CheckSoFar(ids, beginnings, written.lengths, forward.options().vocab));
  }
  const SampleEstimate estimate =
      EstimateSampling(forward.options(), real.lengths, options.rows, options.memory_budget);
  ATTNPRUNE_ASSIGN_OR_RETURN(CachedForward cached, CachedForward::Open(forward, estimate.held));
  std::vector<SampledRow> rows;
  for (size_t i = 0; i < ids.size(); ++i) {
    rows.push_back({static_cast<Index>(i), written.lengths[i], &ids[i]});
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.length > b.length; });
  ATTNPRUNE_RETURN_IF_ERROR(
      Sampling(forward, std::move(cached), options, goes_on).Run(absl::MakeSpan(rows)));
  for (const std::vector<int64_t>& row : ids) {
    written.ids.insert(written.ids.end(), row.begin(), row.end());
  }
  return written;
}

std::vector<Index> SampledLengths(absl::Span<const Index> real, Index rows) {
  std::vector<Index> lengths;
  for (Index i = 0; i < rows; ++i) {
    lengths.push_back(real[static_cast<size_t>(i % std::ssize(real))]);
  }
  return lengths;
}

SampleEstimate EstimateSampling(const ModelOptions& model, absl::Span<const Index> real, Index rows,
                                int64_t memory_budget) {
  const std::vector<Index> lengths = SampledLengths(real, rows);
  const Index layers = model.layer_count();
  const Index most = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  const double tokens = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  const double head = static_cast<double>(model.embedding_width) * static_cast<double>(model.vocab);
  const PassEstimate pass = EstimatePass(model, Compute::kFloat32, lengths, layers, 1);
  // 2 an entry and a token: the maps' entries.
  const double entries = tokens == 0 ? 0 : pass.map_operations / (2 * tokens);
  const double of_token = static_cast<double>(CacheBytesOfAToken(model));
  SampleEstimate estimate;
  estimate.operations = pass.map_operations + pass.attention_operations + 2 * tokens * head;
  const double kept = std::min(tokens * of_token,
                               std::max<double>(kCacheBytes, of_token * static_cast<double>(most)));
  const double logits = kFloatBytes * static_cast<double>(rows) * static_cast<double>(model.vocab);
  estimate.bytes = pass.bytes + kept + logits;
  const double all = kFloatBytes * (entries + head);
  const bool fits =
      memory_budget <= 0 || estimate.bytes + all <= static_cast<double>(memory_budget);
  estimate.held = fits ? HeldWeights::kAll : HeldWeights::kOneLayer;
  if (fits) estimate.bytes += all;
  return estimate;
}

}  // namespace attnprune
