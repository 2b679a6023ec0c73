#include "server/objects/folder_objects.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"
#include "core/io/file.h"
#include "core/io/kept_in_place.h"

namespace attnprune {
namespace {

constexpr int64_t kFolderPartBytes = int64_t{8} << 20;
constexpr char kParts[] = ".parts";
constexpr char kTemporary[] = ".tmp-";

class FolderObjects final : public ObjectPlace {
 public:
  explicit FolderObjects(const std::string& folder)
      : folder_(folder), display_(absl::StrCat("file://", folder)) {}

  absl::Status Open();

  const std::string& display() const override { return display_; }
  absl::Status Put(const std::string& name, Pieces pieces) override;
  absl::StatusOr<int64_t> SizeOf(const std::string& name) override;
  absl::Status Read(const std::string& name,
                    absl::FunctionRef<absl::Status(absl::Span<const char>)> visit) override;
  absl::Status Remove(const std::string& name) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override;
  int64_t PartBytes(int64_t) const override { return kFolderPartBytes; }
  absl::StatusOr<std::string> BeginParts(const std::string& name) override;
  absl::StatusOr<std::string> PutPart(const std::string& name, const std::string& writing, int part,
                                      int64_t offset, Pieces pieces) override;
  absl::Status CompleteParts(const std::string& name, const std::string& writing,
                             absl::Span<const std::string> parts) override;
  absl::Status AbandonParts(const std::string& name, const std::string& writing) override;
  std::string FileOf(const std::string& name) const override {
    return absl::StrCat(folder_, "/", name);
  }
  absl::Status Check() override { return in_place_.Check(); }

 private:
  absl::Status MakeFoldersOf(const std::string& name);
  absl::Status ListBelow(const std::string& folder, const std::string& below,
                         std::vector<std::string>& names);
  void RemoveTemporaries(const std::string& path);

  const std::string folder_, display_;
  KeptInPlace in_place_;
};

absl::Status NoSuchObject(const std::string& path) {
  return absl::NotFoundError(absl::StrCat(path, " is not there"));
}

absl::Status FolderObjects::Open() {
  ATTNPRUNE_RETURN_IF_ERROR(MakeWritableFolder(folder_));
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(FolderOf(folder_)));
  in_place_.Add(folder_);
  return absl::OkStatus();
}

// Each new folder's entry is on disk before a file counts in it.
absl::Status FolderObjects::MakeFoldersOf(const std::string& name) {
  ATTNPRUNE_RETURN_IF_ERROR(in_place_.Check());
  for (size_t slash = name.find('/'); slash != std::string::npos;
       slash = name.find('/', slash + 1)) {
    const std::string folder = FileOf(name.substr(0, slash));
    if (IsFolder(folder)) continue;
    ATTNPRUNE_RETURN_IF_ERROR(MakeFolder(folder));
    ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(FolderOf(folder)));
  }
  return absl::OkStatus();
}

absl::Status FolderObjects::Put(const std::string& name, Pieces pieces) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeFoldersOf(name));
  return WriteFileAtomically(FileOf(name), pieces, Readers::kOwner);
}

absl::StatusOr<int64_t> FolderObjects::SizeOf(const std::string& name) {
  const absl::optional<FileFacts> facts = LookUp(FileOf(name));
  if (facts.has_value()) return facts->size;
  ATTNPRUNE_RETURN_IF_ERROR(in_place_.Check());  // else it would be missing, not away
  return NoSuchObject(FileOf(name));
}

absl::Status FolderObjects::Read(const std::string& name,
                                 absl::FunctionRef<absl::Status(absl::Span<const char>)> visit) {
  const absl::StatusOr<File> file = File::OpenForReading(FileOf(name));
  if (!file.ok()) {
    ATTNPRUNE_RETURN_IF_ERROR(in_place_.Check());
    return file.status();
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, file->Size());
  absl::Status visited;
  ATTNPRUNE_RETURN_IF_ERROR(ForEachPiece(*file, size, [&](absl::Span<const char> piece) {
    if (visited.ok()) visited = visit(piece);
  }));
  return visited;
}

void FolderObjects::RemoveTemporaries(const std::string& path) {
  const absl::StatusOr<std::vector<std::string>> names = ListFolder(FolderOf(path));
  if (!names.ok()) return;
  const std::string begin = absl::StrCat(path.substr(path.rfind('/') + 1), kTemporary);
  for (const std::string& name : *names) {
    if (absl::StartsWith(name, begin)) RemoveFile(absl::StrCat(FolderOf(path), "/", name));
  }
}

absl::Status FolderObjects::Remove(const std::string& name) {
  ATTNPRUNE_RETURN_IF_ERROR(in_place_.Check());
  const std::string path = FileOf(name);
  if (!LookUp(path).has_value()) RemoveTemporaries(path);
  RemoveFile(path);
  if (!LookUp(path).has_value()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(path, ": cannot be removed"));
}

absl::Status FolderObjects::ListBelow(const std::string& folder, const std::string& below,
                                      std::vector<std::string>& names) {
  const std::string path = FileOf(folder + below);
  if (!IsFolder(path)) return in_place_.Check();
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> found, ListFolder(path));
  for (const std::string& name : found) {
    if (IsFolder(absl::StrCat(path, "/", name))) {
      ATTNPRUNE_RETURN_IF_ERROR(ListBelow(folder, absl::StrCat(below, "/", name), names));
    } else {
      names.push_back(absl::StrCat(below, "/", name).substr(1));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FolderObjects::List(const std::string& folder) {
  std::vector<std::string> names;
  ATTNPRUNE_RETURN_IF_ERROR(ListBelow(folder, "", names));
  return names;
}

absl::StatusOr<std::string> FolderObjects::BeginParts(const std::string& name) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeFoldersOf(name));
  ATTNPRUNE_ASSIGN_OR_RETURN(File file,
                             File::OpenForWriting(FileOf(name) + kParts, Readers::kOwner));
  ATTNPRUNE_RETURN_IF_ERROR(file.Truncate(0));
  return std::string("file");
}

// OpenForWriting would make the file anew where it was removed, and zeros would stand before.
absl::StatusOr<std::string> FolderObjects::PutPart(const std::string& name, const std::string&, int,
                                                   int64_t offset, Pieces pieces) {
  const std::string path = FileOf(name) + kParts;
  ATTNPRUNE_RETURN_IF_ERROR(in_place_.Check());
  if (!LookUp(path).has_value()) return NoSuchObject(path);
  ATTNPRUNE_ASSIGN_OR_RETURN(File file, File::OpenForWriting(path, Readers::kOwner));
  int64_t end = offset;
  for (const absl::Span<const char> piece : pieces) {
    ATTNPRUNE_RETURN_IF_ERROR(file.WriteAt(end, piece));
    end += static_cast<int64_t>(piece.size());
  }
  file.StartWriteBack(offset, end - offset);
  return std::string("written");
}

absl::Status FolderObjects::CompleteParts(const std::string& name, const std::string&,
                                          absl::Span<const std::string>) {
  const std::string path = FileOf(name);
  if (LookUp(path + kParts).has_value()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(File file, File::OpenForWriting(path + kParts, Readers::kOwner));
    ATTNPRUNE_RETURN_IF_ERROR(file.Sync());
    ATTNPRUNE_RETURN_IF_ERROR(RenameFile(path + kParts, path));
  }
  if (!LookUp(path).has_value()) return NoSuchObject(path);
  return SyncFolder(FolderOf(path));
}

absl::Status FolderObjects::AbandonParts(const std::string& name, const std::string&) {
  return Remove(name + kParts);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ObjectPlace>> OpenFolderObjects(const std::string& folder) {
  auto place = std::make_unique<FolderObjects>(folder);
  ATTNPRUNE_RETURN_IF_ERROR(place->Open());
  return place;
}

}  // namespace attnprune
