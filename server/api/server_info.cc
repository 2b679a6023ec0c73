#include "server/api/server_info.h"

#include <cmath>
#include <fstream>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/methods/registry.h"

extern "C" {
#include <cblas.h>
}

namespace attnprune::api {
namespace {

std::string CpuModel() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const size_t colon = line.find(':');
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
    }
  }
  return "unknown CPU";
}

v1::ParameterInfo::Kind ToProto(Parameter::Kind kind) {
  switch (kind) {
    case Parameter::Kind::kReal:
      return v1::ParameterInfo::REAL;
    case Parameter::Kind::kInteger:
      return v1::ParameterInfo::INTEGER;
    case Parameter::Kind::kSwitch:
      return v1::ParameterInfo::SWITCH;
  }
  return v1::ParameterInfo::KIND_UNSPECIFIED;
}

void Describe(const Parameter& parameter, v1::ParameterInfo& info) {
  info.set_name(parameter.name);
  info.set_kind(ToProto(parameter.kind));
  if (!std::isnan(parameter.default_value)) info.set_default_value(parameter.default_value);
  info.set_min(parameter.min);
  info.set_max(parameter.max);
  info.set_help(parameter.help);
}

}  // namespace

v1::ServerInfo DescribeBuild() {
  v1::ServerInfo info;
  info.set_version(ATTNPRUNE_VERSION);
  info.set_cpu(absl::StrCat(CpuModel(), "; built for ", ATTNPRUNE_BUILT_FOR));
  info.set_blas(openblas_get_config());
  for (const MethodInfo& method : Methods()) {
    v1::MethodInfo& described = *info.add_methods();
    described.set_name(method.name);
    described.set_summary(method.summary);
    described.set_draws_random_numbers(method.draws);
    for (const Parameter& parameter : method.parameters) {
      Describe(parameter, *described.add_parameters());
    }
  }
  return info;
}

}  // namespace attnprune::api
