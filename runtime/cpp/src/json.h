// JSON, read strictly: no object names a key twice, and nothing nests deeper than 64.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace edge_lra {

using Json = nlohmann::ordered_json;  // adapters keep their order: the first may be the default

// Throws Failure (damaged), whose line begins with `where`.
Json parse_json(std::string_view text, const std::string& where);

// As text; bytes that are not UTF-8 are replaced.
std::string write_json(const Json& value, int indent = -1);

template <class T>
Json or_null(const std::optional<T>& value) {
    return value ? Json(*value) : Json(nullptr);
}

}  // namespace edge_lra
