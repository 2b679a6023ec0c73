#include "server/queue/watermark.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"
#include "server/queue/checksum.h"

namespace attnprune {
namespace {

constexpr char kForm[] = "attnprune-watermark 1";
constexpr size_t kLineBytes = 128;
constexpr int64_t kLineOffsets[] = {0, 4096};  // blocks of their own: a torn write takes one

int64_t SumOf(const Watermark& mark) {
  return Checksum()
      .AddText(kForm)
      .AddInteger(mark.history)
      .AddInteger(mark.changes)
      .AddInteger(mark.accepted)
      .Value();
}

std::string LineOf(const Watermark& mark) {
  std::string line = absl::StrCat(kForm, " ", mark.history, " ", mark.changes, " ", mark.accepted,
                                  " ", SumOf(mark));
  line.resize(kLineBytes - 1, ' ');
  return line + "\n";
}

absl::optional<Watermark> Parse(absl::string_view line) {
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipWhitespace());
  Watermark mark;
  int64_t sum = 0;
  if (words.size() != 6 || absl::StrCat(words[0], " ", words[1]) != kForm ||
      !absl::SimpleAtoi(words[2], &mark.history) || !absl::SimpleAtoi(words[3], &mark.changes) ||
      !absl::SimpleAtoi(words[4], &mark.accepted) || !absl::SimpleAtoi(words[5], &sum) ||
      sum != SumOf(mark)) {
    return absl::nullopt;
  }
  return mark;
}

std::string Jobs(int64_t count) {
  return absl::StrCat(count, count == 1 ? " accepted job" : " accepted jobs");
}

std::string Changes(int64_t count) {
  return count == 1 ? "change" : absl::StrCat(count, " changes");
}

}  // namespace

absl::StatusOr<absl::optional<Watermark>> WatermarkFile::Read(const std::string& path) {
  const absl::StatusOr<File> file = File::OpenForReading(path);
  if (absl::IsNotFound(file.status())) return absl::optional<Watermark>();
  ATTNPRUNE_RETURN_IF_ERROR(file.status());
  absl::optional<Watermark> newest;
  for (const int64_t offset : kLineOffsets) {
    std::string line(kLineBytes, '\0');
    if (!file->ReadAt(offset, absl::MakeSpan(line)).ok()) continue;
    const absl::optional<Watermark> mark = Parse(line);
    if (!mark.has_value()) continue;
    if (!newest.has_value() || mark->changes > newest->changes) newest = mark;
  }
  if (newest.has_value()) return newest;
  return absl::DataLossError(absl::StrCat(path, ": damaged: neither of its lines is whole"));
}

absl::StatusOr<WatermarkFile> WatermarkFile::Make(const std::string& path, const Watermark& mark) {
  std::string bytes(kLineOffsets[1] + kLineBytes, '\n');
  for (const int64_t offset : kLineOffsets) {
    bytes.replace(static_cast<size_t>(offset), kLineBytes, LineOf(mark));
  }
  ATTNPRUNE_RETURN_IF_ERROR(WriteFileAtomically(
      path, {absl::Span<const char>(bytes.data(), bytes.size())}, Readers::kOwner));
  return Open(path);
}

absl::StatusOr<WatermarkFile> WatermarkFile::Open(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(File file, File::OpenForWriting(path, Readers::kOwner));
  return WatermarkFile(std::move(file));
}

absl::Status WatermarkFile::Write(const Watermark& mark, Durability durability) {
  const std::string line = LineOf(mark);
  ATTNPRUNE_RETURN_IF_ERROR(
      file_.WriteAt(kLineOffsets[mark.changes % 2], {line.data(), line.size()}));
  return durability == Durability::kSynced ? file_.SyncData() : absl::OkStatus();
}

absl::optional<std::string> DescribeLoss(const Watermark& mark,
                                         const absl::optional<Watermark>& found,
                                         const std::string& name) {
  if (!found.has_value()) {
    return absl::StrCat(name, " is missing, and with it ", Jobs(mark.accepted));
  }
  if (found->history != mark.history) {
    return absl::StrCat(name, " is not the one that this folder's jobs were written to: of ",
                        Jobs(mark.accepted),
                        ", deleted ones included, an unknown number is missing");
  }
  if (found->changes >= mark.changes) return absl::nullopt;
  const int64_t jobs = std::max<int64_t>(mark.accepted - found->accepted, 0);
  return absl::StrCat(name, " lacks its last ", Changes(mark.changes - found->changes),
                      ", among them ", Jobs(jobs), " of ", mark.accepted,
                      ": its write-ahead log is damaged or gone, or an older copy is in its place");
}

}  // namespace attnprune
