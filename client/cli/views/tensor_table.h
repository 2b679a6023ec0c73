// What a server has stored, as a table. Pure.
#ifndef ATTNPRUNE_CLIENT_CLI_VIEWS_TENSOR_TABLE_H_
#define ATTNPRUNE_CLIENT_CLI_VIEWS_TENSOR_TABLE_H_

#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "attnprune/v1/tensor_service.pb.h"

namespace attnprune::cli {

// One a row with a heading: of an unfinished upload its id and how much of it is there. A digest is
// cut to 12 digits. Less of it where a terminal is `width` wide.
std::string TensorListText(const std::vector<v1::StoredTensor>& tensors,
                           absl::optional<int> width = absl::nullopt);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_VIEWS_TENSOR_TABLE_H_
