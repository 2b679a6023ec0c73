#include "server/http/compress.h"

#include <zlib.h>

#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace attnprune::http {

std::string Gzip(absl::string_view bytes, int level) {
  constexpr int kGzip = 16;  // added to the window's bits: a gzip header in place of zlib's
  z_stream stream{};
  if (deflateInit2(&stream, level, Z_DEFLATED, MAX_WBITS + kGzip, MAX_MEM_LEVEL,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    std::abort();  // no memory
  }
  std::string compressed(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(compressed.data());
  stream.avail_out = static_cast<uInt>(compressed.size());
  deflate(&stream, Z_FINISH);  // deflateBound has made room for all of it
  compressed.resize(stream.total_out);
  deflateEnd(&stream);
  return compressed;
}

bool TakesGzip(absl::string_view accept_encoding) {
  for (absl::string_view part : absl::StrSplit(accept_encoding, ',')) {
    const std::pair<absl::string_view, absl::string_view> sides =
        absl::StrSplit(part, absl::MaxSplits(';', 1));
    if (!absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(sides.first), "gzip")) continue;
    absl::string_view weight = absl::StripAsciiWhitespace(sides.second);
    double value = 1;
    if (absl::ConsumePrefix(&weight, "q=") && !absl::SimpleAtod(weight, &value)) return false;
    return value > 0;
  }
  return false;
}

}  // namespace attnprune::http
