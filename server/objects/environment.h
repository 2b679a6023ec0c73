// Variables of the process's environment.
#ifndef ATTNPRUNE_SERVER_OBJECTS_ENVIRONMENT_H_
#define ATTNPRUNE_SERVER_OBJECTS_ENVIRONMENT_H_

#include <cstdlib>
#include <string>

namespace attnprune {

// Empty where there is none.
inline std::string EnvironmentOf(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_ENVIRONMENT_H_
