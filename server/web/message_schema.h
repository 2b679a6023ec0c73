// Messages of the API as JSON schemas (draft 2020-12) of their protobuf JSON. Pure; not
// thread-safe.
#ifndef ATTNPRUNE_SERVER_WEB_MESSAGE_SCHEMA_H_
#define ATTNPRUNE_SERVER_WEB_MESSAGE_SCHEMA_H_

#include <string>

#include "google/protobuf/descriptor.h"
#include "nlohmann/json.hpp"

namespace attnprune::web {

// {"$ref": "#/components/schemas/NAME"}
nlohmann::json ReferenceTo(const std::string& name);

// What one document has of schemas: of each message and enum that was asked for, and of those in
// it.
class MessageSchemas {
 public:
  // The reference to it; of google.protobuf's Timestamp, Duration and Empty the schema itself.
  nlohmann::json Of(const google::protobuf::Descriptor& message);

  const nlohmann::json& all() const { return all_; }  // by name: "Job", "MethodResult.PerHead"

 private:
  nlohmann::json OfEnum(const google::protobuf::EnumDescriptor& values);
  nlohmann::json OfField(const google::protobuf::FieldDescriptor& field);
  nlohmann::json OfValue(const google::protobuf::FieldDescriptor& field);

  nlohmann::json all_ = nlohmann::json::object();
};

}  // namespace attnprune::web

#endif  // ATTNPRUNE_SERVER_WEB_MESSAGE_SCHEMA_H_
