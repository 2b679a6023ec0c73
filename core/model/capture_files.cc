#include "core/model/capture_files.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"
#include "core/io/mapped_file.h"
#include "core/io/messages.h"
#include "core/io/strict_json.h"

namespace attnprune {
namespace {

using nlohmann::json;

constexpr char kMaskName[] = "attention_mask";
constexpr char kPartial[] = ".partial";
constexpr char kLock[] = "/lock";
constexpr char kOneFile[] = "/calibration.safetensors";
constexpr char kIndexFile[] = "/calibration.safetensors.index.json";
constexpr int64_t kDiskKept = int64_t{64} << 20;  // bytes left free

absl::Span<const char> SizeOnly(int64_t bytes) {
  return {static_cast<const char*>(nullptr), static_cast<size_t>(bytes)};
}

absl::Span<const char> BytesOf(MatrixView x) {
  return {reinterpret_cast<const char*>(x.data()), static_cast<size_t>(x.size()) * sizeof(float)};
}

int64_t SizeOfShard(const std::vector<TensorInfo>& tensors) {
  int64_t bytes = 0;
  for (const TensorInfo& tensor : tensors) bytes += static_cast<int64_t>(tensor.bytes.size());
  return bytes;
}

absl::Status CheckIsNotThere(const std::string& path) {
  if (!LookUp(path).has_value()) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat(path, ": is there already; name another folder, or remove it"));
}

}  // namespace

absl::Status CheckCaptureFolder(const std::string& output) {
  if (LookUp(output).has_value()) return Refuse(output, " must be a folder, got a file");
  ATTNPRUNE_RETURN_IF_ERROR(CheckIsNotThere(absl::StrCat(output, kOneFile)));
  return CheckIsNotThere(absl::StrCat(output, kIndexFile));
}

CaptureFiles::CaptureFiles(const TokenRows& rows, Index features, const CaptureOptions& options)
    : rows_(rows), features_(features), options_(options) {
  for (Index row = 0; row < rows.rows(); ++row) {
    const auto i = static_cast<size_t>(row);
    for (Index t = 0; t < rows.tokens.lengths[i]; ++t) {
      place_of_.push_back(row * rows.width + rows.first[i] + t);
    }
  }
}

std::string CaptureFiles::StateFolder() const { return absl::StrCat(options_.output, "/.capture"); }

std::string CaptureFiles::StatePath() const { return absl::StrCat(StateFolder(), "/state.json"); }

std::string CaptureFiles::IndexPath() const { return absl::StrCat(options_.output, kIndexFile); }

std::string CaptureFiles::HiddenPath(Index layer) const {
  return absl::StrCat(StateFolder(), "/hidden-", layer, ".f32");
}

// Tensors in the order of the layers, as many a file as fit.
void CaptureFiles::PlanShards() {
  const int64_t bytes =
      rows_.rows() * rows_.width * features_ * static_cast<int64_t>(SizeOf(options_.dtype));
  std::vector<std::vector<TensorInfo>> files(1);
  if (rows_.padded) {
    const int64_t mask = rows_.rows() * rows_.width * static_cast<int64_t>(sizeof(int64_t));
    files[0].push_back({.name = kMaskName,
                        .dtype = DType::kI64,
                        .shape = {rows_.rows(), rows_.width},
                        .bytes = SizeOnly(mask),
                        .file = {}});
  }
  for (const Index layer : options_.layers) {
    if (SizeOfShard(files.back()) + bytes > options_.shard_bytes && !files.back().empty()) {
      files.emplace_back();
    }
    files.back().push_back({.name = AttentionInputName(layer),
                            .dtype = options_.dtype,
                            .shape = {rows_.rows(), rows_.width, features_},
                            .bytes = SizeOnly(bytes),
                            .file = {}});
  }
  for (size_t i = 0; i < files.size(); ++i) {
    Shard shard;
    shard.path = files.size() == 1 ? absl::StrCat(options_.output, kOneFile)
                                   : absl::StrFormat("%s/calibration-%05d-of-%05d.safetensors",
                                                     options_.output, i + 1, files.size());
    shard.tensors = std::move(files[i]);
    shards_.push_back(std::move(shard));
  }
}

absl::StatusOr<CaptureFiles> CaptureFiles::Open(const TokenRows& rows, Index features,
                                                const CaptureOptions& options) {
  CaptureFiles files(rows, features, options);
  files.PlanShards();
  ATTNPRUNE_RETURN_IF_ERROR(CheckCaptureFolder(options.output));
  ATTNPRUNE_RETURN_IF_ERROR(files.Lock());
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool same, files.ReadState());
  if (same) ATTNPRUNE_RETURN_IF_ERROR(files.TakeBackNames());
  ATTNPRUNE_RETURN_IF_ERROR(files.CheckNothingIsThere());
  ATTNPRUNE_RETURN_IF_ERROR(files.DropWhatIsOfNoUse());
  if (const absl::Status opened = files.OpenShards(); !opened.ok()) {
    if (files.next_layer_ == 0) files.RemoveAll();
    return opened;
  }
  return files;
}

absl::Status CaptureFiles::Lock() {
  std::error_code error;
  std::filesystem::create_directories(StateFolder(), error);
  if (error) return ErrnoError(error.value(), StateFolder(), "make the folder");
  ATTNPRUNE_ASSIGN_OR_RETURN(lock_, File::OpenForWriting(absl::StrCat(StateFolder(), kLock)));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool locked, lock_.TryLock());
  if (locked) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(options_.output, ": another capture is writing to this folder"));
}

void CaptureFiles::RemoveAll() {
  for (const Shard& shard : shards_) RemoveFile(absl::StrCat(shard.path, kPartial));
  std::error_code ignored;
  std::filesystem::remove_all(StateFolder(), ignored);
  std::filesystem::remove(options_.output, ignored);  // where nothing else is in it
}

// Whether an earlier pass of the same source was here; then next_layer_ is its.
absl::StatusOr<bool> CaptureFiles::ReadState() {
  const std::string path = StatePath();
  if (!LookUp(path).has_value()) return false;
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  const absl::StatusOr<json> state = ParseStrictJson({file.bytes().data(), file.bytes().size()}, 2);
  if (!CheckMapped(file.bytes()).ok()) return false;
  if (!state.ok() || state->value("source", "") != options_.source) return false;
  next_layer_ = state->value("next_layer", Index{0});
  return true;
}

absl::Status CaptureFiles::WriteState(Index next_layer) const {
  const std::string state = json({{"source", options_.source}, {"next_layer", next_layer}}).dump();
  return WriteFileAtomically(StatePath(), {absl::Span<const char>(state)});
}

// What Finish had named when it was cut off, before the index, is partial again.
absl::Status CaptureFiles::TakeBackNames() {
  if (shards_.size() == 1 || LookUp(IndexPath()).has_value()) return absl::OkStatus();
  for (const Shard& shard : shards_) {
    if (!LookUp(shard.path).has_value()) continue;
    ATTNPRUNE_RETURN_IF_ERROR(RenameFile(shard.path, absl::StrCat(shard.path, kPartial)));
  }
  return absl::OkStatus();
}

absl::Status CaptureFiles::CheckNothingIsThere() const {
  for (const Shard& shard : shards_) ATTNPRUNE_RETURN_IF_ERROR(CheckIsNotThere(shard.path));
  return CheckCaptureFolder(options_.output);  // another may have ended meanwhile
}

// Unless all that the saved state needs is there, the pass begins anew.
absl::Status CaptureFiles::DropWhatIsOfNoUse() {
  bool whole = LookUp(HiddenPath(next_layer_)).has_value();
  for (const Shard& shard : shards_) {
    whole = whole && LookUp(absl::StrCat(shard.path, kPartial)).has_value();
  }
  if (whole) return absl::OkStatus();
  next_layer_ = 0;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> left, ListFolder(StateFolder()));
  for (const std::string& name : left) {
    const std::string path = absl::StrCat(StateFolder(), "/", name);
    if (path != lock_.path()) RemoveFile(path);
  }
  return absl::OkStatus();
}

absl::Status CaptureFiles::OpenShards() {
  // Hidden states, twice while one save replaces another.
  int64_t wanted = 2 * rows_.tokens.total() * features_ * static_cast<int64_t>(sizeof(float));
  for (Shard& shard : shards_) {
    ATTNPRUNE_ASSIGN_OR_RETURN(shard.layout, LayoutOfSafetensors(shard.tensors));
    if (next_layer_ == 0) wanted += shard.layout.size;
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckDiskRoom(options_.output, wanted, kDiskKept));
  for (Shard& shard : shards_) {
    ATTNPRUNE_ASSIGN_OR_RETURN(shard.file,
                               File::OpenForWriting(absl::StrCat(shard.path, kPartial)));
    if (next_layer_ > 0) continue;
    ATTNPRUNE_RETURN_IF_ERROR(shard.file.Truncate(0));
    ATTNPRUNE_RETURN_IF_ERROR(shard.file.Reserve(shard.layout.size));
    ATTNPRUNE_RETURN_IF_ERROR(shard.file.Truncate(shard.layout.size));  // zeros where padded
    ATTNPRUNE_RETURN_IF_ERROR(shard.file.WriteAt(0, shard.layout.head));
  }
  return next_layer_ == 0 && rows_.padded ? WriteMask() : absl::OkStatus();
}

absl::Status CaptureFiles::WriteMask() {
  std::vector<int64_t> mask(static_cast<size_t>(rows_.rows() * rows_.width), 0);
  for (const Index place : place_of_) mask[static_cast<size_t>(place)] = 1;
  Shard& shard = shards_.front();
  return shard.file.WriteAt(
      shard.layout.begins.find(kMaskName)->second,
      {reinterpret_cast<const char*>(mask.data()), mask.size() * sizeof(int64_t)});
}

absl::Status CaptureFiles::Write(Index layer, Index first, MatrixView x) {
  const std::string name = AttentionInputName(layer);
  const auto has = [&name](const Shard& shard) { return shard.layout.begins.contains(name); };
  Shard& shard = *std::find_if(shards_.begin(), shards_.end(), has);
  const int64_t begin = shard.layout.begins.find(name)->second;
  const auto row_bytes = features_ * static_cast<Index>(SizeOf(options_.dtype));
  std::vector<char> bytes(static_cast<size_t>(x.rows() * row_bytes));
  for (Index i = 0; i < x.rows(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(
        FromFloat32({x.row(i), static_cast<size_t>(features_)}, options_.dtype,
                    absl::MakeSpan(bytes.data() + i * row_bytes, static_cast<size_t>(row_bytes))));
  }
  // Runs of tokens that lie side by side in the tensor.
  for (Index run = 0, end = 0; run < x.rows(); run = end) {
    const Index place = place_of_[static_cast<size_t>(first + run)];
    for (end = run + 1; end < x.rows(); ++end) {
      if (place_of_[static_cast<size_t>(first + end)] != place + (end - run)) break;
    }
    ATTNPRUNE_RETURN_IF_ERROR(shard.file.WriteAt(
        begin + place * row_bytes,
        {bytes.data() + run * row_bytes, static_cast<size_t>((end - run) * row_bytes)}));
  }
  return absl::OkStatus();
}

absl::Status CaptureFiles::LoadHidden(MutableMatrixView x) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const File file, File::OpenForReading(HiddenPath(next_layer_)));
  return file.ReadAt(0, absl::MakeSpan(reinterpret_cast<char*>(x.data()),
                                       static_cast<size_t>(x.size()) * sizeof(float)));
}

absl::Status CaptureFiles::Save(Index next_layer, MatrixView x) {
  for (Shard& shard : shards_) ATTNPRUNE_RETURN_IF_ERROR(shard.file.Sync());
  ATTNPRUNE_RETURN_IF_ERROR(WriteFileAtomically(HiddenPath(next_layer), {BytesOf(x)}));
  ATTNPRUNE_RETURN_IF_ERROR(WriteState(next_layer));
  if (next_layer_ > 0) RemoveFile(HiddenPath(next_layer_));
  next_layer_ = next_layer;
  return absl::OkStatus();
}

absl::Status CaptureFiles::WriteIndex() const {
  json map = json::object();
  for (const Shard& shard : shards_) {
    for (const TensorInfo& tensor : shard.tensors) {
      map[tensor.name] = std::filesystem::path(shard.path).filename().string();
    }
  }
  const std::string text = json({{"metadata", json::object()}, {"weight_map", map}}).dump(2) + "\n";
  return WriteFileAtomically(IndexPath(), {absl::Span<const char>(text)});
}

absl::StatusOr<std::vector<std::string>> CaptureFiles::Finish() {
  for (Shard& shard : shards_) ATTNPRUNE_RETURN_IF_ERROR(shard.file.Sync());
  ATTNPRUNE_RETURN_IF_ERROR(WriteState(next_layer_));  // TakeBackNames knows whose they are
  std::vector<std::string> paths;
  for (const Shard& shard : shards_) {
    ATTNPRUNE_RETURN_IF_ERROR(RenameFile(absl::StrCat(shard.path, kPartial), shard.path));
    paths.push_back(shard.path);
  }
  if (shards_.size() > 1) {
    ATTNPRUNE_RETURN_IF_ERROR(WriteIndex());
    paths.insert(paths.begin(), IndexPath());
  }
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(options_.output));
  std::error_code ignored;
  std::filesystem::remove_all(StateFolder(), ignored);
  return paths;
}

}  // namespace attnprune
