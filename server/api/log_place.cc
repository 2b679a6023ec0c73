#include "server/api/log_place.h"

#include <utility>

namespace attnprune::api {

LogPlace::LogPlace(std::string job_id, int64_t after, const LogExtent& log)
    : job_id_(std::move(job_id)),
      after_(after),
      replay_until_(log.newest_sequence),
      ended_(IsTerminal(log.state) && after == log.newest_sequence) {}

void LogPlace::Advance(const BatchEnd& batch) {
  caught_up_ = caught_up_ || batch.last == after_;
  more_ = batch.full || !caught_up_;
  after_ = batch.last;
  ended_ = ended_ || batch.terminal;
}

}  // namespace attnprune::api
