// The HTTP API described as OpenAPI 3.1: made of the table of addresses, the rules of who may, and
// the API's messages, so that it says what there is.
#ifndef ATTNPRUNE_SERVER_WEB_OPENAPI_H_
#define ATTNPRUNE_SERVER_WEB_OPENAPI_H_

#include <string>

namespace attnprune::web {

// JSON. Every address of http::Addresses() is a path with its verb, its parameters, its body and
// its answers; every message that these have is a schema by its name in the API. Takes some ms.
// Pure.
std::string OpenApiJson();

}  // namespace attnprune::web

#endif  // ATTNPRUNE_SERVER_WEB_OPENAPI_H_
