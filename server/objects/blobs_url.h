// Where tensors are that several servers share: "file:///folder" or "s3://bucket/prefix?…".
#ifndef ATTNPRUNE_SERVER_OBJECTS_BLOBS_URL_H_
#define ATTNPRUNE_SERVER_OBJECTS_BLOBS_URL_H_

#include <string>

#include "absl/status/statusor.h"

namespace attnprune {

struct BlobsUrl {
  std::string folder;  // of file://, absolute; empty: s3://

  std::string bucket, prefix;  // prefix: "a/b" without slashes at its ends, or empty
  std::string endpoint;        // "https://host:port"
  std::string region;
  bool bucket_in_host = false;  // "https://bucket.host:port/", not "https://host:port/bucket/"

  // What the place is called whichever way it is reached: "file:///folder", "s3://bucket/prefix".
  std::string Name() const;
  // Of s3://: where the bucket's objects begin, as "https://host:port/bucket/" or
  // "https://bucket.host:port/".
  std::string Root() const;
};

// endpoint defaults to AWS's of the region, region to us-east-1, addressing to path.
// INVALID_ARGUMENT naming blobs.
absl::StatusOr<BlobsUrl> ParseBlobsUrl(const std::string& url);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_BLOBS_URL_H_
