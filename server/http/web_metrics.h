// What the HTTP port counts of itself.
#ifndef ATTNPRUNE_SERVER_HTTP_WEB_METRICS_H_
#define ATTNPRUNE_SERVER_HTTP_WEB_METRICS_H_

#include <atomic>
#include <cstddef>

#include "server/http/message.h"
#include "server/observe/call_metrics.h"
#include "server/observe/instruments.h"

namespace attnprune::http {

// Thread-safe; takes no lock.
class WebMetrics final : public Observer {
 public:
  WebMetrics();

  void OnConnections(int open) override { connections = open; }
  void OnRefusedConnection() override { refused_connections.Add(); }
  void OnEvictedConnection() override { evicted_connections.Add(); }
  void OnAnswered(int route, int status, double seconds) override;
  void OnSent(size_t bytes) override { sent_bytes.Add(static_cast<int64_t>(bytes)); }

  void AddTo(Exposition& out) const;

  CallMetrics requests;  // by route (route.h)
  std::atomic<int> connections{0}, viewers{0};
  Counter refused_connections, evicted_connections, sent_bytes;
};

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_HTTP_WEB_METRICS_H_
