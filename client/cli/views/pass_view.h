// The progress of a pass over a model, on a terminal or in a log.
#ifndef ATTNPRUNE_CLIENT_CLI_VIEWS_PASS_VIEW_H_
#define ATTNPRUNE_CLIENT_CLI_VIEWS_PASS_VIEW_H_

#include <string>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/cli/shell/shell.h"
#include "core/base/thread_pool.h"
#include "core/model/forward.h"
#include "core/model/model_pass.h"

namespace attnprune::cli {

// Tells what `layers` layers of a pass will take: "capture: 16384 tokens through 15 layers, about 2
// min, 900 MiB". The pool is the pass's.
void TellPassEstimate(const Shell& shell, const std::string& what, const Forward& forward,
                      ThreadPool& pool, absl::Span<const Index> lengths, Index layers,
                      int64_t memory_budget);

// On a terminal one line that is written over; elsewhere a line every ten seconds. On err.
class PassView {
 public:
  // what: before every line, such as the model's folder.
  PassView(const Shell& shell, std::string what);
  ~PassView();
  PassView(const PassView&) = delete;
  PassView& operator=(const PassView&) = delete;

  // Options that tell this view and stop where the shell is interrupted; valid as long as both.
  PassOptions Options();
  void Show(const PassProgress& progress);

 private:
  const Shell& shell_;
  const std::string what_;
  const absl::Time began_;
  absl::Time shown_;
  bool open_line_ = false;
};

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_VIEWS_PASS_VIEW_H_
