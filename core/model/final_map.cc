#include "core/model/final_map.h"

#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "core/model/layer_parts.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {

absl::StatusOr<FinalMap> FinalMap::Load(const ModelWeights& weights) {
  const ModelOptions& options = weights.options();
  FinalMap final;
  ATTNPRUNE_ASSIGN_OR_RETURN(final.norm, weights.Norm(options.names.final_norm));
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const absl::optional<StoredMap> project,
      weights.Plain(options.names.project_out, options.embedding_width, options.hidden_size));
  if (!project.has_value()) return final;
  final.projection = Matrix(project->out, project->in);
  ATTNPRUNE_RETURN_IF_ERROR(ReadRows(*project, 0, final.projection));
  return final;
}

void FinalMap::Backward(ThreadPool& pool, MatrixView x, MatrixView d,
                        MutableMatrixView gradient) const {
  if (projection.empty()) {
    CopyRows(d, gradient);
  } else {
    ApplyMapBackward(pool, projection, d, Into::kReplace, gradient);
  }
  ApplyNormBackward(pool, norm, x, gradient);
}

}  // namespace attnprune
