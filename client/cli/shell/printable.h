// What others say, made safe for a terminal: the one function for all that is printed for people.
#ifndef ATTNPRUNE_CLIENT_CLI_SHELL_PRINTABLE_H_
#define ATTNPRUNE_CLIENT_CLI_SHELL_PRINTABLE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace google::protobuf {
class Message;
}

namespace attnprune::cli {

enum class Lines { kOne, kSeveral };

// `text` with what moves a cursor, colours, rings or hides written as an escape, "\x1b": control
// characters (of several lines all but the newline), marks that turn the direction of writing
// (U+202A to U+202E, U+2066 to U+2069) and bytes that are not UTF-8. Pure.
std::string Printable(absl::string_view text, Lines lines = Lines::kOne);

// The same of every text in a message. Fields of type bytes stay.
void MakePrintable(google::protobuf::Message* message);

template <typename Message>
Message ForPeople(Message message) {
  MakePrintable(&message);
  return message;
}

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_SHELL_PRINTABLE_H_
