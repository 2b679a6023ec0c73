#include "server/web/message_schema.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

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
    all_[name] = {{"type", "string"}, {"enum", std::move(names)}};
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
    properties[message.field(i)->json_name()] = OfField(*message.field(i));
  }
  all_[name] = {
      {"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
  return ReferenceTo(name);
}

}  // namespace attnprune::web
