// Objects as files of a folder that every server mounts.
#ifndef ATTNPRUNE_SERVER_OBJECTS_FOLDER_OBJECTS_H_
#define ATTNPRUNE_SERVER_OBJECTS_FOLDER_OBJECTS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/objects/object_place.h"

namespace attnprune {

// FOLDER/NAME is an object: fsync of the file, rename, fsync of the folders. One that is written in
// parts is FOLDER/NAME.parts until it is complete; what a kill leaves of a Put is
// FOLDER/NAME.tmp-…. Files are made for their owner alone, so all servers run as one user.
//
// The folder is made if the one above is there. PERMISSION_DENIED and the like of
// MakeWritableFolder.
absl::StatusOr<std::unique_ptr<ObjectPlace>> OpenFolderObjects(const std::string& folder);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_FOLDER_OBJECTS_H_
