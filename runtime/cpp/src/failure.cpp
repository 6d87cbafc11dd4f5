#include "failure.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace edge_lra {

namespace {
constexpr std::size_t longest_name = 100;
}

Failure::Failure(edge_lra_code code, std::string line) : code_(code), line_(std::move(line)) {
    for (char& letter : line_) {
        const auto value = static_cast<unsigned char>(letter);
        if (value < 0x20 || value == 0x7f) {
            letter = ' ';
        }
    }
}

const char* code_name(edge_lra_code code) noexcept {
    switch (code) {
        case EDGE_LRA_OK:
            return "ok";
        case EDGE_LRA_INVALID_ARGUMENT:
            return "invalid_argument";
        case EDGE_LRA_NOT_FOUND:
            return "not_found";
        case EDGE_LRA_DAMAGED:
            return "damaged";
        case EDGE_LRA_UNSUPPORTED:
            return "unsupported";
        case EDGE_LRA_FOREIGN_ADAPTER:
            return "foreign_adapter";
        case EDGE_LRA_RUNTIME:
            return "runtime";
        case EDGE_LRA_OUT_OF_MEMORY:
            return "out_of_memory";
        case EDGE_LRA_CLOSED:
            return "closed";
        case EDGE_LRA_GATE_FAILED:
            return "gate_failed";
        case EDGE_LRA_CODE_MAX:
            break;
    }
    return "unknown";
}

void add(std::string& line, std::string_view part) {
    line += part;
}

void add(std::string& line, std::int64_t part) {
    line += std::to_string(part);
}

void add(std::string& line, std::uint64_t part) {
    line += std::to_string(part);
}

void add(std::string& line, double part) {
    char text[32];
    const int length = std::snprintf(text, sizeof text, "%.3g", part);
    line.append(text, static_cast<std::size_t>(std::max(length, 0)));
}

std::string in_quotes(std::string_view name) {
    const bool cut = name.size() > longest_name;
    return say("'", name.substr(0, longest_name), cut ? "...'" : "'");
}

std::string joined(const std::vector<std::string>& names) {
    std::string line;
    for (const std::string& name : names) {
        line += line.empty() ? name : ", " + name;
    }
    return line;
}

std::string listed(const std::vector<std::int64_t>& sizes) {
    std::string line = "[";
    for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
        line += (axis ? ", " : "") + std::to_string(sizes[axis]);
    }
    return line + "]";
}

}  // namespace edge_lra
