// A file that grows record by record while another process reads it.
#ifndef ATTNPRUNE_CLIENT_EXPORT_EVENT_FILE_H_
#define ATTNPRUNE_CLIENT_EXPORT_EVENT_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace attnprune::exporting {

// Not thread-safe. Errors name the path and the system's reason.
class EventFile {
 public:
  // Makes it, empty. ALREADY_EXISTS: something of that name is there, a link too.
  static absl::StatusOr<EventFile> Create(const std::string& path);
  EventFile(EventFile&& other) noexcept;
  EventFile& operator=(EventFile&&) = delete;
  ~EventFile();

  const std::string& path() const { return path_; }

  // Whole records, seen by every reader when it returns; a power loss may take them back. After an
  // error the file ends as before, so that it stays readable.
  absl::Status Append(absl::string_view records);

 private:
  EventFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  std::string path_;
  int descriptor_;  // -1: moved from
  int64_t size_ = 0;
};

}  // namespace attnprune::exporting

#endif  // ATTNPRUNE_CLIENT_EXPORT_EVENT_FILE_H_
