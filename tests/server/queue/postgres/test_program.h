// A program that a test starts, as another user where the test is root, and that ends with it.
#ifndef ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_TEST_PROGRAM_H_
#define ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_TEST_PROGRAM_H_

#include <sys/types.h>

#include <string>
#include <thread>
#include <vector>

namespace attnprune::testing {

// PostgreSQL and pgbouncer refuse to run as root: then they run as `postgres` or `nobody`. A
// program ends with this process, however that ends.
class TestProgram {
 public:
  // Returns once the program has written `ready`, "": has ended well. Ends this process if it does
  // not: no test can go on.
  TestProgram(const std::string& path, const std::vector<std::string>& arguments,
              const std::string& ready);
  ~TestProgram();  // SIGQUIT
  TestProgram(const TestProgram&) = delete;
  TestProgram& operator=(const TestProgram&) = delete;

  // A new folder that the programs may write to.
  static std::string MakeFolder();

 private:
  pid_t process_;
  std::thread reader_;  // of what it writes
};

[[noreturn]] void GiveUp(const std::string& why);

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_TEST_PROGRAM_H_
