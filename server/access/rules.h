// What each role may do: one table of all RPCs and HTTP routes. What is not in it nobody may.
#ifndef ATTNPRUNE_SERVER_ACCESS_RULES_H_
#define ATTNPRUNE_SERVER_ACCESS_RULES_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "server/access/caller.h"

namespace attnprune::access {

struct Rule {
  absl::string_view action;  // an RPC's name, "CreateJob", or an HTTP route's, "job" (http/route.h)
  absl::optional<Role>
      least;  // the role that it needs; nullopt: it is open to everyone, token or no
};

absl::Span<const Rule> Rules();

// Whether everyone may do it. Pure.
bool IsOpen(absl::string_view action);

// PERMISSION_DENIED: names the role that the action needs, and the caller's. Pure. Whether what the
// action is about is there for the caller is Sees's to say.
absl::Status Authorize(const Caller& caller, absl::string_view action);

}  // namespace attnprune::access

#endif  // ATTNPRUNE_SERVER_ACCESS_RULES_H_
