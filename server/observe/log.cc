#include "server/observe/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <mutex>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "server/observe/log_queue.h"

namespace attnprune {
namespace {

constexpr char kLogger[] = "attnprune";

LogFormat current_format = LogFormat::kText;  // written by StartLogging only, like the next
LogQueue* stderr_queue = nullptr;             // never deleted: its thread may never end

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      break;
  }
  return spdlog::level::err;
}

// A JSON string; bytes that are no UTF-8 are replaced.
std::string Quoted(absl::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool IsPlain(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           absl::StrContains("._/:#+-", absl::string_view(&c, 1));
  });
}

std::unique_ptr<spdlog::formatter> Formatter() {
  return std::make_unique<spdlog::pattern_formatter>(
      current_format == LogFormat::kText ? "%Y-%m-%dT%H:%M:%S.%eZ %l %v"
                                         : R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})",
      spdlog::pattern_time_type::utc);
}

std::string DroppedLine(int64_t lines) {
  const std::string event =
      FormatEvent(current_format, "log.dropped", {{"lines", absl::StrCat(lines)}});
  spdlog::memory_buf_t line;
  Formatter()->format(spdlog::details::log_msg(kLogger, spdlog::level::warn, event), line);
  return {line.data(), line.size()};
}

class QueueSink final : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    stderr_queue->Add({line.data(), line.size()});
  }
  void flush_() override {}
};

}  // namespace

void StartLogging(LogFormat format, LogLevel lowest) {
  current_format = format;
  if (stderr_queue == nullptr) {
    stderr_queue = new LogQueue(STDERR_FILENO, {.dropped_line = DroppedLine});
  }
  auto logger = std::make_shared<spdlog::logger>(kLogger, std::make_shared<QueueSink>());
  logger->set_formatter(Formatter());
  logger->set_level(ToSpdlog(lowest));
  spdlog::set_default_logger(std::move(logger));
}

void FlushLog(absl::Duration timeout) {
  if (stderr_queue != nullptr) stderr_queue->Flush(timeout);
}

int64_t DroppedLogLines() { return stderr_queue == nullptr ? 0 : stderr_queue->dropped(); }

bool Logs(LogLevel level) { return spdlog::default_logger_raw()->should_log(ToSpdlog(level)); }

void Log(LogLevel level, absl::string_view event, const LogFields& fields) {
  if (!Logs(level)) return;
  spdlog::default_logger_raw()->log(
      ToSpdlog(level), spdlog::string_view_t(FormatEvent(current_format, event, fields)));
}

std::string FormatEvent(LogFormat format, absl::string_view event, const LogFields& fields) {
  const bool text = format == LogFormat::kText;
  std::string line = text ? std::string(event) : absl::StrCat("\"message\":", Quoted(event));
  for (const auto& [name, value] : fields) {
    if (text) {
      absl::StrAppend(&line, " ", name, "=", IsPlain(value) ? value : Quoted(value));
    } else {
      absl::StrAppend(&line, ",", Quoted(name), ":", Quoted(value));
    }
  }
  return line;
}

}  // namespace attnprune
