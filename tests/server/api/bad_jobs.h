// Every way in which a job can break a rule of job.proto that needs no tensor's bytes.
#ifndef ATTNPRUNE_TESTS_SERVER_API_BAD_JOBS_H_
#define ATTNPRUNE_TESTS_SERVER_API_BAD_JOBS_H_

#include <deque>
#include <string>

#include "attnprune/v1/job.pb.h"

namespace attnprune::api {

struct BadJob {
  std::string title;
  v1::Job job;
  std::string field;    // at fault
  std::string message;  // contained in the error's
};

std::deque<BadJob> BadJobs();

}  // namespace attnprune::api

#endif  // ATTNPRUNE_TESTS_SERVER_API_BAD_JOBS_H_
