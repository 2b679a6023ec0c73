#include "server/web/web_host.h"

#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/clock.h"
#include "core/base/status_macros.h"
#include "server/api/request_check.h"
#include "server/http/access.h"
#include "server/http/io_loop.h"
#include "server/http/route.h"
#include "server/web/api_json.h"
#include "server/web/assets.h"
#include "server/web/event_feed.h"
#include "server/web/job_routes.h"

namespace attnprune::web {
namespace {

constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";

class WebServer final : public WebHost, public http::Handler {
 public:
  WebServer(const WebOptions& options, WebParts parts);
  ~WebServer() override;

  absl::Status Listen();

  int port() const override { return server_->port(); }
  std::string address() const override { return server_->address(); }
  void SetServing(bool serving) override { serving_ = serving; }
  void Shutdown(absl::Time deadline) override { server_->Shutdown(deadline); }

  void Handle(http::Request request, http::Respond respond) override;
  http::Response Refuse(int status, absl::string_view message) override;

 private:
  // A request, from its arrival to its answer.
  struct Call {
    http::Request request;
    http::RouteMatch match;
    RequestTrace trace;
    absl::Time begin;
    http::Respond respond;
  };

  absl::optional<http::Response> AnswerNow(http::Route route, const http::Request& request) const;
  absl::StatusOr<http::Answer> AnswerSlowly(const http::RouteMatch& match,
                                            const http::Request& request);
  absl::StatusOr<http::Answer> OpenStream(const http::RouteMatch& match,
                                          const http::Request& request);
  void Finish(const Call& call, http::Answer answer) const;

  const WebOptions options_;
  const WebParts parts_;
  const Assets assets_;
  std::atomic<bool> serving_{true};
  boost::asio::thread_pool io_;
  http::IoLoop loop_;
  EventFeed feed_;
  std::shared_ptr<http::HttpServer> server_;
};

http::Response Hardened(http::Response response) {
  for (const auto& header : http::SecurityHeaders()) response.headers.push_back(header);
  return response;
}

WebServer::WebServer(const WebOptions& options, WebParts parts)
    : options_(options),
      parts_(std::move(parts)),
      assets_(EmbeddedFiles()),
      io_(static_cast<size_t>(options.io_threads)),
      feed_({.hub = parts_.hub,
             .loop = &loop_,
             .io = &io_,
             .heartbeat = options.heartbeat,
             .viewers = &parts_.metrics->viewers}) {}

// What the threads still do comes to a loop that has stopped, and goes with it.
WebServer::~WebServer() {
  server_.reset();
  loop_.Stop();
  io_.join();
}

absl::Status WebServer::Listen() {
  ATTNPRUNE_ASSIGN_OR_RETURN(server_,
                             http::HttpServer::Start(options_.http, &loop_, this, parts_.metrics));
  return absl::OkStatus();
}

// What needs no file and no store.
absl::optional<http::Response> WebServer::AnswerNow(http::Route route,
                                                    const http::Request& request) const {
  if (absl::Status status = http::CheckAccess(options_.hosts, request); !status.ok()) {
    return ErrorResponse(status);
  }
  const absl::string_view allowed = http::AllowedVerbs(route);
  const bool takes_verb = absl::StrContains(allowed, http::VerbName(request.verb));
  if (route != http::Route::kOther && !takes_verb) {
    http::Response response = ErrorResponse(
        absl::UnimplementedError(absl::StrCat("this address takes ", allowed, " only")), 405);
    response.headers.emplace_back("Allow", allowed);
    return response;
  }
  if (route == http::Route::kEvents && request.http10) {
    return ErrorResponse(absl::UnimplementedError("a stream of events needs HTTP/1.1"), 505);
  }
  if (route == http::Route::kHealth) {
    http::Response response = TextResponse(request, serving_ ? "SERVING\n" : "NOT_SERVING\n",
                                           "text/plain; charset=utf-8");
    response.status = serving_ ? 200 : 503;
    return response;
  }
  if (route != http::Route::kOther && route != http::Route::kPage) return absl::nullopt;
  absl::optional<http::Response> file = assets_.Find(request);
  if (file.has_value()) return file;
  return ErrorResponse(absl::NotFoundError(absl::StrCat("there is nothing at ", request.path)));
}

// Two threads may look at once, so that the limit can be passed by one.
absl::StatusOr<http::Answer> WebServer::OpenStream(const http::RouteMatch& match,
                                                   const http::Request& request) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t after, ParseAfter(request));
  const int most = MaxViewers(options_.http.max_connections);
  if (parts_.metrics->viewers >= most) {
    return absl::UnavailableError(
        absl::StrCat("no more than ", most, " streams of events can be open at once"));
  }
  http::Answer answer;
  ATTNPRUNE_ASSIGN_OR_RETURN(answer.stream, feed_.Open(NameOf(match.id), after));
  answer.response.headers = {{"Cache-Control", "no-store"}, {"X-Accel-Buffering", "no"}};
  // To a browser that was there for the last event: nothing will follow, do not come back.
  if (answer.stream == nullptr) answer.response.status = 204;
  if (answer.stream != nullptr) answer.response.content_type = "text/event-stream";
  return answer;
}

absl::StatusOr<http::Answer> WebServer::AnswerSlowly(const http::RouteMatch& match,
                                                     const http::Request& request) {
  if (match.route == http::Route::kEvents) return OpenStream(match, request);
  http::Answer answer;
  if (match.route == http::Route::kMetrics) {
    answer.response = TextResponse(request, parts_.metrics_text(), kMetricsType);
  } else if (IsRunRoute(match.route)) {
    ATTNPRUNE_ASSIGN_OR_RETURN(answer.response, AnswerRunRoute(*parts_.runs, match, request));
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(answer.response,
                               AnswerJobRoute(*parts_.api, *parts_.tensors, match, request));
  }
  return answer;
}

void WebServer::Finish(const Call& call, http::Answer answer) const {
  const http::RouteMatch& match = call.match;
  const bool no_page = match.route == http::Route::kPage && answer.response.status == 404;
  answer.route = static_cast<int>(no_page ? http::Route::kOther : match.route);
  answer.response = Hardened(std::move(answer.response));
  answer.response.headers.emplace_back("X-Request-Id", call.trace.request_id);
  if (options_.on_call) {
    const std::string job = NameOf(match.id);
    options_.on_call({.verb = http::VerbName(call.request.verb),
                      .path = call.request.path,
                      .job = api::ParseWatchedName(job).ok() ? job : "",
                      .request = call.trace,
                      .status = answer.response.status,
                      .took = SteadyNow() - call.begin});
  }
  call.respond(std::move(answer));
}

void WebServer::Handle(http::Request request, http::Respond respond) {
  auto call = std::make_shared<Call>();
  call->begin = SteadyNow();
  call->match = http::MatchRoute(request.path);
  call->trace = TraceRequest(request.request_id, request.traceparent);
  call->request = std::move(request);
  call->respond = std::move(respond);
  if (absl::optional<http::Response> response = AnswerNow(call->match.route, call->request)) {
    return Finish(*call, {.response = *std::move(response), .stream = nullptr});
  }
  boost::asio::post(io_, [this, call] {
    absl::StatusOr<http::Answer> answer = AnswerSlowly(call->match, call->request);
    if (answer.ok()) return Finish(*call, *std::move(answer));
    Finish(*call, {.response = ErrorResponse(answer.status()), .stream = nullptr});
  });
}

http::Response WebServer::Refuse(int status, absl::string_view message) {
  return Hardened(ErrorResponse(absl::InvalidArgumentError(message), status));
}

}  // namespace

absl::StatusOr<std::unique_ptr<WebHost>> WebHost::Start(const WebOptions& options, WebParts parts) {
  auto host = std::make_unique<WebServer>(options, std::move(parts));
  ATTNPRUNE_RETURN_IF_ERROR(host->Listen());
  return std::unique_ptr<WebHost>(std::move(host));
}

}  // namespace attnprune::web
