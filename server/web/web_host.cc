#include "server/web/web_host.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/clock.h"
#include "core/base/status_macros.h"
#include "server/access/stream_slots.h"
#include "server/api/request_check.h"
#include "server/api/status_details.h"
#include "server/blobs/upload_spec.h"
#include "server/http/access.h"
#include "server/http/io_loop.h"
#include "server/http/route.h"
#include "server/web/api_json.h"
#include "server/web/assets.h"
#include "server/web/download.h"
#include "server/web/event_feed.h"
#include "server/web/job_routes.h"
#include "server/web/login.h"
#include "server/web/openapi.h"
#include "server/web/tensor_routes.h"
#include "server/web/upload_call.h"

namespace attnprune::web {
namespace {

constexpr absl::Duration kRetryTransfer = absl::Seconds(5);
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
  bool TakesPieces(const http::Request& request) override;
  http::Response Refuse(int status, absl::string_view message) override;

 private:
  // A request, from its arrival to its answer.
  struct Call {
    http::Request request;
    http::RouteMatch match;
    RequestTrace trace;
    absl::Time begin;
    http::Respond respond;
    access::Caller caller = {};    // once it is let in
    access::StreamSlot slot = {};  // of one whose body is taken in pieces, or that downloads
    CallTold told = {};
  };

  absl::optional<http::Response> AnswerNow(const http::RouteMatch& match,
                                           const http::Request& request) const;
  absl::Status Admit(Call& call) const;
  void Begin(const std::shared_ptr<Call>& call);
  void TakeUpload(const std::shared_ptr<Call>& call);
  void TakeJson(const std::shared_ptr<Call>& call);
  absl::StatusOr<http::Answer> AnswerSlowly(Call& call);
  absl::StatusOr<http::Response> AnswerText(Call& call);
  absl::StatusOr<http::Answer> OpenStream(const Call& call);
  void FinishWith(const Call& call, absl::StatusOr<http::Answer> answer) const;
  void Finish(const Call& call, http::Answer answer) const;

  const WebOptions options_;
  const WebParts parts_;
  const Assets assets_;
  const RealClock clock_;
  Login login_;
  const access::StreamSlots viewers_;
  const access::StreamSlots transfers_;
  const std::string openapi_ = OpenApiJson();
  std::atomic<bool> serving_{true};
  boost::asio::thread_pool io_, transfers_io_;
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

// Of what downloads, and what sends more than a little: each has some pieces in memory, or JSON.
access::StreamLimits TransferLimits(bool has_tenants) {
  return {.in_all = kMaxTransfers,
          .per_tenant = has_tenants ? kMaxTransfers * 3 / 4 : kMaxTransfers,
          .in_all_by = "the HTTP port's",
          .per_tenant_by = "three quarters of the HTTP port's"};
}

// Whose body the host reads itself, once it knows who sends it.
bool HasLargeBody(http::Route route) {
  using http::Route;
  return route == Route::kUpload || route == Route::kCreateJob || route == Route::kCreateRun ||
         route == Route::kMissing;
}

bool IsDownload(http::Route route) {
  using http::Route;
  return route == Route::kTensor || route == Route::kJobFiles || route == Route::kRunFiles;
}

bool IsTensorRoute(http::Route route) {
  using http::Route;
  return route == Route::kTensors || route == Route::kMissing || route == Route::kQueryUpload;
}

WebServer::WebServer(const WebOptions& options, WebParts parts)
    : options_(options),
      parts_(std::move(parts)),
      assets_(EmbeddedFiles()),
      login_(parts_.gate, &clock_, options.https),
      viewers_(ViewerLimits(options.http.max_connections, parts_.gate->has_tokens())),
      transfers_(TransferLimits(parts_.gate->has_tokens())),
      io_(static_cast<size_t>(options.io_threads)),
      transfers_io_(static_cast<size_t>(options.transfer_threads)),
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
  transfers_io_.join();
}

absl::Status WebServer::Listen() {
  ATTNPRUNE_ASSIGN_OR_RETURN(server_,
                             http::HttpServer::Start(options_.http, &loop_, this, parts_.metrics));
  return absl::OkStatus();
}

// What needs no file and no store.
absl::optional<http::Response> WebServer::AnswerNow(const http::RouteMatch& match,
                                                    const http::Request& request) const {
  using http::Route;
  if (absl::Status status = http::CheckAccess(options_.hosts, request); !status.ok()) {
    return ErrorResponse(status);
  }
  const Route route = match.route;
  if (route != Route::kOther && !match.takes_verb) {
    const std::string allowed = http::AllowedVerbs(request.path);
    http::Response response = ErrorResponse(
        absl::UnimplementedError(absl::StrCat("this address takes ", allowed, " only")), 405);
    response.headers.emplace_back("Allow", allowed);
    return response;
  }
  if (route == Route::kEvents && request.http10) {
    return ErrorResponse(absl::UnimplementedError("a stream of events needs HTTP/1.1"), 505);
  }
  if (route == Route::kHealth) {
    http::Response response = TextResponse(request, serving_ ? "SERVING\n" : "NOT_SERVING\n",
                                           "text/plain; charset=utf-8");
    response.status = serving_ ? 200 : 503;
    return response;
  }
  if (route == Route::kOpenApi) return TextResponse(request, openapi_, "application/json");
  if (route != Route::kOther && route != Route::kPage) return absl::nullopt;
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

// The one way to what is stored: nothing is answered, nor more of a body read, before the caller is
// let in.
absl::Status WebServer::Admit(Call& call) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(call.caller, login_.Admit(call.match.route, call.request));
  const bool transfers = HasLargeBody(call.match.route) ||
                         (IsDownload(call.match.route) && call.request.verb == http::Verb::kGet);
  if (!transfers) return absl::OkStatus();
  const absl::StatusOr<access::StreamSlot> stream = parts_.gate->OpenStream(call.caller);
  if (!stream.ok()) return api::WithRetryAfter(stream.status(), kRetryTransfer);
  const absl::StatusOr<access::StreamSlot> place = transfers_.Take(call.caller.tenant);
  if (!place.ok()) return api::WithRetryAfter(place.status(), kRetryTransfer);
  call.slot = std::make_shared<std::pair<access::StreamSlot, access::StreamSlot>>(*stream, *place);
  return absl::OkStatus();
}

void WebServer::Begin(const std::shared_ptr<Call>& call) {
  const absl::Status admitted = Admit(*call);
  if (!admitted.ok()) return FinishWith(*call, admitted);
  if (call->match.route == http::Route::kUpload) {
    return boost::asio::post(transfers_io_, [this, call] { TakeUpload(call); });
  }
  if (call->request.incoming != nullptr) return TakeJson(call);
  FinishWith(*call, AnswerSlowly(*call));
}

void WebServer::TakeUpload(const std::shared_ptr<Call>& call) {
  const absl::StatusOr<AskedUpload> asked = ParseUpload(call->match, call->request.query);
  if (!asked.ok()) return FinishWith(*call, asked.status());
  const auto done = [this, call](const absl::StatusOr<v1::UploadTensorResponse>& response) {
    call->slot.reset();
    if (!response.ok()) {
      return FinishWith(*call, InWordsOfHttp(response.status(), call->request.query));
    }
    Finish(*call, {.response = JsonResponse(call->request, *response), .stream = nullptr});
  };
  StartUpload({.tensors = parts_.tensor_api,
               .loop = &loop_,
               .io = &transfers_io_,
               .pace = parts_.pace,
               .metrics = parts_.transfers},
              call->caller, asked->spec, asked->offset, call->request.incoming, done);
}

void WebServer::TakeJson(const std::shared_ptr<Call>& call) {
  const auto limit = static_cast<size_t>(options_.max_json_bytes);
  ReadBody(call->request.incoming, limit, [this, call](absl::StatusOr<std::string> body) {
    if (absl::IsOutOfRange(body.status())) {
      return Finish(*call, {.response = ErrorResponse(body.status(), 413), .stream = nullptr});
    }
    if (!body.ok()) return FinishWith(*call, body.status());
    call->request.body = *std::move(body);
    boost::asio::post(io_, [this, call] { FinishWith(*call, AnswerSlowly(*call)); });
  });
}

absl::StatusOr<http::Answer> WebServer::AnswerSlowly(Call& call) {
  if (call.match.route == http::Route::kEvents) return OpenStream(call);
  if (IsDownload(call.match.route)) {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        Download download, OpenDownload(call.caller, *parts_.api, *parts_.runs, *parts_.tensor_api,
                                        call.match, call.request));
    download.slot = std::move(call.slot);
    return AnswerDownload({.loop = &loop_, .io = &transfers_io_, .metrics = parts_.transfers},
                          call.request, std::move(download));
  }
  http::Answer answer;
  ATTNPRUNE_ASSIGN_OR_RETURN(answer.response, AnswerText(call));
  return answer;
}

absl::StatusOr<http::Response> WebServer::AnswerText(Call& call) {
  using http::Route;
  const http::RouteMatch& match = call.match;
  const http::Request& request = call.request;
  if (match.route == Route::kSession || match.route == Route::kEndSession) {
    return login_.Answer(match.route, request);
  }
  if (match.route == Route::kMetrics) {
    return TextResponse(request, parts_.metrics_text(), kMetricsType);
  }
  if (IsTensorRoute(match.route)) {
    return AnswerTensorRoute(call.caller, *parts_.tensor_api, match, request);
  }
  const JobOrigin origin = {call.trace.request_id, ToTraceparent(call.trace.trace)};
  if (IsRunRoute(match.route)) {
    return AnswerRunRoute(call.caller, *parts_.runs, match, request, origin, &call.told);
  }
  return AnswerJobRoute(call.caller, *parts_.api, *parts_.tensors, match, request, origin,
                        &call.told);
}

void WebServer::FinishWith(const Call& call, absl::StatusOr<http::Answer> answer) const {
  if (answer.ok()) return Finish(call, *std::move(answer));
  Finish(call, {.response = ErrorResponse(answer.status()), .stream = nullptr});
}

// The tensor that an address or its query names, for logs.
std::string TensorOf(const http::RouteMatch& match, const http::Request& request) {
  std::string digest = match.route == http::Route::kTensor ? match.id : "";
  for (const auto& [name, value] : request.query) {
    if (match.route == http::Route::kUpload && name == "sha256") digest = value;
  }
  return IsSha256(digest) ? digest : "";
}

void WebServer::Finish(const Call& call, http::Answer answer) const {
  const http::RouteMatch& match = call.match;
  const bool no_page = match.route == http::Route::kPage && answer.response.status == 404;
  answer.route = static_cast<int>(no_page ? http::Route::kOther : match.route);
  answer.response = Hardened(std::move(answer.response));
  answer.response.headers.emplace_back("X-Request-Id", call.trace.request_id);
  if (options_.on_call) {
    const std::string job = call.told.job.empty() ? NameOf(match.id) : call.told.job;
    options_.on_call({.verb = http::VerbName(call.request.verb),
                      .path = call.request.path,
                      .job = api::ParseWatchedName(job).ok() ? job : "",
                      .tensor = TensorOf(match, call.request),
                      .action = call.told.validate_only ? "" : match.action,
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
  call->match = http::MatchRoute(request.verb, request.path);
  call->trace = TraceRequest(request.request_id, request.traceparent);
  call->request = std::move(request);
  call->respond = std::move(respond);
  if (absl::optional<http::Response> response = AnswerNow(call->match, call->request)) {
    return Finish(*call, {.response = *std::move(response), .stream = nullptr});
  }
  boost::asio::post(io_, [this, call] { Begin(call); });
}

bool WebServer::TakesPieces(const http::Request& request) {
  const http::RouteMatch match = http::MatchRoute(request.verb, request.path);
  return match.takes_verb && HasLargeBody(match.route);
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
