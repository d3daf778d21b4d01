// Digests over libmd for kumoi-vmm: OpenSSL would take more memory than the rest of the program.
#pragma once

#include <string>
#include <string_view>

namespace kumoi {

std::string sha1_of(std::string_view data);    // 20 raw bytes
std::string sha256_of(std::string_view data);  // 32 raw bytes

}  // namespace kumoi
