// How many streams may be open: uploads, downloads and watches, of all and of each tenant.
#ifndef ATTNPRUNE_SERVER_ACCESS_STREAM_SLOTS_H_
#define ATTNPRUNE_SERVER_ACCESS_STREAM_SLOTS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace attnprune::access {

struct StreamLimits {
  int64_t in_all = 4000, per_tenant = 4000;  // each at least 1
  // What sets them, for errors.
  absl::string_view in_all_by = "--max-streams", per_tenant_by = "--max-streams-per-tenant";
};

// The place of one stream, until its last copy is gone. May outlive its StreamSlots.
using StreamSlot = std::shared_ptr<const void>;

// Thread-safe.
class StreamSlots {
 public:
  explicit StreamSlots(const StreamLimits& limits);

  // RESOURCE_EXHAUSTED: says how many are open, and which limit that is.
  absl::StatusOr<StreamSlot> Take(const std::string& tenant) const;

 private:
  class Counts;
  const std::shared_ptr<Counts> counts_;
};

}  // namespace attnprune::access

#endif  // ATTNPRUNE_SERVER_ACCESS_STREAM_SLOTS_H_
