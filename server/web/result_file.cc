#include "server/web/result_file.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/safetensors.h"
#include "core/tensor/dtype.h"

namespace attnprune::web {
namespace {

// "" is no index, nor is "+1".
absl::StatusOr<int> ParseIndex(absl::string_view name, int results, absl::string_view index) {
  int number = -1;
  const bool digits = std::all_of(index.begin(), index.end(), absl::ascii_isdigit);
  if (digits && absl::SimpleAtoi(index, &number) && number < results) return number;
  return absl::NotFoundError(absl::StrCat(
      name, " has ", results, " results, counted from 0, and none of index \"", index, "\""));
}

void Add(const std::string& name, const v1::TensorRef& tensor, std::vector<NamedTensor>* to) {
  if (!tensor.sha256().empty()) to->push_back({name, tensor});
}

absl::StatusOr<std::vector<NamedTensor>> AtLeastOne(std::vector<NamedTensor> tensors,
                                                    absl::string_view name,
                                                    absl::string_view index) {
  if (!tensors.empty()) return tensors;
  return absl::FailedPreconditionError(
      absl::StrCat("result ", index, " of ", name, " has no tensors"));
}

// One tensor's bytes in a file, and where they begin.
struct Part {
  int64_t begin;
  std::unique_ptr<BlobReader> bytes;
};

// A bit-packed mask, a byte an entry.
class MaskEntries final : public BlobReader {
 public:
  MaskEntries(std::unique_ptr<BlobReader> bits, int64_t entries)
      : bits_(std::move(bits)), entries_(entries) {}
  int64_t size() const override { return entries_; }
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    const int64_t count = static_cast<int64_t>(out.size()), first = offset / 8;
    std::string packed(static_cast<size_t>((offset + count + 7) / 8 - first), '\0');
    ATTNPRUNE_RETURN_IF_ERROR(bits_->ReadAt(first, absl::MakeSpan(packed)));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t bit = offset + i - first * 8;
      const auto byte = static_cast<uint8_t>(packed[static_cast<size_t>(bit / 8)]);
      out[static_cast<size_t>(i)] = static_cast<char>(byte >> (bit % 8) & 1);
    }
    return absl::OkStatus();
  }
  void Await(int64_t begin, int64_t end, Until until,
             const std::function<void()>& then) const override {
    bits_->Await(begin / 8, (end + 7) / 8, until, then);
  }

 private:
  const std::unique_ptr<BlobReader> bits_;
  const int64_t entries_;
};

// A header and parts behind it, in the order of their beginnings, without gaps.
class JoinedFile final : public BlobReader {
 public:
  JoinedFile(std::string head, std::vector<Part> parts)
      : head_(std::move(head)), parts_(std::move(parts)) {}

  int64_t size() const override {
    if (parts_.empty()) return static_cast<int64_t>(head_.size());
    return parts_.back().begin + parts_.back().bytes->size();
  }
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    const auto head_size = static_cast<int64_t>(head_.size());
    if (offset < head_size) {
      const size_t take = std::min(out.size(), static_cast<size_t>(head_size - offset));
      head_.copy(out.data(), take, static_cast<size_t>(offset));
      offset += static_cast<int64_t>(take);
      out.remove_prefix(take);
    }
    for (const Part& part : parts_) {
      if (out.empty()) return absl::OkStatus();
      const int64_t left = part.begin + part.bytes->size() - offset;
      if (left <= 0) continue;
      const size_t take = std::min(out.size(), static_cast<size_t>(left));
      ATTNPRUNE_RETURN_IF_ERROR(part.bytes->ReadAt(offset - part.begin, out.subspan(0, take)));
      offset += static_cast<int64_t>(take);
      out.remove_prefix(take);
    }
    return out.empty() ? absl::OkStatus() : absl::DataLossError("read behind the file's end");
  }
  // The last of the parts that the bytes are in calls `then`; this call is one more.
  void Await(int64_t begin, int64_t end, Until until,
             const std::function<void()>& then) const override {
    const auto left = std::make_shared<std::atomic<int>>(1);
    const std::function<void()> one = [left, then] {
      if (--*left == 0) then();
    };
    for (const Part& part : parts_) {
      const int64_t part_end = std::min(end, part.begin + part.bytes->size());
      const int64_t part_begin = std::max(begin, part.begin);
      if (part_begin >= part_end) continue;
      ++*left;
      part.bytes->Await(part_begin - part.begin, part_end - part.begin, until, one);
    }
    one();
  }

 private:
  const std::string head_;
  const std::vector<Part> parts_;
};

// What a file says of a tensor; its bytes are a size only.
absl::StatusOr<TensorInfo> InfoOf(const NamedTensor& named) {
  const v1::TensorRef& tensor = named.tensor;
  TensorInfo info;
  info.name = named.name;
  info.shape.assign(tensor.shape().begin(), tensor.shape().end());
  const absl::optional<DType> dtype =
      tensor.dtype() == v1::BITMASK ? DType::kBool : ParseDType(v1::DType_Name(tensor.dtype()));
  if (!dtype.has_value()) return absl::InternalError("a stored tensor has an unknown dtype");
  info.dtype = *dtype;
  ATTNPRUNE_ASSIGN_OR_RETURN(const Index bytes, ByteSize(info.dtype, info.shape));
  info.bytes = absl::MakeConstSpan(static_cast<const char*>(nullptr), static_cast<size_t>(bytes));
  return info;
}

absl::StatusOr<std::unique_ptr<BlobReader>> OpenAs(const TensorInfo& info, const NamedTensor& named,
                                                   const OpenTensor& open) {
  ATTNPRUNE_ASSIGN_OR_RETURN(std::unique_ptr<BlobReader> stored, open(named.tensor.sha256()));
  const auto entries = static_cast<int64_t>(info.bytes.size());
  const bool mask = named.tensor.dtype() == v1::BITMASK;
  if (stored->size() != (mask ? (entries + 7) / 8 : entries)) {
    return absl::DataLossError(
        absl::StrCat("tensor ", named.tensor.sha256(), " has not the size of its shape"));
  }
  if (!mask) return stored;
  return std::unique_ptr<BlobReader>(std::make_unique<MaskEntries>(std::move(stored), entries));
}

absl::StatusOr<std::string> NpyType(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return "|b1";
    case DType::kF16:
      return "<f2";
    case DType::kF32:
      return "<f4";
    case DType::kF64:
      return "<f8";
    case DType::kI32:
      return "<i4";
    default:
      return MustError("format", "be safetensors: .npy has no such element type", ToString(dtype));
  }
}

// Version 1.0, padded so that the elements begin at a multiple of 64.
absl::StatusOr<std::string> NpyHead(const TensorInfo& info) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string type, NpyType(info.dtype));
  const std::string shape =
      absl::StrCat("(", absl::StrJoin(info.shape, ", "), info.shape.size() == 1 ? ",)" : ")");
  std::string dict =
      absl::StrCat("{'descr': '", type, "', 'fortran_order': False, 'shape': ", shape, ", }");
  constexpr size_t kAlign = 64, kBefore = 10;
  dict.append(kAlign - 1 - (kBefore + dict.size()) % kAlign, ' ');
  dict += '\n';
  std::string head("\x93NUMPY\x01\x00", 8);
  head += static_cast<char>(dict.size() & 0xff);
  head += static_cast<char>(dict.size() >> 8);
  return head + dict;
}

}  // namespace

absl::StatusOr<const v1::MethodResult*> FindResult(const v1::Job& job, absl::string_view index) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int number, ParseIndex(job.name(), job.results_size(), index));
  const v1::MethodResult& result = job.results(number);
  if (!result.has_failure()) return &result;
  return absl::FailedPreconditionError(absl::StrCat(result.method(), " failed and has no mask"));
}

absl::StatusOr<std::vector<NamedTensor>> TensorsOf(const v1::Job& job, absl::string_view index) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const v1::MethodResult* const result, FindResult(job, index));
  std::vector<NamedTensor> tensors;
  for (const v1::MatrixResult& matrix : result->matrices()) {
    Add(matrix.name(), matrix.weights(), &tensors);
    Add(matrix.name() + ".mask", matrix.mask(), &tensors);
  }
  return AtLeastOne(std::move(tensors), job.name(), index);
}

absl::StatusOr<std::vector<NamedTensor>> TensorsOf(const v1::Run& run, absl::string_view index) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int number, ParseIndex(run.name(), run.results_size(), index));
  const v1::RunResult& result = run.results(number);
  std::vector<NamedTensor> tensors;
  for (const v1::PrunedTensor& pruned : result.tensors()) {
    Add(pruned.name(), pruned.weights(), &tensors);
    Add(pruned.name() + ".mask", pruned.mask(), &tensors);
  }
  for (const v1::Trained* const trained : {&result.reconstructed(), &result.distilled()}) {
    for (const v1::TensorRef& weights : trained->weights()) {
      Add(weights.name(), weights, &tensors);
    }
  }
  if (result.has_sampled_rows()) Add("sampled_rows", result.sampled_rows(), &tensors);
  return AtLeastOne(std::move(tensors), run.name(), index);
}

absl::StatusOr<std::unique_ptr<BlobReader>> FileOf(const std::vector<NamedTensor>& tensors,
                                                   FileFormat format, const OpenTensor& open) {
  std::vector<TensorInfo> infos;
  for (const NamedTensor& tensor : tensors) {
    ATTNPRUNE_ASSIGN_OR_RETURN(TensorInfo info, InfoOf(tensor));
    infos.push_back(std::move(info));
  }
  SafetensorsLayout layout;
  if (format == FileFormat::kNpy) {
    ATTNPRUNE_ASSIGN_OR_RETURN(layout.head, NpyHead(infos.front()));
    layout.begins[infos.front().name] = static_cast<int64_t>(layout.head.size());
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(layout, LayoutOfSafetensors(infos));
  }
  std::vector<Part> parts;
  for (size_t i = 0; i < tensors.size(); ++i) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::unique_ptr<BlobReader> bytes,
                               OpenAs(infos[i], tensors[i], open));
    parts.push_back({layout.begins.at(infos[i].name), std::move(bytes)});
  }
  std::sort(parts.begin(), parts.end(),
            [](const Part& a, const Part& b) { return a.begin < b.begin; });
  return std::unique_ptr<BlobReader>(
      std::make_unique<JoinedFile>(std::move(layout.head), std::move(parts)));
}

}  // namespace attnprune::web
