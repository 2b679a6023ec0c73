// CRC-32C (Castagnoli, RFC 3720 Appendix B.4), as TensorFlow's record files use it.
#ifndef ATTNPRUNE_CLIENT_EXPORT_CRC32C_H_
#define ATTNPRUNE_CLIENT_EXPORT_CRC32C_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace attnprune::exporting {

// Reflected polynomial 0x82F63B78, start and final inversion all ones: of "123456789", 0xE3069283.
// Pure.
uint32_t Crc32c(absl::string_view bytes);

// TensorFlow's mask, because a CRC over bytes that hold CRCs is weak: rotated by 15 bits, plus a
// constant. Pure.
uint32_t MaskedCrc32c(absl::string_view bytes);

}  // namespace attnprune::exporting

#endif  // ATTNPRUNE_CLIENT_EXPORT_CRC32C_H_
