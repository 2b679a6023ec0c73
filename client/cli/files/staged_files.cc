#include "client/cli/files/staged_files.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "client/cli/files/text_file.h"
#include "client/cli/shell/temporary_folder.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"
#include "core/io/mapped_file.h"

namespace attnprune::cli {
namespace {

absl::Status PutInPlace(const std::string& file, const std::string& to) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolderOf(to));
  std::error_code error;
  std::filesystem::rename(file, to, error);
  if (!error) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(to, ": cannot be put in place: ", error.message()));
}

}  // namespace

absl::Status CheckGoesOn(Stopped stopped) {
  return stopped() ? absl::CancelledError("interrupted") : absl::OkStatus();
}

absl::Status CopyFile(const std::string& from, const std::string& to) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(from));
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolderOf(to));
  return WriteFileAtomically(to, {file.bytes()});
}

StagedFile CopyOf(const std::string& from, const std::string& to) {
  return {from, to, [from](const std::string& path) { return CopyFile(from, path); }};
}

absl::Status CheckIsAnother(const std::string& source, const std::string& output) {
  std::error_code error;
  if (!std::filesystem::equivalent(source, output, error) || error) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(output, ": output must be another file than the input"));
}

absl::Status WriteTogether(const std::vector<StagedFile>& files, const std::string& folder,
                           Stopped stopped) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolderOf(InFolder(folder, "file")));
  const OwnTemporaryFolder staging(folder, ".attnprune");
  if (staging.path().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder, ": cannot make a folder in it: ", std::strerror(errno)));
  }
  for (const StagedFile& file : files) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckGoesOn(stopped));
    ATTNPRUNE_RETURN_IF_ERROR(CheckIsAnother(file.from, InFolder(folder, file.to)));
    ATTNPRUNE_RETURN_IF_ERROR(file.write(InFolder(staging.path(), file.to)));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckGoesOn(stopped));
  for (const StagedFile& file : files) {
    ATTNPRUNE_RETURN_IF_ERROR(
        PutInPlace(InFolder(staging.path(), file.to), InFolder(folder, file.to)));
  }
  return absl::OkStatus();
}

std::string InFolder(const std::string& folder, const std::string& file) {
  return (std::filesystem::path(folder) / file).string();
}

std::string NameOfFile(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

}  // namespace attnprune::cli
