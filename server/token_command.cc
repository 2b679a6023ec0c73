#include "server/token_command.h"

#include <iostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "server/access/caller.h"
#include "server/access/tokens.h"
#include "server/flags.h"

namespace attnprune {
namespace {

absl::StatusOr<access::Caller> CallerOf(const TokenFlags& flags) {
  const absl::optional<access::Role> role = access::ParseRole(flags.role);
  if (!role.has_value()) {
    return MustError("role", "be reader, submitter or admin", Quoted(flags.role));
  }
  return access::Caller{.tenant = flags.tenant, .role = *role, .name = flags.name};
}

// The token is printed once it counts.
absl::Status MakeToken(const TokenFlags& flags) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const access::Caller caller, CallerOf(flags));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string token, access::NewToken());
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string line,
                             access::TokenLine(access::HashOfToken(token), caller));
  if (flags.token_file.empty()) {
    std::cerr << "for the token file: " << line;
  } else {
    ATTNPRUNE_RETURN_IF_ERROR(access::AppendToTokenFile(flags.token_file, line));
  }
  std::cout << token << std::endl;
  return std::cout ? absl::OkStatus() : absl::InternalError("cannot print the token");
}

}  // namespace

int RunTokenCommand(int argc, const char* const* argv) {
  int exit_code = 0;
  const absl::optional<TokenFlags> flags = ParseTokenFlags(argc, argv, &exit_code);
  if (!flags.has_value()) return exit_code;
  const absl::Status status = MakeToken(*flags);
  if (status.ok()) return 0;
  std::cerr << "attnprune-server token new: " << status.message() << "\n";
  return FieldAtFault(status).empty() ? 1 : kWrongUsage;
}

}  // namespace attnprune
