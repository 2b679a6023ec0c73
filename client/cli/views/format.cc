#include "client/cli/views/format.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace attnprune::cli {
namespace {

std::vector<size_t> WidthsOf(const Rows& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  return widths;
}

int LineWidth(const std::vector<size_t>& widths) {
  size_t width = 0;
  for (const size_t column : widths) width += column + (width > 0 ? 2 : 0);
  return static_cast<int>(width);
}

void RemoveColumn(const std::string& heading, Rows& rows) {
  if (rows.empty()) return;
  const auto found = std::find(rows[0].begin(), rows[0].end(), heading);
  if (found == rows[0].end()) return;
  const auto place = found - rows[0].begin();
  for (auto& row : rows) {
    if (place < static_cast<std::ptrdiff_t>(row.size())) row.erase(row.begin() + place);
  }
}

std::string LabelText(const LabelMap& labels, const char* name) {
  const auto found = labels.find(name);
  return found == labels.end() ? "" : found->second;
}

}  // namespace

std::string ModelText(const LabelMap& labels) {
  const std::string path = LabelText(labels, kWeightsLabel);
  return path.substr(path.rfind('/') + 1);
}

std::string LayerText(const LabelMap& labels) { return LabelText(labels, kLayerLabel); }

std::string SecondsText(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return "?";
  if (seconds < 9.995) return absl::StrFormat("%.2f s", seconds);
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return absl::StrCat(whole, " s");
  if (whole < 3600) return absl::StrFormat("%d min %02d s", whole / 60, whole % 60);
  return absl::StrFormat("%d h %02d min", whole / 3600, whole / 60 % 60);
}

std::string BytesText(int64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  auto value = static_cast<double>(bytes);
  const char* unit = "";
  for (const char* next : {"KiB", "MiB", "GiB", "TiB"}) {
    if (value < 1024) break;
    value /= 1024;
    unit = next;
  }
  return absl::StrFormat("%.1f %s", value, unit);
}

std::string StateText(v1::JobState state) {
  return v1::JobState_IsValid(state) ? absl::AsciiStrToLower(v1::JobState_Name(state))
                                     : absl::StrCat("state ", static_cast<int>(state));
}

std::string TimeText(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixSeconds(time.seconds()),
                          absl::LocalTimeZone());
}

std::string ShellWord(const std::string& text) {
  const bool plain = absl::c_all_of(text, [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           absl::string_view("%+,-./:=@_").find(c) != absl::string_view::npos;
  });
  if (plain && !text.empty()) return text;
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

std::string Json(const google::protobuf::Message& message, JsonStyle style) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = style == JsonStyle::kIndented;
  options.always_print_primitive_fields = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
  if (!status.ok()) return "{}\n";
  if (style == JsonStyle::kLine) text += '\n';
  return text;
}

std::string Shortened(const std::string& text, size_t width) {
  constexpr absl::string_view kCut = "...";
  if (text.size() <= width || width < kCut.size()) return text.substr(0, width);
  return absl::StrCat(text.substr(0, width - kCut.size()), kCut);
}

std::string TableText(Rows rows, absl::optional<int> width,
                      const std::vector<std::string>& expendable) {
  std::vector<size_t> widths = WidthsOf(rows);
  for (const std::string& heading : expendable) {
    if (!width.has_value() || LineWidth(widths) < *width) break;
    RemoveColumn(heading, rows);
    widths = WidthsOf(rows);
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - row[i].size(), ' ');
      absl::StrAppend(&line, i == 0 ? "" : "  ", i == 0 ? "" : padding, row[i],
                      i == 0 ? padding : "");
    }
    absl::StrAppend(&text, std::string(absl::StripTrailingAsciiWhitespace(line)), "\n");
  }
  return text;
}

}  // namespace attnprune::cli
