#include "core/io/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/known_content.h"
#include "core/io/messages.h"
#include "core/io/strict_json.h"

namespace attnprune {
namespace {

using nlohmann::json;

constexpr size_t kPrefix = 8;    // bytes of the header's length
constexpr int kHeaderDepth = 3;  // header, entry, shape
constexpr absl::string_view kMetadataKey = "__metadata__";
constexpr absl::string_view kDTypeKey = "dtype", kShapeKey = "shape", kOffsetsKey = "data_offsets";

struct Image {
  absl::string_view header;
  absl::Span<const char> data;
};

struct Entry {
  TensorInfo tensor;
  Index begin = 0, end = 0;
};

absl::StatusOr<Image> SplitImage(absl::Span<const char> bytes) {
  if (bytes.size() < kPrefix) {
    return Refuse("a safetensors file has at least 8 bytes, got ", bytes.size());
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kPrefix);
  if (length > kMaxSafetensorsHeader) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckKnownContent({bytes.data(), bytes.size()}));
    return Refuse("header length must be at most ", kMaxSafetensorsHeader, ", got ", length);
  }
  if (length > bytes.size() - kPrefix) {
    return Refuse("header length must fit in the file, got ", length, " with ",
                  bytes.size() - kPrefix, " bytes left");
  }
  return Image{{bytes.data() + kPrefix, length}, bytes.subspan(kPrefix + length)};
}

absl::StatusOr<json> ParseHeader(absl::string_view header) {
  if (header.empty() || header.front() != '{') {
    return Refuse("header must begin with '{', got ", Quoted(header.substr(0, 1)));
  }
  while (header.back() == ' ') header.remove_suffix(1);
  if (header.back() != '}') {
    return Refuse("header must end with '}' and then spaces only, got ",
                  Quoted(header.substr(header.size() - 1)));
  }
  absl::StatusOr<json> object = ParseStrictJson(header, kHeaderDepth);
  if (!object.ok()) return Annotate(object.status(), "header");
  return object;
}

absl::StatusOr<SafetensorsMetadata> ParseMetadata(const json& object) {
  if (!object.is_object()) return Refuse("must be an object, got ", object.type_name());
  SafetensorsMetadata metadata;
  for (const auto& [key, value] : object.items()) {
    if (!value.is_string()) {
      return Refuse("value of ", Quoted(key), " must be a string, got ", value.type_name());
    }
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

absl::Status CheckKeys(const json& entry) {
  if (!entry.is_object()) return Refuse("entry must be an object, got ", entry.type_name());
  for (const absl::string_view key : {kDTypeKey, kShapeKey, kOffsetsKey}) {
    if (!entry.contains(std::string(key))) return Refuse("key ", Quoted(key), " is missing");
  }
  for (const auto& [key, value] : entry.items()) {
    if (key != kDTypeKey && key != kShapeKey && key != kOffsetsKey) {
      return Refuse("key ", Quoted(key), " is unknown");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<DType> ParseDTypeValue(const json& value) {
  if (!value.is_string()) return Refuse("dtype must be a string, got ", value.type_name());
  const std::string& name = value.get_ref<const std::string&>();
  const absl::optional<DType> dtype = ParseDType(name);
  if (!dtype.has_value()) return Refuse("dtype ", Quoted(name), " is unknown");
  return *dtype;
}

// A JSON array of integers in [0, 2^63).
absl::StatusOr<std::vector<Index>> ParseIndices(const json& value, absl::string_view what) {
  if (!value.is_array()) return Refuse(what, " must be an array, got ", value.type_name());
  std::vector<Index> indices;
  for (const json& item : value) {
    if (!item.is_number_unsigned() ||
        item.get<uint64_t>() > uint64_t{std::numeric_limits<Index>::max()}) {
      return Refuse(what, " must hold integers in [0, 2^63), got ", Quoted(item.dump()));
    }
    indices.push_back(item.get<Index>());
  }
  return indices;
}

absl::Status CheckOffsets(const Entry& entry, Index size, size_t data_size) {
  if (entry.begin > entry.end) {
    return Refuse("data_offsets must have begin <= end, got [", entry.begin, ", ", entry.end, "]");
  }
  if (static_cast<size_t>(entry.end) > data_size) {
    return Refuse("data_offsets must end within the ", data_size, " bytes of data, got [",
                  entry.begin, ", ", entry.end, "]");
  }
  if (entry.end - entry.begin != size) {
    return Refuse("shape ", ShapeString(entry.tensor.shape), " of ", ToString(entry.tensor.dtype),
                  " takes ", size, " bytes, but data_offsets hold ", entry.end - entry.begin);
  }
  return absl::OkStatus();
}

absl::StatusOr<Entry> ParseEntry(const json& object, absl::Span<const char> data) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckKeys(object));
  Entry entry;
  ATTNPRUNE_ASSIGN_OR_RETURN(entry.tensor.dtype, ParseDTypeValue(object["dtype"]));
  ATTNPRUNE_ASSIGN_OR_RETURN(entry.tensor.shape, ParseIndices(object["shape"], kShapeKey));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<Index> offsets,
                             ParseIndices(object["data_offsets"], kOffsetsKey));
  if (offsets.size() != 2) {
    return Refuse("data_offsets must be [begin, end], got ", ShapeString(offsets));
  }
  entry.begin = offsets[0];
  entry.end = offsets[1];
  ATTNPRUNE_ASSIGN_OR_RETURN(const Index size, ByteSize(entry.tensor.dtype, entry.tensor.shape));
  ATTNPRUNE_RETURN_IF_ERROR(CheckOffsets(entry, size, data.size()));
  entry.tensor.bytes =
      data.subspan(static_cast<size_t>(entry.begin), static_cast<size_t>(entry.end - entry.begin));
  return entry;
}

absl::StatusOr<std::vector<Entry>> ParseEntries(const json& header, absl::Span<const char> data,
                                                absl::string_view label) {
  std::vector<Entry> entries;
  for (const auto& [name, object] : header.items()) {
    if (name == kMetadataKey) continue;
    absl::StatusOr<Entry> entry = ParseEntry(object, data);
    if (!entry.ok()) return Annotate(entry.status(), absl::StrCat("tensor ", Quoted(name)));
    entry->tensor.name = name;
    entry->tensor.file = std::string(label);
    entries.push_back(*std::move(entry));
  }
  return entries;
}

// Entries in the order of their bytes: each must begin where the one before it ended.
absl::Status CheckCoverage(const std::vector<Entry>& entries, size_t data_size) {
  Index covered = 0;
  absl::string_view before = "";
  for (const Entry& entry : entries) {
    const std::string tensor = absl::StrCat("tensor ", Quoted(entry.tensor.name));
    if (entry.begin < covered) {
      return Refuse(tensor, ": overlaps tensor ", Quoted(before), ": begins at ", entry.begin,
                    ", before ", covered);
    }
    if (entry.begin > covered) {
      return Refuse(tensor, ": leaves a gap: begins at ", entry.begin,
                    ", but no tensor holds bytes ", covered, " to ", entry.begin);
    }
    covered = entry.end;
    before = entry.tensor.name;
  }
  if (static_cast<size_t>(covered) == data_size) return absl::OkStatus();
  return Refuse("trailing bytes: the tensors hold ", covered, " bytes of data, the file has ",
                data_size);
}

absl::StatusOr<std::vector<Entry>> ParseTensors(const json& header, absl::Span<const char> data,
                                                absl::string_view label) {
  ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<Entry> entries, ParseEntries(header, data, label));
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.tensor.name) < std::tie(b.begin, b.end, b.tensor.name);
  });
  ATTNPRUNE_RETURN_IF_ERROR(CheckCoverage(entries, data.size()));
  return entries;
}

struct Contents {
  std::vector<Entry> entries;
  SafetensorsMetadata metadata;
};

absl::StatusOr<Contents> ParseContents(absl::Span<const char> bytes, absl::string_view label) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Image image, SplitImage(bytes));
  ATTNPRUNE_ASSIGN_OR_RETURN(const json header, ParseHeader(image.header));
  Contents contents;
  if (const auto found = header.find(std::string(kMetadataKey)); found != header.end()) {
    absl::StatusOr<SafetensorsMetadata> metadata = ParseMetadata(*found);
    if (!metadata.ok()) return Annotate(metadata.status(), kMetadataKey);
    contents.metadata = *std::move(metadata);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(contents.entries, ParseTensors(header, image.data, label));
  return contents;
}

}  // namespace

absl::StatusOr<ParsedSafetensors> ParseSafetensors(absl::Span<const char> bytes,
                                                   absl::string_view label) {
  absl::StatusOr<Contents> contents = ParseContents(bytes, label);
  if (!contents.ok()) return Annotate(contents.status(), label);
  ParsedSafetensors parsed;
  parsed.label_ = std::string(label);
  parsed.metadata_ = std::move(contents->metadata);
  for (Entry& entry : contents->entries) {
    parsed.index_[entry.tensor.name] = parsed.tensors_.size();
    parsed.tensors_.push_back(std::move(entry.tensor));
  }
  return parsed;
}

absl::StatusOr<const TensorInfo*> ParsedSafetensors::Find(absl::string_view name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) return NoSuchTensor(label_, name, names());
  return &tensors_[found->second];
}

bool ParsedSafetensors::Contains(absl::string_view name) const {
  return index_.find(name) != index_.end();
}

std::vector<std::string> ParsedSafetensors::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : index_) names.push_back(name);
  return names;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  absl::StatusOr<ParsedSafetensors> parsed = ParseSafetensors(file.bytes(), path);
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(file.bytes()));
  ATTNPRUNE_RETURN_IF_ERROR(parsed.status());
  return SafetensorsFile(std::move(file), *std::move(parsed));
}

}  // namespace attnprune
