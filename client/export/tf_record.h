// TensorFlow's record file: one record after the other, nothing before, between or after them.
//
//   record  = length crc(length) data crc(data)
//   length  = bytes of data, 8 bytes, little-endian
//   crc(x)  = MaskedCrc32c(x), 4 bytes, little-endian
//
// A reader notices every flipped bit and a last record that is cut off; it cannot go on after a
// damaged length.
#ifndef ATTNPRUNE_CLIENT_EXPORT_TF_RECORD_H_
#define ATTNPRUNE_CLIENT_EXPORT_TF_RECORD_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace attnprune::exporting {

// CRC-32C (Castagnoli, RFC 3720 Appendix B.4): of "123456789", 0xE3069283. Pure.
uint32_t Crc32c(absl::string_view bytes);

// TensorFlow's mask, because a CRC over bytes that hold CRCs is weak: rotated by 15 bits, plus a
// constant. Pure.
uint32_t MaskedCrc32c(absl::string_view bytes);

// Pure.
std::string TfRecord(absl::string_view data);

}  // namespace attnprune::exporting

#endif  // ATTNPRUNE_CLIENT_EXPORT_TF_RECORD_H_
