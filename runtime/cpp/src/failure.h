// A mistake or a fault, told in one line: `where: found ..., expected ...; remedy`.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "edge_lra.h"

namespace edge_lra {

// Thrown inside the library and caught where its C interface ends.
class Failure : public std::exception {
 public:
    // The line's control characters, which a file's names may hold, become spaces.
    Failure(edge_lra_code code, std::string line);

    [[nodiscard]] edge_lra_code code() const noexcept { return code_; }
    [[nodiscard]] const std::string& line() const noexcept { return line_; }
    [[nodiscard]] const char* what() const noexcept override { return line_.c_str(); }

 private:
    edge_lra_code code_;
    std::string line_;
};

const char* code_name(edge_lra_code code) noexcept;

// Put parts of a line together.
void add(std::string& line, std::string_view part);
void add(std::string& line, std::int64_t part);
void add(std::string& line, std::uint64_t part);
void add(std::string& line, double part);  // three digits
inline void add(std::string& line, int part) {
    add(line, std::int64_t{part});
}

template <class... Parts>
std::string say(const Parts&... parts) {
    std::string line;
    (add(line, parts), ...);
    return line;
}

template <class... Parts>
[[noreturn]] void fail(edge_lra_code code, const Parts&... parts) {
    throw Failure(code, say(parts...));
}

// A name in quotes, cut where it is long.
std::string in_quotes(std::string_view name);

std::string joined(const std::vector<std::string>& names);

// Sizes as [1, 128].
std::string listed(const std::vector<std::int64_t>& sizes);

}  // namespace edge_lra
