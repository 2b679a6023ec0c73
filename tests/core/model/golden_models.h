// The golden models: tiny random ones of every family, with what a float64 forward pass makes of
// them. Where they come from: tests/data/models/README.md.
#ifndef ATTNPRUNE_TESTS_CORE_MODEL_GOLDEN_MODELS_H_
#define ATTNPRUNE_TESTS_CORE_MODEL_GOLDEN_MODELS_H_

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string>
#include <vector>

#include "core/io/safetensors.h"
#include "core/model/forward.h"
#include "tests/support/paths.h"
#include "tests/support/value_or_die.h"

namespace attnprune::testing {

inline std::string GoldenModel(const std::string& name) { return TestData("/models/" + name); }

inline std::vector<std::string> GoldenModels() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(TestData("/models"))) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The name of a test of one of them.
inline std::string TestName(std::string model) {
  for (char& c : model) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return model;
}

inline SafetensorsFile OpenExpected(const std::string& name) {
  return ValueOrDie(SafetensorsFile::Open(GoldenModel(name) + "/expected.safetensors"));
}

inline std::vector<double> Doubles(const TensorSource& source, const std::string& name) {
  return ValueOrDie(ToDoubles(*ValueOrDie(source.Find(name))));
}

inline Tokens ExpectedIds(const SafetensorsFile& expected) {
  const TensorInfo& ids = *ValueOrDie(expected.Find("input_ids"));
  Tokens tokens;
  tokens.ids.resize(static_cast<size_t>(ids.shape[0]));
  std::copy_n(ids.bytes.data(), ids.bytes.size(), reinterpret_cast<char*>(tokens.ids.data()));
  tokens.lengths = {ids.shape[0]};
  return tokens;
}

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_CORE_MODEL_GOLDEN_MODELS_H_
