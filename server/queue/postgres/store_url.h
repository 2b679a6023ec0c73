// Where a job store on PostgreSQL is: "postgresql://user@host:port/database?…".
#ifndef ATTNPRUNE_SERVER_QUEUE_POSTGRES_STORE_URL_H_
#define ATTNPRUNE_SERVER_QUEUE_POSTGRES_STORE_URL_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace attnprune::postgres {

struct StoreUrl {
  std::map<std::string, std::string> parameters;  // for libpq, the password among them
  std::string display;                            // for people: without the password
};

// Whether a password is in the URL's text.
bool HasPassword(absl::string_view url);
// The URL with *** in place of a password.
std::string WithoutPassword(absl::string_view url);

// password_file: its first line is the password, in place of the URL's; "": none. What neither says
// libpq takes from its own variables and files (PGPASSFILE, ~/.pgpass). INVALID_ARGUMENT naming
// store or store_password_file.
absl::StatusOr<StoreUrl> ParseStoreUrl(const std::string& url, const std::string& password_file);

}  // namespace attnprune::postgres

#endif  // ATTNPRUNE_SERVER_QUEUE_POSTGRES_STORE_URL_H_
