// Nova's place for a server's password that only its owner can read (encrypted by whoever made it):
// system_metadata password_0 to password_3, pieces of 255 bytes. Pure functions.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "compute/objects.h"

namespace kumoi::compute {

constexpr size_t kPasswordPieces = 4;
constexpr size_t kPasswordPieceMax = 255;
constexpr size_t kStoredPasswordMax = kPasswordPieces * kPasswordPieceMax;

// All four pieces; those behind the end of the text are empty.
inline Properties password_pieces(std::string_view text) {
    Properties pieces;
    for (size_t i = 0; i < kPasswordPieces; ++i) {
        const size_t size = std::min(text.size(), kPasswordPieceMax);
        pieces["password_" + std::to_string(i)] = std::string(text.substr(0, size));
        text.remove_prefix(size);
    }
    return pieces;
}

inline std::string stored_password(const Properties& system_metadata) {
    std::string text;
    for (size_t i = 0; i < kPasswordPieces; ++i) {
        const auto piece = system_metadata.find("password_" + std::to_string(i));
        text += piece == system_metadata.end() ? "" : piece->second;
    }
    return text;
}

}  // namespace kumoi::compute
