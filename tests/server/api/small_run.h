// A golden model of four tiny layers as a run: tensors and tokens stored, and a message of it.
#ifndef ATTNPRUNE_TESTS_SERVER_API_SMALL_RUN_H_
#define ATTNPRUNE_TESTS_SERVER_API_SMALL_RUN_H_

#include <string>
#include <vector>

#include "attnprune/v1/run.pb.h"
#include "server/blobs/blob_store.h"

namespace attnprune::api {

// tests/data/sequential's run of that name, by its own method; calibration and held-out rows are
// its.
v1::Run GoldenRun(const std::string& name, BlobStore* tensors);

// The tokens first, first + step, first + 2 step ... in rows of those lengths.
v1::TokenIds StoredTokens(const std::vector<int64_t>& lengths, int32_t first, int32_t step,
                          BlobStore* tensors);

}  // namespace attnprune::api

#endif  // ATTNPRUNE_TESTS_SERVER_API_SMALL_RUN_H_
