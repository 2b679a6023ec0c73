// The tensors of a test's job, in a store.
#ifndef ATTNPRUNE_TESTS_SERVER_API_STORED_TENSORS_H_
#define ATTNPRUNE_TESTS_SERVER_API_STORED_TENSORS_H_

#include "attnprune/v1/job.pb.h"
#include "server/blobs/blob_store.h"

namespace attnprune::api {

// Makes bytes for every tensor of `job`, puts them into the store and sets the digests.
void StoreTensors(v1::Job& job, BlobStore& tensors);

}  // namespace attnprune::api

#endif  // ATTNPRUNE_TESTS_SERVER_API_STORED_TENSORS_H_
