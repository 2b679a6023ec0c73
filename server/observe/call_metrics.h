// Calls of both ports, counted.
#ifndef ATTNPRUNE_SERVER_OBSERVE_CALL_METRICS_H_
#define ATTNPRUNE_SERVER_OBSERVE_CALL_METRICS_H_

#include <atomic>
#include <deque>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/observe/exposition.h"
#include "server/observe/instruments.h"

namespace attnprune {

// Calls by name and by the code they ended with. Names and codes are fixed, so that no client can
// make them grow. Thread-safe; takes no lock.
class CallMetrics {
 public:
  // names[0] stands for all that are not there, codes[0] alike.
  CallMetrics(std::vector<std::string> names, std::vector<std::string> codes);

  size_t NameIndex(absl::string_view name) const;  // 0: not there
  size_t CodeIndex(absl::string_view code) const;

  void Begin(size_t name) { in_flight_[name].fetch_add(1, std::memory_order_relaxed); }
  void End(size_t name) { in_flight_[name].fetch_sub(1, std::memory_order_relaxed); }
  void Count(size_t name, size_t code, double seconds);

  // {name_label="…", code="OK"}; pairs that never occurred are left out.
  void AddCounts(absl::string_view name_label, Exposition& out) const;
  void AddSeconds(absl::string_view name_label, Exposition& out) const;
  void AddInFlight(absl::string_view name_label, Exposition& out) const;

 private:
  const std::vector<std::string> names_, codes_;
  CounterTable calls_;
  std::vector<std::atomic<int64_t>> in_flight_;
  std::deque<Histogram> seconds_;  // by name
};

// The names and codes of this server's gRPC calls ("attnprune.v1.PruneService/GetJob"; the codes in
// the order of their numbers) and of its HTTP routes.
CallMetrics GrpcCalls();
CallMetrics HttpCalls(std::vector<std::string> routes);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBSERVE_CALL_METRICS_H_
