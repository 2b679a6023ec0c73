#include "server/queue/checkpoint_files.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"
#include "core/io/file.h"
#include "server/queue/checksum.h"

namespace attnprune {
namespace {

bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }

// Whether the claim by which the checkpoint was named has lapsed.
bool HasLapsed(absl::string_view name, const std::map<std::string, int64_t>& fences) {
  const std::vector<absl::string_view> words = absl::StrSplit(name, '.');
  const auto job = fences.find(std::string(words[0]));
  int64_t fence = 0;
  return job == fences.end() || !absl::SimpleAtoi(words[1], &fence) || fence < job->second;
}

}  // namespace

bool IsCheckpointName(absl::string_view name) {
  name = name.substr(0, name.find(".tmp-"));
  const auto id_end = std::find(name.begin(), name.end(), '.');
  const bool has_id = id_end != name.begin() && std::all_of(name.begin(), id_end, [](char c) {
                        return IsDigit(c) || (c >= 'a' && c <= 'z') || c == '-';
                      });
  int numbers = 0;
  auto at = id_end;
  while (at != name.end()) {
    const auto begin = at + 1;
    at = std::find_if_not(begin, name.end(), IsDigit);
    if (at == begin || (at != name.end() && *at != '.')) return false;
    ++numbers;
  }
  return has_id && numbers >= 2;
}

absl::StatusOr<CheckpointRef> CheckpointFiles::Write(const std::string& name,
                                                     absl::string_view bytes) const {
  const absl::Span<const char> chunk(bytes.data(), bytes.size());
  ATTNPRUNE_RETURN_IF_ERROR(WriteFileAtomically(PathOf(name), {chunk}, Readers::kOwner));
  return CheckpointRef{name, static_cast<int64_t>(bytes.size()), ChecksumOfBytes(bytes)};
}

absl::StatusOr<std::string> CheckpointFiles::Read(const CheckpointRef& ref) const {
  const absl::StatusOr<File> file = File::OpenForReading(PathOf(ref.name));
  if (!file.ok()) {
    return absl::DataLossError(absl::StrCat(PathOf(ref.name), ": checkpoint cannot be opened"));
  }
  if (file->Size().value_or(-1) == ref.size) {
    std::string bytes(static_cast<size_t>(ref.size), '\0');
    const bool whole = file->ReadAt(0, absl::MakeSpan(bytes)).ok();
    if (whole && ChecksumOfBytes(bytes) == ref.checksum) return bytes;
  }
  return absl::DataLossError(absl::StrCat(PathOf(ref.name), ": checkpoint is damaged"));
}

void CheckpointFiles::Remove(const std::string& name) const { RemoveFile(PathOf(name)); }

std::vector<std::string> CheckpointFiles::List() const {
  absl::StatusOr<std::vector<std::string>> files = ListFolder(folder_);
  if (!files.ok()) return {};
  std::erase_if(*files, [](const std::string& name) { return !IsCheckpointName(name); });
  return *std::move(files);
}

void CheckpointStore::RemoveAllBut(const std::set<std::string>& names) const {
  for (const std::string& name : List()) {
    if (names.count(name) == 0) Remove(name);
  }
}

void CheckpointStore::RemoveLapsed(const std::vector<std::string>& listed, const Kept& kept) const {
  for (const std::string& name : listed) {
    if (kept.names.count(name) == 0 && HasLapsed(name, kept.fences)) Remove(name);
  }
}

}  // namespace attnprune
