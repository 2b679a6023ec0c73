#include "core/text/byte_level.h"

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/text/unicode.h"

namespace attnprune {
namespace {

using ByteCharacters = std::array<std::string, 256>;

bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

ByteCharacters MakeByteCharacters() {
  ByteCharacters characters;
  int32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    AppendCharacter(StandsForItself(byte) ? byte : next++, &characters[static_cast<size_t>(byte)]);
  }
  return characters;
}

}  // namespace

const absl::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

void AppendByteCharacters(absl::string_view bytes, std::string* out) {
  static const ByteCharacters& characters = *new ByteCharacters(MakeByteCharacters());
  for (const char byte : bytes) out->append(characters[static_cast<unsigned char>(byte)]);
}

}  // namespace attnprune
