#include "files.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <system_error>

#include "failure.h"
#include "sha256.h"

namespace edge_lra {

fs::path path_of(std::string_view utf8) {
    return fs::u8path(utf8.begin(), utf8.end());
}

std::string text_of(const fs::path& path) {
    return path.u8string();
}

namespace {

std::ifstream open_file(const fs::path& file) {
    std::error_code error;
    if (!fs::is_regular_file(file, error)) {  // a pipe would block, a folder reads as nothing
        fail(EDGE_LRA_NOT_FOUND, text_of(file), ": found no file, expected one that can be read");
    }
    std::ifstream stream(file, std::ios::binary);
    if (!stream) {
        fail(EDGE_LRA_NOT_FOUND, text_of(file), ": found a file that cannot be read; check it");
    }
    return stream;
}

}  // namespace

std::shared_ptr<const Bytes> read_file(const fs::path& file, std::uint64_t most) {
    std::ifstream stream = open_file(file);
    const std::uint64_t size = size_of(file).value_or(0);
    if (size > most) {
        fail(EDGE_LRA_DAMAGED, text_of(file), ": found ", size, " bytes, expected at most ", most);
    }
    auto bytes = std::make_shared<Bytes>(static_cast<std::size_t>(size));
    stream.read(reinterpret_cast<char*>(bytes->data()), static_cast<std::streamsize>(size));
    if (static_cast<std::uint64_t>(stream.gcount()) != size) {
        fail(EDGE_LRA_DAMAGED, text_of(file), ": found it cut while it was read");
    }
    return bytes;
}

std::string_view as_text(const Bytes& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string sha256_file(const fs::path& file) {
    std::ifstream stream = open_file(file);
    Bytes block(std::size_t{1} << 20);
    Sha256 digest;
    while (stream) {
        stream.read(reinterpret_cast<char*>(block.data()),
                    static_cast<std::streamsize>(block.size()));
        digest.update(block.data(), static_cast<std::size_t>(stream.gcount()));
    }
    if (stream.bad()) {
        fail(EDGE_LRA_NOT_FOUND, text_of(file), ": found a file that cannot be read; check it");
    }
    return digest.hex();
}

std::optional<std::uint64_t> size_of(const fs::path& file) {
    std::error_code error;
    if (!fs::is_regular_file(file, error)) {
        return std::nullopt;
    }
    const auto size = fs::file_size(file, error);
    return error ? std::nullopt : std::optional<std::uint64_t>(size);
}

bool is_inside(std::string_view name) {
    // A colon is a drive or a stream on Windows, a zero ends the name for the system.
    constexpr std::string_view refused("\\:\0", 3);
    if (name.empty() || name.front() == '/' || name.find_first_of(refused) != name.npos) {
        return false;
    }
    std::size_t start = 0;
    while (start <= name.size()) {
        const std::size_t end = std::min(name.find('/', start), name.size());
        const std::string_view part = name.substr(start, end - start);
        if (part.empty() || part == "." || part == "..") {
            return false;
        }
        start = end + 1;
    }
    return true;
}

fs::path resolve(const fs::path& folder, const std::string& name) {
    fs::path file = folder / path_of(name);
    std::error_code error;
    const fs::path root = fs::canonical(folder, error);
    const fs::path real = error ? fs::path() : fs::canonical(file, error);
    if (error) {
        return file;  // what is missing is told by who reads it
    }
    const auto [end, rest] = std::mismatch(root.begin(), root.end(), real.begin(), real.end());
    if (end != root.end()) {
        fail(EDGE_LRA_DAMAGED, text_of(file), ": found a link to ", in_quotes(text_of(real)),
             ", expected files inside the bundle");
    }
    return file;
}

void write_file(const fs::path& file, std::string_view content) {
    fs::path fresh = file;
    fresh += ".part";
    std::ofstream stream(fresh, std::ios::binary);
    stream.write(content.data(), static_cast<std::streamsize>(content.size()));
    stream.close();
    std::error_code error;
    if (stream) {
        fs::rename(fresh, file, error);
    }
    if (!stream || error) {
        fs::remove(fresh, error);
        fail(EDGE_LRA_NOT_FOUND, text_of(file), ": cannot be written; choose another place");
    }
}

}  // namespace edge_lra
