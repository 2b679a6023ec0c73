// Requests and answers of the HTTP port as plain values, and the interfaces of what answers them.
#ifndef ATTNPRUNE_SERVER_HTTP_MESSAGE_H_
#define ATTNPRUNE_SERVER_HTTP_MESSAGE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace attnprune::http {

enum class Verb { kGet, kHead, kPost, kPut, kDelete, kOther };
absl::string_view VerbName(Verb verb);  // "GET" …; "other"
// Whether a request of this kind may change something: all but GET and HEAD.
bool Changes(Verb verb);

// What came of a body: bytes, and what follows them.
struct BodyPiece {
  enum class Then { kMore, kEnd, kBroken };  // kBroken: the client is gone, or sends no body
  std::string bytes;
  Then then = Then::kMore;
};

// The body of a request whose handler takes it as it comes. Callable from any thread; may outlive
// the connection.
class BodyReader {
 public:
  virtual ~BodyReader() = default;
  // Calls on_piece once, on the server's loop, with at most kBodyPieceBytes. One at a time, and not
  // after another `then` than kMore. Meanwhile TCP holds the client back.
  virtual void Read(std::function<void(BodyPiece)> on_piece) = 0;
};

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct Request {
  Verb verb = Verb::kGet;
  std::string path;  // begins with '/', percent-decoded
  Pairs query;       // decoded, in order
  std::string body;
  std::shared_ptr<BodyReader> incoming;  // in place of `body`: see Handler::TakesPieces
  // Headers; empty where there was none.
  std::string host, origin, fetch_site, fetch_mode;
  std::string accept_encoding, if_none_match, last_event_id, range;
  std::string request_id, traceparent;  // trace/trace_context.h
  std::string authorization, cookie;
  std::string peer;     // "127.0.0.1:40112", the other end of the connection
  bool http10 = false;  // that knows no streams
};

// Splits "/path?a=1&b=x%20y" into path and query. INVALID_ARGUMENT: no leading '/', a bad escape,
// or a control character, encoded or not.
absl::Status ParseTarget(absl::string_view target, Request* request);

// Bytes that many connections may be sending.
using SharedBytes = std::shared_ptr<const std::string>;

struct Response {
  int status = 200;
  std::string content_type;  // empty: no body
  SharedBytes body;          // null: empty
  Pairs headers;             // further ones
  // Of the body that follows as a stream, or would to a GET; absent: body's.
  absl::optional<int64_t> length = {};
};

// A piece of a stream as it goes over the wire (a chunk of HTTP/1.1), so that many readers can be
// sent the same bytes.
SharedBytes StreamPiece(absl::string_view payload);

// What is sent piece by piece. Used on the server's loop only (io_loop.h), destroyed there.
class AnswerStream {
 public:
  virtual ~AnswerStream() = default;
  // Once, before anything else. `wake` returns at once and may be called from anywhere on the loop.
  virtual void OnReady(std::function<void()> wake) = 0;
  // The next piece; null: none now, wake will be called when there is, or at the end.
  virtual SharedBytes Next() = 0;
  // Nothing comes after what Next has given.
  virtual bool ended() const = 0;
};

struct Answer {
  Response response;
  // If set, it follows the head in place of a body: where the response has a length, bytes as they
  // are, of which fewer tell the client of a failure; else StreamPieces, and not to HTTP/1.0.
  std::unique_ptr<AnswerStream> stream;
  int route = 0;  // for the metrics; 0: none of the handler's
};

// Exactly once, from any thread.
using Respond = std::function<void(Answer)>;

class Handler {
 public:
  virtual ~Handler() = default;
  // On the server's loop: returns at once, and has what waits for files done elsewhere.
  virtual void Handle(Request request, Respond respond) = 0;
  // Asked once the headers are there: whether the handler reads the body itself (Request::incoming)
  // and sets its limits. Else it is read whole first, of kMaxBodyBytes at most.
  virtual bool TakesPieces(const Request&) { return false; }
  // What the server itself refuses, such as a request that is too large, as an answer.
  virtual Response Refuse(int status, absl::string_view message) = 0;
};

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_HTTP_MESSAGE_H_
