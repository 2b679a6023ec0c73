#include <iostream>
#include <string>
#include <utility>

#include "core/base/status_macros.h"
#include "core/judge/score.h"
#include "core/kernels/blas.h"
#include "core/methods/registry.h"
#include "core/model/attention_layer.h"
#include "core/problem/load_batches.h"

namespace attnprune {

// Removes half of layer 1's query and key weights and prints the error on unseen data.
absl::Status PruneOneLayer(const std::string& model) {
  ATTNPRUNE_RETURN_IF_ERROR(InitializeBlas());  // once, before the first thread
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionLayer layer, LoadAttentionLayer(model, 1));
  Problem problem{
      .weights = std::move(layer.weights), .attention = layer.attention, .scale = layer.scale};
  const std::string inputs = "model.layers.1.self_attn.input";
  ATTNPRUNE_ASSIGN_OR_RETURN(problem.calibration,
                             LoadBatches(model + "/calibration.safetensors", inputs));
  ATTNPRUNE_ASSIGN_OR_RETURN(problem.held_out,
                             LoadBatches(model + "/held_out.safetensors", inputs));
  problem.sparsity = Sparsity::Fraction(0.5);

  ATTNPRUNE_ASSIGN_OR_RETURN(const auto method, ParseMethod("sparsegpt:percdamp=0.01"));
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto prepared, PreparedProblem::Create(problem, {.threads = 2}));
  ATTNPRUNE_ASSIGN_OR_RETURN(const PruneResult result, method->Prune(*prepared));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Score score, Judge(*prepared, result));
  for (const PrunedMatrix& matrix : result.matrices) {
    std::cout << matrix.name << ": " << matrix.mask.CountPruned() << " weights removed\n";
  }
  std::cout << "relative error " << score.held_out->relative_error << "\n";
  return absl::OkStatus();
}

}  // namespace attnprune

int main() {
  const absl::Status status = attnprune::PruneOneLayer("data/tiny-llama");
  std::cerr << status.message();
  return status.ok() ? 0 : 1;
}
