#include "server/http/web_metrics.h"

#include "absl/strings/str_cat.h"
#include "server/http/route.h"

namespace attnprune::http {

WebMetrics::WebMetrics() : requests(HttpCalls({kRouteNames.begin(), kRouteNames.end()})) {}

void WebMetrics::OnAnswered(int route, int status, double seconds) {
  requests.Count(static_cast<size_t>(route), requests.CodeIndex(absl::StrCat(status)), seconds);
}

void WebMetrics::AddTo(Exposition& out) const {
  out.Counters("attnprune_http_requests_total", "HTTP requests answered.");
  requests.AddCounts("route", out);
  out.Histograms("attnprune_http_request_seconds",
                 "From the whole request to the answer's last byte, or a stream's beginning.");
  requests.AddSeconds("route", out);
  out.Gauge("attnprune_http_connections", "HTTP connections open now.", connections);
  out.Gauge("attnprune_http_viewers", "Streams of events open now.", viewers);
  out.Count("attnprune_http_refused_connections_total", "Connections beyond the limit.",
            static_cast<double>(refused_connections.value()));
  out.Count("attnprune_http_evicted_connections_total", "Idle ones closed for newer ones.",
            static_cast<double>(evicted_connections.value()));
  out.Count("attnprune_http_sent_bytes_total", "Bytes of answers and events sent.",
            static_cast<double>(sent_bytes.value()));
}

}  // namespace attnprune::http
