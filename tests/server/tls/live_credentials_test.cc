// Files exchanged under a server: what is taken, and what stays.
#include "server/tls/live_credentials.h"

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <memory>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/tls/tls_files.h"

namespace attnprune::tls {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FixedClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::Now();
};

// Looks when the test says so.
class LiveCredentialsTest : public ::testing::Test {
 protected:
  LiveCredentialsTest() {
    const auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(lines_);
    before_ = spdlog::default_logger();
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink));
    auto opened = LiveCredentials::Open({.files = {files_.certificate(), files_.key(), ""},
                                         .interval = absl::Hours(24),
                                         .clock = &clock_});
    EXPECT_TRUE(opened.ok()) << opened.status();
    live_ = *std::move(opened);
  }
  ~LiveCredentialsTest() override {
    live_.reset();
    spdlog::set_default_logger(before_);
  }
  // What a look logs.
  std::string Look() {
    lines_.str("");
    live_->Look();
    return lines_.str();
  }

  const TlsFiles files_;
  FixedClock clock_;
  std::ostringstream lines_;
  std::shared_ptr<spdlog::logger> before_;
  std::unique_ptr<LiveCredentials> live_;
};

TEST_F(LiveCredentialsTest, TakesAPairThatWasExchanged) {
  const auto before = live_->current();
  EXPECT_THAT(Look(), IsEmpty());
  EXPECT_EQ(live_->current(), before);
  const testing::Identity next = files_.authority.Issue();
  files_.Write(next);
  EXPECT_THAT(Look(), AllOf(HasSubstr("tls.reload"), HasSubstr(files_.certificate())));
  EXPECT_EQ(live_->current()->texts.certificate, next.certificate);
  EXPECT_THAT(Look(), IsEmpty());
}

TEST_F(LiveCredentialsTest, KeepsThePairUntilTheNextIsWholeAndSaysSoOnce) {
  const auto before = live_->current();
  const testing::Identity next = files_.authority.Issue();
  testing::WriteText(files_.certificate(), next.certificate);
  EXPECT_THAT(Look(), AllOf(HasSubstr("tls.reload_failed"), HasSubstr("tls_key_file must have")));
  EXPECT_THAT(Look(), IsEmpty());
  EXPECT_EQ(live_->current(), before);
  testing::WriteText(files_.key(), next.key);
  EXPECT_THAT(Look(), HasSubstr("tls.reload"));
  EXPECT_EQ(live_->current()->texts.key, next.key);
}

TEST_F(LiveCredentialsTest, KeepsThePairWhereTheFilesAreGoneOrNoPem) {
  const auto before = live_->current();
  const testing::Identity same = {before->texts.certificate, before->texts.key};
  std::filesystem::remove(files_.key());
  EXPECT_THAT(Look(), HasSubstr("tls_key_file"));
  files_.Write({"half a certificate", same.key});
  EXPECT_THAT(Look(), HasSubstr("tls_cert_file"));
  EXPECT_EQ(live_->current(), before);
  files_.Write(same);
  EXPECT_THAT(Look(), IsEmpty());
  EXPECT_EQ(live_->current(), before);
}

TEST_F(LiveCredentialsTest, SaysOnceThatTheCertificateHasExpired) {
  clock_.now = live_->current()->validity.to + absl::Seconds(1);
  EXPECT_THAT(Look(), AllOf(HasSubstr("tls.validity"), HasSubstr("expired on")));
  EXPECT_THAT(Look(), IsEmpty());
  files_.Write(files_.authority.Issue(testing::kLoopbackNames,
                                      {.from = clock_.now, .to = clock_.now + absl::Hours(1)}));
  EXPECT_THAT(Look(), HasSubstr("tls.reload"));
  clock_.now -= absl::Hours(1);
  EXPECT_THAT(Look(), HasSubstr("not valid before"));
}

}  // namespace
}  // namespace attnprune::tls
