#include "client/export/tensorboard_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "client/export/path_part.h"
#include "client/export/scalar_events.h"
#include "client/export/tf_record.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"
#include "core/io/file.h"
#include "core/io/messages.h"

namespace attnprune::exporting {
namespace {

namespace fs = std::filesystem;

constexpr char kPrefix[] = "events.out.tfevents.";
constexpr char kMark[] = "tfevents";  // TensorBoard reads every file with it in its name
constexpr char kFileVersion[] = "brain.Event:2";
constexpr mode_t kMode = 0666;  // less the umask

absl::Status FileError(const fs::path& path, absl::string_view doing,
                       const std::error_code& error) {
  return absl::FailedPreconditionError(
      absl::StrCat(path.string(), ": cannot ", doing, ": ", error.message()));
}

// Ends the names of the job's files; empty for no job.
std::string SuffixOf(const TensorBoardFolder& folder) {
  const absl::string_view id = absl::StripPrefix(folder.job, "jobs/");
  return id.empty() ? "" : absl::StrCat(".attnprune-", PathPart(id));
}

// The event files of one run folder.
struct RunFiles {
  std::vector<fs::path> ours;  // half-done ones of a crash too
  int64_t newest = 0;          // the latest second in a name of ours
};

bool IsOurs(const std::string& name, const std::string& suffix) {
  return !suffix.empty() && absl::StartsWith(name, kPrefix) &&
         (absl::EndsWith(name, suffix) || absl::StrContains(name, suffix + ".tmp-"));
}

int64_t SecondsOf(const std::string& name) {
  const absl::string_view rest = absl::StripPrefix(name, kPrefix);
  int64_t seconds = 0;
  return absl::SimpleAtoi(rest.substr(0, rest.find('.')), &seconds) ? seconds : 0;
}

absl::StatusOr<RunFiles> ListRun(const TensorBoardFolder& folder, const fs::path& run) {
  RunFiles files;
  std::error_code error;
  if (!fs::exists(run, error)) return files;
  for (const fs::directory_entry& entry : fs::directory_iterator(run, error)) {
    const std::string name = entry.path().filename().string();
    if (!absl::StrContains(name, kMark)) continue;
    if (!IsOurs(name, SuffixOf(folder))) {
      return absl::FailedPreconditionError(absl::StrCat(
          "--tensorboard must be a folder with no other job's or program's runs of the same names, "
          "got ",
          folder.path, ", where ", entry.path().string(), " is"));
    }
    files.ours.push_back(entry.path());
    files.newest = std::max(files.newest, SecondsOf(name));
  }
  if (error) return FileError(run, "list", error);
  return files;
}

std::string NewName(const TensorBoardFolder& folder, const RunFiles& files, absl::Time now) {
  // TensorBoard reads a run's files in the order of their names.
  const int64_t seconds = std::max(absl::ToUnixSeconds(now), files.newest + 1);
  return absl::StrCat(kPrefix, absl::StrFormat("%010d", seconds), ".", folder.host,
                      SuffixOf(folder));
}

absl::Status RemoveAll(const std::vector<fs::path>& files) {
  for (const fs::path& file : files) {
    std::error_code error;
    fs::remove(file, error);
    if (error) return FileError(file, "remove", error);
  }
  return absl::OkStatus();
}

absl::Status MakeRun(const std::string& run) {
  std::error_code error;
  fs::create_directories(run, error);
  return error ? FileError(run, "make the folder", error) : absl::OkStatus();
}

std::string RecordOf(const tensorboard::Event& event) {
  return TfRecord(event.SerializeAsString());
}

// The first records of a file whose first event is `first`.
std::string Beginning(const v1::JobEvent& first) {
  tensorboard::Event version;
  version.set_wall_time(static_cast<double>(first.time().seconds()));
  version.set_file_version(kFileVersion);
  tensorboard::Event anew = version;
  anew.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  return absl::StrCat(RecordOf(version), RecordOf(anew));
}

std::string RecordsOf(const std::vector<tensorboard::Event>& events) {
  std::string bytes;
  for (const tensorboard::Event& event : events) bytes += RecordOf(event);
  return bytes;
}

// What is to be in each run's file.
std::map<std::string, std::string> Contents(const TensorBoardFolder& folder,
                                            const std::vector<v1::JobEvent>& events) {
  std::map<std::string, std::string> contents;
  std::map<std::string, ScalarEvents> scalars;
  for (const v1::JobEvent& event : WithoutVoidSteps(events)) {
    if (MethodOf(event).empty()) continue;
    const std::string run = RunPath(folder, MethodOf(event));
    std::string& bytes = contents[run];
    if (bytes.empty()) bytes = Beginning(event);
    bytes += RecordsOf(scalars[run].Add(event));
  }
  return contents;
}

}  // namespace

TensorBoardFolder TensorBoardFolderOf(const std::string& path, const std::string& job) {
  std::array<char, 256> name{};
  const bool known = gethostname(name.data(), name.size() - 1) == 0;
  return {.path = path, .job = job, .host = PathPart(known ? name.data() : "localhost")};
}

std::string RunPath(const TensorBoardFolder& folder, const std::string& label) {
  return (fs::path(folder.path) / PathPart(label)).string();
}

absl::Status CheckRuns(const TensorBoardFolder& folder, const std::vector<std::string>& labels) {
  for (const std::string& label : labels) {
    ATTNPRUNE_RETURN_IF_ERROR(ListRun(folder, RunPath(folder, label)).status());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> WriteTensorBoard(const TensorBoardFolder& folder,
                                                          const std::vector<v1::JobEvent>& events,
                                                          absl::Time now) {
  const std::map<std::string, std::string> contents = Contents(folder, events);
  std::map<std::string, RunFiles> known;
  for (const auto& [run, bytes] : contents) {
    ATTNPRUNE_ASSIGN_OR_RETURN(known[run], ListRun(folder, run));
  }
  std::vector<std::string> files;
  for (const auto& [run, bytes] : contents) {
    ATTNPRUNE_RETURN_IF_ERROR(MakeRun(run));
    files.push_back((fs::path(run) / NewName(folder, known[run], now)).string());
    const absl::Span<const char> span = bytes;
    ATTNPRUNE_RETURN_IF_ERROR(WriteFileAtomically(files.back(), {span}));
    ATTNPRUNE_RETURN_IF_ERROR(RemoveAll(known[run].ours));
  }
  return files;
}

// A file that grows record by record while another process reads it. Errors name the path and the
// system's reason.
class LiveTensorBoard::EventFile {
 public:
  // Makes it, empty. ALREADY_EXISTS: something of that name is there, a link too.
  static absl::StatusOr<std::unique_ptr<EventFile>> Create(const std::string& path) {
    const int descriptor =
        open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, kMode);
    if (descriptor < 0) return ErrnoError(errno, path, "make");
    return absl::WrapUnique(new EventFile(path, descriptor));
  }
  ~EventFile() { close(descriptor_); }
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  // Whole records, seen by every reader when it returns; a power loss may take them back. After an
  // error the file ends as before, so that it stays readable.
  absl::Status Append(absl::string_view records) {
    if (const int error = WriteAll(descriptor_, {records.data(), records.size()}); error != 0) {
      absl::Status status = ErrnoError(error, path_, "write");
      if (ftruncate(descriptor_, size_) == 0) return status;
      return Annotate(status, "its last record is cut off");
    }
    size_ += static_cast<int64_t>(records.size());
    return absl::OkStatus();
  }

 private:
  EventFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  const std::string path_;
  const int descriptor_;
  int64_t size_ = 0;
};

struct LiveTensorBoard::Run {
  std::unique_ptr<EventFile> file;
  ScalarEvents scalars;
};

LiveTensorBoard::LiveTensorBoard(TensorBoardFolder folder) : folder_(std::move(folder)) {}
LiveTensorBoard::~LiveTensorBoard() = default;

absl::Status LiveTensorBoard::Add(const v1::JobEvent& event, absl::Time now) {
  if (MethodOf(event).empty()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(Run* const run, Open(event, now));
  return run->file->Append(RecordsOf(run->scalars.Add(event)));
}

absl::StatusOr<LiveTensorBoard::Run*> LiveTensorBoard::Open(const v1::JobEvent& first,
                                                            absl::Time now) {
  const std::string path = RunPath(folder_, MethodOf(first));
  const auto known = runs_.find(path);
  if (known != runs_.end()) return known->second.get();
  ATTNPRUNE_ASSIGN_OR_RETURN(const RunFiles files, ListRun(folder_, path));
  ATTNPRUNE_RETURN_IF_ERROR(MakeRun(path));
  auto run = std::make_unique<Run>();
  ATTNPRUNE_ASSIGN_OR_RETURN(
      run->file, EventFile::Create((fs::path(path) / NewName(folder_, files, now)).string()));
  ATTNPRUNE_RETURN_IF_ERROR(run->file->Append(Beginning(first)));
  ATTNPRUNE_RETURN_IF_ERROR(RemoveAll(files.ours));
  return runs_.emplace(path, std::move(run)).first->second.get();
}

}  // namespace attnprune::exporting
