#include "server/queue/sqlite/sealed_rows.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "server/queue/checksum.h"

namespace attnprune::sqlite {
namespace {

struct Adder {
  Checksum& checksum;
  void operator()(const Null&) const { checksum.AddNull(); }
  void operator()(int64_t value) const { checksum.AddInteger(value); }
  void operator()(const std::string& text) const { checksum.AddText(text); }
  void operator()(const Bytes& blob) const { checksum.AddBytes(blob.bytes); }
};

int64_t SealOf(absl::string_view table, const Row& row) {
  Checksum checksum;
  checksum.AddText(table);
  for (const Value& value : row) std::visit(Adder{checksum}, value);
  return checksum.Value();
}

}  // namespace

Row Seal(absl::string_view table, Row row) {
  const int64_t seal = SealOf(table, row);
  row.emplace_back(std::in_place_type<int64_t>, seal);
  return row;
}

absl::StatusOr<Row> Unseal(absl::string_view table, Row row) {
  if (!row.empty()) {
    const int64_t* const stored = std::get_if<int64_t>(&row.back());
    const absl::optional<int64_t> seal =
        stored != nullptr ? absl::make_optional(*stored) : absl::nullopt;
    row.pop_back();
    if (seal == SealOf(table, row)) return row;
  }
  return absl::DataLossError(absl::StrCat("database: a row of table ", table, " is damaged"));
}

absl::Status InsertSealed(Database* database, const std::string& table, Row row) {
  const Row sealed = Seal(table, std::move(row));
  const std::vector<std::string> places(sealed.size(), "?");
  return database->Execute(
      absl::StrCat("INSERT INTO ", table, " VALUES (", absl::StrJoin(places, ", "), ")"), sealed);
}

absl::Status CheckSeals(Database* database, const std::string& table) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Query rows, database->Start(absl::StrCat("SELECT * FROM ", table)));
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool more, rows.Next());
    if (!more) return absl::OkStatus();
    ATTNPRUNE_RETURN_IF_ERROR(Unseal(table, rows.ReadRow()).status());
  }
}

}  // namespace attnprune::sqlite
