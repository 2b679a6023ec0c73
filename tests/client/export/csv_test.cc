#include "client/export/csv.h"

#include <limits>

#include "gtest/gtest.h"
#include "tests/client/export/events.h"

namespace attnprune::exporting {
namespace {

constexpr char kHeading[] =
    "sequence,time,method,step,steps,attention_loss,regularization,soft_relative_error,"
    "gradient_norm,calibration_error,held_out_error,elapsed_seconds,remaining_seconds\r\n";

TEST(ProgressCsv, HasARowForEachProgressAndNothingElse) {
  EXPECT_EQ(ProgressCsv({}), kHeading);
  EXPECT_EQ(
      ProgressCsv({EvaluatedAt("gd", 4, 0.1, 0.2), ResultOf("gd", 4)}),
      std::string(kHeading) + "5,2025-11-24T16:00:04.5Z,gd,4,100,0.25,0,0,2,0.1,0.2,0.25,0\r\n");
}

TEST(ProgressCsv, LeavesAStepThatWasNotEvaluatedEmpty) {
  EXPECT_EQ(ProgressCsv({ProgressAt("gd", 1)}),
            std::string(kHeading) + "2,2025-11-24T16:00:01.5Z,gd,1,100,1,0,0,2,,,0.25,0\r\n");
}

TEST(ProgressCsv, QuotesWhatWouldEndAField) {
  const std::string text = ProgressCsv({ProgressAt("a,\"b\"", 1)});
  EXPECT_NE(text.find(",\"a,\"\"b\"\"\",1,"), std::string::npos) << text;
}

TEST(ProgressCsv, HasNumbersThatReadBackAsTheyWere) {
  v1::JobEvent event = ProgressAt("gd", 3);
  event.mutable_progress()->set_regularization(std::numeric_limits<double>::infinity());
  event.mutable_progress()->set_gradient_norm(std::numeric_limits<double>::quiet_NaN());
  EXPECT_NE(ProgressCsv({event}).find(",0.3333333333333333,inf,0,nan,"), std::string::npos);
}

}  // namespace
}  // namespace attnprune::exporting
