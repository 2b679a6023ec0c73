#include "client/export/tf_record.h"

#include <boost/crc.hpp>

#include "absl/numeric/bits.h"
#include "absl/strings/str_cat.h"

namespace attnprune::exporting {
namespace {

constexpr uint32_t kPolynomial = 0x1EDC6F41, kMask = 0xA282EAD8;

std::string LittleEndian(uint64_t value, size_t size) {
  std::string bytes;
  for (size_t i = 0; i < size; ++i) bytes += static_cast<char>((value >> (8 * i)) & 0xFF);
  return bytes;
}

std::string CrcOf(absl::string_view bytes) { return LittleEndian(MaskedCrc32c(bytes), 4); }

}  // namespace

uint32_t Crc32c(absl::string_view bytes) {
  boost::crc_optimal<32, kPolynomial, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(bytes.data(), bytes.size());
  return crc.checksum();
}

uint32_t MaskedCrc32c(absl::string_view bytes) { return absl::rotr(Crc32c(bytes), 15) + kMask; }

std::string TfRecord(absl::string_view data) {
  const std::string length = LittleEndian(data.size(), 8);
  return absl::StrCat(length, CrcOf(length), data, CrcOf(data));
}

}  // namespace attnprune::exporting
