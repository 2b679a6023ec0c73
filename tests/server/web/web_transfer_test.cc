// Jobs made and deleted, tensors brought and taken over real sockets: what the RPCs promise holds.
#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/io/npy.h"
#include "core/io/safetensors.h"
#include "core/io/sha256.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/web/api_json.h"
#include "server/web/download.h"
#include "tests/server/http/http_client.h"
#include "tests/server/web/web_fixture.h"

namespace attnprune::web {
namespace {

using http::HttpClient;
using http::Received;
using Json = nlohmann::json;

using ::testing::HasSubstr;

constexpr char kPlain[] = "Content-Type: application/json\r\n";

std::string CreateBody(const v1::Job& job, const std::string& request_id, bool validate_only) {
  v1::CreateJobRequest request;
  *request.mutable_job() = job;
  request.set_request_id(request_id);
  request.set_validate_only(validate_only);
  return ToJson(request);
}

v1::Job JobOf(const std::string& text) {
  v1::Job job;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(text, &job).ok()) << text;
  return job;
}

std::string ErrorStatus(const Received& received) {
  const Json body = Json::parse(received.body, nullptr, false);
  return body.is_object() ? body.value(Json::json_pointer("/error/status"), "") : received.body;
}

// --- Jobs ---

TEST(WebCreate, MakesAJobOnceWhateverIsSentTwice) {
  Web web;
  const std::string body = CreateBody(web.GoodJob(), "order-1", false);
  HttpClient client(web.port());
  const Received first = client.Ask("POST", "/api/v1/jobs", kPlain, body);
  ASSERT_EQ(first.status, 200) << first.body;
  const Received again = client.Ask("POST", "/api/v1/jobs", kPlain, body);
  EXPECT_EQ(JobOf(again.body).name(), JobOf(first.body).name());
  v1::Job other = web.GoodJob();
  other.set_priority(7);
  const Received clash =
      client.Ask("POST", "/api/v1/jobs", kPlain, CreateBody(other, "order-1", false));
  EXPECT_EQ(clash.status, 409);
  EXPECT_EQ(ErrorStatus(clash), "ALREADY_EXISTS");
  EXPECT_EQ(web.api().ListJobs(access::Everyone(), {})->jobs_size(), 1);
}

TEST(WebCreate, TellsWhatItMadeAndOfACheckNothing) {
  Web web;
  HttpClient client(web.port());
  client.Ask("POST", "/api/v1/jobs", "", CreateBody(web.GoodJob(), "", true));
  EXPECT_EQ(web.calls().back().status, 200);
  EXPECT_EQ(web.calls().back().action, "");
  EXPECT_EQ(web.api().ListJobs(access::Everyone(), {})->jobs_size(), 0);
  const Received made = client.Ask("POST", "/api/v1/jobs", "X-Request-Id: order/7\r\n",
                                   CreateBody(web.GoodJob(), "", false));
  EXPECT_EQ(web.calls().back().action, "CreateJob");
  EXPECT_EQ(web.calls().back().job, JobOf(made.body).name());
  EXPECT_EQ(web.jobs().Get(JobOf(made.body).name().substr(5))->origin.request_id, "order/7");
}

TEST(WebCreate, NamesWhatIsWrongWithABody) {
  Web web;
  HttpClient client(web.port());
  for (const char* body : {"{", "7", "{\"jobs\": {}}", "{\"job\": {\"seed\": \"x\"}}", "\xff"}) {
    const Received received = client.Ask("POST", "/api/v1/jobs", "", body);
    EXPECT_EQ(received.status, 400) << body;
    EXPECT_EQ(FieldOf(received), "body") << received.body;
  }
  EXPECT_EQ(FieldOf(client.Ask("POST", "/api/v1/jobs", "", "{}")), "job");
  v1::Job job = web.GoodJob();
  job.mutable_sparsity()->set_fraction(1.5);
  const Received rule = client.Ask("POST", "/api/v1/jobs", "", CreateBody(job, "", false));
  EXPECT_EQ(FieldOf(rule), "job.sparsity.fraction");
  const std::string deep = std::string(50'000, '[');
  EXPECT_EQ(client.Ask("POST", "/api/v1/runs", "", deep).status, 400);
}

TEST(WebCreate, RefusesABodyOfMoreThanFourMebibytesAndTakesTheNextRequest) {
  Web web;
  HttpClient client(web.port());
  const std::string body((size_t{4} << 20) + 1, ' ');
  EXPECT_EQ(client.Ask("POST", "/api/v1/jobs", "", body).status, 413);
  HttpClient next(web.port());
  EXPECT_EQ(next.Get("/api/v1/jobs").status, 200);
}

TEST(WebCreate, TakesAChunkedBody) {
  Web web;
  const std::string body = CreateBody(web.GoodJob(), "", true);
  HttpClient client(web.port());
  std::string request =
      "POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const char c : body) absl::StrAppend(&request, "1\r\n", std::string(1, c), "\r\n");
  client.Send(request + "0\r\n\r\n");
  EXPECT_EQ(client.Receive().status, 200);
}

TEST(WebDelete, RemovesAJobThatHasEndedAndNoOther) {
  Web web;
  const std::string url = "/api/v1/" + web.Create().name();
  HttpClient client(web.port());
  const Received queued = client.Ask("DELETE", url);
  EXPECT_EQ(queued.status, 400);
  EXPECT_EQ(ErrorStatus(queued), "FAILED_PRECONDITION");
  client.Ask("POST", url + ":cancel");
  EXPECT_EQ(client.Ask("DELETE", url, "Origin: http://evil.example\r\n").status, 403);
  const Received deleted = client.Ask("DELETE", url);
  EXPECT_EQ(deleted.status, 200);
  EXPECT_EQ(deleted.body, "{}\n");
  EXPECT_EQ(web.calls().back().action, "DeleteJob");
  EXPECT_EQ(client.Get(url).status, 404);
}

// --- Uploads ---

int64_t Committed(HttpClient& client, const std::string& id) {
  const Json answer = Json::parse(client.Get("/api/v1/uploads/" + id).body);
  return std::stoll(answer["committedBytes"].get<std::string>());
}

TEST(WebUpload, StoresATensorAndSendsItBack) {
  const std::string bytes = SomeBytes();
  Web web;
  HttpClient client(web.port());
  const Received stored = client.Ask("PUT", UploadUrl(bytes, "u"), "", bytes);
  ASSERT_EQ(stored.status, 200) << stored.body;
  EXPECT_EQ(Json::parse(stored.body),
            (Json{{"sha256", Sha256Of(bytes)}, {"sizeBytes", "600000"}, {"alreadyThere", false}}));
  EXPECT_EQ(web.calls().back().action, "UploadTensor");
  EXPECT_EQ(web.calls().back().tensor, Sha256Of(bytes));
  const Received taken = client.Get("/api/v1/tensors/" + Sha256Of(bytes));
  EXPECT_EQ(taken.body, bytes);
  EXPECT_EQ(web.transfers().uploaded.value(), 600'000);
  EXPECT_EQ(web.transfers().downloaded.value(), 600'000);
  HttpClient third(web.port());
  const Json missing = Json::parse(
      third
          .Ask("POST", "/api/v1/tensors:findMissing", "",
               absl::StrCat("{\"sha256\": [\"", Sha256Of(bytes), "\", \"", Sha256Of("x"), "\"]}"))
          .body);
  EXPECT_EQ(missing["missing"], Json::array({Sha256Of("x")}));
}

TEST(WebUpload, OfWhatIsThereNeedsNoByte) {
  const std::string bytes = "a tensor";
  Web web;
  HttpClient client(web.port());
  client.Ask("PUT", UploadUrl(bytes, "u"), "", bytes);
  const Received again = client.Ask("PUT", UploadUrl(bytes, "other"));
  EXPECT_EQ(Json::parse(again.body)["alreadyThere"], true);
}

TEST(WebUpload, GoesOnWhereItBrokeOff) {
  const std::string bytes = SomeBytes();
  Web web;
  {
    HttpClient broken(web.port());
    broken.Send(absl::StrCat("PUT ", UploadUrl(bytes, "u"),
                             " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 600000\r\n\r\n",
                             bytes.substr(0, 300'000)));
  }
  HttpClient client(web.port());
  http::WaitFor([&] { return Committed(client, "u") == 300'000; });
  const Received wrong = client.Ask("PUT", UploadUrl(bytes, "u", 1000), "", bytes.substr(1000));
  EXPECT_EQ(ErrorStatus(wrong), "OUT_OF_RANGE");
  HttpClient next(web.port());
  // The broken one's hold ends with its connection, of which the server may hear later.
  Received rest;
  http::WaitFor([&] {
    HttpClient attempt(web.port());
    rest = attempt.Ask("PUT", UploadUrl(bytes, "u", 300'000), "", bytes.substr(300'000));
    return rest.status != 409;
  });
  EXPECT_EQ(rest.status, 200) << rest.body;
  EXPECT_EQ(next.Get("/api/v1/tensors/" + Sha256Of(bytes)).body, bytes);
}

TEST(WebUpload, MayComeInSeveralRequests) {
  const std::string bytes = SomeBytes(5000);
  Web web;
  HttpClient client(web.port());
  const Received half = client.Ask("PUT", UploadUrl(bytes, "u"), "", bytes.substr(0, 2000));
  EXPECT_EQ(half.status, 400) << "bytes are missing";
  EXPECT_EQ(FieldOf(half), "body");
  EXPECT_EQ(Committed(client, "u"), 2000);
  EXPECT_EQ(client.Ask("PUT", UploadUrl(bytes, "u", 2000), "", bytes.substr(2000)).status, 200);
}

TEST(WebUpload, HasOneWriterAtATime) {
  const std::string bytes = SomeBytes(5000);
  Web web;
  HttpClient first(web.port()), client(web.port());
  first.Send(absl::StrCat("PUT ", UploadUrl(bytes, "u"),
                          " HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                          "Content-Length: 5000\r\n\r\n"));
  EXPECT_EQ(first.Receive().status, 100) << "it has the upload";
  const Received second = client.Ask("PUT", UploadUrl(bytes, "u"), "", bytes);
  EXPECT_EQ(second.status, 409);
  EXPECT_EQ(ErrorStatus(second), "ABORTED");
  first.Send(bytes);
  EXPECT_EQ(first.Receive().status, 200);
}

TEST(WebUpload, RefusesWhatDoesNotFitAndSaysWhatIsWrong) {
  const std::string bytes = SomeBytes(4000);
  const std::string digest = Sha256Of(bytes);
  struct Row {
    std::string query, body;
    int code;
    const char* field;
  };
  const std::string size = "&sizeBytes=4000";
  const Row rows[] = {
      {"sha256=" + digest + size + "&dtype=F33", bytes, 400, "dtype"},
      {"sha256=" + digest + size, bytes, 400, "dtype"},
      {"sha256=" + digest + "&sizeBytes=4001&dtype=F32", bytes, 400, "sizeBytes"},
      {"sha256=" + digest + "&size_bytes=0&dtype=F32", bytes, 400, "size_bytes"},
      {"sha256=" + digest + "&sizeBytes=x&dtype=F32", bytes, 400, "sizeBytes"},
      {"sha256=xyz" + size + "&dtype=F32", bytes, 400, "sha256"},
      {"sha256=" + Sha256Of("other") + size + "&dtype=F32", bytes, 400, "sha256"},
      {"sha256=" + digest + size + "&dtype=F32", bytes + "more", 400, "body"},
      {"sha256=" + digest + size + "&dtype=F32&offset=-1", bytes, 400, "offset"},
      {"sha256=" + digest + size + "&dtype=F32&colour=red", bytes, 400, "colour"},
      {"sha256=" + digest + "&sizeBytes=9000000000000000000&dtype=BITMASK", bytes, 429, ""},
  };
  Web web;
  for (const Row& row : rows) {
    HttpClient client(web.port());
    const Received received = client.Ask("PUT", "/api/v1/uploads/u?" + row.query, "", row.body);
    EXPECT_EQ(received.status, row.code) << row.query << received.body;
    EXPECT_EQ(FieldOf(received), row.field) << row.query << received.body;
    EXPECT_THAT(received.body, ::testing::HasSubstr(absl::StrCat("\"message\":\"", row.field)));
    EXPECT_THAT(received.body, ::testing::Not(HasSubstr("header."))) << "what gRPC calls it";
  }
  HttpClient client(web.port());
  const Received wrong_id = client.Ask("PUT", UploadUrl(bytes, "a%20b"), "", bytes);
  EXPECT_EQ(wrong_id.status, 400);
  EXPECT_EQ(FieldOf(wrong_id), "id");
  HttpClient asks(web.port());
  EXPECT_EQ(FieldOf(asks.Get("/api/v1/uploads/a%20b")), "id");
  HttpClient next(web.port());
  EXPECT_EQ(next.Get("/api/v1/tensors/" + digest).status, 404) << "none of them counts";
}

TEST(WebUpload, AnswersABodyThatIsNoBody) {
  const std::string bytes = SomeBytes(5000);
  Web web;
  HttpClient chunks(web.port());
  chunks.Send(absl::StrCat("PUT ", UploadUrl(bytes, "u"),
                           " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "3e8\r\n",
                           bytes.substr(0, 1000), "\r\nno length\r\n"));
  EXPECT_EQ(chunks.Receive().status, 400);
  EXPECT_TRUE(chunks.ClosedByServer());
  HttpClient client(web.port());
  EXPECT_EQ(Committed(client, "u"), 1000);
  client.Send(absl::StrCat("PUT ", UploadUrl(bytes, "u", 1000),
                           " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "fa0\r\n",
                           bytes.substr(1000), "\r\n0\r\n\r\n"));
  EXPECT_EQ(client.Receive().status, 200);
}

TEST(WebUpload, LeavesPlaceForTheNextOnceItHasEnded) {
  Web web;
  for (int i = 0; i < kMaxTransfers + 2; ++i) {
    HttpClient client(web.port());
    EXPECT_EQ(client.Ask("PUT", UploadUrl(absl::StrCat("bytes", i), "u"), "", "bytes?").status,
              400);
  }
  std::vector<std::unique_ptr<HttpClient>> waiting;
  for (int i = 0; i < kMaxTransfers; ++i) {
    waiting.push_back(std::make_unique<HttpClient>(web.port()));
    waiting.back()->Send(absl::StrCat("PUT ", UploadUrl("bytes", absl::StrCat("w", i)),
                                      " HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                                      "Content-Length: 5\r\n\r\n"));
    EXPECT_EQ(waiting.back()->Receive().status, 100);
  }
  HttpClient client(web.port());
  EXPECT_EQ(client.Ask("PUT", UploadUrl("bytes", "x"), "", "bytes").status, 429);
  HttpClient reader(web.port());
  EXPECT_EQ(reader.Get("/api/v1/jobs").status, 200);
}

// --- Downloads ---

TEST(ParseRange, TakesOneRangeAndLeavesTheRestAlone) {
  const auto range = [](const char* header) -> std::string {
    const auto parsed = ParseRange(header, 10);
    return parsed.has_value() ? absl::StrCat(parsed->begin, "-", parsed->end) : "";
  };
  EXPECT_EQ(range("bytes=0-"), "0-10");
  EXPECT_EQ(range("bytes=3-5"), "3-6");
  EXPECT_EQ(range("bytes=3-99"), "3-10");
  EXPECT_EQ(range("bytes=-4"), "6-10");
  EXPECT_EQ(range("bytes=-99"), "0-10");
  EXPECT_EQ(range("bytes=10-"), "10-10");
  for (const char* none : {"", "bytes=", "bytes=-", "bytes=5-3", "bytes=1-2,4-5", "lines=1-2",
                           "bytes=a-", "bytes=+1-", "bytes=1-99999999999999999999"}) {
    EXPECT_EQ(range(none), "") << none;
  }
}

TEST(WebDownload, SendsTheRangeThatIsAskedFor) {
  const std::string bytes = SomeBytes();
  Web web;
  HttpClient client(web.port());
  const std::string url = "/api/v1/tensors/" + *web.tensors().Put(bytes);
  const Received head = client.Ask("HEAD", url);
  EXPECT_EQ(head.headers.at("content-length"), "600000");
  EXPECT_EQ(head.headers.at("etag"), absl::StrCat("\"", Sha256Of(bytes), "\""));
  const Received same =
      client.Get(url, absl::StrCat("If-None-Match: ", head.headers.at("etag"), "\r\n"));
  EXPECT_EQ(same.status, 304);
  EXPECT_EQ(client.Get(url, "Range: bytes=600000-\r\n").status, 416);
  const Received rest = client.Get(url, "Range: bytes=590000-\r\n");
  EXPECT_EQ(rest.status, 206);
  EXPECT_EQ(rest.headers.at("content-range"), "bytes 590000-599999/600000");
  EXPECT_EQ(rest.body, bytes.substr(590'000));
  EXPECT_EQ(web.calls().back().action, "DownloadTensor");
}

// A job with one result: weights 2 x 5 of F32 and their mask, 10110 01011.
std::string JobWithAResult(Web& web, const std::string& weights) {
  const v1::Job job = web.Create();
  const JobClaim claim = web.Claim();
  v1::MethodResult result;
  result.set_method("magnitude");
  v1::MatrixResult& matrix = *result.add_matrices();
  matrix.set_name("w_q");
  matrix.mutable_mask()->set_sha256(*web.tensors().Put(std::string("\x4D\x03", 2)));
  matrix.mutable_mask()->set_dtype(v1::BITMASK);
  matrix.mutable_weights()->set_sha256(*web.tensors().Put(weights));
  matrix.mutable_weights()->set_dtype(v1::F32);
  for (const int extent : {2, 5}) {
    matrix.mutable_mask()->add_shape(extent);
    matrix.mutable_weights()->add_shape(extent);
  }
  EXPECT_TRUE(web.jobs().FinishMethod(claim, 0, result.SerializeAsString(), {}).ok());
  return absl::StrCat("/api/v1/", job.name(), "/results/0/files");
}

TEST(WebDownload, MakesAFileOfAResult) {
  const std::vector<float> values = {1, 0, 3, 4, 0, 0, 7, 0, 9, 10};
  const std::string weights(reinterpret_cast<const char*>(values.data()), values.size() * 4);
  const std::string mask("\1\0\1\1\0\0\1\0\1\1", 10);
  Web web;
  const std::string url = JobWithAResult(web, weights);
  HttpClient client(web.port());
  const Received whole = client.Get(url);
  EXPECT_THAT(whole.headers.at("content-disposition"), HasSubstr("-0.safetensors\""));
  const auto parsed = ParseSafetensors(whole.body, "answer");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(ToMatrix(**parsed->Find("w_q"))->flat()[2], 3.0F);
  const TensorInfo& kept = **parsed->Find("w_q.mask");
  EXPECT_EQ(kept.dtype, DType::kBool);
  EXPECT_EQ(std::string(kept.bytes.begin(), kept.bytes.end()), mask);
  for (size_t begin = 0; begin < whole.body.size(); begin += 13) {
    HttpClient part(web.port());
    const Received some =
        part.Get(url, absl::StrCat("Range: bytes=", begin, "-", begin + 12, "\r\n"));
    ASSERT_EQ(some.body, whole.body.substr(begin, 13)) << begin;
  }
}

TEST(WebDownload, MakesNpyOfOneTensor) {
  const std::string weights(40, '\0');
  Web web;
  const std::string url = JobWithAResult(web, weights);
  HttpClient client(web.port());
  const Received array = client.Get(url + "?format=npy&tensor=w_q");
  const auto parsed = ParseNpy(array.body, "answer");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->shape, (std::vector<Index>{2, 5}));
  HttpClient second(web.port());
  const auto mask = ParseNpyIntegers(second.Get(url + "?format=npy&tensor=w_q.mask").body, "mask");
  ASSERT_TRUE(mask.ok()) << mask.status();
  EXPECT_EQ(mask->values, (std::vector<int64_t>{1, 0, 1, 1, 0, 0, 1, 0, 1, 1}));
  HttpClient wrong(web.port());
  EXPECT_EQ(FieldOf(wrong.Get(url + "?format=npy")), "tensor");
  EXPECT_EQ(FieldOf(wrong.Get(url + "?tensor=w_k")), "tensor");
  EXPECT_EQ(FieldOf(wrong.Get(url + "?format=pickle")), "format");
}

TEST(WebDownload, RefusesWhatIsNotThereOrNotWhole) {
  Web web;
  HttpClient client(web.port());
  EXPECT_EQ(client.Get("/api/v1/tensors/" + Sha256Of("nothing")).status, 404);
  EXPECT_EQ(client.Get("/api/v1/tensors/xyz").status, 400);
  EXPECT_EQ(client.Get("/api/v1/jobs/none/results/0/files").status, 404);
  EXPECT_EQ(client.Get("/api/v1/runs/r-none/results/0/files").status, 404);
  const std::string url = JobWithAResult(web, std::string(36, 'x'));  // a row is missing
  const Received damaged = client.Get(url);
  EXPECT_EQ(damaged.status, 500);
  EXPECT_EQ(ErrorStatus(damaged), "DATA_LOSS");
}

}  // namespace
}  // namespace attnprune::web
