#include "core/io/background_sha256.h"

#include <system_error>
#include <utility>

namespace attnprune {

BackgroundSha256::~BackgroundSha256() {
  const MutexLock lock(&mutex_);
  pieces_.clear();
  over_ = true;
  changed_.NotifyAll();
}

bool BackgroundSha256::Start() {
  if (thread_.joinable()) return true;
  try {
    thread_ = std::jthread([this] { Run(); });
  } catch (const std::system_error&) {
    return false;
  }
  return true;
}

std::string BackgroundSha256::Update(std::string piece) {
  const bool first = !std::exchange(begun_, true);
  if (!first && !Start()) {
    const MutexLock lock(&mutex_);
    for (; !pieces_.empty(); pieces_.pop_front()) hash_.Update(pieces_.front());
    hash_.Update(piece);
    return piece;
  }
  const MutexLock lock(&mutex_);
  changed_.Wait(&mutex_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return pieces_.size() < kMostPieces;
  });
  pieces_.push_back(std::move(piece));
  changed_.NotifyAll();
  if (used_.empty()) return {};
  std::string used = std::move(used_.back());
  used_.pop_back();
  return used;
}

void BackgroundSha256::Run() {
  std::string piece;
  while (true) {
    {
      const MutexLock lock(&mutex_);
      if (!piece.empty()) used_.push_back(std::move(piece));
      changed_.Wait(&mutex_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return over_ || !pieces_.empty();
      });
      if (pieces_.empty()) return;
      piece = std::move(pieces_.front());
      pieces_.pop_front();
    }
    changed_.NotifyAll();
    hash_.Update(piece);
  }
}

std::string BackgroundSha256::Finish() {
  {
    const MutexLock lock(&mutex_);
    over_ = true;
  }
  changed_.NotifyAll();
  if (thread_.joinable()) thread_.join();
  const MutexLock lock(&mutex_);
  for (const std::string& piece : pieces_) hash_.Update(piece);
  return hash_.Finish();
}

}  // namespace attnprune
