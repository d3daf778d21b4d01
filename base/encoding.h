// Bytes as text: hexadecimal and base64.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace kumoi {

std::string to_hex(std::string_view bytes);
std::string base64_encode(std::string_view bytes);  // RFC 4648 §4, padded
std::optional<std::string> base64_decode(
    std::string_view text);  // strict: alphabet, padding; whitespace skipped
std::string base64url_encode(std::string_view bytes);  // RFC 4648 §5, no padding

}  // namespace kumoi
