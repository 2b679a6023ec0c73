#include "server/queue/postgres/store_url.h"

#include <libpq-fe.h>

#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/messages.h"

namespace attnprune::postgres {
namespace {

constexpr int64_t kMaxPasswordBytes = 4096;

// What stands unless the URL says otherwise: a server that is gone is noticed within half a minute.
constexpr std::pair<const char*, const char*> kDefaults[] = {
    {"application_name", "attnprune-server"},
    {"connect_timeout", "5"},
    {"keepalives_idle", "10"},
    {"keepalives_interval", "5"},
    {"keepalives_count", "3"},
    {"tcp_user_timeout", "20000"}};

struct Freer {
  void operator()(PQconninfoOption* options) const { PQconninfoFree(options); }
};

// Where the password of "scheme://user:password@" is; empty: none.
absl::string_view UserPassword(absl::string_view url) {
  const size_t begin = url.find("://");
  if (begin == absl::string_view::npos) return {};
  const absl::string_view authority = url.substr(begin + 3, url.find('/', begin + 3) - begin - 3);
  const size_t at = authority.rfind('@'), colon = authority.find(':');
  if (at == absl::string_view::npos || colon == absl::string_view::npos || colon > at) return {};
  return authority.substr(colon + 1, at - colon - 1);
}

// Where that of "?password=…" is.
absl::string_view NamedPassword(absl::string_view url) {
  for (const char* const name : {"?password=", "&password="}) {
    const size_t begin = url.find(name);
    if (begin == absl::string_view::npos) continue;
    const size_t value = begin + absl::string_view(name).size();
    return url.substr(value, url.find('&', value) - value);
  }
  return {};
}

absl::StatusOr<std::string> ReadPassword(const std::string& path) {
  constexpr char kField[] = "store_password_file";
  const absl::StatusOr<File> file = File::OpenForReading(path);
  if (!file.ok()) return WithField(Annotate(file.status(), kField), kField);
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, file->Size());
  if (size > kMaxPasswordBytes) {
    return MustError(kField, absl::StrCat("have at most ", kMaxPasswordBytes, " bytes"), size);
  }
  std::string text(static_cast<size_t>(size), '\0');
  ATTNPRUNE_RETURN_IF_ERROR(file->ReadAt(0, absl::MakeSpan(text)));
  text.resize(std::min(text.size(), text.find_first_of("\r\n")));
  if (text.empty()) return MustError(kField, "begin with a password", "none in " + path);
  return text;
}

absl::Status BadUrl(const std::string& url) {
  return MustError("store", "be a URL such as postgresql://user@host:5432/database",
                   absl::StrCat("\"", WithoutPassword(url), "\""));
}

}  // namespace

bool HasPassword(absl::string_view url) {
  return !UserPassword(url).empty() || !NamedPassword(url).empty();
}

std::string WithoutPassword(absl::string_view url) {
  std::string text(url);
  for (const auto find : {UserPassword, NamedPassword}) {
    const absl::string_view password = find(text);
    if (password.empty()) continue;
    text.replace(static_cast<size_t>(password.data() - text.data()), password.size(), "***");
  }
  return text;
}

absl::StatusOr<StoreUrl> ParseStoreUrl(const std::string& url, const std::string& password_file) {
  const bool scheme =
      absl::StartsWith(url, "postgresql://") || absl::StartsWith(url, "postgres://");
  char* words = nullptr;  // may have pieces of the password in them
  const std::unique_ptr<PQconninfoOption, Freer> options(
      scheme ? PQconninfoParse(url.c_str(), &words) : nullptr);
  if (words != nullptr) PQfreemem(words);
  if (options == nullptr) return BadUrl(url);
  StoreUrl parsed;
  parsed.parameters.insert(std::begin(kDefaults), std::end(kDefaults));
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val != nullptr) parsed.parameters[option->keyword] = option->val;
  }
  parsed.parameters["client_encoding"] = "UTF8";
  if (!password_file.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(parsed.parameters["password"], ReadPassword(password_file));
  }
  parsed.display = WithoutPassword(url);
  return parsed;
}

}  // namespace attnprune::postgres
