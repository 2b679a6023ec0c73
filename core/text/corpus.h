// A text corpus as people have them: one .txt file, or one .jsonl file of documents.
#ifndef ATTNPRUNE_CORE_TEXT_CORPUS_H_
#define ATTNPRUNE_CORE_TEXT_CORPUS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace attnprune {

// The text of a corpus, as well-formed UTF-8 that is not empty:
//
//   .txt     the file itself, less a byte order mark at its start
//   .jsonl   the string "text" of each line's object, with `separator` between one line's and the
//            next; lines of white space only, which editors leave at the end, are skipped
//
// The recipes join wikitext-2 with " " for calibration and "\n\n" for evaluation. NOT_FOUND: no
// such file. INVALID_ARGUMENT, naming the file and, where there is one, the line (from 1): another
// ending, no text in it, bytes that are not UTF-8, a line without a string `text`.
absl::StatusOr<std::string> ReadCorpus(const std::string& path, absl::string_view separator);

// The two formats by themselves, of a file called `name` in messages.
absl::StatusOr<std::string> ParseTextCorpus(absl::string_view bytes, absl::string_view name);
absl::StatusOr<std::string> ParseJsonLinesCorpus(absl::string_view bytes, absl::string_view name,
                                                 absl::string_view separator);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_CORPUS_H_
