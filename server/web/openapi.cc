#include "server/web/openapi.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "attnprune/v1/prune_service.pb.h"
#include "attnprune/v1/tensor_service.pb.h"
#include "google/protobuf/empty.pb.h"
#include "nlohmann/json.hpp"
#include "server/access/rules.h"
#include "server/http/route.h"
#include "server/web/message_schema.h"

namespace attnprune::web {
namespace {

using google::protobuf::Descriptor;
using http::Route;
using http::Verb;
using nlohmann::json;

constexpr char kBytes[] = "application/octet-stream", kJson[] = "application/json";

constexpr char kPageSizeText[] = "1 to 1000; 0 or none: 50";
constexpr char kPageTokenText[] = "nextPageToken of the page before, with the same filter";

struct Parameter {
  const char* name;
  const char* type;
  const char* description;
  bool required = false;
};
using Parameters = std::vector<Parameter>;

// What an address does, beside what its row of http::Addresses() says.
struct Operation {
  Route route;
  const char* summary;
  const Descriptor* answer;          // null: `media`
  const char* media = kJson;         // of the answer
  const Descriptor* body = nullptr;  // JSON; null: none, or bytes (kUpload)
  Parameters query = {};
  Verb verb = Verb::kOther;  // where a route has two; else kOther
};

template <typename Message>
const Descriptor* Of() {
  return Message::descriptor();
}

// Also "labels.KEY", which OpenAPI has no form for.
Parameters ListParameters() {
  return {{"pageSize", "integer", kPageSizeText},
          {"pageToken", "string", kPageTokenText},
          {"states", "string",
           "A JobState; may be repeated. Beside it, labels.KEY=VALUE, all of which must match"}};
}

Parameters FileParameters() {
  return {{"format", "string", "safetensors, the default, or npy, of one tensor"},
          {"tensor", "string", "The name of one of the file's tensors; masks end in .mask"}};
}

std::vector<Operation> JobOperations() {
  return {
      {Route::kServer, "What the server is: version, limits, methods and their parameters",
       Of<v1::ServerInfo>()},
      {Route::kJobs, "Jobs, newest first", Of<v1::ListJobsResponse>(), kJson, nullptr,
       ListParameters()},
      {Route::kCreateJob, "Creates a job", Of<v1::Job>(), kJson, Of<v1::CreateJobRequest>()},
      {Route::kJob, "A job", Of<v1::Job>()},
      {Route::kDeleteJob, "Deletes a job that has ended", Of<google::protobuf::Empty>()},
      {Route::kEvents,
       "Events as server-sent events, each a JobEvent",
       nullptr,
       "text/event-stream",
       nullptr,
       {{"after_sequence", "integer", "Events of a greater sequence are sent; 0 or none: all"}}},
      {Route::kCancel, "Cancels a job; as it then is", Of<v1::Job>()},
      {Route::kDensity,
       "How densely a result's mask keeps weights, cell by cell",
       nullptr,
       kJson,
       nullptr,
       {{"matrix", "string", "w, w_q or w_k", true},
        {"cells", "integer", "1 to 256 along each side; default 64"}}},
      {Route::kJobFiles, "A result's masks and weights as a file", nullptr, kBytes, nullptr,
       FileParameters()},
  };
}

std::vector<Operation> RunOperations() {
  return {
      {Route::kRuns, "Runs, newest first", Of<v1::ListRunsResponse>(), kJson, nullptr,
       ListParameters()},
      {Route::kCreateRun, "Creates a run", Of<v1::Run>(), kJson, Of<v1::CreateRunRequest>()},
      {Route::kRun, "A run", Of<v1::Run>()},
      {Route::kDeleteRun, "Deletes a run that has ended", Of<google::protobuf::Empty>()},
      {Route::kCancelRun, "Cancels a run; as it then is", Of<v1::Run>()},
      {Route::kResumeRun, "Queues a run anew that failed or was cancelled", Of<v1::Run>()},
      {Route::kRunFiles, "A result's masks and weights as a file", nullptr, kBytes, nullptr,
       FileParameters()},
  };
}

std::vector<Operation> TensorOperations() {
  return {
      {Route::kTensors,
       "What is stored: uploads that are not finished, then tensors by digest",
       Of<v1::ListTensorsResponse>(),
       kJson,
       nullptr,
       {{"pageSize", "integer", kPageSizeText},
        {"pageToken", "string", kPageTokenText},
        {"unused", "boolean", "true: only what no job or run refers to"}}},
      {Route::kMissing, "Which of these digests are not there",
       Of<v1::FindMissingTensorsResponse>(), kJson, Of<v1::FindMissingTensorsRequest>()},
      {Route::kTensor, "A tensor's raw bytes, or a Range of them", nullptr, kBytes},
      {Route::kUpload,
       "Begins an upload, or goes on with it: the body is the tensor's bytes from "
       "offset on",
       Of<v1::UploadTensorResponse>(),
       kJson,
       nullptr,
       {{"sha256", "string", "Of the whole tensor: 64 lower-case hexadecimal digits", true},
        {"sizeBytes", "integer", "Of the whole tensor, at least 1", true},
        {"dtype", "string", "F64, F32, F16, BF16, I32 or BITMASK", true},
        {"offset", "integer", "Where the body begins: committedBytes, or 0, the default"}}},
      {Route::kQueryUpload, "How much of an upload is stored", Of<v1::QueryUploadResponse>()},
  };
}

std::vector<Operation> OtherOperations() {
  return {
      {Route::kMetrics, "Metrics in Prometheus's text format", nullptr, "text/plain"},
      {Route::kHealth, "SERVING, or with code 503 NOT_SERVING", nullptr, "text/plain"},
      {Route::kOpenApi, "This description", nullptr},
      {Route::kSession, "Who asks", nullptr, kJson, nullptr, {}, Verb::kGet},
      {Route::kSession,
       "Logs in with a token, for a cookie",
       nullptr,
       kJson,
       nullptr,
       {},
       Verb::kPost},
      {Route::kEndSession, "Logs out", Of<google::protobuf::Empty>()},
  };
}

std::vector<Operation> AllOperations() {
  std::vector<Operation> all = JobOperations();
  for (const auto& more : {RunOperations(), TensorOperations(), OtherOperations()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

json TextSchema(bool at_least_one) {
  return at_least_one ? json{{"type", "string"}, {"minLength", 1}} : json{{"type", "string"}};
}

json ObjectOf(json properties) {
  json required = json::array();
  for (const auto& [name, schema] : properties.items()) required.push_back(name);
  return {{"type", "object"},
          {"properties", std::move(properties)},
          {"required", std::move(required)},
          {"additionalProperties", false}};
}

// What is JSON and no message of the API.
json OtherSchemas() {
  const json count = {{"type", "integer"}, {"minimum", 1}};
  const json detail = {
      {"type", "object"}, {"required", {"@type"}}, {"properties", {{"@type", TextSchema(false)}}}};
  json error = ObjectOf({{"code", {{"type", "integer"}}},
                         {"status", TextSchema(true)},
                         {"message", TextSchema(false)}});
  error["properties"]["details"] = {{"type", "array"}, {"items", detail}};
  const json share = {{"type", "number"}, {"minimum", 0}, {"maximum", 1}};
  return {{"Error", ObjectOf({{"error", std::move(error)}})},
          {"Login", ObjectOf({{"token", TextSchema(false)}})},
          {"Session", ObjectOf({{"tokens", {{"type", "boolean"}}},
                                {"tenant", TextSchema(false)},
                                {"role", {{"enum", {"reader", "submitter", "admin"}}}},
                                {"name", TextSchema(false)}})},
          {"Density", ObjectOf({{"matrix", TextSchema(true)},
                                {"matrixRows", count},
                                {"matrixColumns", count},
                                {"rows", count},
                                {"columns", count},
                                {"kept", {{"type", "array"}, {"items", share}}}})}};
}

const char* SchemaNameOf(Route route) {
  if (route == Route::kDensity) return "Density";
  return route == Route::kSession ? "Session" : nullptr;
}

json AnswerSchema(const Operation& operation, MessageSchemas* schemas) {
  if (operation.answer != nullptr) return schemas->Of(*operation.answer);
  if (operation.media != kJson) return nullptr;
  const char* const name = SchemaNameOf(operation.route);
  return name != nullptr ? ReferenceTo(name) : json{{"type", "object"}};
}

json AnswersOf(const Operation& operation, MessageSchemas* schemas) {
  json content = json::object();
  const json schema = AnswerSchema(operation, schemas);
  content[operation.media] = schema.is_null() ? json::object() : json{{"schema", schema}};
  json answers = {
      {"200", {{"description", operation.summary}, {"content", content}}},
      {"default",
       {{"description", "An error"}, {"content", {{kJson, {{"schema", ReferenceTo("Error")}}}}}}}};
  if (operation.media == kBytes) {
    answers["206"] = {{"description", "The Range that was asked for"}, {"content", content}};
  }
  if (operation.route == Route::kEvents) {
    answers["204"] = {{"description", "Nothing will follow what was seen"}};
  }
  if (operation.route == Route::kHealth) {
    answers["503"] = {{"description", "The server stops"}, {"content", content}};
  }
  return answers;
}

json BodyOf(const Operation& operation, MessageSchemas* schemas) {
  json content = json::object();
  if (operation.body != nullptr) content[kJson] = {{"schema", schemas->Of(*operation.body)}};
  if (operation.route == Route::kUpload) content[kBytes] = json::object();
  if (operation.verb == Verb::kPost) content[kJson] = {{"schema", ReferenceTo("Login")}};
  if (content.empty()) return nullptr;
  return {{"required", true}, {"content", std::move(content)}};
}

json ParametersOf(absl::string_view pattern, const Operation& operation) {
  json parameters = json::array();
  for (const char* const name : {"id", "index"}) {
    if (!absl::StrContains(pattern, absl::StrCat("{", name, "}"))) continue;
    parameters.push_back(
        {{"name", name}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}});
  }
  for (const Parameter& parameter : operation.query) {
    parameters.push_back({{"name", parameter.name},
                          {"in", "query"},
                          {"required", parameter.required},
                          {"description", parameter.description},
                          {"schema", {{"type", parameter.type}}}});
  }
  return parameters;
}

// The role that the address needs; empty: it is open to everyone.
std::string RoleOf(absl::string_view action) {
  for (const access::Rule& rule : access::Rules()) {
    if (rule.action != action || !rule.least.has_value()) continue;
    return std::string(access::ToString(*rule.least));
  }
  return "";
}

// Unique: two addresses have one route's name where both have its events, or a session's verbs.
std::string IdOf(const http::Address& address) {
  const absl::string_view name = http::kRouteNames.at(static_cast<size_t>(address.route));
  if (address.route == Route::kEvents) {
    return absl::StrContains(address.pattern, "/runs/") ? "run_events" : "job_events";
  }
  return absl::StrCat(
      address.verb == Verb::kPost && address.route == Route::kSession ? "begin_" : "", name);
}

json Describe(const http::Address& address, const Operation& operation, MessageSchemas* schemas) {
  json described = {{"operationId", IdOf(address)},
                    {"summary", operation.summary},
                    {"parameters", ParametersOf(address.pattern, operation)},
                    {"responses", AnswersOf(operation, schemas)}};
  if (json body = BodyOf(operation, schemas); !body.is_null()) {
    described["requestBody"] = std::move(body);
  }
  const std::string role = RoleOf(http::kRouteNames.at(static_cast<size_t>(address.route)));
  if (role.empty()) {
    described["security"] = json::array();
  } else {
    described["x-role"] = role;
  }
  return described;
}

json Paths(MessageSchemas* schemas) {
  const std::vector<Operation> operations = AllOperations();
  json paths = json::object();
  for (const http::Address& address : http::Addresses()) {
    const auto found =
        std::find_if(operations.begin(), operations.end(), [&](const Operation& operation) {
          return operation.route == address.route &&
                 (operation.verb == Verb::kOther || operation.verb == address.verb);
        });
    if (found == operations.end()) continue;  // openapi_test finds it missing
    paths[std::string(address.pattern)][absl::AsciiStrToLower(http::VerbName(address.verb))] =
        Describe(address, *found, schemas);
  }
  return paths;
}

}  // namespace

std::string OpenApiJson() {
  MessageSchemas schemas;
  json document = {
      {"openapi", "3.1.0"},
      {"info",
       {{"title", "attnprune"},
        {"version", ATTNPRUNE_VERSION},
        {"description",
         "Messages are those of proto/attnprune/v1 as protobuf JSON: names in camelCase that "
         "descriptions give as the .proto files do. HEAD is taken wherever GET is, but for "
         "events."},
        {"license", {{"name", "Apache 2.0"}, {"identifier", "Apache-2.0"}}}}},
      {"servers", {{{"url", "/"}}}},
      {"security", {{{"token", json::array()}}, {{"session", json::array()}}}},
      {"paths", Paths(&schemas)}};
  schemas.Of(*v1::JobEvent::descriptor());  // the data of events
  json all = schemas.all();
  all.update(OtherSchemas());
  document["components"] = {
      {"schemas", std::move(all)},
      {"securitySchemes",
       {{"token", {{"type", "http"}, {"scheme", "bearer"}}},
        {"session", {{"type", "apiKey"}, {"in", "cookie"}, {"name", "attnprune_session"}}}}}};
  return document.dump() + "\n";
}

}  // namespace attnprune::web
