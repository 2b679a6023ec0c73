// Models that are known and do not work here.
#ifndef ATTNPRUNE_CORE_MODEL_REFUSED_FAMILIES_H_
#define ATTNPRUNE_CORE_MODEL_REFUSED_FAMILIES_H_

#include "absl/strings/string_view.h"

namespace attnprune {

// Why a model_type is refused; null: it is not known.
const char* ReasonToRefuse(absl::string_view model_type);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_REFUSED_FAMILIES_H_
