// One suite for every blob store: instantiate it with INSTANTIATE_BLOB_STORE_CONFORMANCE and link
// blob_store_conformance_*.cc.
#ifndef ATTNPRUNE_TESTS_SERVER_BLOBS_BLOB_STORE_CONFORMANCE_H_
#define ATTNPRUNE_TESTS_SERVER_BLOBS_BLOB_STORE_CONFORMANCE_H_

#include <functional>
#include <memory>
#include <string>
#include <unordered_set>

#include "tests/server/blobs/blob_store_ops.h"

namespace attnprune {

// An empty store with the default limits, on a clock that the test moves.
class BlobStoreUnderTest {
 public:
  virtual ~BlobStoreUnderTest() = default;
  virtual BlobStore& store() = 0;
  virtual FakeClock& clock() = 0;
  // As after the only server was stopped and started again with other limits.
  virtual void Reopen(const BlobStoreLimits& limits) = 0;

  // Puts other bytes where a tensor's are kept, as a failing disk might.
  virtual void Spoil(const std::string& sha256, const std::string& bytes) = 0;
  // Loses a tensor behind the store's back.
  virtual void Lose(const std::string& sha256) = 0;
  // The bytes of the last tensor of this digest that was quarantined.
  virtual std::string Quarantined(const std::string& sha256) = 0;
  // Files, or what else takes room, that unfinished uploads and results have now.
  virtual int UnfinishedFiles() = 0;
};
using BlobStoreFactory = std::function<std::unique_ptr<BlobStoreUnderTest>()>;

class BlobStoreConformance : public ::testing::TestWithParam<BlobStoreFactory>,
                             public BlobStoreOps {
 public:
  BlobStore& store() override { return place_->store(); }

 protected:
  FakeClock& clock() { return place_->clock(); }
  BlobStoreUnderTest& place() { return *place_; }
  void Reopen() { place_->Reopen(limits_); }  // with limits_ as they are now

  BlobStoreLimits limits_;

 private:
  const std::unique_ptr<BlobStoreUnderTest> place_ = GetParam()();
};

class BlobConformance : public BlobStoreConformance {};
class UploadConformance : public BlobStoreConformance {};
class CollectConformance : public BlobStoreConformance {
 protected:
  static constexpr absl::Duration kGrace = absl::Hours(1);

  Collected Collect(const std::unordered_set<std::string>& referenced = {}) {
    return store().Collect(referenced, kGrace).value();
  }

  const std::string bytes_ = RandomBytes(100, 1);
  const std::string digest_ = store().Put(bytes_).value();
};

#define INSTANTIATE_BLOB_STORE_CONFORMANCE(name, factory)                                          \
  INSTANTIATE_TEST_SUITE_P(name, BlobConformance, ::testing::Values(BlobStoreFactory(factory)),    \
                           [](const auto&) { return "BlobStore"; });                               \
  INSTANTIATE_TEST_SUITE_P(name, UploadConformance, ::testing::Values(BlobStoreFactory(factory)),  \
                           [](const auto&) { return "BlobStore"; });                               \
  INSTANTIATE_TEST_SUITE_P(name, CollectConformance, ::testing::Values(BlobStoreFactory(factory)), \
                           [](const auto&) { return "BlobStore"; })

}  // namespace attnprune

#endif  // ATTNPRUNE_TESTS_SERVER_BLOBS_BLOB_STORE_CONFORMANCE_H_
