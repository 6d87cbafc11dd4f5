// The safetensors format: 8 bytes of header length, a JSON header, the tensors' bytes.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "array.h"

namespace edge_lra {

// The tensors of a file by name; they share its memory. Throws Failure whose line begins with
// `where`: DAMAGED for anything but a header of at most 16 MiB that accounts for every byte, in
// element types of edge_lra_dtype.
Arrays parse_safetensors(const std::shared_ptr<const Bytes>& content, const std::string& where);

// A file's bytes, the tensors in the order of their names.
std::string write_safetensors(const Arrays& tensors);

}  // namespace edge_lra
