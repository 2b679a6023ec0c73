#include "client/export/tf_record.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "client/export/crc32c.h"

namespace attnprune::exporting {
namespace {

std::string LittleEndian(uint64_t value, size_t size) {
  std::string bytes;
  for (size_t i = 0; i < size; ++i) bytes += static_cast<char>((value >> (8 * i)) & 0xFF);
  return bytes;
}

std::string CrcOf(absl::string_view bytes) { return LittleEndian(MaskedCrc32c(bytes), 4); }

}  // namespace

std::string TfRecord(absl::string_view data) {
  const std::string length = LittleEndian(data.size(), 8);
  return absl::StrCat(length, CrcOf(length), data, CrcOf(data));
}

}  // namespace attnprune::exporting
