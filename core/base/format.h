// Numbers in messages.
#ifndef ATTNPRUNE_CORE_BASE_FORMAT_H_
#define ATTNPRUNE_CORE_BASE_FORMAT_H_

#include <string>

namespace attnprune {

// The shortest text that reads back as the same double: "0.5", "1000001", "nan".
std::string FormatNumber(double value);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_BASE_FORMAT_H_
