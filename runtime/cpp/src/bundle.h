// A bundle's files, compared with its manifest.
#pragma once

#include <memory>
#include <string>

#include "files.h"
#include "manifest.h"

namespace edge_lra {

// The file of the graph, "model.onnx" or "model.ort". Throws Failure (DAMAGED) without one.
std::string graph_name(const Manifest& manifest, const fs::path& folder);

struct Graph {
    std::string name;                    // of its file
    std::shared_ptr<const Bytes> bytes;  // its content; null where it is large
};

// Check the files as `verify` says and that the graph names no other ones; return the graph.
//
// A graph is read once, and what was checked is what is opened; one of more than 64 MiB, which
// holds its weights, is read in pieces and opened by its path. `stamps`: the folder where "once"
// remembers; empty: below the user's cache. Throws Failure: DAMAGED.
Graph check_bundle(const fs::path& folder, const Manifest& manifest, edge_lra_verify verify,
                   const fs::path& stamps);

}  // namespace edge_lra
