// What an iterative method writes down between two steps: named matrices, bit masks and numbers.
//
// The bytes are a safetensors image. Tensors by name: the matrices, F32; the masks' bytes
// (bit_mask.h), U8. Metadata:
//   format       "attnprune-solver-state-2"
//   fingerprint  16 hex digits: the problem and method the state belongs to
//   step         decimal
//   numbers      hexadecimal floats ("%a") separated by spaces
//   checksum     16 hex digits: XXH3 of everything above and the tensors' bytes
#ifndef ATTNPRUNE_CORE_METHODS_SOLVER_STATE_H_
#define ATTNPRUNE_CORE_METHODS_SOLVER_STATE_H_

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// The refusal of a state: INVALID_ARGUMENT "resume_from <what>" with `resume_from` as the field at
// fault. The run can start over without it.
absl::Status ResumeRefused(absl::string_view what);
bool IsResumeRefused(const absl::Status& status);

struct SolverState {
  uint64_t fingerprint = 0;
  int step = 0;  // steps already taken
  std::vector<double> numbers;
  std::map<std::string, Matrix> matrices;
  std::map<std::string, std::vector<uint8_t>> masks;  // BitMask's bytes

  // Moves the matrix of that name out, or over `into`, whose shape it must have, finite; empty or
  // false: it is not such a one, or not there.
  Matrix Take(const std::string& key, Index rows, Index cols);
  bool Take(const std::string& key, Matrix& into);
};

// Borrowed matrices and masks, so that saving copies each once.
struct SolverStateView {
  uint64_t fingerprint = 0;
  int step = 0;
  std::vector<double> numbers;
  std::map<std::string, const Matrix*> matrices;
  std::map<std::string, const BitMask*> masks;
};

// The name in a state of what belongs to a matrix: "w_q.mask".
std::string StateKey(absl::string_view matrix, absl::string_view what);

// Appends the image to `out`, in the room that it has if that is enough.
void AppendSolverState(const SolverStateView& state, std::string* out);
std::string SerializeState(const SolverStateView& state);

// ResumeRefused: not such an image, damaged (checksum), made for another problem or other
// parameters than `fingerprint`, or of a step above max_steps.
absl::StatusOr<SolverState> ParseState(absl::string_view bytes, uint64_t fingerprint,
                                       int max_steps = std::numeric_limits<int>::max());

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_SOLVER_STATE_H_
