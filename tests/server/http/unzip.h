// The inverse of Gzip, by zlib itself.
#ifndef ATTNPRUNE_TESTS_SERVER_HTTP_UNZIP_H_
#define ATTNPRUNE_TESTS_SERVER_HTTP_UNZIP_H_

#include <zlib.h>

#include <string>

#include "gtest/gtest.h"

namespace attnprune::http {

inline std::string Unzip(const std::string& bytes) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, MAX_WBITS + 16), Z_OK);
  std::string text(1 << 20, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(text.data());
  stream.avail_out = static_cast<uInt>(text.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  text.resize(stream.total_out);
  inflateEnd(&stream);
  return text;
}

}  // namespace attnprune::http

#endif  // ATTNPRUNE_TESTS_SERVER_HTTP_UNZIP_H_
