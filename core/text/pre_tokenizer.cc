#include "core/text/pre_tokenizer.h"

#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "core/text/byte_level.h"
#include "core/text/regex.h"
#include "core/text/unicode.h"

namespace attnprune {

class PreTokenizer::Step {
 public:
  // at_start: the piece begins the whole text.
  using Sink = absl::FunctionRef<absl::Status(absl::string_view piece, bool at_start)>;

  virtual ~Step() = default;
  virtual absl::Status Cut(absl::string_view text, bool at_start, Sink sink) const = 0;
};

namespace {

using CutStep = PreTokenizer::Step;
using CutStepPointer = std::unique_ptr<const CutStep>;

constexpr size_t kMostCutSteps = 64;  // each is a few stack frames deeper

constexpr absl::string_view kNumber = R"(\p{N})";
constexpr absl::string_view kPunctuation = R"([!-\/:-@\[-`{-~]|\p{P})";  // ASCII's symbols too

// Passes the pieces of a split on; the first of them begins the text if the text does.
absl::Status CutAt(const Split& split, absl::string_view text, bool at_start, CutStep::Sink sink) {
  return split.ForEachPiece(text, [&](absl::string_view piece) {
    return sink(piece, at_start && piece.data() == text.data());
  });
}

class SplitStep : public CutStep {
 public:
  explicit SplitStep(Split split) : split_(std::move(split)) {}
  absl::Status Cut(absl::string_view text, bool at_start, Sink sink) const override {
    return CutAt(split_, text, at_start, sink);
  }

 private:
  const Split split_;
};

class ByteLevelStep : public CutStep {
 public:
  // words: none, the text is one.
  ByteLevelStep(bool add_prefix_space, absl::optional<Split> words)
      : add_prefix_space_(add_prefix_space), words_(std::move(words)) {}

  absl::Status Cut(absl::string_view text, bool at_start, Sink sink) const override {
    std::string prefixed;
    if (add_prefix_space_ && !absl::StartsWith(text, " ")) {
      prefixed.reserve(text.size() + 1);
      prefixed.append(1, ' ').append(text.data(), text.size());
      text = prefixed;
    }
    std::string characters;
    const auto pass_on = [&](absl::string_view word, bool first) {
      characters.clear();
      AppendByteCharacters(word, &characters);
      return sink(characters, first);
    };
    return words_.has_value() ? CutAt(*words_, text, at_start, pass_on) : pass_on(text, at_start);
  }

 private:
  const bool add_prefix_space_;
  const absl::optional<Split> words_;
};

enum class PrependScheme { kAlways, kFirst, kNever };

class MetaspaceStep : public CutStep {
 public:
  // words: none, the text is one.
  MetaspaceStep(std::string replacement, PrependScheme scheme, absl::optional<Split> words)
      : replacement_(std::move(replacement)), scheme_(scheme), words_(std::move(words)) {}

  absl::Status Cut(absl::string_view text, bool at_start, Sink sink) const override {
    std::string marked = absl::StrReplaceAll(text, {{" ", replacement_}});
    if (Prepends(at_start) && !absl::StartsWith(marked, replacement_)) {
      marked.insert(0, replacement_);
    }
    return words_.has_value() ? CutAt(*words_, marked, at_start, sink) : sink(marked, at_start);
  }

 private:
  bool Prepends(bool at_start) const {
    return scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && at_start);
  }

  const std::string replacement_;
  const PrependScheme scheme_;
  const absl::optional<Split> words_;
};

absl::StatusOr<CutStepPointer> MakeSplitStep(absl::string_view regex, SplitBehavior behavior) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Regex pattern, Regex::Compile(regex));
  return std::make_unique<SplitStep>(Split{std::move(pattern), behavior});
}

absl::StatusOr<CutStepPointer> ParseSplit(const JsonNode& step) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Regex pattern, ParsePattern(step["pattern"]));
  ATTNPRUNE_ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseSplitBehavior(step["behavior"]));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool invert, step["invert"].BoolOr(false));
  return std::make_unique<SplitStep>(Split{std::move(pattern), behavior, invert});
}

absl::StatusOr<CutStepPointer> ParseByteLevel(const JsonNode& step) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool prefix, step["add_prefix_space"].BoolOr(true));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool use_regex, step["use_regex"].BoolOr(true));
  absl::optional<Split> words;
  if (use_regex) {
    ATTNPRUNE_ASSIGN_OR_RETURN(Regex pattern, Regex::Compile(kGpt2Words));
    words = Split{std::move(pattern), SplitBehavior::kIsolated};
  }
  return std::make_unique<ByteLevelStep>(prefix, std::move(words));
}

absl::StatusOr<CutStepPointer> ParseDigits(const JsonNode& step) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool individual, step["individual_digits"].BoolOr(false));
  return MakeSplitStep(kNumber, individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}

absl::StatusOr<CutStepPointer> ParsePunctuation(const JsonNode& step) {
  SplitBehavior behavior = SplitBehavior::kIsolated;
  if (!step["behavior"].IsNull()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(behavior, ParseSplitBehavior(step["behavior"]));
  }
  return MakeSplitStep(kPunctuation, behavior);
}

// Older files have add_prefix_space instead, true if absent.
absl::StatusOr<PrependScheme> ParsePrependScheme(const JsonNode& step) {
  const JsonNode scheme = step["prepend_scheme"];
  if (scheme.IsNull()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool prefix, step["add_prefix_space"].BoolOr(true));
    return prefix ? PrependScheme::kAlways : PrependScheme::kNever;
  }
  if (scheme.Is("always")) return PrependScheme::kAlways;
  if (scheme.Is("first")) return PrependScheme::kFirst;
  if (scheme.Is("never")) return PrependScheme::kNever;
  return scheme.Must("be always, first or never");
}

absl::StatusOr<CutStepPointer> ParseMetaspace(const JsonNode& step) {
  const JsonNode given = step["replacement"];
  ATTNPRUNE_ASSIGN_OR_RETURN(std::string replacement, given.String());
  if (replacement.empty() || CharacterLength(replacement[0]) != replacement.size()) {
    return given.Must("be one character");
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const PrependScheme scheme, ParsePrependScheme(step));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool split, step["split"].BoolOr(true));
  absl::optional<Split> words;
  if (split) {
    ATTNPRUNE_ASSIGN_OR_RETURN(Regex pattern, Regex::Literal(replacement));
    words = Split{std::move(pattern), SplitBehavior::kMergedWithNext};
  }
  return std::make_unique<MetaspaceStep>(std::move(replacement), scheme, std::move(words));
}

absl::StatusOr<CutStepPointer> ParseCutStep(const JsonNode& step) {
  const JsonNode type = step["type"];
  if (type.Is("Split")) return ParseSplit(step);
  if (type.Is("ByteLevel")) return ParseByteLevel(step);
  if (type.Is("Digits")) return ParseDigits(step);
  if (type.Is("Punctuation")) return ParsePunctuation(step);
  if (type.Is("Metaspace")) return ParseMetaspace(step);
  return type.Must(
      "be Split, ByteLevel, Digits, Punctuation, Metaspace or Sequence, which are supported");
}

}  // namespace

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

absl::StatusOr<PreTokenizer> PreTokenizer::Parse(const JsonNode& pre_tokenizer) {
  PreTokenizer parsed;
  if (!pre_tokenizer.IsNull()) ATTNPRUNE_RETURN_IF_ERROR(parsed.Add(pre_tokenizer));
  return parsed;
}

absl::Status PreTokenizer::Add(const JsonNode& pre_tokenizer) {
  ATTNPRUNE_RETURN_IF_ERROR(pre_tokenizer.CheckObject());
  const JsonNode type = pre_tokenizer["type"];
  if (type.Is("Sequence")) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const auto steps, pre_tokenizer["pretokenizers"].Items());
    for (const JsonNode& step : steps) ATTNPRUNE_RETURN_IF_ERROR(Add(step));
    return absl::OkStatus();
  }
  // A second one would write the characters of the first anew, each time in more bytes.
  const bool repeated = (type.Is("ByteLevel") && std::exchange(has_byte_level_, true)) ||
                        (type.Is("Metaspace") && std::exchange(has_metaspace_, true));
  if (repeated) return type.Must("be there once only");
  if (steps_.size() == kMostCutSteps) {
    return type.Must(absl::StrCat("be one of ", kMostCutSteps, " steps at most"));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(CutStepPointer step, ParseCutStep(pre_tokenizer));
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

absl::Status PreTokenizer::ForEachWord(absl::string_view text, bool at_start,
                                       PieceSink sink) const {
  return text.empty() ? absl::OkStatus() : Run(0, text, at_start, sink);
}

absl::Status PreTokenizer::Run(size_t step, absl::string_view text, bool at_start,
                               PieceSink sink) const {
  if (step == steps_.size()) return sink(text);
  return steps_[step]->Cut(text, at_start, [&](absl::string_view piece, bool first) {
    return Run(step + 1, piece, first, sink);
  });
}

}  // namespace attnprune
