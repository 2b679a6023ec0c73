#include <algorithm>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"
#include "core/io/messages.h"
#include "core/io/safetensors.h"
#include "core/io/strict_json.h"

namespace attnprune {
namespace {

constexpr size_t kAlignment = 8;

// The pieces of the file in their order; tensors' bytes are the caller's own.
struct Plan {
  std::string head;  // the header with its length before it
  std::vector<const TensorInfo*> order;
};

absl::StatusOr<std::string> JsonString(absl::string_view text) {
  if (IsUtf8(text)) return nlohmann::json(std::string(text)).dump();
  return Refuse("text must be UTF-8, got ", Quoted(text));
}

absl::Status CheckTensor(const TensorInfo& tensor) {
  if (tensor.name == "__metadata__") {
    return Refuse("the name is reserved for metadata");
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const Index size, ByteSize(tensor.dtype, tensor.shape));
  if (static_cast<size_t>(size) == tensor.bytes.size()) return absl::OkStatus();
  return Refuse("shape ", ShapeString(tensor.shape), " of ", ToString(tensor.dtype), " takes ",
                size, " bytes, got ", tensor.bytes.size());
}

absl::StatusOr<std::vector<const TensorInfo*>> OrderedTensors(
    absl::Span<const TensorInfo> tensors) {
  std::vector<const TensorInfo*> order;
  for (const TensorInfo& tensor : tensors) {
    ATTNPRUNE_RETURN_IF_ERROR(
        Annotate(CheckTensor(tensor), absl::StrCat("tensor ", Quoted(tensor.name))));
    order.push_back(&tensor);
  }
  const auto by_name = [](const auto* a, const auto* b) { return a->name < b->name; };
  std::sort(order.begin(), order.end(), by_name);
  const auto same = [](const auto* a, const auto* b) { return a->name == b->name; };
  if (const auto twice = std::adjacent_find(order.begin(), order.end(), same);
      twice != order.end()) {
    return Refuse("tensor ", Quoted((*twice)->name), ": two tensors have this name");
  }
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return BitsOf(a->dtype) > BitsOf(b->dtype);
  });
  return order;
}

absl::StatusOr<std::string> MetadataEntry(const SafetensorsMetadata& metadata) {
  std::vector<std::string> pairs;
  for (const auto& [key, value] : metadata) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::string key_text, JsonString(key));
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::string value_text, JsonString(value));
    pairs.push_back(absl::StrCat(key_text, ":", value_text));
  }
  return absl::StrCat("\"__metadata__\":{", absl::StrJoin(pairs, ","), "}");
}

absl::StatusOr<std::string> TensorEntry(const TensorInfo& tensor, size_t begin) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string name, JsonString(tensor.name));
  return absl::StrCat(name, ":{\"dtype\":\"", ToString(tensor.dtype), "\",\"shape\":[",
                      absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[", begin, ",",
                      begin + tensor.bytes.size(), "]}");
}

absl::StatusOr<std::string> HeaderText(absl::Span<const TensorInfo* const> order,
                                       const SafetensorsMetadata& metadata) {
  std::vector<std::string> entries;
  if (!metadata.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::string entry, MetadataEntry(metadata));
    entries.push_back(std::move(entry));
  }
  size_t offset = 0;
  for (const TensorInfo* tensor : order) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::string entry, TensorEntry(*tensor, offset));
    entries.push_back(std::move(entry));
    offset += tensor->bytes.size();
  }
  std::string header = absl::StrCat("{", absl::StrJoin(entries, ","), "}");
  header.resize((header.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  if (header.size() <= kMaxSafetensorsHeader) return header;
  return Refuse("header length must be at most ", kMaxSafetensorsHeader, ", got ", header.size());
}

absl::StatusOr<Plan> MakePlan(absl::Span<const TensorInfo> tensors,
                              const SafetensorsMetadata& metadata) {
  Plan plan;
  ATTNPRUNE_ASSIGN_OR_RETURN(plan.order, OrderedTensors(tensors));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string header, HeaderText(plan.order, metadata));
  const uint64_t length = header.size();
  plan.head.resize(sizeof(length));
  std::memcpy(plan.head.data(), &length, sizeof(length));
  plan.head += header;
  return plan;
}

}  // namespace

absl::StatusOr<std::string> SerializeSafetensors(absl::Span<const TensorInfo> tensors,
                                                 const SafetensorsMetadata& metadata) {
  std::string image;
  ATTNPRUNE_RETURN_IF_ERROR(AppendSafetensors(tensors, metadata, &image));
  return image;
}

absl::Status AppendSafetensors(absl::Span<const TensorInfo> tensors,
                               const SafetensorsMetadata& metadata, std::string* out) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Plan plan, MakePlan(tensors, metadata));
  // Room for what callers put behind it and for the longer numbers of the next image in its place,
  // since moving an image costs more than writing it.
  constexpr size_t kSpare = 4096;
  size_t size = out->size() + plan.head.size();
  for (const TensorInfo* tensor : plan.order) size += tensor->bytes.size();
  if (size + kSpare / 2 > out->capacity()) out->reserve(size + kSpare);
  out->append(plan.head);
  for (const TensorInfo* tensor : plan.order) {
    out->append(tensor->bytes.data(), tensor->bytes.size());
  }
  return absl::OkStatus();
}

absl::StatusOr<SafetensorsLayout> LayoutOfSafetensors(absl::Span<const TensorInfo> tensors,
                                                      const SafetensorsMetadata& metadata) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Plan plan, MakePlan(tensors, metadata));
  SafetensorsLayout layout;
  layout.head = std::move(plan.head);
  layout.size = static_cast<int64_t>(layout.head.size());
  for (const TensorInfo* tensor : plan.order) {
    layout.begins[tensor->name] = layout.size;
    layout.size += static_cast<int64_t>(tensor->bytes.size());
  }
  return layout;
}

absl::Status WriteSafetensors(const std::string& path, absl::Span<const TensorInfo> tensors,
                              const SafetensorsMetadata& metadata) {
  return WriteSafetensors(path, tensors, metadata,
                          [](const TensorInfo& tensor) -> absl::StatusOr<absl::Span<const char>> {
                            return tensor.bytes;
                          });
}

absl::Status WriteSafetensors(
    const std::string& path, absl::Span<const TensorInfo> tensors,
    const SafetensorsMetadata& metadata,
    absl::FunctionRef<absl::StatusOr<absl::Span<const char>>(const TensorInfo& tensor)> bytes_of) {
  const absl::StatusOr<Plan> plan = MakePlan(tensors, metadata);
  if (!plan.ok()) return Annotate(plan.status(), path);
  const auto chunk = [&](size_t index) -> absl::StatusOr<absl::Span<const char>> {
    if (index == 0) return plan->head;
    const TensorInfo& tensor = *plan->order[index - 1];
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::Span<const char> bytes, bytes_of(tensor));
    if (bytes.size() == tensor.bytes.size()) return bytes;
    return Refuse(path, ": tensor ", Quoted(tensor.name), " must have ", tensor.bytes.size(),
                  " bytes, got ", bytes.size());
  };
  return WriteFileAtomically(path, plan->order.size() + 1, chunk);
}

}  // namespace attnprune
