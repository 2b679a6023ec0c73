#include "core/model/tokens.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/checkpoint.h"
#include "core/io/messages.h"
#include "core/io/npy.h"

namespace attnprune {
namespace {

// Whole numbers and where they are from.
struct Numbers {
  std::string place;  // "FILE" or "FILE: tensor 'NAME'"
  std::vector<Index> shape;
  std::vector<int64_t> values;
};

absl::StatusOr<Numbers> NumbersOf(const TensorInfo& tensor) {
  Numbers out{absl::StrCat(tensor.file, ": tensor ", Quoted(tensor.name)), tensor.shape, {}};
  absl::StatusOr<std::vector<int64_t>> values = ToIntegers(tensor.dtype, tensor.bytes);
  if (!values.ok()) return Annotate(values.status(), out.place);
  out.values = *std::move(values);
  return out;
}

absl::Status CheckNotBool(DType ids, absl::string_view place) {
  if (ids != DType::kBool) return absl::OkStatus();
  return Refuse(place, " must be token ids, got BOOL, as a mask has");
}

absl::Status CheckRows(Numbers& numbers) {
  if (numbers.shape.size() == 1) numbers.shape.insert(numbers.shape.begin(), 1);
  const bool fits = numbers.shape.size() == 2 && numbers.shape[0] >= 1 && numbers.shape[1] >= 2;
  if (fits) return absl::OkStatus();
  return Refuse(numbers.place,
                " must have the shape (k, n), k rows of n tokens, at least 1 and 2, got ",
                ShapeString(numbers.shape));
}

// Where the tokens of one row begin and how many there are.
absl::StatusOr<MaskedRow> TokensOf(const int64_t* mask, Index n, absl::string_view place,
                                   Index row) {
  const auto wrong = [&](absl::string_view rule, const auto&... got) {
    return Refuse(place, " must ", rule, ", got ", got..., " in row ", row);
  };
  Index first = 0, count = 0;
  for (Index t = 0; t < n; ++t) {
    if (mask[t] != 0 && mask[t] != 1) return wrong("hold 0 and 1 only", mask[t]);
    if (mask[t] == 0) continue;
    if (count == 0) first = t;
    if (count > 0 && mask[t - 1] == 0) {
      return wrong("have consecutive ones in each row", "zeros before place ", t);
    }
    ++count;
  }
  if (count < 2) return wrong("have at least two ones in each row", count);
  return MaskedRow{first, count};
}

absl::StatusOr<std::vector<MaskedRow>> RowsOfMask(const Numbers& mask,
                                                  const std::vector<Index>& shape) {
  if (mask.shape != shape) {
    return Refuse(mask.place, " must have the shape of the tokens, ", ShapeString(shape), ", got ",
                  ShapeString(mask.shape));
  }
  std::vector<MaskedRow> rows;
  for (Index row = 0; row < shape[0]; ++row) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const MaskedRow range, TokensOf(mask.values.data() + row * shape[1],
                                                               shape[1], mask.place, row));
    rows.push_back(range);
  }
  return rows;
}

absl::StatusOr<TokenRows> MaskedRows(const Numbers& ids, const Numbers& mask) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<MaskedRow> rows, RowsOfMask(mask, ids.shape));
  TokenRows out;
  out.width = ids.shape[1];
  out.padded = true;
  for (size_t row = 0; row < rows.size(); ++row) {
    const auto begin = ids.values.begin() + static_cast<Index>(row) * out.width + rows[row].first;
    out.tokens.ids.insert(out.tokens.ids.end(), begin, begin + rows[row].count);
    out.tokens.lengths.push_back(rows[row].count);
    out.first.push_back(rows[row].first);
  }
  return out;
}

absl::StatusOr<TokenRows> ReadNpyTokens(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(NpyIntegers array, ReadNpyIntegers(path));
  ATTNPRUNE_RETURN_IF_ERROR(CheckNotBool(array.dtype, path));
  Numbers ids{path, std::move(array.shape), std::move(array.values)};
  ATTNPRUNE_RETURN_IF_ERROR(CheckRows(ids));
  return RowsOfTokens(std::move(ids.values), ids.shape[1]);
}

absl::StatusOr<TokenRows> ReadSafetensorsTokens(const std::string& path, std::string name) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  if (name.empty()) {
    const bool other = !file.Contains("tokens") && file.Contains("input_ids");
    name = other ? "input_ids" : "tokens";
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, file.Find(name));
  ATTNPRUNE_ASSIGN_OR_RETURN(Numbers ids, NumbersOf(*tensor));
  ATTNPRUNE_RETURN_IF_ERROR(CheckNotBool(tensor->dtype, ids.place));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRows(ids));
  if (!file.Contains("attention_mask")) return RowsOfTokens(std::move(ids.values), ids.shape[1]);
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* stored, file.Find("attention_mask"));
  ATTNPRUNE_ASSIGN_OR_RETURN(Numbers mask, NumbersOf(*stored));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRows(mask));
  return MaskedRows(ids, mask);
}

}  // namespace

TokenRows RowsOfTokens(std::vector<int64_t> ids, Index n) {
  const auto rows = static_cast<size_t>(static_cast<Index>(ids.size()) / n);
  TokenRows out;
  out.tokens.ids = std::move(ids);
  out.tokens.lengths.assign(rows, n);
  out.first.assign(rows, 0);
  out.width = n;
  return out;
}

Index SequencesBefore(absl::Span<const Index> lengths, Index rows) {
  Index count = 0;
  for (Index before = 0; before < rows; ++count) {
    if (count == std::ssize(lengths)) return -1;
    before += lengths[static_cast<size_t>(count)];
    if (before > rows) return -1;
  }
  return count;
}

absl::StatusOr<std::vector<MaskedRow>> ReadAttentionMask(const TensorInfo& mask,
                                                         const std::vector<Index>& shape) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Numbers numbers, NumbersOf(mask));
  return RowsOfMask(numbers, shape);
}

absl::StatusOr<TokenRows> ReadTokenFile(const std::string& path) {
  if (absl::EndsWith(path, ".npy")) return ReadNpyTokens(path);
  constexpr absl::string_view kEnding = ".safetensors";
  if (absl::EndsWith(path, kEnding)) return ReadSafetensorsTokens(path, "");
  const size_t at = path.find(".safetensors:");
  if (at == std::string::npos) {
    return Refuse(Quoted(path), ": a file of tokens must end in .npy or .safetensors");
  }
  const size_t colon = at + kEnding.size();
  return ReadSafetensorsTokens(path.substr(0, colon), path.substr(colon + 1));
}

}  // namespace attnprune
