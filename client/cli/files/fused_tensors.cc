#include "client/cli/files/fused_tensors.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/io/sha256.h"
#include "core/model/attention_layer.h"

namespace attnprune::cli {
namespace {

bool IsPart(const std::string& name) { return StoredName(name) != name; }

absl::StatusOr<ModelWeights> OpenModel(const std::string& folder) {
  ATTNPRUNE_ASSIGN_OR_RETURN(ModelOptions options, LoadModelOptions(folder));
  return ModelWeights::Open(folder, std::move(options));
}

absl::StatusOr<FusedPart> PartOf(const ModelWeights& model, const std::string& name) {
  const absl::optional<FusedPart> part = ParseFusedPart(model, name);
  if (part.has_value()) return *part;
  return absl::NotFoundError(absl::StrCat(Quoted(name), " is no part of a tensor of this model"));
}

// The whole tensor as it is stored, every weight kept.
PrunedTensor Whole(const TensorInfo& stored) {
  PrunedTensor tensor{.name = stored.name,
                      .dtype = stored.dtype,
                      .shape = stored.shape,
                      .weights = std::string(stored.bytes.begin(), stored.bytes.end()),
                      .kept = {}};
  tensor.kept.assign(stored.bytes.size() / SizeOf(stored.dtype), '\1');
  return tensor;
}

absl::Status Join(const ModelWeights& model, const PrunedTensor& part,
                  std::vector<PrunedTensor>& whole) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const FusedPart place, PartOf(model, part.name));
  auto into = std::find_if(whole.begin(), whole.end(), [&place](const PrunedTensor& tensor) {
    return tensor.name == place.tensor;
  });
  if (into == whole.end()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* stored, model.checkpoint().Find(place.tensor));
    into = whole.insert(whole.end(), Whole(*stored));
  }
  ATTNPRUNE_RETURN_IF_ERROR(
      PutBack(model, place, SizeOf(into->dtype), part.weights, absl::MakeSpan(into->weights)));
  return PutBack(model, place, 1, part.kept, absl::MakeSpan(into->kept));
}

}  // namespace

std::string StoredName(const std::string& name) {
  for (const char* part : {"[q]", "[k]"}) {
    if (absl::EndsWith(name, part)) return name.substr(0, name.size() - 3);
  }
  return name;
}

absl::StatusOr<std::string> DigestOf(const Checkpoint& checkpoint, const std::string& source,
                                     const std::string& name) {
  if (checkpoint.Contains(name) || !IsPart(name)) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, checkpoint.Find(name));
    return Sha256Of(tensor->bytes);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const ModelWeights model, OpenModel(source));
  ATTNPRUNE_ASSIGN_OR_RETURN(const FusedPart part, PartOf(model, name));
  ATTNPRUNE_ASSIGN_OR_RETURN(const AttentionLayer layer, StoredAttentionLayer(model, part.layer));
  for (const AttentionTensor& stored : layer.tensors) {
    if (stored.tensor.name == name) return Sha256Of(stored.tensor.bytes);
  }
  return absl::NotFoundError(absl::StrCat(source, ": no tensor ", Quoted(name)));
}

absl::StatusOr<std::vector<PrunedTensor>> JoinParts(std::vector<PrunedTensor> tensors,
                                                    const std::string& source) {
  const bool any = std::any_of(tensors.begin(), tensors.end(),
                               [](const PrunedTensor& t) { return IsPart(t.name); });
  if (!any) return tensors;
  ATTNPRUNE_ASSIGN_OR_RETURN(const ModelWeights model, OpenModel(source));
  std::vector<PrunedTensor> whole;
  for (PrunedTensor& tensor : tensors) {
    if (IsPart(tensor.name)) {
      ATTNPRUNE_RETURN_IF_ERROR(Join(model, tensor, whole));
    } else {
      whole.push_back(std::move(tensor));
    }
  }
  return whole;
}

}  // namespace attnprune::cli
