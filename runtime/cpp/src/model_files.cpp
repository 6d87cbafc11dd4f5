#include "model_files.h"

#include <algorithm>

#include "failure.h"

namespace edge_lra {

namespace {

constexpr int deepest = 64;
constexpr std::uint64_t longest_name = 4096;
constexpr std::uint64_t longest_field = 0xffffffff >> 3;

// ONNX's messages, and the numbers of the fields that lead to a location (onnx.proto3).
enum class Message { model, graph, function, node, attribute, tensor, sparse, entry };

struct Step {
    std::uint64_t field;
    Message from;
    Message to;
};

constexpr Step steps[] = {
    {7, Message::model, Message::graph},         {25, Message::model, Message::function},
    {1, Message::graph, Message::node},          {5, Message::graph, Message::tensor},
    {15, Message::graph, Message::sparse},       {7, Message::function, Message::node},
    {11, Message::function, Message::attribute}, {5, Message::node, Message::attribute},
    {5, Message::attribute, Message::tensor},    {6, Message::attribute, Message::graph},
    {10, Message::attribute, Message::tensor},   {11, Message::attribute, Message::graph},
    {22, Message::attribute, Message::sparse},   {23, Message::attribute, Message::sparse},
    {1, Message::sparse, Message::tensor},       {2, Message::sparse, Message::tensor},
    {13, Message::tensor, Message::entry},
};

const Step* find_step(Message from, std::uint64_t field) {
    const auto* found = std::find_if(std::begin(steps), std::end(steps), [&](const Step& step) {
        return step.from == from && step.field == field;
    });
    return found == std::end(steps) ? nullptr : found;
}

class Walker {
 public:
    Walker(Source& source, const std::string& where) : source_(source), where_(where) {}

    void walk(Message message, std::uint64_t place, std::uint64_t end, int depth) {
        if (depth > deepest) {
            damaged("messages nested too deep");
        }
        bool is_location = false;
        std::set<std::string> values;
        while (place < end) {
            const std::uint64_t tag = varint(place, end);
            const std::uint64_t field = tag >> 3U;
            if (field == 0 || field > longest_field) {
                damaged("a field without a number");
            }
            const std::uint64_t size = payload(tag & 7U, place, end);
            if ((tag & 7U) == 2) {
                if (message == Message::entry && field == 1) {
                    is_location = is_location || text(place, size) == "location";
                } else if (message == Message::entry && field == 2) {
                    values.insert(text(place, size));
                } else if (const Step* step = find_step(message, field)) {
                    walk(step->to, place, place + size, depth + 1);
                }
            }
            place += size;
        }
        if (is_location) {  // of repeated values protobuf keeps the last: here each one counts
            found.merge(values.empty() ? std::set<std::string>{""} : std::move(values));
        }
    }

    std::set<std::string> found;

 private:
    [[noreturn]] void damaged(const char* what) const {
        fail(EDGE_LRA_DAMAGED, where_, ": found ", what, ", expected an ONNX model; export again");
    }

    std::uint64_t varint(std::uint64_t& place, std::uint64_t end) {
        const auto room = static_cast<std::size_t>(std::min<std::uint64_t>(end - place, 10));
        const std::uint8_t* bytes = source_.read(place, room);
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < room; ++i) {
            value |= std::uint64_t{bytes[i] & 0x7fU} << (7 * i);
            if ((bytes[i] & 0x80U) == 0) {
                place += i + 1;
                return value;
            }
        }
        damaged("a number without an end");
    }

    // The size of what follows a tag; a length-prefixed field's `place` moves behind its length.
    std::uint64_t payload(std::uint64_t type, std::uint64_t& place, std::uint64_t end) {
        std::uint64_t size = 0;
        if (type == 0) {
            std::uint64_t behind = place;
            varint(behind, end);
            size = behind - place;
        } else if (type == 1 || type == 5) {
            size = type == 1 ? 8 : 4;
        } else if (type == 2) {
            size = varint(place, end);
        } else {
            damaged("a field of no known kind");  // groups are not in ONNX
        }
        if (size > end - place) {
            damaged("a field that is cut");
        }
        return size;
    }

    std::string text(std::uint64_t place, std::uint64_t size) {
        if (size > longest_name) {
            damaged("a file's name that is too long");
        }
        const std::uint8_t* bytes = source_.read(place, static_cast<std::size_t>(size));
        return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size)};
    }

    Source& source_;
    const std::string& where_;
};

}  // namespace

std::set<std::string> external_files(Source& model, const std::string& where) {
    Walker walker(model, where);
    walker.walk(Message::model, 0, model.size(), 0);
    return std::move(walker.found);
}

}  // namespace edge_lra
