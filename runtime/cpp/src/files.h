// Files: read whole, hashed, and kept inside the bundle's folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "array.h"

namespace edge_lra {

namespace fs = std::filesystem;

fs::path path_of(std::string_view utf8);
std::string text_of(const fs::path& path);

// The bytes of a file of at most `most` bytes. Throws Failure: NOT_FOUND, DAMAGED where it is
// larger.
std::shared_ptr<const Bytes> read_file(const fs::path& file, std::uint64_t most);

std::string_view as_text(const Bytes& bytes);

// sha256 in hex, read in pieces. Throws Failure (NOT_FOUND).
std::string sha256_file(const fs::path& file);

// The size of a regular file; none where there is no such file.
std::optional<std::uint64_t> size_of(const fs::path& file);

// Whether a name from a manifest is a relative path with '/' that stays inside its folder. Tells
// nothing of links.
bool is_inside(std::string_view name);

// The file of a manifest's name. Throws Failure (DAMAGED) where a link leads out of the folder.
fs::path resolve(const fs::path& folder, const std::string& name);

// Write a file at once: a reader sees the old one or the new one. Throws Failure (NOT_FOUND).
void write_file(const fs::path& file, std::string_view content);

}  // namespace edge_lra
