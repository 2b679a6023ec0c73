#include "client/cli/shell/printable.h"

#include <gtest/gtest.h>

#include <string>

#include "attnprune/v1/job.pb.h"

namespace attnprune::cli {
namespace {

TEST(Printable, LeavesWhatPeopleWrite) {
  for (const char* text : {"", "a b~", "Grüße", "注意", "🙂", "tab-free"}) {
    EXPECT_EQ(Printable(text), text);
  }
}

TEST(Printable, EscapesWhatMovesATerminal) {
  EXPECT_EQ(Printable("\x1b]0;pwn\x07"), "\\x1b]0;pwn\\x07");
  EXPECT_EQ(Printable("\r\t\x7f"), "\\x0d\\x09\\x7f");
  EXPECT_EQ(Printable("\xc2\x9b"
                      "31m"),
            "\\xc2\\x9b"
            "31m");  // CSI as one character
  EXPECT_EQ(Printable("a\xe2\x80\xae"
                      "b"),
            "a\\xe2\\x80\\xae"
            "b");  // writes from right to left
  EXPECT_EQ(Printable(std::string("a\0b", 3)), "a\\x00b");
}

TEST(Printable, EscapesBytesThatAreNotUtf8) {
  EXPECT_EQ(Printable("\xff"), "\\xff");
  EXPECT_EQ(Printable("\xc0\x9b"), "\\xc0\\x9b");           // a longer form of a control character
  EXPECT_EQ(Printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(Printable("\xe2\x82"), "\\xe2\\x82");           // cut short
}

TEST(Printable, MakesNoLineOfItsOwnUnlessAllowed) {
  EXPECT_EQ(Printable("a\nstate succeeded"), "a\\nstate succeeded");
  EXPECT_EQ(Printable("a\n\x1b", Lines::kSeveral), "a\n\\x1b");
}

TEST(Printable, EscapesEveryTextOfAMessage) {
  v1::Job job;
  (*job.mutable_labels())["a"] = "\x1b[2J";
  job.mutable_failure()->set_message("no\nsuch");
  job.add_methods()->set_name("gd\x1b");
  job.mutable_problem()->mutable_fused()->mutable_weight()->set_name("\x07");
  const v1::Job shown = ForPeople(job);
  EXPECT_EQ(shown.labels().at("a"), "\\x1b[2J");
  EXPECT_EQ(shown.failure().message(), "no\\nsuch");
  EXPECT_EQ(shown.methods(0).name(), "gd\\x1b");
  EXPECT_EQ(shown.problem().fused().weight().name(), "\\x07");
  EXPECT_EQ(job.labels().at("a"), "\x1b[2J");
}

}  // namespace
}  // namespace attnprune::cli
