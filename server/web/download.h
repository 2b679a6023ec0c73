// Bytes of the store as answers, read while they are sent: whole, or the Range that is asked for.
#ifndef ATTNPRUNE_SERVER_WEB_DOWNLOAD_H_
#define ATTNPRUNE_SERVER_WEB_DOWNLOAD_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "server/access/stream_slots.h"
#include "server/blobs/blob_store.h"
#include "server/http/io_loop.h"
#include "server/http/message.h"
#include "server/observe/instruments.h"

namespace boost::asio {
class thread_pool;
}

namespace attnprune::web {

// What downloads use; everything outlives them.
struct DownloadContext {
  http::IoLoop* loop;
  boost::asio::thread_pool* io;  // reads
  TransferMetrics* metrics;      // may be null
};

struct Download {
  std::shared_ptr<const BlobReader> bytes;
  std::string etag;         // with its quotes: the same bytes, for ever
  std::string file_name;    // that a browser saves it by; empty: none
  access::StreamSlot slot;  // held while it is sent
};

// 200; 206 to a Range; 304 to an If-None-Match of the etag; 416 to a Range that begins behind the
// end. Two pieces of 256 KiB are in memory. Bytes that are on their way here are sent as they come,
// and the last piece once the tensors that it and those before are of have the right digests.
// Where reading fails the connection ends before its Content-Length.
http::Answer AnswerDownload(const DownloadContext& context, const http::Request& request,
                            Download download);

// The bytes [begin, end) that "bytes=A-", "bytes=A-B" or "bytes=-N" asks for of `size` ones, A
// being perhaps behind the end. Nothing: none, several, or what is no range, for which all is sent.
// Pure.
struct ByteRange {
  int64_t begin, end;
};
absl::optional<ByteRange> ParseRange(absl::string_view header, int64_t size);

}  // namespace attnprune::web

#endif  // ATTNPRUNE_SERVER_WEB_DOWNLOAD_H_
