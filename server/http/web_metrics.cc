#include "server/http/web_metrics.h"

#include "absl/strings/str_cat.h"
#include "server/http/route.h"

namespace attnprune::http {

WebMetrics::WebMetrics() : requests(HttpCalls({kRouteNames.begin(), kRouteNames.end()})) {}

void WebMetrics::OnAnswered(int route, int status, double seconds) {
  requests.Count(static_cast<size_t>(route), requests.CodeIndex(absl::StrCat(status)), seconds);
}

}  // namespace attnprune::http
