#include "core/model/forward.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/mapped_file.h"
#include "core/io/messages.h"
#include "core/kernels/activation.h"
#include "core/kernels/blas.h"
#include "core/kernels/log_sum_exp.h"
#include "core/model/layer_parts.h"
#include "core/model/vocabulary_head.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

constexpr Index kHeadRows = 1024;  // of the head's input that are made at a time
constexpr Index kEmbedRows = 64;   // tokens a shard embeds

absl::Status FirstError(const std::vector<absl::Status>& statuses) {
  for (const absl::Status& status : statuses) ATTNPRUNE_RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

// One row's log p(next token), vocabulary block by block.
struct NextToken {
  LogSumExp all;
  Index id = -1;  // -1: a sequence's last token predicts nothing
  double logit = 0;

  double nats() const { return all.value() - logit; }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Forward>> Forward::Open(const std::string& folder, ThreadPool& pool,
                                                       Compute compute) {
  ATTNPRUNE_ASSIGN_OR_RETURN(ModelOptions options, LoadModelOptions(folder));
  ATTNPRUNE_ASSIGN_OR_RETURN(ModelWeights weights, ModelWeights::Open(folder, std::move(options)));
  return Create(std::move(weights), pool, compute);
}

absl::StatusOr<std::unique_ptr<Forward>> Forward::Create(ModelWeights weights, ThreadPool& pool,
                                                         Compute compute) {
  ATTNPRUNE_RETURN_IF_ERROR(InitializeBlas());
  if (compute == Compute::kBf16) ATTNPRUNE_RETURN_IF_ERROR(CheckBf16Products());
  ATTNPRUNE_RETURN_IF_ERROR(weights.Check());
  return std::unique_ptr<Forward>(new Forward(std::move(weights), pool, compute));
}

absl::Status CheckPredicts(const ModelWeights& model) {
  const ModelOptions& options = model.options();
  if (options.masked_model()) {
    return absl::FailedPreconditionError(absl::StrCat(
        options.family, " is a masked model: it predicts no next token, so it has no perplexity"));
  }
  if (options.embedding_width > options.hidden_size) {
    return Refuse("the head must read no more than the ", options.hidden_size,
                  " features of a hidden state, got ", options.embedding_width);
  }
  return model.CheckHead();
}

absl::Status CheckTokens(const ModelWeights& model, const Tokens& tokens) {
  const ModelOptions& options = model.options();
  ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> positions, model.Positions());
  size_t token = 0;
  for (size_t i = 0; i < tokens.lengths.size(); ++i) {
    const Index length = tokens.lengths[i];
    const Index most = positions.has_value() ? positions->out - options.position_offset
                                             : std::numeric_limits<Index>::max();
    if (length > most) {
      return Refuse("sequence ", i, " must have at most ", most,
                    " tokens, the model's learned positions, got ", length);
    }
    for (Index t = 0; t < length; ++t, ++token) {
      const int64_t id = tokens.ids[token];
      if (id < 0 || id >= options.vocab) {
        return Refuse("sequence ", i, ", token ", t, ": id must be in [0, ", options.vocab,
                      "), the model's vocabulary, got ", id);
      }
      if (options.pad_id == id) {
        return Refuse("sequence ", i, ", token ", t, ": id must not be ", id,
                      ", the model's padding; leave padding out with an attention_mask");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status Forward::Embed(const Tokens& tokens, MutableMatrixView x) const {
  std::vector<Index> positions;
  for (const Index length : tokens.lengths) {
    for (Index t = 0; t < length; ++t) positions.push_back(t);
  }
  return Embed(tokens.ids, positions, x);
}

absl::Status Forward::Embed(absl::Span<const int64_t> ids, absl::Span<const Index> positions,
                            MutableMatrixView x) const {
  const ModelNames& names = options().names;
  ATTNPRUNE_ASSIGN_OR_RETURN(const StoredMap embedding, weights_.Embedding());
  ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> learned, weights_.Positions());
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<float> token_type, weights_.TokenType());
  ATTNPRUNE_ASSIGN_OR_RETURN(const OptionalNorm norm, weights_.Norm(names.embedding_norm));
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const absl::optional<StoredMap> project,
      weights_.Plain(names.project_in, options().hidden_size, options().embedding_width));
  Matrix projection;
  std::vector<float> bias;
  if (project.has_value()) {
    projection = Matrix(project->out, project->in);
    ATTNPRUNE_RETURN_IF_ERROR(ReadRows(*project, 0, projection));
    ATTNPRUNE_ASSIGN_OR_RETURN(bias, ReadBias(*project));
  }
  const auto scale = static_cast<float>(options().embedding_scale);
  const auto embed = [&](Index first, MutableMatrixView out) {
    Matrix rows(out.rows(), options().embedding_width), place(1, out.cols());
    for (Index i = 0; i < out.rows(); ++i) {
      const Index id = ids[static_cast<size_t>(first + i)];
      ATTNPRUNE_RETURN_IF_ERROR(ReadRows(embedding, id, MutableMatrixView(rows).Rows(i, 1)));
    }
    if (project.has_value()) {
      Gemm(Trans::kNo, Trans::kYes, 1.0f, rows, projection, 0.0f, out);
      AddRow(bias, 0, out);
    } else {
      for (Index i = 0; i < out.rows(); ++i) std::copy_n(rows.row(i), out.cols(), out.row(i));
    }
    for (Index i = 0; i < out.rows(); ++i) {
      if (learned.has_value()) {
        const Index row = positions[static_cast<size_t>(first + i)] + options().position_offset;
        ATTNPRUNE_RETURN_IF_ERROR(ReadRows(*learned, row, place));
        for (Index j = 0; j < out.cols(); ++j) out(i, j) += place(0, j);
      }
    }
    AddRow(token_type, 0, out);
    if (norm.has_value()) Normalize(norm->view(), out, out);
    if (scale == 1) return absl::OkStatus();
    for (Index i = 0; i < out.rows(); ++i) {
      for (Index j = 0; j < out.cols(); ++j) out(i, j) *= scale;
    }
    return absl::OkStatus();
  };
  const Index shards = (x.rows() + kEmbedRows - 1) / kEmbedRows;
  std::vector<absl::Status> done(static_cast<size_t>(shards));
  pool_.ParallelFor(shards, [&](Index shard) {
    const Index first = shard * kEmbedRows;
    done[static_cast<size_t>(shard)] =
        embed(first, x.Rows(first, std::min(kEmbedRows, x.rows() - first)));
  });
  ReleasePages(embedding.weight->bytes);
  return FirstError(done);
}

absl::Status Forward::RunLayer(Index layer, absl::Span<const Index> lengths, MutableMatrixView x,
                               const LayerHooks& hooks) {
  ATTNPRUNE_RETURN_IF_ERROR(weights_.LoadLayer(layer, pool_, loaded_));
  return layer_.Run(layer, loaded_, lengths, x, hooks) ? absl::OkStatus()
                                                       : absl::CancelledError("interrupted");
}

absl::StatusOr<Matrix> Forward::Final(MatrixView x) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const OptionalNorm norm, weights_.Norm(options().names.final_norm));
  Matrix out = Matrix::CopyFrom(x);
  if (norm.has_value()) {
    pool_.ParallelFor((x.rows() + kEmbedRows - 1) / kEmbedRows, [&](Index shard) {
      const Index first = shard * kEmbedRows, rows = std::min(kEmbedRows, x.rows() - first);
      const MutableMatrixView here = MutableMatrixView(out).Rows(first, rows);
      Normalize(norm->view(), here, here);
    });
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> project,
                             weights_.Plain(options().names.project_out, options().embedding_width,
                                            options().hidden_size));
  if (!project.has_value()) return out;
  Matrix projection(project->out, project->in), projected(x.rows(), project->out);
  ATTNPRUNE_RETURN_IF_ERROR(ReadRows(*project, 0, projection));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<float> bias, ReadBias(*project));
  Gemm(Trans::kNo, Trans::kYes, 1.0f, out, projection, 0.0f, projected);
  AddRow(bias, 0, projected);
  return projected;
}

// Final, and the transformation before the head of a masked model.
absl::StatusOr<Matrix> Forward::HeadInput(MatrixView x) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Matrix final, Final(x));
  const ModelNames& names = options().names;
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const absl::optional<StoredMap> dense,
      weights_.Plain(names.head_dense, options().hidden_size, options().hidden_size));
  if (!dense.has_value()) return final;
  Matrix weight(dense->out, dense->in), out(x.rows(), dense->out);
  ATTNPRUNE_RETURN_IF_ERROR(ReadRows(*dense, 0, weight));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<float> bias, ReadBias(*dense));
  Gemm(Trans::kNo, Trans::kYes, 1.0f, final, weight, 0.0f, out);
  AddRow(bias, 0, out);
  Activate(options().head_activation, out);
  ATTNPRUNE_ASSIGN_OR_RETURN(const OptionalNorm norm, weights_.Norm(names.head_norm));
  if (norm.has_value()) Normalize(norm->view(), out, out);
  return out;
}

// x becomes what the head reads, which is no wider; a block of rows at a time.
absl::StatusOr<MatrixView> Forward::HeadInputInPlace(MutableMatrixView x) {
  const Index width = options().embedding_width;
  for (Index first = 0; first < x.rows(); first += kHeadRows) {
    const Index rows = std::min(kHeadRows, x.rows() - first);
    ATTNPRUNE_ASSIGN_OR_RETURN(const Matrix input, HeadInput(x.Rows(first, rows)));
    for (Index i = 0; i < rows; ++i) std::copy_n(input.row(i), width, x.row(first + i));
  }
  return x.Cols(0, width);
}

absl::StatusOr<Matrix> Forward::Logits(MatrixView x) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Matrix input, HeadInput(x));
  ATTNPRUNE_ASSIGN_OR_RETURN(VocabularyHead head,
                             VocabularyHead::Open(weights_, pool_, Compute::kFloat32));
  Matrix logits(x.rows(), head.vocabulary());
  for (Index first = 0; first < head.vocabulary(); first += head.count()) {
    ATTNPRUNE_RETURN_IF_ERROR(head.Load(first));
    head.ForLogits(input, [&](Index row, MutableMatrixView piece) {
      CopyRows(piece, MutableMatrixView(logits).Block(row, first, piece.rows(), piece.cols()));
    });
  }
  return logits;
}

absl::Status Forward::AttentionInput(Index layer, MatrixView x, MutableMatrixView out) const {
  const std::string& name = options().layer_names.attn_in;
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const OptionalNorm norm,
      weights_.Norm(name.empty() ? "" : absl::StrCat(options().LayerPrefix(layer), name)));
  pool_.ParallelFor((x.rows() + kEmbedRows - 1) / kEmbedRows, [&](Index shard) {
    const Index first = shard * kEmbedRows, rows = std::min(kEmbedRows, x.rows() - first);
    if (norm.has_value()) {
      Normalize(norm->view(), x.Rows(first, rows), out.Rows(first, rows));
    } else {
      for (Index i = first; i < first + rows; ++i) std::copy_n(x.row(i), x.cols(), out.row(i));
    }
  });
  return absl::OkStatus();
}

absl::StatusOr<std::vector<double>> Forward::TokenLosses(
    const Tokens& tokens, MutableMatrixView x, const std::function<bool(double share)>& goes_on) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckPredicts());
  ATTNPRUNE_ASSIGN_OR_RETURN(VocabularyHead head, VocabularyHead::Open(weights_, pool_, compute_));
  std::vector<NextToken> next;
  for (size_t i = 0; i < tokens.lengths.size(); ++i) {
    const size_t first = next.size(), last = first + static_cast<size_t>(tokens.lengths[i]) - 1;
    for (size_t row = first; row < last; ++row) next.push_back({.id = tokens.ids[row + 1]});
    next.emplace_back();
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const MatrixView input, HeadInputInPlace(x));
  for (Index first = 0; first < head.vocabulary(); first += head.count()) {
    ATTNPRUNE_RETURN_IF_ERROR(head.Load(first));
    head.ForLogits(input, [&](Index row, MutableMatrixView logits) {
      pool_.ParallelFor((logits.rows() + kEmbedRows - 1) / kEmbedRows, [&](Index shard) {
        const Index end = std::min(logits.rows(), (shard + 1) * kEmbedRows);
        for (Index i = shard * kEmbedRows; i < end; ++i) {
          NextToken& token = next[static_cast<size_t>(row + i)];
          if (token.id < 0) continue;
          token.all.Add(logits.row(i), logits.cols());
          const Index place = token.id - first;
          if (place >= 0 && place < logits.cols()) {
            token.logit = static_cast<double>(logits(i, place));
          }
        }
      });
    });
    const double share =
        static_cast<double>(first + head.count()) / static_cast<double>(head.vocabulary());
    if (goes_on && !goes_on(share)) return absl::CancelledError("interrupted");
  }
  std::vector<double> losses;
  for (const NextToken& token : next) {
    if (token.id >= 0) losses.push_back(token.nats());
  }
  return losses;
}

}  // namespace attnprune
