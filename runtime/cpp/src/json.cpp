#include "json.h"

#include <unordered_set>
#include <vector>

#include "failure.h"

namespace edge_lra {

namespace {

constexpr std::size_t deepest = 64;
constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";  // the library would skip it

// Builds a value from the library's events. Its own builder keeps the last of equal keys, and goes
// as deep as a file says.
// NOLINTNEXTLINE(bugprone-exception-escape): of the implicit constructor, which allocates nothing
class Builder : public nlohmann::json_sax<Json> {
 public:
    Json root;

    bool null() override { return put(nullptr); }
    bool boolean(bool value) override { return put(value); }
    bool number_integer(number_integer_t value) override { return put(value); }
    bool number_unsigned(number_unsigned_t value) override { return put(value); }
    bool number_float(number_float_t value, const string_t& /*text*/) override {
        return put(value);
    }
    bool string(string_t& value) override { return put(std::move(value)); }
    bool binary(binary_t& /*value*/) override { return false; }

    bool start_object(std::size_t /*size*/) override { return open(Json::object()); }
    bool end_object() override { return close(); }
    bool start_array(std::size_t /*size*/) override { return open(Json::array()); }
    bool end_array() override { return close(); }

    bool key(string_t& value) override {
        if (!open_.back().keys.insert(value).second) {
            reason_ = say("the key ", in_quotes(value), " twice");
            return false;
        }
        key_ = std::move(value);
        return true;
    }

    bool parse_error(std::size_t place, const std::string& /*token*/,
                     const nlohmann::detail::exception& /*error*/) override {
        reason_ = say("no JSON at byte ", std::uint64_t{place});
        return false;
    }

    [[nodiscard]] const std::string& reason() const { return reason_; }

 private:
    struct Level {
        Json* value;
        std::unordered_set<std::string> keys;
    };

    bool put(Json value) {
        add_value(std::move(value));
        return true;
    }

    // A level's parent grows only once the level is closed: its place in memory stays.
    Json* add_value(Json&& value) {
        if (open_.empty()) {
            root = std::move(value);
            return &root;
        }
        Json& parent = *open_.back().value;
        if (parent.is_array()) {
            auto& values = parent.get_ref<Json::array_t&>();
            return &values.emplace_back(std::move(value));
        }
        // The map is a vector of pairs; its own insertion would search for the key, whose absence
        // is known, through all others.
        auto& entries = parent.get_ref<Json::object_t&>();
        entries.emplace_back(std::move(key_), std::move(value));
        return &entries.back().second;
    }

    bool open(Json value) {
        if (open_.size() == deepest) {
            reason_ = say("values nested deeper than ", std::uint64_t{deepest});
            return false;
        }
        open_.push_back({add_value(std::move(value)), {}});
        return true;
    }

    bool close() {
        open_.pop_back();
        return true;
    }

    std::vector<Level> open_;
    std::string key_;
    std::string reason_;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& where) {
    Builder builder;
    if (text.substr(0, byte_order_mark.size()) == byte_order_mark) {
        fail(EDGE_LRA_DAMAGED, where, ": found a byte order mark, expected JSON; export again");
    }
    if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
        fail(EDGE_LRA_DAMAGED, where, ": found ", builder.reason(),
             ", expected JSON; export again");
    }
    return std::move(builder.root);
}

std::string write_json(const Json& value, int indent) {
    return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace edge_lra
