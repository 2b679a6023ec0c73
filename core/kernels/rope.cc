#include "core/kernels/rope.h"

#include <algorithm>
#include <cmath>

namespace attnprune {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Calls scaled(i, inv_i) for every pair.
template <typename Scaled>
std::vector<double> Frequencies(double theta, Index dim, Scaled scaled) {
  std::vector<double> frequencies;
  for (Index i = 0; i < dim / 2; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(dim);
    frequencies.push_back(scaled(i, std::pow(theta, exponent)));
  }
  return frequencies;
}

// keep of `whole` and the rest of `scaled`.
double Blend(double keep, double whole, double scaled) {
  const double share = std::clamp(keep, 0.0, 1.0);
  return share * whole + (1 - share) * scaled;
}

double DynamicTheta(const Rope& rope, Index dim, Index length) {
  const auto longest = static_cast<double>(rope.max_positions), d = static_cast<double>(dim);
  const double reached = std::max(static_cast<double>(length), longest) / longest;
  return rope.theta * std::pow(rope.factor * reached - (rope.factor - 1), d / (d - 2));
}

double Llama3Frequency(const Rope& rope, double inverse) {
  const double turns = static_cast<double>(rope.original_max_positions) * inverse / (2 * kPi);
  const double keep =
      (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return Blend(keep, inverse, inverse / rope.factor);
}

// The pair, as a real number, that makes `turns` turns over the original context.
double YarnPair(const Rope& rope, Index dim, double turns) {
  return static_cast<double>(dim) *
         std::log(static_cast<double>(rope.original_max_positions) / (turns * 2 * kPi)) /
         (2 * std::log(rope.theta));
}

std::vector<double> YarnFrequencies(const Rope& rope, Index dim) {
  double low = YarnPair(rope, dim, rope.beta_fast), high = YarnPair(rope, dim, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  return Frequencies(rope.theta, dim, [&](Index i, double inverse) {
    const double scaled = (static_cast<double>(i) - low) / (high - low);
    return Blend(scaled, inverse / rope.factor, inverse);
  });
}

}  // namespace

std::vector<double> RopeFrequencies(const Rope& rope, Index head_dim, Index length) {
  const Index dim = TurnedFeatures(rope, head_dim);
  const auto same = [](Index, double inverse) { return inverse; };
  switch (rope.scaling) {
    case RopeScaling::kLinear:
      return Frequencies(rope.theta, dim,
                         [&](Index, double inverse) { return inverse / rope.factor; });
    case RopeScaling::kDynamic:
      if (length <= rope.max_positions) break;  // as unscaled, to the bit
      return Frequencies(DynamicTheta(rope, dim, length), dim, same);
    case RopeScaling::kLlama3:
      return Frequencies(rope.theta, dim,
                         [&](Index, double inverse) { return Llama3Frequency(rope, inverse); });
    case RopeScaling::kYarn:
      return YarnFrequencies(rope, dim);
    case RopeScaling::kLongrope: {
      const std::vector<double>& factors =
          length > rope.original_max_positions ? rope.long_factor : rope.short_factor;
      return Frequencies(rope.theta, dim, [&](Index i, double inverse) {
        return inverse / factors[static_cast<size_t>(i)];
      });
    }
    case RopeScaling::kDefault:
      break;
  }
  return Frequencies(rope.theta, dim, same);
}

RopeTable MakeRopeTable(absl::Span<const double> frequencies, double attention_factor,
                        Index positions, bool interleaved) {
  const auto half = static_cast<Index>(frequencies.size());
  RopeTable table{Matrix(positions, half), Matrix(positions, half), interleaved};
  for (Index i = 0; i < half; ++i) {
    for (Index t = 0; t < positions; ++t) {
      const double angle = static_cast<double>(t) * frequencies[static_cast<size_t>(i)];
      table.cos(t, i) = static_cast<float>(attention_factor * std::cos(angle));
      table.sin(t, i) = static_cast<float>(attention_factor * std::sin(angle));
    }
  }
  return table;
}

RopeTables::RopeTables(const Rope& rope, Index head_dim, absl::Span<const Index> lengths) {
  std::map<Index, std::vector<double>> frequencies;  // of each length, in ascending order
  for (const Index length : lengths) {
    if (frequencies.contains(length)) continue;
    frequencies[length] = RopeFrequencies(rope, head_dim, length);
  }
  std::map<std::vector<double>, Index> longest;  // that has these frequencies
  for (const auto& [length, of_length] : frequencies) longest[of_length] = length;
  for (const auto& [of_length, positions] : longest) {
    by_frequencies_[of_length] = MakeRopeTable(of_length, rope.attention_factor, positions,
                                               rope.layout == RopeLayout::kInterleaved);
  }
  for (const auto& [length, of_length] : frequencies) {
    by_length_[length] = &by_frequencies_.at(of_length);
  }
}

namespace {

// Pairs (i, i + half) of one head.
void RotateHalves(const float* __restrict cos, const float* __restrict sin, Index half, float sign,
                  float* __restrict first, float* __restrict second) {
  for (Index i = 0; i < half; ++i) {
    const float a = first[i], b = second[i], s = sign * sin[i];
    first[i] = a * cos[i] - b * s;
    second[i] = a * s + b * cos[i];
  }
}

// Pairs (2 i, 2 i + 1) of one head.
void RotateNeighbours(const float* cos, const float* sin, Index half, float sign, float* head) {
  for (Index i = 0; i < half; ++i) {
    const float a = head[2 * i], b = head[2 * i + 1], s = sign * sin[i];
    head[2 * i] = a * cos[i] - b * s;
    head[2 * i + 1] = a * s + b * cos[i];
  }
}

}  // namespace

void Rotate(const RopeTable& table, Index head_dim, const Index* positions, float sign,
            MutableMatrixView heads) {
  const Index half = table.cos.cols();
  for (Index t = 0; t < heads.rows(); ++t) {
    const float *cos = table.cos.row(positions[t]), *sin = table.sin.row(positions[t]);
    float* const end = heads.row(t) + heads.cols();
    for (float* head = heads.row(t); head != end; head += head_dim) {
      if (table.interleaved) {
        RotateNeighbours(cos, sin, half, sign, head);
      } else {
        RotateHalves(cos, sin, half, sign, head, head + half);
      }
    }
  }
}

}  // namespace attnprune
