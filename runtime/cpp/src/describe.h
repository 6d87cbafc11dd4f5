// What an app wants to know of an opened bundle, as JSON.
#pragma once

#include "json.h"
#include "runner.h"

namespace edge_lra {

// edge_lra_describe in edge_lra.h says what is in it.
Json describe(const Runner& runner);

}  // namespace edge_lra
