// A job's progress as comma-separated values (RFC 4180): for spreadsheets and data frames.
#ifndef ATTNPRUNE_CLIENT_EXPORT_CSV_H_
#define ATTNPRUNE_CLIENT_EXPORT_CSV_H_

#include <string>
#include <vector>

#include "attnprune/v1/prune_service.pb.h"

namespace attnprune::exporting {

// A heading, then one row for each progress event, in their order: sequence, time (RFC 3339, UTC),
// method and every figure of v1::Progress, empty where the step was not evaluated. Numbers are the
// shortest text that reads back as the same double, "nan" and "inf" among them; lines end in CRLF.
// Pure.
std::string ProgressCsv(const std::vector<v1::JobEvent>& events);

}  // namespace attnprune::exporting

#endif  // ATTNPRUNE_CLIENT_EXPORT_CSV_H_
