// The conformance suite over shared stores, in a folder and in a bucket.
#include "server/blobs/shared/shared_blob_store.h"

#include "tests/server/blobs/blob_store_conformance.h"
#include "tests/server/blobs/shared/shared_place.h"

namespace attnprune {
namespace {

using testing::PlaceKind;
using testing::SharedPlace;

class SharedStoreUnderTest final : public BlobStoreUnderTest {
 public:
  explicit SharedStoreUnderTest(PlaceKind kind) : place_(kind) { Reopen({}); }
  BlobStore& store() override { return *store_; }
  FakeClock& clock() override { return place_.clock(); }

  void Reopen(const BlobStoreLimits& limits) override {
    store_ = nullptr;
    SharedBlobStoreOptions options = place_.OptionsOf("server");
    options.limits = limits;
    store_ = place_.Open(options);
  }

  void Spoil(const std::string& sha256, const std::string& bytes) override {
    spoiled_ = place_.ObjectOf(sha256);
    WriteWhole(place_.FileOf(spoiled_), bytes);
  }
  void Lose(const std::string& sha256) override {
    std::filesystem::remove(place_.FileOf(place_.ObjectOf(sha256)));
  }
  // Where it was, and no tensor any more.
  std::string Quarantined(const std::string&) override {
    const std::string state = place_.Ask(
        absl::StrCat("SELECT state FROM attnprune.blob_objects WHERE object = '", spoiled_, "'"));
    return state == "3" ? ReadWhole(place_.FileOf(spoiled_)) : "not kept";
  }
  int UnfinishedFiles() override { return place_.UnfinishedFiles(); }

 private:
  SharedPlace place_;
  std::unique_ptr<BlobStore> store_;
  std::string spoiled_;
};

INSTANTIATE_BLOB_STORE_CONFORMANCE(SharedFolder, [] {
  return std::make_unique<SharedStoreUnderTest>(PlaceKind::kFolder);
});
INSTANTIATE_BLOB_STORE_CONFORMANCE(Bucket, [] {
  return std::make_unique<SharedStoreUnderTest>(PlaceKind::kBucket);
});

}  // namespace
}  // namespace attnprune
