#include "tests/server/api/stored_tensors.h"

#include "tests/server/api/tensor_bytes.h"
#include "tests/support/value_or_die.h"

namespace attnprune::api {

void StoreTensors(v1::Job& job, BlobStore& tensors) {
  int seed = 0;
  for (v1::TensorRef* const tensor : TensorsOf(job)) {
    tensor->set_sha256(testing::ValueOrDie(tensors.Put(MakeBytes(*tensor, seed++))));
  }
}

}  // namespace attnprune::api
