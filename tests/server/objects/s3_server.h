// tests/support/s3_server.py, started by the test.
#ifndef ATTNPRUNE_TESTS_SERVER_OBJECTS_S3_SERVER_H_
#define ATTNPRUNE_TESTS_SERVER_OBJECTS_S3_SERVER_H_

#include <sys/types.h>

#include <string>

#include "server/objects/blobs_url.h"
#include "tests/server/api/temporary_folder.h"

namespace attnprune::testing {

// Ends with this object, or with the process. Its objects stay as long as it lives.
class S3Server {
 public:
  S3Server();
  ~S3Server();
  S3Server(const S3Server&) = delete;
  S3Server& operator=(const S3Server&) = delete;

  // One of the whole test program's, started when it is first asked for.
  static S3Server& Shared();

  BlobsUrl Url(const std::string& prefix) const;     // of its bucket
  const std::string& keys() const { return keys_; }  // a file of those that it takes

  // See the program.
  void SetFault(const std::string& json) const;
  bool HasFault() const;  // one that is not used up
  // Empty: the machine has none.
  void SetMachineKeys(const std::string& json) const;
  const std::string& endpoint() const { return endpoint_; }
  void Stop();
  void Start();  // again, on the same port

  std::string FileOf(const std::string& key) const;  // of an object, its prefix included
  int CountParts() const;                            // of uploads that are not complete

 private:
  const std::string& folder() const { return folder_.path(); }

  const TemporaryFolder folder_;
  const std::string keys_;
  std::string endpoint_;
  pid_t process_ = -1;
};

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_OBJECTS_S3_SERVER_H_
