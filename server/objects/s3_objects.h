// Objects in a bucket of an S3-compatible store.
#ifndef ATTNPRUNE_SERVER_OBJECTS_S3_OBJECTS_H_
#define ATTNPRUNE_SERVER_OBJECTS_S3_OBJECTS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/objects/blobs_url.h"
#include "server/objects/object_place.h"

namespace attnprune {

// PREFIX/NAME is an object. The bucket, asked for as the URL's addressing says, must be
// there: missing bucket, refused keys, another region and an endpoint that does not answer are
// errors here, as of S3Http. credentials_file: see S3Credentials.
absl::StatusOr<std::unique_ptr<ObjectPlace>> OpenS3Objects(const BlobsUrl& url,
                                                           const std::string& credentials_file);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_S3_OBJECTS_H_
