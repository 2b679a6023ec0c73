// XXH3 of a sequence of fields, each with its kind and length, so that no two sequences run
// together.
#ifndef ATTNPRUNE_SERVER_QUEUE_CHECKSUM_H_
#define ATTNPRUNE_SERVER_QUEUE_CHECKSUM_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace attnprune {

// Stable: its values are stored. Against damage, not against forgery.
class Checksum {
 public:
  Checksum& AddNull();
  Checksum& AddInteger(int64_t value);
  Checksum& AddText(absl::string_view text);
  Checksum& AddBytes(absl::string_view bytes);
  int64_t Value() const;

 private:
  void AddField(char kind, absl::string_view bytes);
  std::string fields_;
};

int64_t ChecksumOfBytes(absl::string_view bytes);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_CHECKSUM_H_
