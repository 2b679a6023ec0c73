#include "server/api/upload_pace.h"

#include <algorithm>

namespace attnprune::api {
namespace {

constexpr absl::Duration kSaved = absl::Seconds(1);

}  // namespace

absl::Duration UploadPace::After(const std::string& tenant, int64_t bytes) {
  if (bytes_per_second_ == 0) return absl::ZeroDuration();
  const absl::Time now = clock_->Now();
  const MutexLock lock(&mutex_);
  absl::Time& due = due_.try_emplace(tenant, absl::InfinitePast()).first->second;
  due = std::max(due, now - kSaved) +
        absl::Seconds(static_cast<double>(bytes) / static_cast<double>(bytes_per_second_));
  return std::max(absl::ZeroDuration(), due - now);
}

}  // namespace attnprune::api
