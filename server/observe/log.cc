#include "server/observe/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace attnprune {
namespace {

LogFormat current_format = LogFormat::kText;  // written by StartLogging only

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

}  // namespace

void StartLogging(LogFormat format, LogLevel lowest) {
  current_format = format;
  auto logger = std::make_shared<spdlog::logger>("attnprune",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern(format == LogFormat::kText
                          ? "%Y-%m-%dT%H:%M:%S.%eZ %l %v"
                          : R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})",
                      spdlog::pattern_time_type::utc);
  logger->set_level(ToSpdlog(lowest));
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
}

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
