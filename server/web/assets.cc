#include "server/web/assets.h"

#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/io/sha256.h"
#include "server/http/compress.h"

namespace attnprune::web {
namespace {

constexpr int kSmallest = 9;
constexpr size_t kTagDigits = 16;

std::string TypeOf(absl::string_view path) {
  const absl::string_view ending = path.substr(path.rfind('.') + 1);
  if (ending == "html") return "text/html; charset=utf-8";
  if (ending == "js" || ending == "mjs") return "text/javascript; charset=utf-8";
  if (ending == "css") return "text/css; charset=utf-8";
  if (ending == "json" || ending == "map") return "application/json";
  if (ending == "svg") return "image/svg+xml";
  if (ending == "png") return "image/png";
  if (ending == "ico") return "image/x-icon";
  if (ending == "woff2") return "font/woff2";
  return "text/plain; charset=utf-8";
}

// The file with "<!--include PATH-->" replaced by the file at that path; of one that is not there
// nothing stays.
std::string WithIncluded(const EmbeddedFile& file, absl::Span<const EmbeddedFile> files) {
  constexpr absl::string_view kBegin = "<!--include ", kEnd = "-->";
  std::string text;
  absl::string_view rest = file.bytes;
  while (true) {
    const size_t begin = rest.find(kBegin), end = rest.find(kEnd, begin);
    absl::StrAppend(&text, rest.substr(0, begin));
    if (begin == rest.npos || end == rest.npos) return text;
    const absl::string_view path = rest.substr(begin, end - begin).substr(kBegin.size());
    for (const EmbeddedFile& other : files) {
      if (other.path == path) absl::StrAppend(&text, other.bytes);
    }
    rest.remove_prefix(end + kEnd.size());
  }
}

}  // namespace

Assets::Assets(absl::Span<const EmbeddedFile> files) {
  for (const EmbeddedFile& file : files) {
    const bool includes = absl::EndsWith(file.path, ".html");
    const std::string whole = includes ? WithIncluded(file, files) : std::string(file.bytes);
    by_path_.emplace(absl::StrCat("/", file.path), Make({file.path, whole}));
  }
  if (const auto index = by_path_.find("/index.html"); index != by_path_.end()) {
    by_path_.emplace("/", index->second);
  }
}

Assets::Asset Assets::Make(const EmbeddedFile& file) {
  Asset asset;
  asset.plain = std::make_shared<const std::string>(file.bytes);
  std::string gzip = http::Gzip(file.bytes, kSmallest);
  if (gzip.size() < file.bytes.size()) {
    asset.gzip = std::make_shared<const std::string>(std::move(gzip));
  }
  asset.content_type = TypeOf(file.path);
  asset.etag = absl::StrCat("\"", Sha256Of(*asset.plain).substr(0, kTagDigits), "\"");
  return asset;
}

// The tag is weak, as it stands for the compressed bytes too.
absl::optional<http::Response> Assets::Find(const http::Request& request) const {
  const auto found = by_path_.find(request.path);
  if (found == by_path_.end()) return absl::nullopt;
  const Asset& asset = found->second;
  http::Response response;
  response.headers = {{"ETag", absl::StrCat("W/", asset.etag)},
                      {"Cache-Control", "no-cache"},
                      {"Vary", "Accept-Encoding"}};
  if (absl::StrContains(request.if_none_match, asset.etag)) {
    response.status = 304;
    return response;
  }
  response.content_type = asset.content_type;
  response.body = asset.plain;
  if (asset.gzip != nullptr && http::TakesGzip(request.accept_encoding)) {
    response.body = asset.gzip;
    response.headers.emplace_back("Content-Encoding", "gzip");
  }
  return response;
}

}  // namespace attnprune::web
