#include "server/queue/checksum.h"

#include <xxhash.h>

#include <cstring>

namespace attnprune {
namespace {

void AppendInteger(int64_t value, std::string* out) {
  char bytes[sizeof value];  // little-endian: the only byte order the project is built for
  std::memcpy(bytes, &value, sizeof value);
  out->append(bytes, sizeof bytes);
}

}  // namespace

Checksum& Checksum::AddNull() {
  AddField('n', "");
  return *this;
}

Checksum& Checksum::AddInteger(int64_t value) {
  std::string bytes;
  AppendInteger(value, &bytes);
  AddField('i', bytes);
  return *this;
}

Checksum& Checksum::AddText(absl::string_view text) {
  AddField('t', text);
  return *this;
}

Checksum& Checksum::AddBytes(absl::string_view bytes) {
  AddField('b', bytes);
  return *this;
}

void Checksum::AddField(char kind, absl::string_view bytes) {
  fields_ += kind;
  AppendInteger(static_cast<int64_t>(bytes.size()), &fields_);
  fields_.append(bytes.data(), bytes.size());
}

int64_t Checksum::Value() const { return ChecksumOfBytes(fields_); }

int64_t ChecksumOfBytes(absl::string_view bytes) {
  return static_cast<int64_t>(XXH3_64bits(bytes.data(), bytes.size()));
}

}  // namespace attnprune
