// Colours on texts for a terminal. Pure.
#ifndef ATTNPRUNE_CLIENT_CLI_VIEWS_PAINT_H_
#define ATTNPRUNE_CLIENT_CLI_VIEWS_PAINT_H_

#include <string>

#include "client/cli/shell/shell.h"

namespace attnprune::cli {

// `text` with states, failures, warnings and the done part of bars in colour, or as it is.
std::string Painted(const std::string& text, Color color);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_VIEWS_PAINT_H_
