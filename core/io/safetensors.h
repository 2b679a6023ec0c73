// Reader and writer of the safetensors format:
//
//   8 bytes   N, little-endian unsigned, at most kMaxSafetensorsHeader
//   N bytes   a JSON object, first byte '{', padded at its end with spaces
//   the rest  the tensors' bytes
//
//   {"__metadata__": {"key": "text"}, "name": {"dtype": "F32", "shape": [2, 3],
//    "data_offsets": [0, 24]}}
//
// Offsets count from the end of the header. The reader refuses whatever the format does not allow:
// see ParseSafetensors.
#ifndef ATTNPRUNE_CORE_IO_SAFETENSORS_H_
#define ATTNPRUNE_CORE_IO_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/io/mapped_file.h"
#include "core/io/tensor_source.h"

namespace attnprune {

inline constexpr size_t kMaxSafetensorsHeader = 100'000'000;

using SafetensorsMetadata = std::map<std::string, std::string, std::less<>>;

// The tensors of a safetensors image in memory, which must outlive it.
class ParsedSafetensors : public TensorSource {
 public:
  absl::StatusOr<const TensorInfo*> Find(absl::string_view name) const override;
  bool Contains(absl::string_view name) const override;
  std::vector<std::string> names() const override;
  const std::vector<TensorInfo>& tensors() const {
    return tensors_;
  }  // in the order of their bytes
  const SafetensorsMetadata& metadata() const { return metadata_; }

 private:
  friend absl::StatusOr<ParsedSafetensors> ParseSafetensors(absl::Span<const char> bytes,
                                                            absl::string_view label);
  std::string label_;
  std::vector<TensorInfo> tensors_;
  SafetensorsMetadata metadata_;
  std::map<std::string, size_t, std::less<>> index_;  // name to place in tensors_
};

// NOT_FOUND for a Git LFS pointer (known_content.h).
// INVALID_ARGUMENT, naming label, tensor, rule and value, unless: the header is as above and valid
// UTF-8 JSON without duplicate keys; every entry has exactly the keys dtype, shape, data_offsets;
// the dtype is known; shape and offsets are non-negative integers; elements x size = end - begin
// without overflow; and the tensors cover the data section exactly, without gap or overlap. Tensors
// of no elements and scalars are fine. Copies no tensor bytes.
absl::StatusOr<ParsedSafetensors> ParseSafetensors(absl::Span<const char> bytes,
                                                   absl::string_view label);

// A safetensors file mapped into memory. Move-only; what Find gave survives a move.
class SafetensorsFile : public TensorSource {
 public:
  // ParseSafetensors' and MappedFile's errors.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  SafetensorsFile(SafetensorsFile&&) = default;
  SafetensorsFile& operator=(SafetensorsFile&&) = default;

  absl::StatusOr<const TensorInfo*> Find(absl::string_view name) const override {
    return parsed_.Find(name);
  }
  bool Contains(absl::string_view name) const override { return parsed_.Contains(name); }
  std::vector<std::string> names() const override { return parsed_.names(); }
  const std::vector<TensorInfo>& tensors() const { return parsed_.tensors(); }
  const SafetensorsMetadata& metadata() const { return parsed_.metadata(); }

 private:
  SafetensorsFile(MappedFile file, ParsedSafetensors parsed)
      : file_(std::move(file)), parsed_(std::move(parsed)) {}

  MappedFile file_;
  ParsedSafetensors parsed_;
};

// The image of a file. The order of the bytes is fixed by the tensors alone: larger elements first
// (so that every tensor is aligned), then by name. INVALID_ARGUMENT on duplicate names, names or
// metadata that are not UTF-8, a tensor called "__metadata__", and shapes that do not fit their
// bytes. For programs of the library: the product itself writes by the two below.
absl::StatusOr<std::string> SerializeSafetensors(absl::Span<const TensorInfo> tensors,
                                                 const SafetensorsMetadata& metadata = {});
// The same, behind what `out` holds and in the room that it has, if that is enough: fresh memory
// costs more than the copy. `out` is untouched on an error.
absl::Status AppendSafetensors(absl::Span<const TensorInfo> tensors,
                               const SafetensorsMetadata& metadata, std::string* out);

// A file of tensors that are written one by one, without being in memory together.
struct SafetensorsLayout {
  std::string head;                                    // the file's first bytes
  std::map<std::string, int64_t, std::less<>> begins;  // of each tensor's bytes in the file
  int64_t size = 0;                                    // of the file
};
// Of tensors whose bytes' sizes are right and whose bytes are not read. Errors of
// SerializeSafetensors.
absl::StatusOr<SafetensorsLayout> LayoutOfSafetensors(absl::Span<const TensorInfo> tensors,
                                                      const SafetensorsMetadata& metadata = {});

// The same, to a file, through WriteFileAtomically (see atomic_file.h for what a crash can lose).
absl::Status WriteSafetensors(const std::string& path, absl::Span<const TensorInfo> tensors,
                              const SafetensorsMetadata& metadata = {});

// The same of tensors whose bytes' sizes are right and whose bytes are not read: `bytes_of` is
// asked for those of each when they are written, and may give up what it returned before.
// INVALID_ARGUMENT if they have another size; its own errors.
absl::Status WriteSafetensors(
    const std::string& path, absl::Span<const TensorInfo> tensors,
    const SafetensorsMetadata& metadata,
    absl::FunctionRef<absl::StatusOr<absl::Span<const char>>(const TensorInfo& tensor)> bytes_of);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_SAFETENSORS_H_
