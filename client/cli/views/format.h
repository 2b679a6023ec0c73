// Numbers, sizes, times and messages as text. Pure.
#ifndef ATTNPRUNE_CLIENT_CLI_VIEWS_FORMAT_H_
#define ATTNPRUNE_CLIENT_CLI_VIEWS_FORMAT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "attnprune/v1/job.pb.h"

namespace google::protobuf {
class Message;
}

namespace attnprune::cli {

// The labels of a job or run that say what it prunes: the file or folder that its weights came
// from, of which `fetch` copies the rest, and the layer of a model.
inline constexpr char kWeightsLabel[] = "attnprune/weights";
inline constexpr char kLayerLabel[] = "attnprune/layer";

using LabelMap = google::protobuf::Map<std::string, std::string>;
std::string ModelText(const LabelMap& labels);  // last part of the path of kWeightsLabel; or ""
std::string LayerText(const LabelMap& labels);

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
// to the right. The first row is the heading. Where a terminal is `width` wide, the columns whose
// headings are in `expendable` go, the first of them first, until the table is narrower.
using Rows = std::vector<std::vector<std::string>>;
std::string TableText(Rows rows, absl::optional<int> width = absl::nullopt,
                      const std::vector<std::string>& expendable = {});

// `text` cut to `width`, with "..." at its end where something is missing.
std::string Shortened(const std::string& text, size_t width);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_VIEWS_FORMAT_H_
