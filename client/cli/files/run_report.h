// What a run did to a model, as a file for programs and one for people. Pure: the same run gives
// the same texts.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_RUN_REPORT_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_RUN_REPORT_H_

#include <cstdint>
#include <string>

#include "absl/types/optional.h"
#include "attnprune/v1/run.pb.h"

namespace attnprune::cli {

inline constexpr char kReportJson[] = "report.json";
inline constexpr char kReportMarkdown[] = "report.md";

// Bytes that a tensor takes.
struct StoredSizes {
  int64_t dense = 0;
  int64_t bitmask = 0;  // a bit an entry, and the kept values
  // Kept values and 2 bits for the place of each. Absent unless 2:4 is what was asked for.
  absl::optional<int64_t> packed_2_4;
};
StoredSizes SizesOf(const v1::PrunedTensor& tensor);
// Of all tensors of the model that the run has, those that were not pruned as they are; packed_2_4:
// unless a tensor was pruned otherwise.
StoredSizes SizesOf(const v1::Run& run);

// version: of the attnprune that pruned. Both end with a newline.
std::string RunReportJson(const v1::Run& run, const std::string& version);
std::string RunReportMarkdown(const v1::Run& run, const std::string& version);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_RUN_REPORT_H_
