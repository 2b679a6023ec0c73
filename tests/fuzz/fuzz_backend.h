// What the targets of the server have in common: the API over real stores in a folder of its own.
#ifndef ATTNPRUNE_TESTS_FUZZ_FUZZ_BACKEND_H_
#define ATTNPRUNE_TESTS_FUZZ_FUZZ_BACKEND_H_

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/base/field_error.h"
#include "google/protobuf/message.h"
#include "tests/server/api/backend.h"

namespace attnprune::fuzz {

// One for all inputs, without workers, made before the first. Its folder goes when the program ends
// by itself, after what a target has made of it.
api::Backend& SharedBackend();

// Of all TensorRefs of the message, in the order of its fields.
std::vector<std::string> DigestsOf(google::protobuf::Message& message);

// A digest of one byte, which a fuzzer guesses, becomes that of `stored` which it counts to,
// from 1.
void FillDigests(const std::vector<std::string>& stored, google::protobuf::Message& message);

// Ends the program, which libFuzzer takes for a finding.
[[noreturn]] inline void Find(const char* what, const absl::Status& status) {
  std::fprintf(stderr, "finding: %s: %s\n", what, status.ToString().c_str());
  std::abort();
}

// A client's fault is refused as such: by a field, or as what does not fit what is stored.
inline void ExpectRefusal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      if (FieldAtFault(status).empty()) Find("no field is named", status);
      return;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kAborted:
      return;
    default:
      Find("not a client's fault", status);
  }
}

}  // namespace attnprune::fuzz

#endif  // ATTNPRUNE_TESTS_FUZZ_FUZZ_BACKEND_H_
