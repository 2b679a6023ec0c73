// Checks ServerOptions and fills in what they leave to the machine.
#ifndef ATTNPRUNE_SERVER_SERVER_OPTIONS_H_
#define ATTNPRUNE_SERVER_SERVER_OPTIONS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "server/server.h"

namespace attnprune {

struct Machine {
  int cores = 1;
  int64_t memory_bytes = 0;   // that this process may use; 0: unknown
  int64_t open_files = 1024;  // that it may have, connections among them
};

struct Guards {
  bool tls = false;      // what is sent is encrypted
  bool tokens = false;   // who calls is known
  bool allowed = false;  // --allow-unauthenticated-network
};
// Whether the server may listen where others reach it: with both, or where the flag names the risk.
bool MayFaceTheNetwork(const Guards& guards);

// Raises this process's limit of open files as far as it may. For programs, before all else.
void RaiseOpenFileLimit();

// Cores, memory and open files of this process, as a container may have cut them.
Machine ThisMachine();

// `options` with every 0 that stands for "as the machine has it" replaced. INVALID_ARGUMENT naming
// the field, the rule and the value. Pure.
absl::StatusOr<ServerOptions> CheckedOptions(ServerOptions options, const Machine& machine);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_SERVER_OPTIONS_H_
