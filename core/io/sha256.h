// SHA-256 of a stream of bytes (OpenSSL).
#ifndef ATTNPRUNE_CORE_IO_SHA256_H_
#define ATTNPRUNE_CORE_IO_SHA256_H_

#include <memory>
#include <string>

#include "absl/types/span.h"

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX

namespace attnprune {

// About 1.5 GB/s with the CPU's SHA instructions. One thread at a time.
class Sha256 {
 public:
  Sha256();

  void Update(absl::Span<const char> bytes);
  // 64 lower-case hexadecimal digits. The object is of no use afterwards.
  std::string Finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

std::string Sha256Of(absl::Span<const char> bytes);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_SHA256_H_
