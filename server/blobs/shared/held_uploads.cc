#include "server/blobs/shared/held_uploads.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/clock.h"
#include "core/base/status_macros.h"
#include "server/blobs/upload_rules.h"

namespace attnprune {
namespace {

constexpr absl::Duration kFiguresAge = absl::Seconds(1);

}  // namespace

std::string RandomDigits() {
  thread_local std::random_device random;
  std::string digits;
  for (int i = 0; i < 4; ++i) absl::StrAppend(&digits, absl::Hex(random(), absl::kZeroPad8));
  return digits;
}

HeldUploads::HeldUploads(std::string name, const BlobStoreLimits& limits, BlobLedger* ledger)
    : name_(std::move(name)), limits_(limits), ledger_(ledger), renewing_([this] { Renew(); }) {}

HeldUploads::~HeldUploads() {
  {
    const MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
}

void HeldUploads::Renew() {
  while (true) {
    {
      const MutexLock lock(&mutex_);
      if (wake_.WaitFor(&mutex_, kLease / 3,
                        [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; })) {
        return;
      }
    }
    const std::vector<std::string> holders = Holders();
    // Where the database is away, writes say so.
    if (!holders.empty()) ledger_->Renew(holders, kLease).IgnoreError();
  }
}

// The figures leave out what this stream is to hold, and so count what is there of it.
absl::Status HeldUploads::TakeInLedger(const UploadSpec& spec, int64_t offset, Hold& hold) {
  ATTNPRUNE_RETURN_IF_ERROR(UpdateFigures());
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t known, ledger_->CommittedBytes(spec.Key()));
  {
    const MutexLock lock(&mutex_);
    ATTNPRUNE_RETURN_IF_ERROR(CheckUploadSize(spec, TakenLocked() - known, limits_));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(hold.upload,
                             ledger_->Hold(spec, offset, hold.holder, kLease, limits_));
  return absl::OkStatus();
}

absl::StatusOr<HeldUploads::Hold> HeldUploads::Take(const UploadSpec& spec, int64_t offset) {
  const std::string key = spec.Key();
  Hold hold;
  hold.holder = absl::StrCat(name_, "/", RandomDigits());
  {
    const MutexLock lock(&mutex_);
    const bool is_new =
        own_.try_emplace(key, Own{.tenant = spec.tenant, .holder = hold.holder}).second;
    if (!is_new) return UploadIsHeld(spec);
  }
  const absl::Status status = TakeInLedger(spec, offset, hold);
  {
    const MutexLock lock(&mutex_);
    if (status.ok()) {
      own_[key].taken = own_[key].received = offset;
    } else {
      own_.erase(key);
    }
  }
  Invalidate();
  if (!status.ok()) return status;
  return hold;
}

absl::Status HeldUploads::TakeRoom(const std::string& key, int64_t bytes) {
  ATTNPRUNE_RETURN_IF_ERROR(UpdateFigures());
  const MutexLock lock(&mutex_);
  Own& own = own_[key];
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadRoom(own.received, bytes, TakenLocked(), limits_));
  own.taken += bytes;
  return absl::OkStatus();
}

void HeldUploads::RecordProgress(const std::string& key, int64_t received) {
  const MutexLock lock(&mutex_);
  own_[key].received = received;
}

void HeldUploads::Forget(const std::string& key) {
  {
    const MutexLock lock(&mutex_);
    own_.erase(key);
  }
  Invalidate();
}

absl::optional<int64_t> HeldUploads::Received(const std::string& key) const {
  const MutexLock lock(&mutex_);
  const auto found = own_.find(key);
  if (found == own_.end()) return absl::nullopt;
  return found->second.received;
}

std::vector<std::string> HeldUploads::Holders() const {
  const MutexLock lock(&mutex_);
  std::vector<std::string> holders;
  for (const auto& [key, own] : own_) holders.push_back(own.holder);
  return holders;
}

void HeldUploads::Invalidate() {
  const MutexLock lock(&mutex_);
  ++changes_;
  figures_time_ = absl::InfinitePast();
}

absl::Status HeldUploads::UpdateFigures() {
  int64_t changes = 0;
  {
    const MutexLock lock(&mutex_);
    if (SteadyNow() - figures_time_ < kFiguresAge) return absl::OkStatus();
    changes = changes_;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(LedgerFigures figures, ledger_->Figures(Holders()));
  const MutexLock lock(&mutex_);
  figures_ = std::move(figures);
  if (changes == changes_) figures_time_ = SteadyNow();
  return absl::OkStatus();
}

int64_t HeldUploads::TakenLocked() const {
  int64_t taken = figures_.blob_bytes + figures_.upload_bytes;
  for (const auto& [key, own] : own_) taken += own.taken;
  return taken;
}

BlobStoreUsage HeldUploads::Usage() {
  UpdateFigures().IgnoreError();
  const MutexLock lock(&mutex_);
  BlobStoreUsage usage = {.blobs = figures_.blobs,
                          .blob_bytes = figures_.blob_bytes,
                          .uploads = figures_.uploads + static_cast<int64_t>(own_.size()),
                          .upload_bytes = figures_.upload_bytes,
                          .max_bytes = limits_.max_total_bytes};
  for (const auto& [key, own] : own_) usage.upload_bytes += own.taken;
  return usage;
}

int64_t HeldUploads::BytesOf(const std::string& tenant) {
  UpdateFigures().IgnoreError();
  const MutexLock lock(&mutex_);
  const auto found = figures_.upload_bytes_of.find(tenant);
  int64_t bytes = found == figures_.upload_bytes_of.end() ? 0 : found->second;
  for (const auto& [key, own] : own_) {
    if (own.tenant == tenant) bytes += own.taken;
  }
  return bytes;
}

}  // namespace attnprune
