// The command line of edge-lra-run.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "profile.h"
#include "runner.h"

namespace edge_lra {

struct Command {
    std::string verb;
    std::string place;  // the bundle, or the folder of cases
    OpenOptions open;
    ProfileOptions profile;
    std::optional<std::string> adapter;
    bool no_adapter = false;
    bool is_json = false;
    std::string input;   // of run: a safetensors file
    std::string output;  // of run: a safetensors file to write
    std::vector<std::int64_t> prompt;
    std::int64_t max_tokens = 64;
    std::optional<std::vector<std::int64_t>> stop_tokens;
};

// Throws Usage for what is no command.
Command read_command(const std::vector<std::string>& words);

// A mistake in the words themselves: told with a hint, exit code 2.
class Usage : public std::exception {
 public:
    explicit Usage(std::string line) : line_(std::move(line)) {}
    [[nodiscard]] const char* what() const noexcept override { return line_.c_str(); }

 private:
    std::string line_;
};

extern const char* const help_text;

}  // namespace edge_lra
