// Runs in independent order on real stores, with workers that a test steps.
#ifndef ATTNPRUNE_TESTS_SERVER_API_RUN_PARTS_FIXTURE_H_
#define ATTNPRUNE_TESTS_SERVER_API_RUN_PARTS_FIXTURE_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "server/execution/run_parts.h"
#include "tests/server/api/run_fixture.h"

namespace attnprune::api {

class RunParts : public Runs {
 protected:
  v1::Run Independent() {
    v1::Run run = Golden();
    run.set_order(v1::INDEPENDENT);
    return run;
  }

  // Works on the run, and calls `meanwhile` on the worker's thread with part 1, claimed, while the
  // worker has part 0.
  void WorkAndMeanwhile(const std::string& name,
                        std::function<void(const ClaimedPart&)> meanwhile) {
    LookForPart(name, std::move(meanwhile));
    StopSignal stop;
    Work(&stop);
  }

  bool Help(const ClaimedPart& part, StopSignal* stop) {
    RunHelper helper(&backend_.jobs(), &backend_.tensors());
    return helper.Help(part, Options(), stop);
  }

  std::vector<PartStatus> Parts(const std::string& name) {
    return ValueOrDie(backend_.jobs().ReadParts(name.substr(5)));
  }

 private:
  void LookForPart(const std::string& name, std::function<void(const ClaimedPart&)> meanwhile) {
    clock_.SetHook(1, [this, name, meanwhile = std::move(meanwhile)] {
      if (Parts(name).size() < 2) return LookForPart(name, meanwhile);
      meanwhile(*ValueOrDie(backend_.jobs().ClaimPart(absl::Hours(1))));
    });
  }
};

}  // namespace attnprune::api

#endif  // ATTNPRUNE_TESTS_SERVER_API_RUN_PARTS_FIXTURE_H_
