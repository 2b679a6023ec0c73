#include "server/access/caller.h"

namespace attnprune::access {

absl::string_view ToString(Role role) {
  switch (role) {
    case Role::kReader:
      return "reader";
    case Role::kSubmitter:
      return "submitter";
    case Role::kAdmin:
      return "admin";
  }
  return "unknown";
}

absl::optional<Role> ParseRole(absl::string_view text) {
  for (const Role role : {Role::kReader, Role::kSubmitter, Role::kAdmin}) {
    if (text == ToString(role)) return role;
  }
  return absl::nullopt;
}

Caller Everyone() { return {.tenant = "", .role = Role::kAdmin, .name = ""}; }

bool Sees(const Caller& caller, absl::string_view tenant) {
  return caller.role == Role::kAdmin || caller.tenant == tenant;
}

}  // namespace attnprune::access
