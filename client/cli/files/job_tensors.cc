#include "client/cli/files/job_tensors.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/io/npy.h"

namespace attnprune::cli {
namespace {

constexpr size_t kMostNamesShown = 20;

// The tensor to take of a file when none is named.
absl::StatusOr<std::string> OnlyBatches(const Checkpoint& file, const std::string& path,
                                        const std::string& usual_name) {
  if (!usual_name.empty() && file.Contains(usual_name)) return usual_name;
  std::vector<std::string> floats;
  for (const std::string& name : file.names()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, file.Find(name));
    if (IsConvertible(tensor->dtype)) floats.push_back(name);
  }
  if (floats.size() == 1) return floats.front();
  const bool more = floats.size() > kMostNamesShown;
  if (more) floats.resize(kMostNamesShown);
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": name the tensor (FILE:NAME) unless exactly one is of a float type; there is: ",
      floats.empty() ? "none" : absl::StrJoin(floats, ", "), more ? ", ..." : ""));
}

absl::Status CheckBatches(const v1::TensorRef& ref, const std::string& path) {
  if (ref.shape_size() == 2 || ref.shape_size() == 3) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": tensor ", Quoted(ref.name()),
                                                 " must have the shape (n, d) or (k, n, d), got ",
                                                 ref.shape_size(), " dimensions"));
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

client::LocalTensor LocalOf(const TensorInfo& tensor) {
  v1::DType dtype = v1::DTYPE_UNSPECIFIED;
  v1::DType_Parse(std::string(ToString(tensor.dtype)), &dtype);  // both have the files' names
  v1::TensorRef ref;
  ref.set_name(tensor.name);
  ref.set_dtype(dtype);
  for (const Index extent : tensor.shape) ref.add_shape(extent);
  return client::MakeLocalTensor(std::move(ref), tensor.bytes);
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

absl::StatusOr<v1::TensorRef> JobTensors::AddBatches(const std::string& text,
                                                     const std::string& usual_name,
                                                     const std::string& layer) {
  const std::string placed = layer.empty() ? text : absl::StrReplaceAll(text, {{"{layer}", layer}});
  auto [path, name] = SplitFileAndName(placed);
  v1::TensorRef ref;
  if (absl::EndsWith(path, ".npy")) {
    if (!name.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": a .npy file has no tensor names, got ", Quoted(name)));
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(ref, AddNpy(path));
  } else if (absl::EndsWith(path, ".safetensors")) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const Checkpoint* file, Open(path));
    if (name.empty()) {
      ATTNPRUNE_ASSIGN_OR_RETURN(name, OnlyBatches(*file, path, usual_name));
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(ref, AddWeight(path, name));
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(text), ": file name must end in .safetensors or .npy"));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckBatches(ref, path));
  return ref;
}

}  // namespace attnprune::cli
