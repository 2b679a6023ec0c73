#include "core/methods/solver_state.h"

#include <xxhash.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/safetensors.h"
#include "core/kernels/finite.h"

namespace attnprune {
namespace {

constexpr char kFormat[] = "attnprune-solver-state-2";
constexpr char kNoChecksum[] = "--no checksum---";  // of a checksum's length
constexpr char kField[] = "resume_from";            // in messages about the image

std::string Hex(uint64_t value) { return absl::StrFormat("%016x", value); }

// What reads the image names it, but not as a field.
template <typename Value>
absl::StatusOr<Value> OrRefuse(absl::StatusOr<Value> value) {
  if (value.ok()) return value;
  return WithField(value.status(), kField);
}

std::string JoinNumbers(const std::vector<double>& numbers) {
  std::string text;
  for (double number : numbers) {
    absl::StrAppendFormat(&text, "%s%a", text.empty() ? "" : " ", number);
  }
  return text;
}

uint64_t Mix(uint64_t seed, absl::string_view text) {
  return XXH3_64bits_withSeed(text.data(), text.size(), seed);
}

// Over the metadata (but the checksum itself), names, dtypes, shapes and bytes, in the image's own
// order.
std::string Checksum(const ParsedSafetensors& image) {
  uint64_t hash = 0;
  for (const auto& [key, value] : image.metadata()) {
    if (key != "checksum") hash = Mix(Mix(hash, key), value);
  }
  for (const TensorInfo& tensor : image.tensors()) {
    hash = Mix(Mix(hash, tensor.name), ToString(tensor.dtype));
    hash = Mix(hash, ShapeString(tensor.shape));
    hash = Mix(hash, absl::string_view(tensor.bytes.data(), tensor.bytes.size()));
  }
  return Hex(hash);
}

std::string Metadata(const ParsedSafetensors& image, const char* key) {
  const auto found = image.metadata().find(key);
  return found == image.metadata().end() ? "" : found->second;
}

absl::Status CheckImage(const ParsedSafetensors& image, uint64_t fingerprint) {
  if (Metadata(image, "format") != kFormat) {
    return ResumeRefused(
        absl::StrCat("must be of format ", kFormat, ", got \"", Metadata(image, "format"), "\""));
  }
  if (Metadata(image, "checksum") != Checksum(image)) {
    return ResumeRefused("is damaged: its checksum does not match its content");
  }
  if (Metadata(image, "fingerprint") != Hex(fingerprint)) {
    return ResumeRefused("was saved for another problem or other parameters");
  }
  return absl::OkStatus();
}

absl::Status ReadNumbers(const ParsedSafetensors& image, SolverState& state) {
  if (!absl::SimpleAtoi(Metadata(image, "step"), &state.step) || state.step < 0) {
    return ResumeRefused("must hold a step of at least 0");
  }
  const std::string numbers = Metadata(image, "numbers");
  for (absl::string_view text : absl::StrSplit(numbers, ' ', absl::SkipEmpty())) {
    const std::string number(text);
    char* end = nullptr;
    state.numbers.push_back(std::strtod(number.c_str(), &end));
    if (*end != '\0') return ResumeRefused(absl::StrCat("must hold numbers, got \"", number, "\""));
  }
  return absl::OkStatus();
}

TensorInfo TensorOf(absl::string_view name, const BitMask& mask) {
  TensorInfo tensor;
  tensor.name = std::string(name);
  tensor.dtype = DType::kU8;
  tensor.shape = {static_cast<Index>(mask.bytes().size())};
  tensor.bytes = {reinterpret_cast<const char*>(mask.bytes().data()), mask.bytes().size()};
  return tensor;
}

}  // namespace

absl::Status ResumeRefused(absl::string_view what) { return FieldError(kField, what); }

bool IsResumeRefused(const absl::Status& status) { return FieldAtFault(status) == kField; }

Matrix SolverState::Take(const std::string& key, Index rows, Index cols) {
  const auto found = matrices.find(key);
  if (found == matrices.end()) return Matrix();
  Matrix& matrix = found->second;
  const bool fits = matrix.rows() == rows && matrix.cols() == cols && AllFinite(matrix.flat());
  return fits ? std::move(matrix) : Matrix();
}

bool SolverState::Take(const std::string& key, Matrix& into) {
  Matrix matrix = Take(key, into.rows(), into.cols());
  if (matrix.empty()) return false;
  into = std::move(matrix);
  return true;
}

std::string StateKey(absl::string_view matrix, absl::string_view what) {
  return absl::StrCat(matrix, ".", what);
}

void AppendSolverState(const SolverStateView& state, std::string* out) {
  std::vector<TensorInfo> tensors;
  for (const auto& [name, matrix] : state.matrices) tensors.push_back(TensorOf(name, *matrix));
  for (const auto& [name, mask] : state.masks) tensors.push_back(TensorOf(name, *mask));
  const SafetensorsMetadata metadata = {{"format", kFormat},
                                        {"fingerprint", Hex(state.fingerprint)},
                                        {"step", absl::StrCat(state.step)},
                                        {"numbers", JoinNumbers(state.numbers)},
                                        {"checksum", kNoChecksum}};
  // The names are this program's own and the shapes are the matrices': neither step can fail. The
  // checksum is found from the image itself, then put in its place.
  const size_t begin = out->size();
  AppendSafetensors(tensors, metadata, out).IgnoreError();
  const absl::Span<const char> image(out->data() + begin, out->size() - begin);
  const std::string checksum = Checksum(ParseSafetensors(image, kField).value());
  out->replace(out->find(kNoChecksum, begin), checksum.size(), checksum);
}

std::string SerializeState(const SolverStateView& state) {
  std::string image;
  AppendSolverState(state, &image);
  return image;
}

absl::StatusOr<SolverState> ParseState(absl::string_view bytes, uint64_t fingerprint,
                                       int max_steps) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const ParsedSafetensors image,
                             OrRefuse(ParseSafetensors({bytes.data(), bytes.size()}, kField)));
  ATTNPRUNE_RETURN_IF_ERROR(CheckImage(image, fingerprint));
  SolverState state;
  state.fingerprint = fingerprint;
  ATTNPRUNE_RETURN_IF_ERROR(ReadNumbers(image, state));
  for (const TensorInfo& tensor : image.tensors()) {
    if (tensor.dtype == DType::kU8) {
      state.masks[tensor.name].assign(tensor.bytes.begin(), tensor.bytes.end());
    } else {
      ATTNPRUNE_ASSIGN_OR_RETURN(state.matrices[tensor.name], OrRefuse(ToMatrix(tensor)));
    }
  }
  // The fingerprint covers shapes and method: a step above this one was forged.
  if (state.step > max_steps) {
    return ResumeRefused(
        absl::StrCat("must hold a step of at most ", max_steps, ", got ", state.step));
  }
  return state;
}

}  // namespace attnprune
