#include "tests/fuzz/fuzz_backend.h"

#include "absl/functional/function_ref.h"
#include "core/kernels/blas.h"

namespace attnprune::fuzz {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

void ForEachTensor(Message& message, absl::FunctionRef<void(v1::TensorRef&)> visit) {
  if (message.GetDescriptor() == v1::TensorRef::descriptor()) {
    return visit(static_cast<v1::TensorRef&>(message));
  }
  const google::protobuf::Reflection& fields = *message.GetReflection();
  std::vector<const FieldDescriptor*> given;
  fields.ListFields(message, &given);
  for (const FieldDescriptor* const field : given) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_map()) continue;
    if (!field->is_repeated()) {
      ForEachTensor(*fields.MutableMessage(&message, field), visit);
      continue;
    }
    for (int i = 0; i < fields.FieldSize(message, field); ++i) {
      ForEachTensor(*fields.MutableRepeatedMessage(&message, field, i), visit);
    }
  }
}

}  // namespace

api::Backend& SharedBackend() {
  static const absl::Status blas = InitializeBlas();
  if (!blas.ok()) Find("OpenBLAS", blas);
  static api::Backend backend;
  return backend;
}

std::vector<std::string> DigestsOf(Message& message) {
  std::vector<std::string> digests;
  ForEachTensor(message,
                [&digests](const v1::TensorRef& tensor) { digests.push_back(tensor.sha256()); });
  return digests;
}

void FillDigests(const std::vector<std::string>& stored, Message& message) {
  ForEachTensor(message, [&stored](v1::TensorRef& tensor) {
    if (tensor.sha256().size() != 1) return;
    const size_t at = static_cast<unsigned char>(tensor.sha256()[0]);
    if (at >= 1 && at <= stored.size()) tensor.set_sha256(stored[at - 1]);
  });
}

}  // namespace attnprune::fuzz

// Before the first input, which would otherwise pay for it.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  attnprune::fuzz::SharedBackend();
  return 0;
}
