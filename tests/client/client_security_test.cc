// What the client demands of servers, shows to them and says of those it does not take.
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/support/server_interceptor.h>

#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attnprune/v1/prune_service.grpc.pb.h"
#include "attnprune/v1/tensor_service.grpc.pb.h"
#include "client/library/client.h"
#include "client/library/security.h"
#include "core/base/field_error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/tls/tls_files.h"

namespace attnprune::client {
namespace {

using ::testing::AllOf;
using testing::Authority;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::Identity;
using ::testing::IsSupersetOf;
using ::testing::Not;
using tls::TlsFiles;

constexpr char kToken[] = "a1.B2-c3_D4~e5";

// The last part of the names of calls, by what they showed as authorization. Thread-safe.
class Shown {
 public:
  void Add(const std::string& call, const std::string& authorization) {
    const std::lock_guard<std::mutex> lock(mutex_);
    (authorization == absl::StrCat("Bearer ", kToken) ? with_ : without_).insert(call);
    changed_.notify_all();
  }
  void WaitFor(const std::string& call) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return with_.count(call) + without_.count(call) > 0; });
  }
  std::set<std::string> with() { return Locked(with_); }
  std::set<std::string> without() { return Locked(without_); }

 private:
  std::set<std::string> Locked(const std::set<std::string>& calls) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return calls;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> with_, without_;
};

class Noting final : public grpc::experimental::Interceptor {
 public:
  Noting(std::string method, Shown* shown) : method_(std::move(method)), shown_(shown) {}
  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using Point = grpc::experimental::InterceptionHookPoints;
    if (methods->QueryInterceptionHookPoint(Point::POST_RECV_INITIAL_METADATA)) {
      const auto* const metadata = methods->GetRecvInitialMetadata();
      const auto found = metadata->find("authorization");
      shown_->Add(method_, found == metadata->end()
                               ? ""
                               : std::string(found->second.data(), found->second.size()));
    }
    methods->Proceed();
  }

 private:
  const std::string method_;
  Shown* const shown_;
};

class NotingFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit NotingFactory(Shown* shown) : shown_(shown) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    const std::string method = info->method();
    return new Noting(method.substr(method.rfind('/') + 1), shown_);
  }

 private:
  Shown* const shown_;
};

// Answers everything with nothing; a watch ends once the client's probe has come.
class QuietJobs final : public v1::PruneService::Service {
 public:
  explicit QuietJobs(Shown* shown) : shown_(shown) {}
  grpc::Status GetServerInfo(grpc::ServerContext*, const v1::GetServerInfoRequest*,
                             v1::ServerInfo*) override {
    return grpc::Status::OK;
  }
  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest*, v1::Job*) override {
    return grpc::Status::OK;
  }
  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest*,
                        grpc::ServerWriter<v1::JobEvent>*) override {
    shown_->WaitFor("Check");
    return grpc::Status::OK;
  }

 private:
  Shown* const shown_;
};

class QuietTensors final : public v1::TensorService::Service {
 public:
  grpc::Status FindMissingTensors(grpc::ServerContext*,
                                  const v1::FindMissingTensorsRequest* request,
                                  v1::FindMissingTensorsResponse* response) override {
    *response->mutable_missing() = request->sha256();
    return grpc::Status::OK;
  }
  grpc::Status QueryUpload(grpc::ServerContext*, const v1::QueryUploadRequest*,
                           v1::QueryUploadResponse*) override {
    return grpc::Status::OK;
  }
  grpc::Status UploadTensor(grpc::ServerContext*,
                            grpc::ServerReader<v1::UploadTensorRequest>* reader,
                            v1::UploadTensorResponse*) override {
    v1::UploadTensorRequest message;
    while (reader->Read(&message)) {
    }
    return grpc::Status::OK;
  }
  grpc::Status DownloadTensor(grpc::ServerContext*, const v1::DownloadTensorRequest*,
                              grpc::ServerWriter<v1::DownloadTensorResponse>*) override {
    return grpc::Status::OK;
  }
};

class QuietServer {
 public:
  explicit QuietServer(const std::shared_ptr<grpc::ServerCredentials>& credentials =
                           grpc::InsecureServerCredentials()) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> noting;
    noting.push_back(std::make_unique<NotingFactory>(&shown));
    builder.experimental().SetInterceptorCreators(std::move(noting));
    builder.AddListeningPort("127.0.0.1:0", credentials, &port_);
    builder.RegisterService(&jobs_);
    builder.RegisterService(&tensors_);
    server_ = builder.BuildAndStart();
  }
  ~QuietServer() { server_->Shutdown(); }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  Shown shown;

 private:
  QuietJobs jobs_{&shown};
  QuietTensors tensors_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

std::shared_ptr<grpc::ServerCredentials> ServerTls(const Identity& identity,
                                                   const std::string& client_ca = "") {
  grpc::SslServerCredentialsOptions options(
      client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                        : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = client_ca;
  options.pem_key_cert_pairs = {{identity.key, identity.certificate}};
  return grpc::SslServerCredentials(options);
}

// What a call of a client with such options ends with, tried once.
absl::Status Ask(ClientOptions options, const std::string& server) {
  options.server = server;
  options.retry.patience = absl::ZeroDuration();
  const auto client = Client::Create(options);
  if (!client.ok()) return client.status();
  return (*client)->GetServerInfo().status();
}

std::string ToText(const absl::Status& status) { return std::string(status.message()); }

// An authority's certificate in a file, for ClientOptions::ca_file.
class Trust {
 public:
  explicit Trust(const Authority& authority) { files_.AskClients(authority); }
  ClientOptions options() const {
    ClientOptions options;
    options.ca_file = files_.client_ca();
    return options;
  }
  std::string file() const { return files_.client_ca(); }

 private:
  TlsFiles files_;
};

struct TokenFile {
  explicit TokenFile(const std::string& text) { testing::WriteText(path, text); }
  TemporaryFolder folder;
  const std::string path = folder.path() + "/token";
};

TEST(ClientToken, IsShownWithEveryCall) {
  QuietServer server;
  const TokenFile token(absl::StrCat("  ", kToken, "\n"));
  ClientOptions options;
  options.server = server.address();
  options.token_file = token.path;
  options.reachable = [](bool) {};
  const auto client = *Client::Create(options);
  EXPECT_TRUE(client->GetServerInfo().ok());
  const std::string bytes(100, 'x');
  v1::TensorRef ref;
  ref.set_dtype(v1::F32);
  ref.add_shape(25);
  EXPECT_TRUE(client->Upload({MakeLocalTensor(ref, bytes)}).ok());
  EXPECT_FALSE(client->Download(std::string(64, '0')).ok());
  EXPECT_TRUE(client->Watch("jobs/x", 0, [](const v1::JobEvent&) { return true; }).ok());
  EXPECT_THAT(server.shown.with(),
              IsSupersetOf({"GetServerInfo", "FindMissingTensors", "QueryUpload", "UploadTensor",
                            "DownloadTensor", "WatchJob", "Check", "GetJob"}));
  EXPECT_THAT(server.shown.without(), ::testing::IsEmpty());
}

TEST(ClientToken, ShowsNothingWithoutAFile) {
  QuietServer server;
  EXPECT_TRUE(Ask({}, server.address()).ok());
  EXPECT_THAT(server.shown.with(), ::testing::IsEmpty());
}

TEST(ClientToken, IsOneLineOfPrintableCharactersAndInNoError) {
  for (const std::string& text :
       {std::string(), std::string(" \n"), std::string("secret\nsecond"), std::string("se cret"),
        std::string("secret\xC3\xBC"), std::string("secret\0x", 8), std::string(513, 's')}) {
    const TokenFile token(text);
    ClientOptions options;
    options.token_file = token.path;
    const absl::Status status = Ask(options, "127.0.0.1:1");
    EXPECT_EQ(FieldAtFault(status), "token_file");
    EXPECT_THAT(ToText(status), AllOf(HasSubstr("printable ASCII"), HasSubstr(token.path),
                                      Not(HasSubstr("secret")), Not(HasSubstr("sss"))));
  }
  ClientOptions options;
  options.token_file = "/nowhere/token";
  EXPECT_THAT(ToText(Ask(options, "127.0.0.1:1")), HasSubstr("/nowhere/token"));
}

TEST(ClientToken, IsNotSentInPlainTextToAnotherMachine) {
  const TokenFile token(kToken);
  ClientOptions options;
  options.token_file = token.path;
  for (const char* server : {"192.0.2.1:50051", "prune.example:50051", "[2001:db8::1]:50051",
                             "dns:///127.0.0.1.example:1", "127.0.0.1.example:1", ":50051"}) {
    const absl::Status status = Ask(options, server);
    EXPECT_EQ(FieldAtFault(status), "token_file") << server;
    EXPECT_THAT(ToText(status), AllOf(HasSubstr("plain text"), HasSubstr(server)));
  }
  options.tls = true;
  options.server = "prune.example:50051";
  EXPECT_TRUE(Client::Create(options).ok());
}

// Where a proxy is named that nobody is, only a call that goes past it arrives.
TEST(ClientToken, IsNotSentInPlainTextToAProxyOfTheEnvironment) {
  QuietServer server;
  const TokenFile token(kToken);
  ClientOptions options;
  setenv("http_proxy", "http://127.0.0.1:1", 1);
  EXPECT_EQ(Ask(options, server.address()).code(), absl::StatusCode::kUnavailable);
  options.token_file = token.path;
  EXPECT_TRUE(Ask(options, server.address()).ok());
  unsetenv("http_proxy");
}

TEST(IsThisMachine, OnLoopbackAndSocketsOfTheFileSystem) {
  for (const char* server : {"127.0.0.1:50051", "127.3.2.1:1", "[::1]:50051", "localhost:50051",
                             "LocalHost:1", "unix:/run/attnprune"}) {
    EXPECT_TRUE(IsThisMachine(server)) << server;
  }
  for (const char* server : {"0.0.0.0:1", "10.0.0.1:1", "[::]:1", "[::1:1", "localhost.example:1",
                             "", ":1", "127.0.0.1.nip.example:1"}) {
    EXPECT_FALSE(IsThisMachine(server)) << server;
  }
}

TEST(ClientTls, TakesAServerOfAnAuthorityInItsFile) {
  const Authority authority;
  const QuietServer server(ServerTls(authority.Issue()));
  const absl::Status status = Ask(Trust(authority).options(), server.address());
  EXPECT_TRUE(status.ok()) << status;
}

// Says so at once, whatever the patience.
absl::Status AskPatiently(ClientOptions options, const std::string& server) {
  options.server = server;
  options.sleep = [](absl::Duration) {
    ADD_FAILURE() << "waited to try again";
    return false;
  };
  return (*Client::Create(options))->GetServerInfo().status();
}

TEST(ClientTls, SaysThatTheAuthorityIsAnotherOrTheTimeIsOver) {
  const Authority authority;
  const absl::Time past = absl::Now() - absl::Hours(1);
  const QuietServer server(ServerTls(authority.Issue()));
  const QuietServer expired(ServerTls(
      authority.Issue(testing::kLoopbackNames, {.from = past - absl::Hours(1), .to = past})));
  const Trust other(Authority("other")), right(authority);
  for (const auto& [trust, address] :
       {std::pair(&other, server.address()), std::pair(&right, expired.address())}) {
    const absl::Status status = AskPatiently(trust->options(), address);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(status.message(),
              absl::StrCat(address, " has a certificate that is not of the authorities in ",
                           trust->file(), ", or not valid today"));
  }
}

TEST(ClientTls, SaysThatTheNameIsAnother) {
  const Authority authority;
  const QuietServer server(ServerTls(authority.Issue("DNS:elsewhere.example")));
  EXPECT_THAT(ToText(AskPatiently(Trust(authority).options(), server.address())),
              EndsWith("is for another name"));
}

TEST(ClientTls, SaysThatTheServerSpeaksNone) {
  const QuietServer server;
  EXPECT_THAT(ToText(AskPatiently(Trust(Authority()).options(), server.address())),
              EndsWith("speaks no TLS"));
}

TEST(ClientTls, SaysThatTheServerMaySpeakNothingElse) {
  const QuietServer server(ServerTls(Authority().Issue()));
  EXPECT_THAT(ToText(Ask({}, server.address())),
              HasSubstr("it may speak TLS only, for which ca_file or tls must be given"));
}

TEST(ClientTls, ShowsItsCertificateAndSaysWhereItMayBeMissing) {
  const Authority authority, of_clients("of clients");
  const QuietServer server(ServerTls(authority.Issue(), of_clients.certificate()));
  const Trust trust(authority);
  EXPECT_THAT(ToText(Ask(trust.options(), server.address())),
              HasSubstr("it may want a certificate (cert_file, key_file)"));
  const TlsFiles own;
  ClientOptions options = trust.options();
  options.cert_file = own.certificate();
  options.key_file = own.key();
  EXPECT_THAT(ToText(Ask(options, server.address())), HasSubstr("of another authority"));
  own.Write(of_clients.Issue("DNS:me"));
  const absl::Status status = Ask(options, server.address());
  EXPECT_TRUE(status.ok()) << status;
}

TEST(ClientTls, NamesTheFileThatBreaksARule) {
  const TlsFiles files;
  struct Row {
    const char* field;
    std::string ca, certificate, key;
  };
  for (const Row& row :
       {Row{"ca_file", files.key(), "", ""}, Row{"ca_file", "/nowhere", "", ""},
        Row{"key_file", "", files.certificate(), ""}, Row{"cert_file", "", "", files.key()},
        Row{"cert_file", "", files.key(), files.key()},
        Row{"key_file", "", files.certificate(), files.certificate()}}) {
    ClientOptions options;
    options.ca_file = row.ca;
    options.cert_file = row.certificate;
    options.key_file = row.key;
    EXPECT_EQ(FieldAtFault(Ask(options, "127.0.0.1:1")), row.field);
  }
}

}  // namespace
}  // namespace attnprune::client
