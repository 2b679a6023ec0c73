// What the HTTP port counts of itself.
#ifndef ATTNPRUNE_SERVER_HTTP_WEB_METRICS_H_
#define ATTNPRUNE_SERVER_HTTP_WEB_METRICS_H_

#include <atomic>
#include <cstddef>

#include "server/observe/call_metrics.h"
#include "server/observe/instruments.h"

namespace attnprune::http {

// Thread-safe; takes no lock.
class WebMetrics {
 public:
  WebMetrics();

  // An answer has been sent, or a stream has begun, `seconds` after the request had arrived.
  void OnAnswered(int route, int status, double seconds);
  void OnSent(size_t bytes) { sent_bytes.Add(static_cast<int64_t>(bytes)); }

  void AddTo(Exposition& out) const;

  CallMetrics requests;  // by route (route.h)
  std::atomic<int> connections{0}, viewers{0};
  Counter refused_connections;  // for want of room
  Counter evicted_connections;  // closed for a newer one, for want of room
  Counter sent_bytes;
};

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_HTTP_WEB_METRICS_H_
