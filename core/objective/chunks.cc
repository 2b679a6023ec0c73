#include "core/objective/chunks.h"

#include <algorithm>

namespace attnprune {

std::vector<Chunk> CutIntoChunks(const Batches& batches, Index width, Index floats) {
  const Index most = floats / std::max<Index>(width, 1);
  std::vector<Chunk> chunks;
  for (Index j = 0; j < batches.count(); ++j) {
    const Index tokens = batches.length(j);
    if (chunks.empty() || chunks.back().tokens + tokens > most) {
      chunks.push_back({.first_batch = j, .first_token = batches.begin(j)});
    }
    ++chunks.back().batches;
    chunks.back().tokens += tokens;
  }
  return chunks;
}

double ShareAfter(const Chunk& chunk, const Batches& batches) {
  return static_cast<double>(chunk.first_token + chunk.tokens) /
         static_cast<double>(batches.total_tokens());
}

Index LargestChunk(const std::vector<Chunk>& chunks) {
  Index largest = 0;
  for (const Chunk& chunk : chunks) largest = std::max(largest, chunk.tokens);
  return largest;
}

}  // namespace attnprune
