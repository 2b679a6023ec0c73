// `attnprune-server token new`: makes a token and puts its hash into a file.
#ifndef ATTNPRUNE_SERVER_TOKEN_COMMAND_H_
#define ATTNPRUNE_SERVER_TOKEN_COMMAND_H_

namespace attnprune {

// argv from "token" on. Prints the token on standard output, and nothing else there. The exit code:
// 0; 1: the file cannot be read or written; 2: wrong usage.
int RunTokenCommand(int argc, const char* const* argv);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_TOKEN_COMMAND_H_
