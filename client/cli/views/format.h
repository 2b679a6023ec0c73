// Numbers, sizes, times and messages as text. Pure.
#ifndef ATTNPRUNE_CLIENT_CLI_VIEWS_FORMAT_H_
#define ATTNPRUNE_CLIENT_CLI_VIEWS_FORMAT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "attnprune/v1/job.pb.h"

namespace google::protobuf {
class Message;
}

namespace attnprune::cli {

std::string SecondsText(double seconds);    // "0.42 s", "12 s", "3 min 05 s", "2 h 10 min"
std::string BytesText(int64_t bytes);       // "512 B", "1.5 MiB"
std::string StateText(v1::JobState state);  // "succeeded"
std::string TimeText(const google::protobuf::Timestamp& time);  // "2026-01-31 12:00:00", local

// `text` as one word of a POSIX shell, quoted where it has to be.
std::string ShellWord(const std::string& text);

// protobuf JSON, fields that are 0 included. indented: over several lines; else one line. Ends with
// a newline.
enum class JsonStyle { kLine, kIndented };
std::string Json(const google::protobuf::Message& message, JsonStyle style);

// Columns padded to their widest cell, two spaces between them; the first to the left, the others
// to the right. The first row is the heading.
std::string TableText(const std::vector<std::vector<std::string>>& rows);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_VIEWS_FORMAT_H_
