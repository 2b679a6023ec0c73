// A model's tensors by what they are for: views of the mapped files, and one layer in float32.
#ifndef ATTNPRUNE_CORE_MODEL_MODEL_WEIGHTS_H_
#define ATTNPRUNE_CORE_MODEL_MODEL_WEIGHTS_H_

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/io/checkpoint.h"
#include "core/kernels/norm.h"
#include "core/model/model_options.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// The linear maps of a layer, in the order in which data meets them.
enum class LinearMap { kQuery, kKey, kValue, kOutput, kGate, kUp, kDown };
inline constexpr int kLinearMaps = 7;
absl::string_view ToString(LinearMap map);  // "q", "k", "v", "o", "gate", "up", "down"

struct RowRun {
  Index first, count;
};

// Where a linear map is: some rows of a tensor that may hold other maps too.
struct StoredMap {
  const TensorInfo* weight = nullptr;  // (out, in); (in, out) where transposed
  const TensorInfo* bias = nullptr;    // null: there is none
  Index out = 0, in = 0;
  std::vector<RowRun> rows;  // of the (out, in) matrix, in the map's order
  bool transposed = false;   // rows are columns of the tensor

  bool whole() const;  // the tensor holds nothing else
};

// Rows [first, first + out.rows()) of the map, as float32.
absl::Status ReadRows(const StoredMap& map, Index first, MutableMatrixView out);
absl::StatusOr<std::vector<float>> ReadBias(const StoredMap& map);  // empty: there is none

// A norm with its weights; those of NormFamily::kRmsPlusOne have their 1.
struct NormWeights {
  NormKind kind = NormKind::kRms;
  double eps = 0;
  Index group = 0;  // 0: the whole row
  std::vector<float> weight, bias;

  RowNorm view() const {
    return {.kind = kind, .eps = eps, .group = group, .weight = weight, .bias = bias};
  }
};
using OptionalNorm = absl::optional<NormWeights>;  // nullopt: the identity

// One layer in float32. Kept from layer to layer: its memory is taken once.
struct LayerWeights {
  struct Map {
    MatrixView weight;  // out x in; empty: the family has no such map
    std::vector<float> bias;
  };
  std::array<Map, kLinearMaps> maps;
  OptionalNorm attn_in, attn_out, attn_after, mlp_in, mlp_out, mlp_after, q_norm, k_norm;
  Matrix storage;  // of all maps, one behind the other

  const Map& of(LinearMap map) const { return maps[static_cast<size_t>(map)]; }
  // Maps that lie behind each other, as those of one tensor do, as one matrix.
  MatrixView RowsOf(absl::Span<const LinearMap> together) const;
  // The same weights, to be changed.
  MutableMatrixView Mutable(LinearMap map) {
    const MatrixView weight = of(map).weight;
    float* const begin = storage.data() + (weight.data() - storage.data());
    return {begin, weight.rows(), weight.cols()};
  }
};

// Immutable once opened; any number of threads may read.
class ModelWeights {
 public:
  // The checkpoint in `folder`, of the model that `options` describes, with or without the prefix
  // of its names. Checkpoint::Open's errors.
  static absl::StatusOr<ModelWeights> Open(const std::string& folder, ModelOptions options);
  static ModelWeights Of(Checkpoint checkpoint, ModelOptions options);

  const ModelOptions& options() const { return options_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }

  // Whether everything that the hidden states need is there in the right shape, and no layer holds
  // what it would not read. INVALID_ARGUMENT or NOT_FOUND names the tensor, the rule and the shape.
  absl::Status Check() const;
  // The same for what logits need beyond that, which a model without a head does not have.
  absl::Status CheckHead() const;
  // The same for the queries and keys of one layer and what normalises them.
  absl::Status CheckAttention(Index layer) const;

  // Null: the family has no such map. Errors as Check.
  absl::StatusOr<absl::optional<StoredMap>> Map(Index layer, LinearMap map) const;
  // The layer's maps and norms.
  absl::Status LoadLayer(Index layer, ThreadPool& pool, LayerWeights& out) const;
  // The norms of queries and keys, one weight a feature of all heads; nullopt: there are none.
  absl::StatusOr<OptionalNorm> QueryNorm(Index layer) const;
  absl::StatusOr<OptionalNorm> KeyNorm(Index layer) const;

  // The tensors behind them, as stored: the queries' or the keys'. Empty, null: there are none.
  absl::StatusOr<std::vector<const TensorInfo*>> QkNormTensorsOf(Index layer, bool query) const;
  absl::StatusOr<const TensorInfo*> QkNormBiasOf(Index layer, bool query) const;

  // A tensor by its full name without ".weight", for what is outside the layers. Empty name:
  // nullopt.
  absl::StatusOr<OptionalNorm> Norm(const std::string& name) const;
  // A map of its own tensor: the embedding, the head, projections in and out, (out, in).
  absl::StatusOr<absl::optional<StoredMap>> Plain(const std::string& name, Index out,
                                                  Index in) const;
  absl::StatusOr<StoredMap> Embedding() const;
  absl::StatusOr<StoredMap> Head() const;
  // The table of learned positions; nullopt: there is none. Its rows: position_offset and those of
  // the tokens a sequence can have.
  absl::StatusOr<absl::optional<StoredMap>> Positions() const;
  // What is added to every token: row 0 of the token types; empty: nothing.
  absl::StatusOr<std::vector<float>> TokenType() const;
  // The vector of that full name.
  absl::StatusOr<std::vector<float>> Vector(const std::string& name, Index size) const;

 private:
  ModelWeights(ModelOptions options, Checkpoint checkpoint)
      : options_(std::move(options)), checkpoint_(std::move(checkpoint)) {}

  // The name under which the checkpoint has the tensor; `name` itself if under none.
  std::string NameInFile(const std::string& name) const;
  bool Has(const std::string& name) const;
  const TensorInfo* FindOrNull(const std::string& name) const;
  absl::StatusOr<const TensorInfo*> Find(const std::string& name,
                                         const std::vector<Index>& shape) const;
  absl::StatusOr<const TensorInfo*> FindBias(const std::string& name, Index size,
                                             bool required) const;
  absl::StatusOr<absl::optional<StoredMap>> Table(const std::string& name) const;
  absl::StatusOr<OptionalNorm> QkNormOf(Index layer, bool query) const;
  absl::Status CheckLayer(Index layer) const;
  absl::Status CheckNothingElse(Index layer) const;
  absl::Status CheckOutside() const;

  ModelOptions options_;
  Checkpoint checkpoint_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_MODEL_WEIGHTS_H_
