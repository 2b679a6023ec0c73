#include "server/objects/blobs_url.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"

namespace attnprune {
namespace {

constexpr char kField[] = "blobs";
constexpr size_t kLongestPrefix = 256;

absl::Status BadUrl(absl::string_view rule, absl::string_view got) {
  return MustError(kField, rule, Quoted(got));
}

bool IsWord(absl::string_view text, absl::string_view more) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::StrContains(more, c);
  });
}

// What needs no escapes in a URL, and leads to no folder above.
bool IsPrefix(absl::string_view prefix) {
  if (prefix.size() > kLongestPrefix) return false;
  const std::vector<absl::string_view> folders = absl::StrSplit(prefix, '/');
  return std::all_of(folders.begin(), folders.end(), [](absl::string_view folder) {
    return IsWord(folder, "._-") && folder != "." && folder != "..";
  });
}

// Scheme, host and port alone: what else a URL may have, a password among it, has no use here.
bool IsEndpoint(absl::string_view url) {
  return (absl::ConsumePrefix(&url, "https://") || absl::ConsumePrefix(&url, "http://")) &&
         IsWord(url, ".-:[]");
}

absl::Status TakeParameter(absl::string_view parameter, BlobsUrl& url) {
  const std::pair<absl::string_view, absl::string_view> words =
      absl::StrSplit(parameter, absl::MaxSplits('=', 1));
  const auto& [name, value] = words;
  if (name == "endpoint") {
    url.endpoint = std::string(absl::StripSuffix(value, "/"));
    if (IsEndpoint(url.endpoint)) return absl::OkStatus();
    return BadUrl("have an endpoint such as https://host:9000", value);
  }
  if (name == "region") {
    url.region = std::string(value);
    if (IsWord(value, "-")) return absl::OkStatus();
    return BadUrl("have a region such as us-east-1", value);
  }
  if (name == "addressing") {
    url.bucket_in_host = value == "virtual";
    if (value == "path" || value == "virtual") return absl::OkStatus();
    return BadUrl("have the addressing path or virtual", value);
  }
  return BadUrl("have no parameters but endpoint, region and addressing", name);
}

// Whether a bucket's name can stand before the endpoint's: a host's name, of which a certificate's
// * stands for one word.
absl::Status CheckBucketInHost(const BlobsUrl& url) {
  absl::string_view host = url.endpoint;
  const bool tls = absl::ConsumePrefix(&host, "https://");
  absl::ConsumePrefix(&host, "http://");
  host = host.substr(0, host.rfind(':'));
  const bool named = std::any_of(host.begin(), host.end(), [](char c) {
    return absl::ascii_isalpha(static_cast<unsigned char>(c));
  });
  if (!named || absl::StrContains(host, '[')) {
    return BadUrl("have an endpoint with a host's name where addressing is virtual", url.endpoint);
  }
  if (tls && absl::StrContains(url.bucket, '.')) {
    return BadUrl("name a bucket without dots where addressing is virtual and the endpoint https",
                  url.bucket);
  }
  return absl::OkStatus();
}

absl::StatusOr<BlobsUrl> ParseFolder(absl::string_view path) {
  while (path.size() > 1 && absl::ConsumeSuffix(&path, "/")) {
  }
  const bool whole = absl::StartsWith(path, "/") && path.size() > 1 &&
                     path.find_first_of("?#%") == absl::string_view::npos;
  if (!whole) return BadUrl("be file:// and an absolute path, without ?, # and %", path);
  BlobsUrl parsed;
  parsed.folder = std::string(path);
  return parsed;
}

absl::StatusOr<BlobsUrl> ParseBucket(absl::string_view text) {
  BlobsUrl url;
  url.region = "us-east-1";
  const std::pair<absl::string_view, absl::string_view> ends =
      absl::StrSplit(text, absl::MaxSplits('?', 1));
  const std::pair<absl::string_view, absl::string_view> names =
      absl::StrSplit(ends.first, absl::MaxSplits('/', 1));
  url.bucket = std::string(names.first);
  url.prefix = std::string(absl::StripSuffix(names.second, "/"));
  if (!IsWord(url.bucket, ".-") || url.bucket.size() > 63) {
    return BadUrl("name a bucket of 1 to 63 characters [A-Za-z0-9.-]", url.bucket);
  }
  if (!url.prefix.empty() && !IsPrefix(url.prefix)) {
    return BadUrl("have a prefix of at most 256 characters [A-Za-z0-9._/-]", url.prefix);
  }
  for (const absl::string_view parameter : absl::StrSplit(ends.second, '&', absl::SkipEmpty())) {
    ATTNPRUNE_RETURN_IF_ERROR(TakeParameter(parameter, url));
  }
  const std::string of_aws = absl::StrCat("https://s3.", url.region, ".amazonaws.com");
  if (url.endpoint.empty()) url.endpoint = of_aws;
  if (url.bucket_in_host) ATTNPRUNE_RETURN_IF_ERROR(CheckBucketInHost(url));
  return url;
}

}  // namespace

std::string BlobsUrl::Name() const {
  if (!folder.empty()) return absl::StrCat("file://", folder);
  return absl::StrCat("s3://", bucket, prefix.empty() ? "" : "/", prefix);
}

std::string BlobsUrl::Root() const {
  if (!bucket_in_host) return absl::StrCat(endpoint, "/", bucket, "/");
  const size_t host = endpoint.find("://") + 3;
  return absl::StrCat(endpoint.substr(0, host), bucket, ".", endpoint.substr(host), "/");
}

absl::StatusOr<BlobsUrl> ParseBlobsUrl(const std::string& url) {
  absl::string_view rest = url;
  if (absl::ConsumePrefix(&rest, "file://")) return ParseFolder(rest);
  if (absl::ConsumePrefix(&rest, "s3://")) return ParseBucket(rest);
  return BadUrl(
      "be file:///folder or s3://bucket/prefix?endpoint=URL&region=R&addressing=path|virtual", url);
}

}  // namespace attnprune
