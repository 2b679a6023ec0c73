#include "trace/trace_context.h"

#include <algorithm>
#include <cstdint>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace attnprune {
namespace {

constexpr size_t kTraceDigits = 32, kSpanDigits = 16, kMaxRequestId = 128;
// version "-" trace "-" span "-" flags
constexpr size_t kTraceAt = 3, kSpanAt = kTraceAt + kTraceDigits + 1;
constexpr size_t kFlagsAt = kSpanAt + kSpanDigits + 1, kLength = kFlagsAt + 2;

bool IsHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c)) || (c >= 'a' && c <= 'f');
  });
}

bool IsId(absl::string_view text) {
  return IsHex(text) && text.find_first_not_of('0') != absl::string_view::npos;
}

std::string RandomHex(size_t digits) {
  std::random_device random;
  std::string hex;
  while (hex.size() < digits) absl::StrAppend(&hex, absl::Hex(random(), absl::kZeroPad8));
  return hex.substr(0, digits);
}

std::string RandomId(size_t digits) {
  std::string id;
  do {
    id = RandomHex(digits);
  } while (!IsId(id));
  return id;
}

}  // namespace

absl::optional<TraceContext> ParseTraceparent(absl::string_view text) {
  if (text.size() < kLength || text[2] != '-' || text[kSpanAt - 1] != '-' ||
      text[kFlagsAt - 1] != '-') {
    return absl::nullopt;
  }
  const absl::string_view version = text.substr(0, 2), trace = text.substr(kTraceAt, kTraceDigits),
                          span = text.substr(kSpanAt, kSpanDigits),
                          flags = text.substr(kFlagsAt, 2);
  const bool later = version != "00";
  const bool ends = text.size() == kLength || (later && text[kLength] == '-');
  if (!IsHex(version) || version == "ff" || !ends) return absl::nullopt;
  if (!IsId(trace) || !IsId(span) || !IsHex(flags)) return absl::nullopt;
  const bool sampled = absl::string_view("13579bdf").find(flags[1]) != absl::string_view::npos;
  return TraceContext{std::string(trace), std::string(span), sampled};
}

std::string ToTraceparent(const TraceContext& context) {
  return absl::StrCat("00-", context.trace_id, "-", context.span_id,
                      context.sampled ? "-01" : "-00");
}

TraceContext NewTrace() { return {RandomId(kTraceDigits), RandomId(kSpanDigits), true}; }

TraceContext ChildOf(const TraceContext& context) {
  return {context.trace_id, RandomId(kSpanDigits), context.sampled};
}

bool IsRequestId(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxRequestId &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  absl::string_view("._:/-").find(c) != absl::string_view::npos;
         });
}

std::string NewRequestId() { return RandomHex(32); }

RequestTrace TraceRequest(absl::string_view request_id, absl::string_view traceparent) {
  RequestTrace request;
  request.request_id = IsRequestId(request_id) ? std::string(request_id) : NewRequestId();
  const auto caller = ParseTraceparent(traceparent);
  request.trace = caller.has_value() ? ChildOf(*caller) : NewTrace();
  if (caller.has_value()) request.caller_span = caller->span_id;
  return request;
}

}  // namespace attnprune
