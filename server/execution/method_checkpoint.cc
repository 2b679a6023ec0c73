#include "server/execution/method_checkpoint.h"

#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/string_view.h"

namespace attnprune {
namespace {

static_assert(std::endian::native == std::endian::little);

struct Trailer {
  char magic[8];
  int64_t method_index;
  double seconds;
};
static_assert(sizeof(Trailer) == 24);

constexpr absl::string_view kMagic = "ANPCKPT1";

}  // namespace

std::string FormatMethodCheckpoint(MethodCheckpoint checkpoint) {
  Trailer trailer{{}, checkpoint.method_index, checkpoint.seconds};
  std::memcpy(trailer.magic, kMagic.data(), sizeof(trailer.magic));
  char bytes[sizeof(Trailer)];
  std::memcpy(bytes, &trailer, sizeof(bytes));
  return std::move(checkpoint.state.append(bytes, sizeof(bytes)));
}

absl::StatusOr<MethodCheckpoint> ParseMethodCheckpoint(std::string bytes) {
  Trailer trailer{};
  if (bytes.size() >= sizeof(trailer)) {
    std::memcpy(&trailer, bytes.data() + bytes.size() - sizeof(trailer), sizeof(trailer));
  }
  if (absl::string_view(trailer.magic, sizeof(trailer.magic)) != kMagic) {
    return absl::DataLossError("the checkpoint is not one of a method");
  }
  bytes.resize(bytes.size() - sizeof(trailer));
  return MethodCheckpoint{static_cast<int>(trailer.method_index), trailer.seconds,
                          std::move(bytes)};
}

}  // namespace attnprune
