// What a run needs of a model's folder and of token files.
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/files/job_tensors.h"
#include "core/base/status_macros.h"
#include "core/io/mapped_file.h"

namespace attnprune::cli {

absl::StatusOr<v1::Model> JobTensors::AddModel(const std::string& folder) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const ModelWeights* const weights, Model(folder));
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile config,
                             MappedFile::Open(absl::StrCat(folder, "/config.json")));
  v1::Model model;
  model.set_config(std::string(config.bytes().data(), config.bytes().size()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(config.bytes()));
  for (const std::string& name : weights->checkpoint().names()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* const tensor, weights->checkpoint().Find(name));
    if (!IsConvertible(tensor->dtype) || tensor->bytes.empty()) continue;
    ATTNPRUNE_ASSIGN_OR_RETURN(*model.add_tensors(), Add(*tensor));
  }
  return model;
}

absl::StatusOr<v1::TokenIds> JobTensors::AddTokens(const Tokens& tokens, const std::string& name) {
  v1::TokenIds out;
  std::vector<char>& buffer = buffers_.emplace_back(tokens.ids.size() * sizeof(int32_t));
  for (size_t i = 0; i < tokens.ids.size(); ++i) {
    const int64_t id = tokens.ids[i];
    if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": a token id must be in [0, 2^31), got ", id));
    }
    const auto stored = static_cast<int32_t>(id);
    std::memcpy(buffer.data() + i * sizeof(stored), &stored, sizeof(stored));
  }
  v1::TensorRef ref;
  ref.set_name(name);
  ref.set_dtype(v1::I32);
  ref.add_shape(tokens.total());
  all_.push_back(client::MakeLocalTensor(std::move(ref), buffer));
  *out.mutable_ids() = all_.back().ref;
  for (const Index length : tokens.lengths) {
    if (length < 2) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": a row must have at least 2 tokens, got ", length));
    }
    out.add_lengths(length);
  }
  return out;
}

}  // namespace attnprune::cli
