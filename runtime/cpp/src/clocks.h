// Clocks and temperatures, where the system tells them (Linux and Android, by /sys).
#pragma once

#include "json.h"

namespace edge_lra {

// clocks_mhz by core, celsius by zone, throttled events; each empty where the system is silent.
Json read_clocks();

// Seconds of processor time that this thread has used; none where it is not told.
double thread_seconds();

}  // namespace edge_lra
