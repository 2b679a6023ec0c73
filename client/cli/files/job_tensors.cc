#include "client/cli/files/job_tensors.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/messages.h"
#include "core/io/npy.h"
#include "core/model/capture.h"
#include "core/model/tokens.h"

namespace attnprune::cli {
namespace {

constexpr size_t kMostNamesShown = 20;
constexpr char kMask[] = "attention_mask";

// The layer that a tensor's name says, such as 3 of "model.layers.3.self_attn.input"; -1: none.
int64_t LayerOfName(const std::string& name) {
  constexpr absl::string_view kLayers[] = {"layers.", "layer.", "h."};
  for (const absl::string_view before : kLayers) {
    const size_t at = name.find(std::string(before));
    if (at == std::string::npos || (at > 0 && name[at - 1] != '.')) continue;
    const absl::string_view rest = absl::string_view(name).substr(at + before.size());
    int64_t layer = -1;
    if (absl::SimpleAtoi(rest.substr(0, rest.find('.')), &layer)) return layer;
  }
  return -1;
}

// The tensor to take of a file when none is named.
absl::StatusOr<std::string> OnlyBatches(const Checkpoint& file, const std::string& path,
                                        int64_t layer) {
  const std::string usual_name = layer < 0 ? "" : AttentionInputName(layer);
  if (!usual_name.empty() && file.Contains(usual_name)) return usual_name;
  std::vector<std::string> floats;
  for (const std::string& name : file.names()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, file.Find(name));
    if (IsConvertible(tensor->dtype)) floats.push_back(name);
  }
  if (floats.size() == 1) {
    const int64_t said = LayerOfName(floats.front());
    if (layer < 0 || said < 0 || said == layer) return floats.front();
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": the tensor must be of layer ", layer, ", got ", Quoted(floats.front()),
        ", the only one there; to use it all the same, name it (FILE:NAME)"));
  }
  const bool more = floats.size() > kMostNamesShown;
  if (more) floats.resize(kMostNamesShown);
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": name the tensor (FILE:NAME) unless exactly one is of a float type; there is: ",
      floats.empty() ? "none" : absl::StrJoin(floats, ", "), more ? ", ..." : ""));
}

// What a folder of `attnprune capture` is opened by; other paths are themselves.
std::string CapturedFile(const std::string& path) {
  if (!IsFolder(path)) return path;
  const std::string one = absl::StrCat(path, "/calibration.safetensors");
  return LookUp(one).has_value() ? one : absl::StrCat(one, ".index.json");
}

absl::Status CheckBatches(const v1::TensorRef& ref, const std::string& path) {
  if (ref.shape_size() == 2 || ref.shape_size() == 3) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": tensor ", Quoted(ref.name()),
                                                 " must have the shape (n, d) or (k, n, d), got ",
                                                 ref.shape_size(), " dimensions"));
}

// Looks at the same bytes.
client::LocalTensor LocalOf(const TensorInfo& tensor) {
  v1::DType dtype = v1::DTYPE_UNSPECIFIED;
  v1::DType_Parse(std::string(ToString(tensor.dtype)), &dtype);  // both have the files' names
  v1::TensorRef ref;
  ref.set_name(tensor.name);
  ref.set_dtype(dtype);
  for (const Index extent : tensor.shape) ref.add_shape(extent);
  return client::MakeLocalTensor(std::move(ref), tensor.bytes);
}

}  // namespace

std::pair<std::string, std::string> SplitFileAndName(const std::string& text) {
  for (const char* ending : {".safetensors:", ".npy:"}) {
    const size_t at = text.find(ending);
    if (at == std::string::npos) continue;
    const size_t colon = text.find(':', at);
    return {text.substr(0, colon), text.substr(colon + 1)};
  }
  return {text, ""};
}

TensorInfo TensorOf(const std::string& name, const Batches& batches) {
  const MatrixView all = batches.all();
  return {.name = name,
          .dtype = DType::kF32,
          .shape = {batches.count(), batches.length(0), batches.features()},
          .bytes = {reinterpret_cast<const char*>(all.data()),
                    static_cast<size_t>(all.size()) * sizeof(float)},
          .file = {}};
}

absl::StatusOr<const Checkpoint*> JobTensors::Open(const std::string& path) {
  const auto found = files_.find(path);
  if (found != files_.end()) return &found->second;
  ATTNPRUNE_ASSIGN_OR_RETURN(Checkpoint file, Checkpoint::Open(path));
  return &files_.emplace(path, std::move(file)).first->second;
}

absl::StatusOr<v1::TensorRef> JobTensors::Add(const TensorInfo& tensor) {
  if (!IsConvertible(tensor.dtype)) {
    return absl::InvalidArgumentError(absl::StrCat(tensor.file, ": tensor ", Quoted(tensor.name),
                                                   " must be F64, F32, F16 or BF16, got ",
                                                   ToString(tensor.dtype)));
  }
  if (tensor.bytes.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(tensor.file, ": tensor ", Quoted(tensor.name), " must not be empty"));
  }
  all_.push_back(LocalOf(tensor));
  return all_.back().ref;
}

absl::StatusOr<v1::TensorRef> JobTensors::AddWeight(const std::string& path,
                                                    const std::string& name) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Checkpoint* file, Open(path));
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, file->Find(name));
  return Add(*tensor);
}

absl::StatusOr<std::vector<std::string>> JobTensors::Names(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Checkpoint* file, Open(path));
  return file->names();
}

absl::StatusOr<v1::TensorRef> JobTensors::AddNpy(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const NpyArray array, ReadNpy(path));
  // Half precision goes back to what it was, exactly.
  const DType dtype = array.dtype == DType::kF16 ? DType::kF16 : DType::kF32;
  std::vector<char>& buffer =
      buffers_.emplace_back(static_cast<size_t>(array.values.size()) * SizeOf(dtype));
  ATTNPRUNE_RETURN_IF_ERROR(FromFloat32(array.values.flat(), dtype, absl::MakeSpan(buffer)));
  return Add({.name = path, .dtype = dtype, .shape = array.shape, .bytes = buffer, .file = path});
}

absl::StatusOr<const ModelWeights*> JobTensors::Model(const std::string& folder) {
  const auto found = models_.find(folder);
  if (found != models_.end()) return &found->second;
  ATTNPRUNE_ASSIGN_OR_RETURN(ModelOptions options, LoadModelOptions(folder));
  for (const std::string& note : options.notes) notes_.push_back(absl::StrCat(folder, ": ", note));
  ATTNPRUNE_ASSIGN_OR_RETURN(ModelWeights model, ModelWeights::Open(folder, std::move(options)));
  return &models_.emplace(folder, std::move(model)).first->second;
}

absl::StatusOr<v1::TensorRef> JobTensors::AddStored(const AttentionTensor& stored) {
  if (stored.bytes != nullptr) kept_.push_back(stored.bytes);
  return Add(stored.tensor);
}

// Rows of padding may hold anything; they are left out.
absl::StatusOr<std::vector<v1::TensorRef>> JobTensors::AddUnpadded(const TensorInfo& tensor,
                                                                   const TensorInfo& mask) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<MaskedRow> rows,
                             ReadAttentionMask(mask, {tensor.shape[0], tensor.shape[1]}));
  Index single = 0;
  const size_t row_bytes = static_cast<size_t>(tensor.shape[2]) * SizeOf(tensor.dtype);
  std::vector<v1::TensorRef> refs;
  for (size_t i = 0, end = 0; i < rows.size(); i = end) {
    for (end = i; end < rows.size() && rows[end].count == rows[i].count; ++end) {
    }
    if (rows[i].count == 1) {
      single += static_cast<Index>(end - i);
      continue;
    }
    std::vector<char>& buffer = buffers_.emplace_back();
    for (size_t row = i; row < end; ++row) {
      const auto first =
          static_cast<size_t>(static_cast<Index>(row) * tensor.shape[1] + rows[row].first);
      const char* const begin = tensor.bytes.data() + first * row_bytes;
      buffer.insert(buffer.end(), begin, begin + static_cast<size_t>(rows[row].count) * row_bytes);
    }
    TensorInfo part = tensor;
    part.shape = {static_cast<Index>(end - i), rows[i].count, tensor.shape[2]};
    part.bytes = buffer;
    ATTNPRUNE_ASSIGN_OR_RETURN(v1::TensorRef ref, Add(part));
    refs.push_back(std::move(ref));
  }
  const std::string place = absl::StrCat(tensor.file, ": tensor ", Quoted(tensor.name));
  if (refs.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        place, " must have a sequence of 2 or more tokens by its attention_mask, got none"));
  }
  if (single > 0) {
    AddNote(absl::StrCat(place, ": ", single, " of ", rows.size(),
                         " sequences have one token by the attention_mask and are left out"));
  }
  return refs;
}

// Padding that no mask speaks of.
void JobTensors::NoteRepeats(const TensorInfo& tensor) {
  if (tensor.shape.size() != 3 || tensor.shape[1] < 2) return;
  const size_t row = static_cast<size_t>(tensor.shape[2]) * SizeOf(tensor.dtype);
  const size_t batch = static_cast<size_t>(tensor.shape[1]) * row;
  Index repeated = 0;
  for (Index i = 0; i < tensor.shape[0]; ++i) {
    const char* const end = tensor.bytes.data() + static_cast<size_t>(i + 1) * batch;
    if (std::memcmp(end - row, end - 2 * row, row) == 0) ++repeated;
  }
  if (repeated == 0) return;
  notes_.push_back(absl::StrCat(
      tensor.file, ": tensor ", Quoted(tensor.name), ": ", repeated, " of ", tensor.shape[0],
      " sequences end in equal tokens: padding? An attention_mask (k, n) beside the tensor leaves "
      "it out"));
}

absl::StatusOr<std::vector<v1::TensorRef>> JobTensors::AddBatches(const std::string& text,
                                                                  int64_t layer) {
  const std::string placed =
      layer < 0 ? text : absl::StrReplaceAll(text, {{"{layer}", absl::StrCat(layer)}});
  auto [path, name] = SplitFileAndName(placed);
  path = CapturedFile(path);
  if (absl::EndsWith(path, ".npy")) {
    if (!name.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": a .npy file has no tensor names, got ", Quoted(name)));
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::TensorRef ref, AddNpy(path));
    ATTNPRUNE_RETURN_IF_ERROR(CheckBatches(ref, path));
    return std::vector<v1::TensorRef>{ref};
  }
  if (!absl::EndsWith(path, ".safetensors") && !absl::EndsWith(path, ".index.json")) {
    return absl::InvalidArgumentError(absl::StrCat(
        Quoted(text),
        ": file name must end in .safetensors or .npy, or be a folder of attnprune capture"));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const Checkpoint* file, Open(path));
  if (name.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(name, OnlyBatches(*file, path, layer));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, file->Find(name));
  if (tensor->shape.size() == 3 && IsConvertible(tensor->dtype) && file->Contains(kMask)) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* mask, file->Find(kMask));
    return AddUnpadded(*tensor, *mask);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const v1::TensorRef ref, Add(*tensor));
  ATTNPRUNE_RETURN_IF_ERROR(CheckBatches(ref, path));
  NoteRepeats(*tensor);
  return std::vector<v1::TensorRef>{ref};
}

}  // namespace attnprune::cli
