// Files and folders that nobody else may move while a program has them open.
#ifndef ATTNPRUNE_CORE_IO_KEPT_IN_PLACE_H_
#define ATTNPRUNE_CORE_IO_KEPT_IN_PLACE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace attnprune {

// What is removed, moved away or replaced under its path still takes writes through what is open,
// and all of them are lost at the end: this tells before. Thread-safe once all paths are added.
class KeptInPlace {
 public:
  // The file or folder that is there now; one that is not there is not watched.
  void Add(const std::string& path);

  // UNAVAILABLE: one of them is no longer what it was; it may be put back. One stat each.
  absl::Status Check() const;

 private:
  std::vector<std::pair<std::string, uint64_t>> inodes_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_KEPT_IN_PLACE_H_
