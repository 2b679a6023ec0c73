// What came of a job's methods, best first. Pure.
#ifndef ATTNPRUNE_CLIENT_CLI_VIEWS_RESULT_TABLE_H_
#define ATTNPRUNE_CLIENT_CLI_VIEWS_RESULT_TABLE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "attnprune/v1/job.pb.h"

namespace attnprune::cli {

// The relative error on held-out data or, where there is none, on calibration data.
double JudgedError(const v1::MethodResult& result);

// By JudgedError; methods that failed come last. Pointers into `job`.
std::vector<const v1::MethodResult*> BestFirst(const v1::Job& job);

// The result of that label; empty: the best. NOT_FOUND names the labels there are.
absl::StatusOr<const v1::MethodResult*> ResultOf(const v1::Job& job, const std::string& label);

// A table with a heading, best first; empty if no method has ended. "mask only" is the held-out
// error (calibration, where nothing is held out) of the mask on the dense weights: less "held out",
// what moving the kept weights has gained. "seconds" is the solving, "judging" the scoring. Below
// it, the settings of a method that is there more than once, how long preparing took and where the
// held-out batches came from.
// Less of it where a terminal is `width` wide.
std::string ResultTable(const v1::Job& job, absl::optional<int> width = absl::nullopt);

// A job at length: state, what it does or waits for, estimate, failure, results.
std::string JobText(const v1::Job& job, absl::Time now, absl::optional<int> width = absl::nullopt);

// Jobs, one a row with a heading, with what is at work, how much is done and the time left or, of
// one that is queued, until it may start. Less of it where a terminal is `width` wide.
std::string JobListText(const std::vector<v1::Job>& jobs, absl::Time now,
                        absl::optional<int> width = absl::nullopt);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_VIEWS_RESULT_TABLE_H_
