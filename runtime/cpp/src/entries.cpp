#include "entries.h"

#include <limits>
#include <utility>

#include "failure.h"

namespace edge_lra {

namespace {

std::optional<std::int64_t> whole(const Json& value, std::int64_t least, std::int64_t most) {
    if (!value.is_number_integer()) {
        return std::nullopt;
    }
    if (value.is_number_unsigned() &&
        value.get<std::uint64_t>() >
            static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return std::nullopt;
    }
    const auto number = value.get<std::int64_t>();
    return number < least || number > most ? std::nullopt : std::optional(number);
}

}  // namespace

Entries::Entries(const Json& value, std::string where) : value_(value), where_(std::move(where)) {
    if (!value.is_object()) {
        fail(EDGE_LRA_DAMAGED, where_, ": found ", value.type_name(),
             ", expected an object; export again");
    }
}

const Json* Entries::find(const char* key) const {
    const auto found = value_.find(key);
    return found == value_.end() || found->is_null() ? nullptr : &*found;
}

void Entries::damaged(const char* key, const char* expected) const {
    const Json* found = find(key);
    fail(EDGE_LRA_DAMAGED, where_, ": ", key, ": found ", found ? "another value" : "nothing",
         ", expected ", expected, "; export again");
}

std::string Entries::text(const char* key) const {
    auto found = optional_text(key);
    if (!found || found->empty()) {
        damaged(key, "text");
    }
    return *std::move(found);
}

std::optional<std::string> Entries::optional_text(const char* key) const {
    const Json* found = find(key);
    if (found == nullptr) {
        return std::nullopt;
    }
    if (!found->is_string()) {
        damaged(key, "text");
    }
    return found->get<std::string>();
}

std::int64_t Entries::number(const char* key, std::int64_t least, std::int64_t most) const {
    const auto found = optional_number(key, least, most);
    if (!found) {
        damaged(key, "a whole number");
    }
    return *found;
}

std::optional<std::int64_t> Entries::optional_number(const char* key, std::int64_t least,
                                                     std::int64_t most) const {
    const Json* found = find(key);
    if (found == nullptr) {
        return std::nullopt;
    }
    const auto number = whole(*found, least, most);
    if (!number) {
        damaged(key, say("a whole number of ", least, " to ", most).c_str());
    }
    return number;
}

std::optional<std::vector<std::string>> Entries::optional_texts(const char* key) const {
    if (find(key) == nullptr) {
        return std::nullopt;
    }
    std::vector<std::string> texts;
    for (const Json& one : list(key)) {
        if (!one.is_string()) {
            damaged(key, "a list of texts");
        }
        texts.push_back(one.get<std::string>());
    }
    return texts;
}

std::vector<std::int64_t> Entries::numbers(const char* key) const {
    std::vector<std::int64_t> found;
    for (const Json& one : list(key)) {
        const auto number = whole(one, 0, std::numeric_limits<std::int64_t>::max());
        if (!number) {
            damaged(key, "a list of whole numbers");
        }
        found.push_back(*number);
    }
    return found;
}

const Json::array_t& Entries::list(const char* key) const {
    static const Json::array_t empty;
    const Json* found = find(key);
    if (found != nullptr && !found->is_array()) {
        damaged(key, "a list");
    }
    return found ? found->get_ref<const Json::array_t&>() : empty;
}

const Json::object_t& Entries::object(const char* key) const {
    static const Json::object_t empty;
    const Json* found = find(key);
    if (found != nullptr && !found->is_object()) {
        damaged(key, "an object");
    }
    return found ? found->get_ref<const Json::object_t&>() : empty;
}

}  // namespace edge_lra
