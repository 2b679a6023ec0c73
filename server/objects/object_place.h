// Named bytes in a place that several servers reach: what a shared blob store keeps its tensors in.
#ifndef ATTNPRUNE_SERVER_OBJECTS_OBJECT_PLACE_H_
#define ATTNPRUNE_SERVER_OBJECTS_OBJECT_PLACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace attnprune {

using Pieces = absl::Span<const absl::Span<const char>>;  // bytes one after the other

// Objects have names of letters, digits, '.', '-', '_', and '/' between folders. One that is there
// never changes while it has readers: its users give each a name of its own.
//
// Errors name the place. UNAVAILABLE: it does not answer, or refuses the server's keys;
// RESOURCE_EXHAUSTED: a disk is full; INTERNAL else. Where another try is safe it has been made.
//
// Thread-safe. Calls wait for disks and the network, for no longer than the place's timeouts.
class ObjectPlace {
 public:
  virtual ~ObjectPlace() = default;

  virtual const std::string& display() const = 0;  // for people; no secrets

  // OK: the object is there, whole, and safe from power loss. One of the name is replaced.
  virtual absl::Status Put(const std::string& name, Pieces pieces) = 0;
  // NOT_FOUND.
  virtual absl::StatusOr<int64_t> SizeOf(const std::string& name) = 0;
  // Calls visit with the bytes from the beginning to the end, in pieces; its first error ends the
  // reading. NOT_FOUND; UNAVAILABLE if the object ends before its size.
  virtual absl::Status Read(const std::string& name,
                            absl::FunctionRef<absl::Status(absl::Span<const char>)> visit) = 0;
  // An absent one is fine. Also what a write of the name left that did not come to its end.
  virtual absl::Status Remove(const std::string& name) = 0;
  // The names in `folder`, below it too, without "FOLDER/", in no order.
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& folder) = 0;

  // An object written in parts: all but the last of part_bytes of its size.
  virtual int64_t PartBytes(int64_t size) const = 0;
  // What names the writing to the calls below, on any server.
  virtual absl::StatusOr<std::string> BeginParts(const std::string& name) = 0;
  // Part number `part`, from 0, which begins at `offset`; what CompleteParts is to be told of it.
  // Once more replaces it.
  virtual absl::StatusOr<std::string> PutPart(const std::string& name, const std::string& writing,
                                              int part, int64_t offset, Pieces pieces) = 0;
  // OK: as Put. Once more is OK.
  virtual absl::Status CompleteParts(const std::string& name, const std::string& writing,
                                     absl::Span<const std::string> parts) = 0;
  virtual absl::Status AbandonParts(const std::string& name, const std::string& writing) = 0;

  // The object's file, where objects are files of this machine's, which may be mapped; else empty.
  virtual std::string FileOf(const std::string& /*name*/) const { return {}; }

  // Whether the place answers now; takes some seconds at most.
  virtual absl::Status Check() = 0;

  // Ends calls that wait for the network within a second or so, CANCELLED, and all that follow: the
  // process is about to end.
  virtual void Stop() {}
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_OBJECT_PLACE_H_
