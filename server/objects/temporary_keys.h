// What all sources of temporary keys have to do with words, addresses and answers.
#ifndef ATTNPRUNE_SERVER_OBJECTS_TEMPORARY_KEYS_H_
#define ATTNPRUNE_SERVER_OBJECTS_TEMPORARY_KEYS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/objects/s3_keys.h"
#include "server/objects/small_http.h"

namespace attnprune {

// Visible ASCII alone, at least one: what can be put into a header. Pure.
bool IsKeyWord(absl::string_view text);

// Whether keys may be asked for there: by https, or in plain text on this machine and its own link.
// Pure.
bool MayAskForKeys(absl::string_view url);

// A file's text, 16 KiB at most, without the white space around it. The errors have nothing of it.
absl::StatusOr<std::string> ReadToken(const std::string& path);

// expires: an RFC 3339 time; empty: never. token: may be empty. INVALID_ARGUMENT: what is no word,
// or no time; the message has none of it. Pure.
absl::StatusOr<S3Keys> MakeTemporaryKeys(std::string id, std::string secret, std::string token,
                                         const std::string& expires);

// UNAVAILABLE, with the address.
absl::Status GivesNoKeys(const SmallRequest& request);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_TEMPORARY_KEYS_H_
