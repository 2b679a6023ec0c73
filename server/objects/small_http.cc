#include "server/objects/small_http.h"

#include <curl/curl.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "server/objects/environment.h"

namespace attnprune {
namespace {

constexpr size_t kMostOfAnAnswer = size_t{64} << 10;
constexpr long kToConnectMs = 1000, kInAllMs = 5000;

size_t TakeSome(char* bytes, size_t one, size_t count, void* body) {
  auto& text = *static_cast<std::string*>(body);
  if (text.size() + one * count > kMostOfAnAnswer) return 0;
  text.append(bytes, one * count);
  return one * count;
}

// "a=b&c=d", escaped.
std::string FormText(CURL* curl, const SmallRequest& request) {
  std::string text;
  for (const auto& [name, value] : request.form) {
    const std::unique_ptr<char, decltype(&curl_free)> escaped(
        curl_easy_escape(curl, value.c_str(), static_cast<int>(value.size())), &curl_free);
    if (escaped == nullptr) continue;
    absl::StrAppend(&text, text.empty() ? "" : "&", name, "=", escaped.get());
  }
  return text;
}

}  // namespace

void InitializeCurl() {
  static const CURLcode done = curl_global_init(CURL_GLOBAL_DEFAULT);
  static_cast<void>(done);
}

absl::StatusOr<SmallAnswer> FetchSmall(const SmallRequest& request) {
  InitializeCurl();
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(),
                                                                 &curl_easy_cleanup);
  if (curl == nullptr) return absl::ResourceExhaustedError("no memory for a request");
  curl_slist* list = nullptr;
  for (const std::string& header : request.headers) list = curl_slist_append(list, header.c_str());
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(list,
                                                                            &curl_slist_free_all);
  SmallAnswer answer;
  const auto set = [&curl](CURLoption option, auto value) {
    curl_easy_setopt(curl.get(), option, value);
  };
  set(CURLOPT_URL, request.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_PROXY, "");
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_CONNECTTIMEOUT_MS, kToConnectMs);
  set(CURLOPT_TIMEOUT_MS, kInAllMs);
  set(CURLOPT_HTTPHEADER, headers.get());
  set(CURLOPT_WRITEFUNCTION, &TakeSome);
  set(CURLOPT_WRITEDATA, &answer.body);
  const std::string ca_file = EnvironmentOf("AWS_CA_BUNDLE"), form = FormText(curl.get(), request);
  if (!ca_file.empty()) set(CURLOPT_CAINFO, ca_file.c_str());
  if (!form.empty()) set(CURLOPT_COPYPOSTFIELDS, form.c_str());
  if (request.put) {
    set(CURLOPT_UPLOAD, 1L);
    set(CURLOPT_INFILESIZE, 0L);
  }
  const CURLcode result = curl_easy_perform(curl.get());
  if (result != CURLE_OK) {
    return absl::UnavailableError(
        absl::StrCat(request.url, " does not answer: ", curl_easy_strerror(result)));
  }
  long http = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &http);
  answer.http = static_cast<int>(http);
  return answer;
}

}  // namespace attnprune
