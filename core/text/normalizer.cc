#include "core/text/normalizer.h"

#include <array>
#include <cstddef>
#include <utility>

#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/text/regex.h"
#include "core/text/split.h"
#include "core/text/unicode.h"

namespace attnprune {

class Normalizer::Step {
 public:
  virtual ~Step() = default;
  // limit: bytes that the result may have.
  virtual absl::StatusOr<std::string> Apply(std::string text, size_t limit) const = 0;
};

namespace {

using StepPointer = std::unique_ptr<const Normalizer::Step>;

// Sequences of Replace could double a text any number of times.
constexpr size_t kMostGrowth = 64;
constexpr size_t kSmallText = 1024;  // bytes that any text may grow to

constexpr std::array<std::pair<const char*, NormalForm>, 4> kForms = {{
    {"NFC", NormalForm::kNfc},
    {"NFD", NormalForm::kNfd},
    {"NFKC", NormalForm::kNfkc},
    {"NFKD", NormalForm::kNfkd},
}};

absl::Status CheckGrowth(size_t bytes, size_t limit) {
  if (bytes <= limit) return absl::OkStatus();
  return Refuse("normalizer must not make a text longer than ", limit, " bytes, ", kMostGrowth,
                " times its own size");
}

class FormStep : public Normalizer::Step {
 public:
  explicit FormStep(NormalForm form) : form_(form) {}
  absl::StatusOr<std::string> Apply(std::string text, size_t limit) const override {
    std::string out = Normalized(text, form_);
    ATTNPRUNE_RETURN_IF_ERROR(CheckGrowth(out.size(), limit));
    return out;
  }

 private:
  const NormalForm form_;
};

class LowercaseStep : public Normalizer::Step {
 public:
  absl::StatusOr<std::string> Apply(std::string text, size_t) const override {
    return Lowercased(text);
  }
};

class StripStep : public Normalizer::Step {
 public:
  StripStep(bool left, bool right) : left_(left), right_(right) {}
  absl::StatusOr<std::string> Apply(std::string text, size_t) const override {
    if (right_) text.resize(text.size() - TrailingWhiteSpace(text));
    if (left_) text.erase(0, LeadingWhiteSpace(text));
    return text;
  }

 private:
  const bool left_;
  const bool right_;
};

class PrependStep : public Normalizer::Step {
 public:
  explicit PrependStep(std::string prefix) : prefix_(std::move(prefix)) {}
  absl::StatusOr<std::string> Apply(std::string text, size_t limit) const override {
    if (!text.empty()) text.insert(0, prefix_);
    ATTNPRUNE_RETURN_IF_ERROR(CheckGrowth(text.size(), limit));
    return text;
  }

 private:
  const std::string prefix_;
};

class ReplaceStep : public Normalizer::Step {
 public:
  ReplaceStep(Regex pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  absl::StatusOr<std::string> Apply(std::string text, size_t limit) const override {
    std::string out;
    out.reserve(text.size());
    RegexMatches matches(pattern_, text);
    size_t end = 0;
    while (true) {
      ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<ByteRange> match, matches.Next());
      if (!match.has_value()) break;
      out.append(text, end, match->begin - end).append(content_);
      end = match->end;
      ATTNPRUNE_RETURN_IF_ERROR(CheckGrowth(out.size(), limit));
    }
    out.append(text, end);
    ATTNPRUNE_RETURN_IF_ERROR(CheckGrowth(out.size(), limit));
    return out;
  }

 private:
  const Regex pattern_;
  const std::string content_;
};

absl::StatusOr<StepPointer> ParseReplace(const JsonNode& step) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Regex pattern, ParsePattern(step["pattern"]));
  ATTNPRUNE_ASSIGN_OR_RETURN(std::string content, step["content"].String());
  return std::make_unique<ReplaceStep>(std::move(pattern), std::move(content));
}

absl::StatusOr<StepPointer> ParseStrip(const JsonNode& step) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool left, step["strip_left"].BoolOr(true));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool right, step["strip_right"].BoolOr(true));
  return std::make_unique<StripStep>(left, right);
}

absl::StatusOr<StepPointer> ParseNormalizerStep(const JsonNode& step) {
  const JsonNode type = step["type"];
  for (const auto& [name, form] : kForms) {
    if (type.Is(name)) return std::make_unique<FormStep>(form);
  }
  if (type.Is("Lowercase")) return std::make_unique<LowercaseStep>();
  if (type.Is("Replace")) return ParseReplace(step);
  if (type.Is("Strip")) return ParseStrip(step);
  if (type.Is("Prepend")) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::string prefix, step["prepend"].String());
    return std::make_unique<PrependStep>(std::move(prefix));
  }
  return type.Must(
      "be NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip or Sequence, which are "
      "supported");
}

}  // namespace

Normalizer::Normalizer() = default;
Normalizer::Normalizer(Normalizer&&) noexcept = default;
Normalizer& Normalizer::operator=(Normalizer&&) noexcept = default;
Normalizer::~Normalizer() = default;

absl::StatusOr<Normalizer> Normalizer::Parse(const JsonNode& normalizer) {
  Normalizer parsed;
  if (!normalizer.IsNull()) ATTNPRUNE_RETURN_IF_ERROR(parsed.Add(normalizer));
  return parsed;
}

absl::Status Normalizer::Add(const JsonNode& normalizer) {
  ATTNPRUNE_RETURN_IF_ERROR(normalizer.CheckObject());
  if (normalizer["type"].Is("Sequence")) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const auto steps, normalizer["normalizers"].Items());
    for (const JsonNode& step : steps) ATTNPRUNE_RETURN_IF_ERROR(Add(step));
    return absl::OkStatus();
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(StepPointer step, ParseNormalizerStep(normalizer));
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

absl::StatusOr<std::string> Normalizer::Apply(absl::string_view text) const {
  const size_t limit = kSmallText + kMostGrowth * text.size();
  std::string out(text);
  for (const auto& step : steps_) {
    ATTNPRUNE_ASSIGN_OR_RETURN(out, step->Apply(std::move(out), limit));
  }
  return out;
}

}  // namespace attnprune
