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

#include <string>

#include "absl/strings/string_view.h"

namespace attnprune::exporting {

// Pure.
std::string TfRecord(absl::string_view data);

}  // namespace attnprune::exporting

#endif  // ATTNPRUNE_CLIENT_EXPORT_TF_RECORD_H_
