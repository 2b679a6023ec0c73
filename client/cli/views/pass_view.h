// The progress of a pass over a model, on a terminal or in a log.
#ifndef ATTNPRUNE_CLIENT_CLI_VIEWS_PASS_VIEW_H_
#define ATTNPRUNE_CLIENT_CLI_VIEWS_PASS_VIEW_H_

#include <string>

#include "absl/time/time.h"
#include "client/cli/shell/shell.h"
#include "core/model/model_pass.h"

namespace attnprune::cli {

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
