#include "server/web/web_host.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "server/api/job_check.h"
#include "server/blobs/io_threads.h"
#include "server/http/io_loop.h"
#include "server/http/route.h"
#include "server/web/api_json.h"
#include "server/web/assets.h"
#include "server/web/event_feed.h"
#include "server/web/job_routes.h"

namespace attnprune::http {
namespace {

constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";

class WebServer final : public WebHost, public Handler {
 public:
  WebServer(const WebOptions& options, WebParts parts);
  ~WebServer() override;

  absl::Status Listen();

  int port() const override { return server_->port(); }
  std::string address() const override { return server_->address(); }
  void StopServing() override { draining_ = true; }
  void Shutdown(absl::Time deadline) override { server_->Shutdown(deadline); }

  void Handle(Request request, Respond respond) override;
  Response Refuse(int status, absl::string_view message) override;

 private:
  // A request, from its arrival to its answer.
  struct Call {
    Request request;
    RouteMatch match;
    RequestTrace trace;
    absl::Time begin;
    Respond respond;
  };

  absl::optional<Response> AnswerNow(Route route, const Request& request) const;
  absl::StatusOr<Answer> AnswerSlowly(const RouteMatch& match, const Request& request);
  absl::StatusOr<Answer> OpenStream(const RouteMatch& match, const Request& request);
  void Finish(const Call& call, Answer answer) const;

  const WebOptions options_;
  const WebParts parts_;
  const Assets assets_;
  const JobRoutes routes_;
  std::atomic<bool> draining_{false};
  std::unique_ptr<IoThreads> io_;
  IoLoop loop_;
  EventFeed feed_;
  std::unique_ptr<HttpServer> server_;
};

Response Hardened(Response response) {
  for (const auto& header : SecurityHeaders()) response.headers.push_back(header);
  return response;
}

WebServer::WebServer(const WebOptions& options, WebParts parts)
    : options_(options),
      parts_(std::move(parts)),
      assets_(EmbeddedFiles()),
      routes_(options.api, parts_.jobs, parts_.tensors),
      io_(std::make_unique<IoThreads>(options.io_threads)),
      feed_({.jobs = parts_.jobs,
             .subscribe = parts_.subscribe,
             .loop = &loop_,
             .io = io_.get(),
             .heartbeat = options.heartbeat,
             .viewers = &parts_.metrics->viewers}) {}

// What the threads still do comes to a loop that has stopped, and goes with it.
WebServer::~WebServer() {
  server_.reset();
  loop_.Stop();
  io_.reset();
}

absl::Status WebServer::Listen() {
  ATTNPRUNE_ASSIGN_OR_RETURN(server_,
                             HttpServer::Start(options_.http, &loop_, this, parts_.metrics));
  return absl::OkStatus();
}

// What needs no file and no store.
absl::optional<Response> WebServer::AnswerNow(Route route, const Request& request) const {
  if (absl::Status status = CheckAccess(options_.access, request); !status.ok()) {
    return ErrorResponse(status);
  }
  const absl::string_view allowed = AllowedVerbs(route);
  const bool reads =
      request.verb == Verb::kGet || (request.verb == Verb::kHead && route != Route::kEvents);
  if (route != Route::kOther && (route == Route::kCancel ? request.verb != Verb::kPost : !reads)) {
    Response response = ErrorResponse(
        absl::UnimplementedError(absl::StrCat("this address takes ", allowed, " only")), 405);
    response.headers.emplace_back("Allow", allowed);
    return response;
  }
  if (route == Route::kEvents && request.http10) {
    return ErrorResponse(absl::UnimplementedError("a stream of events needs HTTP/1.1"), 505);
  }
  if (route == Route::kHealth) {
    Response response = TextResponse(request, draining_ ? "NOT_SERVING\n" : "SERVING\n",
                                     "text/plain; charset=utf-8");
    response.status = draining_ ? 503 : 200;
    return response;
  }
  if (route != Route::kOther && route != Route::kPage) return absl::nullopt;
  absl::optional<Response> file = assets_.Find(request);
  if (file.has_value()) return file;
  return ErrorResponse(absl::NotFoundError(absl::StrCat("there is nothing at ", request.path)));
}

// Two threads may look at once, so that the limit can be passed by one.
absl::StatusOr<Answer> WebServer::OpenStream(const RouteMatch& match, const Request& request) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t after, ParseAfter(request));
  const int most = MaxViewers(options_.http.max_connections);
  if (parts_.metrics->viewers >= most) {
    return absl::UnavailableError(
        absl::StrCat("no more than ", most, " streams of events can be open at once"));
  }
  Answer answer;
  ATTNPRUNE_ASSIGN_OR_RETURN(answer.stream, feed_.Open(absl::StrCat("jobs/", match.id), after));
  answer.response.headers = {{"Cache-Control", "no-store"}, {"X-Accel-Buffering", "no"}};
  // To a browser that was there for the last event: nothing will follow, do not come back.
  if (answer.stream == nullptr) answer.response.status = 204;
  if (answer.stream != nullptr) answer.response.content_type = "text/event-stream";
  return answer;
}

absl::StatusOr<Answer> WebServer::AnswerSlowly(const RouteMatch& match, const Request& request) {
  if (match.route == Route::kEvents) return OpenStream(match, request);
  Answer answer;
  if (match.route == Route::kMetrics) {
    answer.response = TextResponse(request, parts_.metrics_text(), kMetricsType);
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(answer.response, routes_.Answer(match, request));
  }
  return answer;
}

void WebServer::Finish(const Call& call, Answer answer) const {
  const RouteMatch& match = call.match;
  const bool no_page = match.route == Route::kPage && answer.response.status == 404;
  answer.route = static_cast<int>(no_page ? Route::kOther : match.route);
  answer.response = Hardened(std::move(answer.response));
  answer.response.headers.emplace_back("X-Request-Id", call.trace.request_id);
  if (options_.on_call) {
    const std::string job = rpc::JobName(match.id);
    options_.on_call({.verb = call.request.verb,
                      .path = call.request.path,
                      .job = rpc::ParseJobName(job).ok() ? job : "",
                      .request = call.trace,
                      .status = answer.response.status,
                      .took = absl::Now() - call.begin});
  }
  call.respond(std::move(answer));
}

void WebServer::Handle(Request request, Respond respond) {
  auto call = std::make_shared<Call>();
  call->begin = absl::Now();
  call->match = MatchRoute(request.path);
  call->trace = TraceRequest(request.request_id, request.traceparent);
  call->request = std::move(request);
  call->respond = std::move(respond);
  if (absl::optional<Response> response = AnswerNow(call->match.route, call->request)) {
    Answer now;
    now.response = *std::move(response);
    return Finish(*call, std::move(now));
  }
  io_->Post([this, call] {
    absl::StatusOr<Answer> answer = AnswerSlowly(call->match, call->request);
    if (!answer.ok()) {
      Answer error;
      error.response = ErrorResponse(answer.status());
      answer = std::move(error);
    }
    Finish(*call, *std::move(answer));
  });
}

Response WebServer::Refuse(int status, absl::string_view message) {
  return Hardened(ErrorResponse(absl::InvalidArgumentError(message), status));
}

}  // namespace

absl::StatusOr<std::unique_ptr<WebHost>> WebHost::Start(const WebOptions& options, WebParts parts) {
  auto host = std::make_unique<WebServer>(options, std::move(parts));
  ATTNPRUNE_RETURN_IF_ERROR(host->Listen());
  return std::unique_ptr<WebHost>(std::move(host));
}

}  // namespace attnprune::http
