// The little of S3's XML that is needed: texts of elements by their names.
#ifndef ATTNPRUNE_SERVER_OBJECTS_S3_XML_H_
#define ATTNPRUNE_SERVER_OBJECTS_S3_XML_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace attnprune {

// The texts of all elements of the name, wherever they are, in order; what is torn is left out.
// Entities are decoded.
std::vector<std::string> XmlTexts(absl::string_view xml, absl::string_view name);
// The first one's; empty: none.
std::string XmlText(absl::string_view xml, absl::string_view name);

// Texts of S3's own that go into messages: letters, digits, '-' and '.' of them, 64 at most.
std::string S3Word(absl::string_view text);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_S3_XML_H_
