#include "server/execution/run_choice.h"

#include <fnmatch.h>

#include <algorithm>
#include <string>
#include <variant>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"

namespace attnprune {
namespace {

bool Matches(const RunRule& rule, const TensorMaps& tensor) {
  return rule.pattern == ToString(tensor.maps[0]) ||
         fnmatch(rule.pattern.c_str(), tensor.stored->name.c_str(), 0) == 0;
}

// What decides on a tensor: "run", or "run.rules[1] (q)".
std::string DeciderOf(const RunSpec& run, const TensorMaps& tensor) {
  const RunRule* const rule = RuleOf(run, tensor);
  return rule == nullptr ? "run" : absl::StrCat(rule->field, " (", rule->pattern, ")");
}

std::string SparsityOf(const RunChoice& choice) {
  const std::string text = ToString(choice.sparsity);
  return choice.own_sparsity ? text : absl::StrCat(text, " as run.allocation shares it out");
}

}  // namespace

const RunRule* RuleOf(const RunSpec& run, const TensorMaps& tensor) {
  const auto found = std::find_if(run.rules.begin(), run.rules.end(),
                                  [&](const RunRule& rule) { return Matches(rule, tensor); });
  return found == run.rules.end() ? nullptr : &*found;
}

const RunChoice* BaseChoiceOf(const RunSpec& run, const TensorMaps& tensor) {
  const RunRule* const rule = RuleOf(run, tensor);
  if (rule == nullptr) return &run.choice;
  return rule->choice.has_value() ? &*rule->choice : nullptr;
}

bool IsByAttention(const RunSpec& run, const TensorMaps& tensor) {
  const RunChoice* const choice = BaseChoiceOf(run, tensor);
  return run.attention_method.has_value() && tensor.has_attention_maps() && choice != nullptr &&
         !choice->own_method;
}

absl::optional<RunChoice> ChoiceOf(const RunSpec& run, const SharedSparsities& shared,
                                   const TensorMaps& tensor) {
  const RunChoice* const base = BaseChoiceOf(run, tensor);
  if (base == nullptr) return absl::nullopt;
  RunChoice choice = *base;
  if (choice.own_sparsity) return choice;
  const auto found = shared.by_tensor.find(tensor.stored->name);
  if (found != shared.by_tensor.end()) {
    choice.sparsity = Sparsity::Fraction(found->second);
  } else if (shared.of_block.has_value()) {
    choice.sparsity = Sparsity::Fraction(*shared.of_block);
  }
  return choice;
}

absl::Status CheckAttentionTensors(const RunSpec& run, const std::vector<TensorMaps>& tensors) {
  const TensorMaps *by_attention = nullptr, *otherwise = nullptr;
  for (const TensorMaps& tensor : tensors) {
    (IsByAttention(run, tensor) ? by_attention : otherwise) = &tensor;
  }
  if (by_attention == nullptr) return absl::OkStatus();
  if (otherwise != nullptr) {
    return MustError("run.attention_method", "be left both q and k of a block, or neither",
                     absl::StrCat(by_attention->stored->name, " alone: ",
                                  DeciderOf(run, *otherwise), " takes ", otherwise->stored->name));
  }
  const RunChoice *const q = BaseChoiceOf(run, tensors.front()), *const k = BaseChoiceOf(
                                                                     run, tensors.back());
  if (q == nullptr || k == nullptr) return absl::OkStatus();  // neither is by attention
  const bool uniform = std::holds_alternative<std::monostate>(run.allocation);
  if (q->sparsity == k->sparsity && (uniform || q->own_sparsity == k->own_sparsity)) {
    return absl::OkStatus();
  }
  const auto text = [&](const RunChoice& choice, const TensorMaps& tensor) {
    return absl::StrCat(uniform ? ToString(choice.sparsity) : SparsityOf(choice), " for ",
                        tensor.stored->name, " by ", DeciderOf(run, tensor));
  };
  return MustError("run.attention_method", "have one sparsity for q and k of a block",
                   absl::StrCat(text(*q, tensors.front()), " and ", text(*k, tensors.back())));
}

}  // namespace attnprune
