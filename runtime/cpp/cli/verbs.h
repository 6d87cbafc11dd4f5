// What edge-lra-run's verbs do. Each prints its result and returns the exit code.
#pragma once

#include "options.h"

namespace edge_lra {

constexpr int done = 0;
constexpr int check_failed = 3;

int run_tensors(const Command& command);
int verify_bundle(const Command& command);
int profile_bundle(const Command& command);
int generate_tokens(const Command& command);
int run_cases(const Command& command);

}  // namespace edge_lra
