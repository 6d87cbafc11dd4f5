// Entries of a JSON object that have a type: what is missing or of another one is a Failure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "json.h"

namespace edge_lra {

// One object of a file. Null and absent are alike, as the manifest's schema has it.
class Entries {
 public:
    // Throws Failure (DAMAGED) unless `value` is an object. Keeps a reference to it.
    Entries(const Json& value, std::string where);

    [[nodiscard]] const std::string& where() const { return where_; }
    [[nodiscard]] const Json* find(const char* key) const;

    [[nodiscard]] std::string text(const char* key) const;  // required, not empty
    [[nodiscard]] std::optional<std::string> optional_text(const char* key) const;
    [[nodiscard]] std::int64_t number(const char* key, std::int64_t least,
                                      std::int64_t most) const;  // required
    [[nodiscard]] std::optional<std::int64_t> optional_number(const char* key, std::int64_t least,
                                                              std::int64_t most) const;
    [[nodiscard]] std::optional<std::vector<std::string>> optional_texts(const char* key) const;
    [[nodiscard]] std::vector<std::int64_t> numbers(const char* key) const;  // not negative
    // A list, empty where there is none.
    [[nodiscard]] const Json::array_t& list(const char* key) const;
    // An object, empty where there is none.
    [[nodiscard]] const Json::object_t& object(const char* key) const;

    [[noreturn]] void damaged(const char* key, const char* expected) const;

 private:
    const Json& value_;
    std::string where_;
};

}  // namespace edge_lra
