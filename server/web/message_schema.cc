#include "server/web/message_schema.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "server/web/proto_comments.h"

namespace attnprune::web {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using nlohmann::json;

// A full name without the API's package: "Job".
std::string ShortName(absl::string_view full_name) {
  absl::ConsumePrefix(&full_name, "attnprune.v1.");
  return std::string(full_name);
}

// Of the messages that protobuf JSON writes in their own way; null: it is none of them.
json WellKnown(const std::string& full_name) {
  if (full_name == "google.protobuf.Timestamp") {
    return {{"type", "string"}, {"format", "date-time"}};
  }
  if (full_name == "google.protobuf.Duration") {
    return {{"type", "string"}, {"pattern", "^-?[0-9]+(\\.[0-9]{1,9})?s$"}};
  }
  if (full_name == "google.protobuf.Empty") {
    return {{"type", "object"}, {"additionalProperties", false}};
  }
  return nullptr;
}

// "" where nothing is said.
std::string CommentOf(const std::string& full_name) {
  const absl::Span<const ProtoComment> all = ProtoComments();
  const auto* const found = std::lower_bound(
      all.begin(), all.end(), full_name,
      [](const ProtoComment& one, const std::string& name) { return one.full_name < name; });
  const bool there = found != all.end() && found->full_name == full_name;
  return there ? std::string(found->text) : "";
}

json Described(json schema, const std::string& text) {
  if (!text.empty()) schema["description"] = text;
  return schema;
}

// Of the enum, and of those of its values that have one.
std::string CommentsOf(const EnumDescriptor& values) {
  std::string text = CommentOf(values.full_name());
  for (int i = 0; i < values.value_count(); ++i) {
    const std::string of_value = CommentOf(values.value(i)->full_name());
    if (of_value.empty()) continue;
    absl::StrAppend(&text, text.empty() ? "" : "\n", values.value(i)->name(), ": ", of_value);
  }
  return text;
}

json Number() {
  return {
      {"anyOf",
       {{{"type", "number"}}, {{"type", "string"}, {"enum", {"NaN", "Infinity", "-Infinity"}}}}}};
}

}  // namespace

json ReferenceTo(const std::string& name) {
  return {{"$ref", absl::StrCat("#/components/schemas/", name)}};
}

json MessageSchemas::OfEnum(const EnumDescriptor& values) {
  const std::string name = ShortName(values.full_name());
  if (!all_.contains(name)) {
    json names = json::array();
    for (int i = 0; i < values.value_count(); ++i) names.push_back(values.value(i)->name());
    all_[name] = Described({{"type", "string"}, {"enum", std::move(names)}}, CommentsOf(values));
  }
  return ReferenceTo(name);
}

// 64-bit integers are strings, since JavaScript's numbers do not hold them.
json MessageSchemas::OfValue(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return {{"type", "boolean"}};
    case FieldDescriptor::CPPTYPE_INT32:
      return {{"type", "integer"}, {"format", "int32"}};
    case FieldDescriptor::CPPTYPE_UINT32:
      return {{"type", "integer"}, {"minimum", 0}};
    case FieldDescriptor::CPPTYPE_INT64:
      return {{"type", "string"}, {"pattern", "^-?[0-9]+$"}};
    case FieldDescriptor::CPPTYPE_UINT64:
      return {{"type", "string"}, {"pattern", "^[0-9]+$"}};
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_FLOAT:
      return Number();
    case FieldDescriptor::CPPTYPE_ENUM:
      return OfEnum(*field.enum_type());
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return Of(*field.message_type());
    case FieldDescriptor::CPPTYPE_STRING:
      break;
  }
  if (field.type() == FieldDescriptor::TYPE_BYTES) {
    return {{"type", "string"}, {"contentEncoding", "base64"}};
  }
  return {{"type", "string"}};
}

json MessageSchemas::OfField(const FieldDescriptor& field) {
  if (field.is_map()) {
    return {{"type", "object"},
            {"additionalProperties", OfValue(*field.message_type()->map_value())}};
  }
  json value = OfValue(field);
  if (!field.is_repeated()) return value;
  return {{"type", "array"}, {"items", std::move(value)}};
}

// Noted before its fields are looked at, of which one may be of the same message.
json MessageSchemas::Of(const Descriptor& message) {
  if (json known = WellKnown(message.full_name()); !known.is_null()) return known;
  const std::string name = ShortName(message.full_name());
  if (all_.contains(name)) return ReferenceTo(name);
  all_[name] = json::object();
  json properties = json::object();
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    properties[field.json_name()] = Described(OfField(field), CommentOf(field.full_name()));
  }
  all_[name] = Described(
      {{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}},
      CommentOf(message.full_name()));
  return ReferenceTo(name);
}

}  // namespace attnprune::web
