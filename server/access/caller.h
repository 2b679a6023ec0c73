// Who calls the server.
#ifndef ATTNPRUNE_SERVER_ACCESS_CALLER_H_
#define ATTNPRUNE_SERVER_ACCESS_CALLER_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace attnprune::access {

// Each may do what those before it may.
enum class Role {
  kReader = 1,     // looks at its tenant's jobs and fetches their results
  kSubmitter = 2,  // creates, cancels, resumes and deletes them, and uploads
  kAdmin = 3,      // does so with every tenant's; reads the metrics
};
absl::string_view ToString(Role role);  // "reader" …
absl::optional<Role> ParseRole(absl::string_view text);

struct Caller {
  std::string
      tenant;  // empty: of a server without tokens, and of what was stored before it had any
  Role role = Role::kReader;
  std::string name;  // of the token, for log lines; may be empty
};

// For whom a server without a token file takes everyone.
Caller Everyone();

// Whether what belongs to `tenant` is there for the caller: its own tenant's, an admin all. Of what
// is not, it is told what it would be told if there were no such thing. Pure.
bool Sees(const Caller& caller, absl::string_view tenant);

}  // namespace attnprune::access

#endif  // ATTNPRUNE_SERVER_ACCESS_CALLER_H_
