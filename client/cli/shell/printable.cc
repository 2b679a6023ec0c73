#include "client/cli/shell/printable.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/str_format.h"

namespace attnprune::cli {
namespace {

using google::protobuf::FieldDescriptor;

// A character of UTF-8: its bytes and its number; 0 bytes where there is none.
struct Character {
  size_t size = 0;
  uint32_t number = 0;
};

Character CharacterAt(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(text[i])); };
  const uint32_t first = byte(0);
  if (first < 0x80) return {1, first};
  const size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < size) return {};
  uint32_t number = first & (0x7Fu >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    number = number << 6 | (byte(i) & 0x3F);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = number >= 0xD800 && number <= 0xDFFF;
  if (number < kLeast[size] || number > 0x10FFFF || surrogate) return {};
  return {size, number};
}

bool IsShown(uint32_t number) {
  const bool control = number < 0x20 || (number >= 0x7F && number < 0xA0);
  const bool turns =
      (number >= 0x202A && number <= 0x202E) || (number >= 0x2066 && number <= 0x2069);
  return !control && !turns;
}

void EscapeField(google::protobuf::Message* message, const FieldDescriptor* field) {
  const google::protobuf::Reflection* const reflection = message->GetReflection();
  const bool text = field->type() == FieldDescriptor::TYPE_STRING;
  const bool nested = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  if (!field->is_repeated()) {
    if (text) {
      reflection->SetString(message, field, Printable(reflection->GetString(*message, field)));
    } else if (nested) {
      MakePrintable(reflection->MutableMessage(message, field));
    }
    return;
  }
  for (int i = 0; i < reflection->FieldSize(*message, field); ++i) {
    if (text) {
      reflection->SetRepeatedString(message, field, i,
                                    Printable(reflection->GetRepeatedString(*message, field, i)));
    } else if (nested) {
      MakePrintable(reflection->MutableRepeatedMessage(message, field, i));
    }
  }
}

}  // namespace

std::string Printable(absl::string_view text, Lines lines) {
  std::string shown;
  while (!text.empty()) {
    const Character next = CharacterAt(text);
    const size_t size = next.size == 0 ? 1 : next.size;
    const bool newline = text[0] == '\n';
    if (newline ? lines == Lines::kSeveral : next.size > 0 && IsShown(next.number)) {
      shown.append(text.data(), size);
    } else if (newline) {
      shown += "\\n";
    } else {
      for (const char c : text.substr(0, size)) {
        shown += absl::StrFormat("\\x%02x", static_cast<uint8_t>(c));
      }
    }
    text.remove_prefix(size);
  }
  return shown;
}

void MakePrintable(google::protobuf::Message* message) {
  std::vector<const FieldDescriptor*> fields;
  message->GetReflection()->ListFields(*message, &fields);
  for (const FieldDescriptor* const field : fields) EscapeField(message, field);
}

}  // namespace attnprune::cli
