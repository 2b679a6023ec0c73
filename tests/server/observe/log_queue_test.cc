// A pipe whose reader is the test.
#include "server/observe/log_queue.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"

namespace attnprune {
namespace {

struct Pipe {
  Pipe() {
    EXPECT_EQ(pipe(ends.data()), 0);
    EXPECT_GT(fcntl(ends[1], F_SETPIPE_SZ, 4096), 0);
  }
  ~Pipe() {
    for (const int end : ends) close(end);
  }
  // Up to and with `last`, without line ends.
  std::vector<std::string> ReadUntil(const std::string& last) {
    std::string text;
    while (!absl::EndsWith(text, absl::StrCat(last, "\n"))) {
      std::array<char, 1000> bytes;
      const ssize_t n = read(ends[0], bytes.data(), bytes.size());
      if (n <= 0) break;
      text.append(bytes.data(), static_cast<size_t>(n));
    }
    return absl::StrSplit(absl::StripSuffix(text, "\n"), '\n');
  }
  std::array<int, 2> ends{-1, -1};
};

LogQueueOptions Options(size_t max_bytes) {
  return {.max_bytes = max_bytes,
          .dropped_line = [](int64_t lines) { return absl::StrCat("dropped ", lines, "\n"); }};
}

TEST(LogQueue, WritesLinesInOrder) {
  Pipe pipe;
  LogQueue queue(pipe.ends[1], Options(1 << 20));
  for (int i = 0; i < 1000; ++i) queue.Add(absl::StrCat("line ", i, "\n"));
  const std::vector<std::string> lines = pipe.ReadUntil("line 999");
  ASSERT_EQ(lines.size(), 1000U);
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i], absl::StrCat("line ", i));
  EXPECT_TRUE(queue.Flush(absl::Seconds(60)));
  EXPECT_EQ(queue.dropped(), 0);
}

// Nobody reads: adding goes on, memory does not grow, and ending waits no longer than it may. Then
// somebody reads: the oldest lines are there, and what is missing is said where it is missing.
TEST(LogQueue, DropsTheNewestWhereNobodyReadsAndSaysSoInTheirPlace) {
  constexpr int kLines = 10'000;
  Pipe pipe;
  LogQueue queue(pipe.ends[1], Options(10'000));  // more than the pipe takes
  for (int i = 0; i < kLines; ++i) queue.Add(absl::StrCat("line ", i, "\n"));
  EXPECT_FALSE(queue.Flush(absl::Milliseconds(10)));
  const int64_t dropped = queue.dropped();
  EXPECT_GT(dropped, 0);
  std::jthread reader([&] {
    int64_t next = 0, said = 0;
    for (absl::string_view line : pipe.ReadUntil("the end")) {
      int64_t number = 0;
      if (absl::ConsumePrefix(&line, "dropped ")) {
        EXPECT_TRUE(absl::SimpleAtoi(line, &number));
        next += number;
        said += number;
      } else if (absl::ConsumePrefix(&line, "line ")) {
        EXPECT_TRUE(absl::SimpleAtoi(line, &number));
        EXPECT_EQ(number, next++);
      }
    }
    EXPECT_EQ(next, kLines);
    EXPECT_EQ(said, dropped);
  });
  EXPECT_TRUE(queue.Flush(absl::Seconds(60)));
  queue.Add("the end\n");
}

TEST(LogQueue, WaitsForNobodyAtItsEnd) {
  Pipe pipe;
  {
    LogQueue queue(pipe.ends[1], Options(1 << 20));
    queue.Add(std::string(100'000, 'x') + "\n");
  }
  EXPECT_EQ(pipe.ReadUntil(std::string(100'000, 'x')).size(), 1U);
}

TEST(LogQueue, CountsWhatCannotBeWritten) {
  std::signal(SIGPIPE, SIG_IGN);
  Pipe pipe;
  close(pipe.ends[0]);
  LogQueue queue(pipe.ends[1], Options(1 << 20));
  queue.Add("to nobody\n");
  EXPECT_TRUE(queue.Flush(absl::Seconds(60)));
  EXPECT_EQ(queue.dropped(), 1);
}

}  // namespace
}  // namespace attnprune
