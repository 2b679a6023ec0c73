#include "server/web/download.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/web/api_json.h"

namespace attnprune::web {
namespace {

constexpr int64_t kDownloadPiece = 256 << 10;

// Digits alone: SimpleAtoi takes signs and spaces too.
absl::optional<int64_t> ParsePlace(absl::string_view text) {
  int64_t place = 0;
  const bool digits = std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
  if (!digits || !absl::SimpleAtoi(text, &place)) return absl::nullopt;
  return place;
}

// Reads a piece while the one before is sent. On the loop but for Read.
class ByteStream final : public http::AnswerStream {
 public:
  ByteStream(const DownloadContext& context, Download download, const ByteRange& range)
      : state_(std::make_shared<State>(
            State{context, std::move(download), range.begin, range.begin, range.end})) {}

  void OnReady(std::function<void()> wake) override { state_->wake = std::move(wake); }
  http::SharedBytes Next() override {
    if (state_->arrived == nullptr) {
      Read(state_);
      return nullptr;
    }
    http::SharedBytes piece = std::exchange(state_->arrived, nullptr);
    Read(state_);
    return piece;
  }
  bool ended() const override {
    return state_->failed ||
           (state_->next == state_->end && !state_->reading && state_->arrived == nullptr);
  }

 private:
  struct State {
    DownloadContext context;
    Download download;
    int64_t begin;
    int64_t next, end;  // of what has not been asked for
    std::function<void()> wake = {};
    http::SharedBytes arrived = nullptr;
    bool reading = false, failed = false;
  };

  static void Read(const std::shared_ptr<State>& state) {
    if (state->reading || state->failed || state->next == state->end) return;
    state->reading = true;
    const ByteRange piece = {state->next, std::min(state->next + kDownloadPiece, state->end)};
    state->next = piece.end;
    const BlobReader& bytes = *state->download.bytes;
    const auto read = [piece, io = state->context.io, loop = state->context.loop,
                       weak = std::weak_ptr(state), reader = std::weak_ptr(state->download.bytes)] {
      boost::asio::post(*io, [piece, loop, weak, reader] {
        const std::shared_ptr<const BlobReader> kept = reader.lock();
        if (kept != nullptr) ReadPiece(*kept, piece, loop, weak);
      });
    };
    if (piece.end < state->end) {
      bytes.Await(piece.begin, piece.end, BlobReader::Until::kThere, read);
    } else {
      bytes.Await(state->begin, state->end, BlobReader::Until::kChecked, read);
    }
  }

  static void ReadPiece(const BlobReader& bytes, const ByteRange& range, http::IoLoop* loop,
                        const std::weak_ptr<State>& weak) {
    auto piece = std::make_shared<std::string>(static_cast<size_t>(range.end - range.begin), '\0');
    const bool read = bytes.ReadAt(range.begin, absl::MakeSpan(*piece)).ok();
    loop->Post([weak, piece = read ? std::move(piece) : nullptr] {
      if (const auto reader = weak.lock()) OnRead(*reader, piece);
    });
  }

  static void OnRead(State& state, const http::SharedBytes& piece) {
    state.reading = false;
    state.failed = piece == nullptr;
    state.arrived = piece;
    if (piece != nullptr && state.context.metrics != nullptr) {
      state.context.metrics->downloaded.Add(static_cast<int64_t>(piece->size()));
    }
    state.wake();
  }

  const std::shared_ptr<State> state_;
};

http::Answer NotSatisfied(int64_t size) {
  http::Answer answer;
  answer.response = ErrorResponse(
      absl::OutOfRangeError(absl::StrCat("Range must begin before ", size, ", the size")), 416);
  answer.response.headers.emplace_back("Content-Range", absl::StrCat("bytes */", size));
  return answer;
}

}  // namespace

absl::optional<ByteRange> ParseRange(absl::string_view header, int64_t size) {
  if (!absl::ConsumePrefix(&header, "bytes=")) return absl::nullopt;
  const size_t dash = header.find('-');
  if (dash == absl::string_view::npos) return absl::nullopt;
  const absl::string_view from = header.substr(0, dash), to = header.substr(dash + 1);
  const absl::optional<int64_t> first = from.empty() ? size : ParsePlace(from);
  const absl::optional<int64_t> last = to.empty() ? size - 1 : ParsePlace(to);
  if (!first.has_value() || !last.has_value()) return absl::nullopt;
  if (from.empty()) {
    if (to.empty()) return absl::nullopt;
    return ByteRange{size - std::min(*last, size), size};
  }
  if (!to.empty() && *last < *first) return absl::nullopt;
  return ByteRange{*first, std::max(*first, std::min(*last, size - 1) + 1)};
}

http::Answer AnswerDownload(const DownloadContext& context, const http::Request& request,
                            Download download) {
  const int64_t size = download.bytes->size();
  http::Answer answer;
  http::Response& response = answer.response;
  response.headers = {{"ETag", download.etag}, {"Cache-Control", "private, no-cache"}};
  if (request.if_none_match == download.etag) {
    response.status = 304;
    return answer;
  }
  const absl::optional<ByteRange> asked = ParseRange(request.range, size);
  if (asked.has_value() && asked->begin >= size) return NotSatisfied(size);
  const ByteRange range = asked.value_or(ByteRange{0, size});
  response.headers.emplace_back("Accept-Ranges", "bytes");
  if (asked.has_value()) {
    response.status = 206;
    response.headers.emplace_back(
        "Content-Range", absl::StrCat("bytes ", range.begin, "-", range.end - 1, "/", size));
  }
  if (!download.file_name.empty()) {
    response.headers.emplace_back(
        "Content-Disposition", absl::StrCat("attachment; filename=\"", download.file_name, "\""));
  }
  response.content_type = "application/octet-stream";
  response.length = range.end - range.begin;
  if (request.verb == http::Verb::kHead) return answer;
  answer.stream = std::make_unique<ByteStream>(context, std::move(download), range);
  return answer;
}

}  // namespace attnprune::web
