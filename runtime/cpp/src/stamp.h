// An empty file that remembers that a bundle's files, as they are, were hashed.
#pragma once

#include "files.h"
#include "manifest.h"

namespace edge_lra {

// Its name is the digest of the bundle's place and of every file's name, recorded hash, size, time
// of change and inode, as the Python runner has it: a check by one counts for the other.
class Stamp {
 public:
    // `folder`: where stamps are; empty: edge-lra/checked below the user's cache folder.
    Stamp(const fs::path& bundle, const Manifest& manifest, const fs::path& folder);

    [[nodiscard]] bool is_there() const;
    // A folder that cannot be written costs the next open a full check, and nothing else.
    void write() const;

 private:
    fs::path file_;  // empty where there is no folder for it
};

}  // namespace edge_lra
