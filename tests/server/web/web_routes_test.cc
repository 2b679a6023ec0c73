// The API's addresses over real sockets: the same answers as the RPCs', as JSON.
#include <google/protobuf/util/json_util.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/web/api_json.h"
#include "server/web/density.h"
#include "server/web/job_routes.h"
#include "tests/server/http/http_client.h"
#include "tests/server/web/web_fixture.h"

namespace attnprune::web {
namespace {

using http::HttpClient;
using http::Received;

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string UrlOf(const v1::Job& job) { return absl::StrCat("/api/v1/", job.name()); }

// The message that a JSON text says, or a failed test.
template <typename Message>
Message Parse(const std::string& json) {
  Message message;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &message);
  EXPECT_TRUE(status.ok()) << status.ToString() << "\n" << json;
  return message;
}

template <typename Message>
std::string Text(const Message& message) {
  return message.DebugString();
}

// But for the time that it may start, which goes on.
std::string Text(v1::Job job) {
  if (job.has_waiting()) job.mutable_waiting()->clear_may_start_time();
  return job.DebugString();
}

std::string Text(const v1::ListJobsResponse& list) {
  std::string text = list.next_page_token();
  for (const v1::Job& job : list.jobs()) text += "\n" + Text(job);
  return text;
}

TEST(WebRoutes, SayOfAJobWhatGetJobSays) {
  Web web;
  const v1::Job job = web.Create("a");
  HttpClient client(web.port());
  const Received received = client.Get(UrlOf(job));
  EXPECT_EQ(received.status, 200);
  EXPECT_EQ(received.headers.at("content-type"), "application/json");
  EXPECT_EQ(Text(Parse<v1::Job>(received.body)), Text(job));
  EXPECT_THAT(received.body, HasSubstr(R"("cancelRequested":false)"));
}

TEST(WebRoutes, SayOfTheServerWhatGetServerInfoSays) {
  Web web;
  HttpClient client(web.port());
  const Received received = client.Get("/api/v1/server");
  EXPECT_EQ(Text(Parse<v1::ServerInfo>(received.body)), Text(*web.api().GetServerInfo()));
}

TEST(WebRoutes, ListJobsByStateAndLabelPageByPage) {
  Web web;
  for (const char* team : {"a", "b", "a", "a"}) web.Create(team);
  HttpClient client(web.port());
  v1::ListJobsRequest request;
  request.set_page_size(2);
  request.add_states(v1::QUEUED);
  (*request.mutable_labels())["team"] = "a";
  const std::string target = "/api/v1/jobs?pageSize=2&states=QUEUED&labels.team=a";
  const auto first = Parse<v1::ListJobsResponse>(client.Get(target).body);
  EXPECT_EQ(Text(first), Text(*web.api().ListJobs(access::Everyone(), request)));
  EXPECT_EQ(first.jobs_size(), 2);
  const auto second = Parse<v1::ListJobsResponse>(
      client.Get(absl::StrCat(target, "&page_token=", first.next_page_token())).body);
  EXPECT_EQ(second.jobs_size(), 1);
  EXPECT_EQ(second.next_page_token(), "");
  EXPECT_EQ(Parse<v1::ListJobsResponse>(client.Get("/api/v1/jobs?states=RUNNING").body).jobs_size(),
            0);
}

TEST(WebRoutes, CancelAQueuedJobAtOnce) {
  Web web;
  const v1::Job job = web.Create();
  HttpClient client(web.port());
  const Received received =
      client.Ask("POST", UrlOf(job) + ":cancel", "Content-Type: application/json\r\n", "{}");
  EXPECT_EQ(received.status, 200);
  EXPECT_EQ(Parse<v1::Job>(received.body).state(), v1::CANCELLED);
  EXPECT_EQ(web.jobs().Get(job.name().substr(5))->state, JobState::kCancelled);
}

TEST(WebRoutes, TellOfRunsCancelAndResumeThem) {
  Web web;
  v1::Run spec;
  (*spec.mutable_labels())["team"] = "a";
  const std::string id = testing::ValueOrDie(web.jobs().Create({.labels = {{"team", "a"}},
                                                                .spec = spec.SerializeAsString(),
                                                                .kind = JobKind::kRun}))
                             .job.id;
  const std::string url = "/api/v1/runs/" + id;
  HttpClient client(web.port());
  EXPECT_EQ(Parse<v1::Run>(client.Get(url).body).name(), "runs/" + id);
  EXPECT_EQ(Parse<v1::ListRunsResponse>(client.Get("/api/v1/runs?labels.team=a").body).runs_size(),
            1);
  EXPECT_EQ(Parse<v1::ListRunsResponse>(client.Get("/api/v1/runs?labels.team=b").body).runs_size(),
            0);
  EXPECT_EQ(Parse<v1::ListJobsResponse>(client.Get("/api/v1/jobs").body).jobs_size(), 0);
  EXPECT_EQ(client.Get("/api/v1/jobs/" + id).status, 400);
  EXPECT_EQ(client.Get(url + ":cancel").status, 405);
  EXPECT_EQ(client.Ask("POST", url + ":resume").status, 400) << "it is queued";
  EXPECT_EQ(Parse<v1::Run>(client.Ask("POST", url + ":cancel").body).state(), v1::CANCELLED);
  EXPECT_EQ(Parse<v1::Run>(client.Ask("POST", url + ":resume").body).state(), v1::QUEUED);
  EXPECT_EQ(web.calls().back().job, "runs/" + id);
}

TEST(WebRoutes, TellWhatAPostChangesAndWhereItComesFrom) {
  Web web;
  const v1::Job job = web.Create();
  HttpClient client(web.port());
  client.Get(UrlOf(job));
  EXPECT_EQ(web.calls().back().action, "");
  client.Get(UrlOf(job) + ":cancel");
  EXPECT_EQ(web.calls().back().action, "") << "405";
  client.Ask("POST", UrlOf(job) + ":cancel");
  EXPECT_EQ(web.calls().back().action, "CancelJob");
  EXPECT_THAT(web.calls().back().caller.peer, ::testing::MatchesRegex("127\\.0\\.0\\.1:[0-9]+"));
}

TEST(WebRoutes, CarryTheCallersRequestIdAndTrace) {
  const std::string trace = "0af7651916cd43dd8448eb211c80319c", span = "b7ad6b7169203331";
  Web web;
  const v1::Job job = web.Create();
  HttpClient client(web.port());
  const Received cancelled = client.Ask(
      "POST", UrlOf(job) + ":cancel?",
      absl::StrCat("X-Request-Id: order/66\r\ntraceparent: 00-", trace, "-", span, "-01\r\n"));
  EXPECT_EQ(cancelled.headers.at("x-request-id"), "order/66");
  const FinishedHttpRequest call = web.calls().back();
  EXPECT_EQ(call.verb, "POST");
  EXPECT_EQ(call.path, UrlOf(job) + ":cancel");
  EXPECT_EQ(call.job, job.name());
  EXPECT_EQ(call.status, 200);
  EXPECT_EQ(call.request.request_id, "order/66");
  EXPECT_EQ(call.request.trace.trace_id, trace);
  EXPECT_NE(call.request.trace.span_id, span);
  EXPECT_EQ(call.request.caller_span, span);
}

TEST(WebRoutes, GiveARequestIdToWhoHasNoneThatCanBeTaken) {
  Web web;
  HttpClient client(web.port());
  for (const char* target : {"/", "/metrics", "/api/v1/jobs/none", "/api/v1/nothing"}) {
    for (const char* header : {"", "X-Request-Id: a b\r\n"}) {
      const std::string id = client.Get(target, header).headers.at("x-request-id");
      EXPECT_THAT(id, ::testing::MatchesRegex("[0-9a-f]+")) << target;
      EXPECT_EQ(id.size(), 32U) << target;
      EXPECT_EQ(web.calls().back().request.request_id, id) << target;
    }
  }
}

TEST(WebRoutes, RefuseACancelFromAnotherSiteAndLeaveTheJobAlone) {
  Web web;
  const v1::Job job = web.Create();
  HttpClient client(web.port());
  const Received received =
      client.Ask("POST", UrlOf(job) + ":cancel", "Origin: http://evil.example\r\n");
  EXPECT_EQ(received.status, 403);
  EXPECT_EQ(web.jobs().Get(job.name().substr(5))->state, JobState::kQueued);
}

TEST(WebRoutes, RefuseEveryAddressUnderAForeignName) {
  Web web;
  for (const char* target :
       {"/", "/metrics", "/healthz", "/api/v1/jobs", "/api/v1/jobs/a/events"}) {
    HttpClient client(web.port());
    client.Send(absl::StrCat("GET ", target, " HTTP/1.1\r\nHost: rebound.example\r\n\r\n"));
    EXPECT_EQ(client.Receive().status, 403) << target;
  }
}

TEST(WebRoutes, TellErrorsAsGoogleRpcStatus) {
  struct Row {
    const char* verb;
    const char* target;
    int code;
    const char* status;
    const char* field;  // of BadRequest; empty: none
  };
  const Row rows[] = {
      {"GET", "/api/v1/jobs/none", 404, "NOT_FOUND", ""},
      {"GET", "/api/v1/jobs/NOT%20AN%20ID", 400, "INVALID_ARGUMENT", "name"},
      {"GET", "/api/v1/jobs/none?x=1", 400, "INVALID_ARGUMENT", "x"},
      {"GET", "/api/v1/jobs?pageSize=1001", 400, "INVALID_ARGUMENT", "page_size"},
      {"GET", "/api/v1/jobs?pageSize=two", 400, "INVALID_ARGUMENT", "pageSize"},
      {"GET", "/api/v1/jobs?states=WAITING", 400, "INVALID_ARGUMENT", "states"},
      {"GET", "/api/v1/jobs?pageToken=x", 400, "INVALID_ARGUMENT", "page_token"},
      {"GET", "/api/v1/jobs?colour=red", 400, "INVALID_ARGUMENT", "colour"},
      {"GET", "/api/v1/jobs/none/events", 404, "NOT_FOUND", ""},
      {"GET", "/api/v1/jobs/none/results/0/density", 404, "NOT_FOUND", ""},
      {"POST", "/api/v1/jobs/none:cancel", 404, "NOT_FOUND", ""},
      {"GET", "/api/v1/jobs/none:cancel", 405, "UNIMPLEMENTED", ""},
      {"PUT", "/api/v1/jobs", 405, "UNIMPLEMENTED", ""},
      {"DELETE", "/api/v1/jobs", 405, "UNIMPLEMENTED", ""},
      {"DELETE", "/api/v1/jobs/none", 404, "NOT_FOUND", ""},
      {"PUT", "/", 405, "UNIMPLEMENTED", ""},
      {"GET", "/api/v1/nothing", 404, "NOT_FOUND", ""},
      {"GET", "/nothing.js", 404, "NOT_FOUND", ""},
  };
  Web web;
  HttpClient client(web.port());
  for (const Row& row : rows) {
    const Received received = client.Ask(row.verb, row.target);
    EXPECT_EQ(received.status, row.code) << row.target;
    const auto error = nlohmann::json::parse(received.body)["error"];
    EXPECT_EQ(error["code"], row.code) << row.target;
    EXPECT_EQ(error["status"], row.status) << row.target;
    EXPECT_FALSE(error["message"].get<std::string>().empty()) << row.target;
    const auto violation = nlohmann::json::json_pointer("/details/0/fieldViolations/0/field");
    EXPECT_EQ(error.value(violation, std::string()), row.field) << received.body;
  }
}

TEST(WebRoutes, NameWhatTheVerbMayBe) {
  Web web;
  HttpClient client(web.port());
  EXPECT_EQ(client.Get("/api/v1/jobs/a:cancel").headers.at("allow"), "POST");
  EXPECT_EQ(client.Ask("POST", "/metrics").headers.at("allow"), "GET, HEAD");
  EXPECT_EQ(client.Ask("PATCH", "/api/v1/jobs/a").headers.at("allow"), "GET, HEAD, DELETE");
  EXPECT_EQ(client.Ask("PUT", "/api/v1/jobs").headers.at("allow"), "GET, HEAD, POST");
}

TEST(WebRoutes, CarryAStrictPolicyOnEveryAnswer) {
  Web web;
  for (const char* target :
       {"/", "/healthz", "/metrics", "/api/v1/jobs", "/api/v1/jobs/none", "/x"}) {
    HttpClient client(web.port());
    const Received received = client.Get(target);
    EXPECT_THAT(received.headers.at("content-security-policy"),
                HasSubstr("default-src 'none'; script-src 'self'"));
    EXPECT_EQ(received.headers.at("x-content-type-options"), "nosniff") << target;
    EXPECT_EQ(received.headers.at("referrer-policy"), "no-referrer") << target;
    EXPECT_EQ(received.headers.count("access-control-allow-origin"), 0U) << target;
  }
}

TEST(WebRoutes, CompressLongAnswersForWhoTakesIt) {
  Web web;
  web.Create();
  HttpClient client(web.port());
  const Received plain = client.Get("/api/v1/jobs");
  const Received zipped = client.Get("/api/v1/jobs", "Accept-Encoding: gzip\r\n");
  EXPECT_EQ(zipped.headers.at("content-encoding"), "gzip");
  EXPECT_LT(zipped.body.size(), plain.body.size());
}

TEST(WebRoutes, SayHealthyUntilTheServerDrains) {
  Web web;
  HttpClient client(web.port());
  EXPECT_EQ(client.Get("/healthz").status, 200);
  web.host().SetServing(false);
  const Received draining = client.Get("/healthz");
  EXPECT_EQ(draining.status, 503);
  EXPECT_EQ(draining.body, "NOT_SERVING\n");
  EXPECT_EQ(client.Get("/api/v1/jobs").status, 200);
}

TEST(WebRoutes, ServeMetricsAsPrometheusAsks) {
  Web web;
  HttpClient client(web.port());
  const Received received = client.Get("/metrics");
  EXPECT_EQ(received.headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(received.body, "attnprune_test 1\n");
}

TEST(WebRoutes, CountRequestsByRouteAndCode) {
  Web web;
  HttpClient client(web.port());
  client.Get("/api/v1/jobs");
  client.Get("/api/v1/jobs/none");
  client.Get("/api/v1/jobs/none");
  client.Get("/random-scanner-path");
  client.Get("/healthz");  // by now the ones before are counted
  Exposition out;
  web.metrics().requests.AddCounts("route", out);
  const std::string text = out.Finish();
  EXPECT_THAT(text, HasSubstr("{route=\"jobs\",code=\"200\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("{route=\"job\",code=\"404\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("{route=\"other\",code=\"404\"} 1\n"));
}

// 4 x 8 with the left half kept, and of the right half the lowest row.
TEST(DensityOf, CountsKeptWeightsCellByCell) {
  const std::vector<uint8_t> mask = {0x0F, 0x0F, 0x0F, 0xFF};
  const Density density = DensityOf(mask, 4, 8, 2);
  EXPECT_EQ(density.rows, 2);
  EXPECT_EQ(density.columns, 2);
  EXPECT_THAT(density.kept, ElementsAre(1, 0, 1, 0.5));
}

// 3 x 5 bits, rows not on bytes' borders: 10110 01011 10000.
TEST(DensityOf, HasACellAWeightWhereThereAreFew) {
  const std::vector<uint8_t> mask = {0b01001101, 0b00000111};
  const Density density = DensityOf(mask, 3, 5, 64);
  EXPECT_EQ(density.rows, 3);
  EXPECT_EQ(density.columns, 5);
  EXPECT_THAT(density.kept, ElementsAre(1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0));
}

TEST(DensityOf, CoversEveryWeightOnceWhereCellsDoNotDivideTheMatrix) {
  const std::vector<uint8_t> mask((7 * 11 + 7) / 8, 0xFF);
  const Density density = DensityOf(mask, 7, 11, 3);
  EXPECT_EQ(density.kept, std::vector<double>(9, 1.0));
}

TEST(WebRoutes, PaintTheDensityOfAStoredMask) {
  Web web;
  const v1::Job job = web.Create();
  const JobClaim claim = web.Claim();
  v1::MethodResult result;
  result.set_method("magnitude");
  v1::MatrixResult& matrix = *result.add_matrices();
  matrix.set_name("w_q");
  matrix.mutable_mask()->set_sha256(*web.tensors().Put(std::string("\x0F\x0F\x0F\xFF", 4)));
  for (const int extent : {4, 8}) matrix.mutable_mask()->add_shape(extent);
  ASSERT_TRUE(web.jobs().FinishMethod(claim, 0, result.SerializeAsString(), {}).ok());
  HttpClient client(web.port());
  const std::string url = UrlOf(job) + "/results/";
  const Received received = client.Get(url + "0/density?matrix=w_q&cells=2");
  const auto json = nlohmann::json::parse(received.body);
  EXPECT_EQ(json["kept"], nlohmann::json::parse("[1.0, 0.0, 1.0, 0.5]"));
  EXPECT_EQ(json["rows"], 2);
  EXPECT_EQ(json["columns"], 2);
  EXPECT_EQ(json["matrixRows"], 4);
  EXPECT_EQ(json["matrixColumns"], 8);
  EXPECT_EQ(client.Get(url + "0/density?matrix=w_k").status, 400);
  EXPECT_EQ(client.Get(url + "0/density?matrix=w_q&cells=257").status, 400);
  for (const char* index : {"1", "-1", "+0", "%200", "0x0", "99999999999", ""}) {
    EXPECT_EQ(client.Get(absl::StrCat(url, index, "/density?matrix=w_q")).status, 404) << index;
  }
}

}  // namespace
}  // namespace attnprune::web
