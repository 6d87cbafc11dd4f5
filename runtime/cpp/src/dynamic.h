// What systems do in different ways: shared libraries, and the environment.
#pragma once

#include <string>

namespace edge_lra {

// The address of a function in a library, which is loaded for good; null with the reason.
void* find_in_library(const std::string& path, const char* function, std::string& reason);

// The address of a function that the process has linked or loaded for all; null without one.
void* find_in_process(const char* function);

void set_unless_set(const char* variable, const char* value);

}  // namespace edge_lra
