// Values of a database's rows, which own their memory.
#ifndef ATTNPRUNE_SERVER_QUEUE_ROW_VALUE_H_
#define ATTNPRUNE_SERVER_QUEUE_ROW_VALUE_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace attnprune::db {

struct Null {
  bool operator==(const Null&) const { return true; }
};
struct Bytes {  // a BLOB or bytea; std::string is TEXT
  std::string bytes;
  bool operator==(const Bytes& other) const { return bytes == other.bytes; }
};
using Value = std::variant<Null, int64_t, std::string, Bytes>;
using Row = std::vector<Value>;

}  // namespace attnprune::db

#endif  // ATTNPRUNE_SERVER_QUEUE_ROW_VALUE_H_
