#include "server/web/web_host.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/clock.h"
#include "core/base/status_macros.h"
#include "server/access/stream_slots.h"
#include "server/api/request_check.h"
#include "server/http/access.h"
#include "server/http/io_loop.h"
#include "server/http/route.h"
#include "server/web/api_json.h"
#include "server/web/assets.h"
#include "server/web/event_feed.h"
#include "server/web/job_routes.h"
#include "server/web/login.h"

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
    access::Caller caller = {};  // once it is let in
  };

  absl::optional<http::Response> AnswerNow(http::Route route, const http::Request& request) const;
  absl::StatusOr<http::Answer> AnswerSlowly(Call& call);
  absl::StatusOr<http::Answer> OpenStream(const Call& call);
  void Finish(const Call& call, http::Answer answer) const;

  const WebOptions options_;
  const WebParts parts_;
  const Assets assets_;
  const RealClock clock_;
  Login login_;
  const access::StreamSlots viewers_;
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

// Where there are tenants, none has all places.
access::StreamLimits ViewerLimits(int connections, bool has_tenants) {
  const int most = MaxViewers(connections);
  return {.in_all = std::numeric_limits<int64_t>::max(),  // OpenStream looks
          .per_tenant = std::max(1, has_tenants ? most / 2 : most),
          .per_tenant_by = "half of the HTTP port's"};
}

WebServer::WebServer(const WebOptions& options, WebParts parts)
    : options_(options),
      parts_(std::move(parts)),
      assets_(EmbeddedFiles()),
      login_(parts_.gate, &clock_, options.https),
      viewers_(ViewerLimits(options.http.max_connections, parts_.gate->has_tokens())),
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
absl::StatusOr<http::Answer> WebServer::OpenStream(const Call& call) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t after, ParseAfter(call.request));
  const int most = MaxViewers(options_.http.max_connections);
  if (parts_.metrics->viewers >= most) {
    return absl::UnavailableError(
        absl::StrCat("no more than ", most, " streams of events can be open at once"));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const access::StreamSlot slot, parts_.gate->OpenStream(call.caller));
  ATTNPRUNE_ASSIGN_OR_RETURN(const access::StreamSlot place, viewers_.Take(call.caller.tenant));
  http::Answer answer;
  ATTNPRUNE_ASSIGN_OR_RETURN(
      answer.stream, feed_.Open(call.caller, NameOf(call.match.id), after,
                                [this, route = call.match.route, request = call.request, slot,
                                 place] { return login_.Admit(route, request).ok(); }));
  answer.response.headers = {{"Cache-Control", "no-store"}, {"X-Accel-Buffering", "no"}};
  // To a browser that was there for the last event: nothing will follow, do not come back.
  if (answer.stream == nullptr) answer.response.status = 204;
  if (answer.stream != nullptr) answer.response.content_type = "text/event-stream";
  return answer;
}

// The one way to what is stored: nothing is answered before the caller is let in.
absl::StatusOr<http::Answer> WebServer::AnswerSlowly(Call& call) {
  const http::RouteMatch& match = call.match;
  const http::Request& request = call.request;
  ATTNPRUNE_ASSIGN_OR_RETURN(call.caller, login_.Admit(match.route, request));
  if (match.route == http::Route::kEvents) return OpenStream(call);
  http::Answer answer;
  if (match.route == http::Route::kSession || match.route == http::Route::kEndSession) {
    ATTNPRUNE_ASSIGN_OR_RETURN(answer.response, login_.Answer(match.route, request));
  } else if (match.route == http::Route::kMetrics) {
    answer.response = TextResponse(request, parts_.metrics_text(), kMetricsType);
  } else if (IsRunRoute(match.route)) {
    ATTNPRUNE_ASSIGN_OR_RETURN(answer.response,
                               AnswerRunRoute(call.caller, *parts_.runs, match, request));
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        answer.response, AnswerJobRoute(call.caller, *parts_.api, *parts_.tensors, match, request));
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
    const bool changes = call.request.verb == http::Verb::kPost;
    options_.on_call({.verb = http::VerbName(call.request.verb),
                      .path = call.request.path,
                      .job = api::ParseWatchedName(job).ok() ? job : "",
                      .action = changes ? http::ActionOf(match.route) : "",
                      .caller = {.who = call.caller.name,
                                 .tenant = call.caller.tenant,
                                 .peer = call.request.peer},
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
    absl::StatusOr<http::Answer> answer = AnswerSlowly(*call);
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
