// The lines of README.md, as C++.
#include <cstdio>

#include "edge_lra.h"

int main(int count, char** words) {
    auto options = EDGE_LRA_INIT(edge_lra_open_options);
    options.ort_library = count > 2 ? words[2] : nullptr;
    edge_lra_runner runner = 0;
    if (edge_lra_abi_version() != EDGE_LRA_ABI_VERSION || count < 2 ||
        edge_lra_open(words[1], &options, &runner) != EDGE_LRA_OK) {
        std::fprintf(stderr, "%s\n", edge_lra_last_error());
        return 1;
    }
    char* json = nullptr;
    if (edge_lra_describe(runner, &json) == EDGE_LRA_OK) {
        std::puts(json);
    }
    edge_lra_free_text(json);
    return edge_lra_close(runner) == EDGE_LRA_OK ? 0 : 1;
}
