#include "tests/server/api/small_run.h"

#include <fstream>
#include <sstream>

#include "core/io/checkpoint.h"
#include "core/io/safetensors.h"
#include "core/methods/registry.h"
#include "server/execution/job_tensor.h"
#include "tests/core/model/golden_models.h"
#include "tests/support/value_or_die.h"

namespace attnprune::api {
namespace {

using testing::GoldenModel;
using testing::ValueOrDie;

std::string ReadText(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void AddModel(const std::string& folder, BlobStore* tensors, v1::Model& model) {
  model.set_config(ReadText(folder + "/config.json"));
  const Checkpoint checkpoint = ValueOrDie(Checkpoint::Open(folder));
  for (const std::string& name : checkpoint.names()) {
    const TensorInfo& tensor = *ValueOrDie(checkpoint.Find(name));
    if (!IsConvertible(tensor.dtype)) continue;
    v1::TensorRef& ref = *model.add_tensors();
    ref.set_name(name);
    ref.set_dtype(ToProto(tensor.dtype));
    for (const Index extent : tensor.shape) ref.add_shape(extent);
    ref.set_sha256(ValueOrDie(tensors->Put(tensor.bytes)));
  }
}

v1::TokenIds StoreIds(const std::vector<int32_t>& ids, const std::vector<int64_t>& lengths,
                      BlobStore* tensors) {
  v1::TokenIds tokens;
  const char* const bytes = reinterpret_cast<const char*>(ids.data());
  tokens.mutable_ids()->set_sha256(
      ValueOrDie(tensors->Put(absl::Span<const char>(bytes, ids.size() * sizeof(int32_t)))));
  tokens.mutable_ids()->set_dtype(v1::I32);
  tokens.mutable_ids()->add_shape(static_cast<int64_t>(ids.size()));
  for (const int64_t length : lengths) tokens.add_lengths(length);
  return tokens;
}

v1::TokenIds ReadRows(const SafetensorsFile& file, const char* name, BlobStore* tensors) {
  const TensorInfo& tensor = *ValueOrDie(file.Find(name));
  const std::vector<int64_t> wide = ValueOrDie(ToIntegers(tensor.dtype, tensor.bytes));
  const std::vector<int64_t> lengths(static_cast<size_t>(tensor.shape[0]), tensor.shape[1]);
  return StoreIds({wide.begin(), wide.end()}, lengths, tensors);
}

}  // namespace

v1::Run GoldenRun(const std::string& name, BlobStore* tensors) {
  const SafetensorsFile file =
      ValueOrDie(SafetensorsFile::Open(TestData("/sequential/" + name + ".safetensors")));
  v1::Run run;
  AddModel(GoldenModel(file.metadata().at("model")), tensors, *run.mutable_model());
  *run.mutable_calibration() = ReadRows(file, "calibration_ids", tensors);
  *run.mutable_held_out() = ReadRows(file, "held_out_ids", tensors);
  const MethodSpec method = ValueOrDie(ParseMethodSpec(file.metadata().at("method")));
  run.mutable_method()->set_name(method.name);
  run.mutable_method()->mutable_parameters()->insert(method.parameters.begin(),
                                                     method.parameters.end());
  run.mutable_sparsity()->set_fraction(std::stod(file.metadata().at("rho")));
  return run;
}

v1::TokenIds StoredTokens(const std::vector<int64_t>& lengths, int32_t first, int32_t step,
                          BlobStore* tensors) {
  std::vector<int32_t> ids;
  for (const int64_t length : lengths) {
    for (int64_t i = 0; i < length; ++i)
      ids.push_back(first + step * static_cast<int32_t>(ids.size()));
  }
  return StoreIds(ids, lengths, tensors);
}

}  // namespace attnprune::api
