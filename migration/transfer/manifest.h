// The list of files of one folder that a transfer brings over: plain files with plain names, no
// folders, no links. Parsing is safe for what a peer sends: no name leads out of the folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kumoi::transfer {

constexpr size_t kFilesMax = 256;
constexpr size_t kNameMax = 200;
constexpr uint64_t kFileSizeMax = uint64_t{1} << 50;

struct ManifestFile {
    std::string name;
    uint64_t size = 0;
    uint64_t allocated = 0;  // bytes it takes on the source's disk
    uint32_t mode = 0600;

    bool operator==(const ManifestFile&) const = default;
};

struct Manifest {
    std::vector<ManifestFile> files;

    std::string text() const;
    static Result<Manifest> parse(std::string_view text);
    bool operator==(const Manifest&) const = default;
};

// One component of a path, none that means something else to anybody.
bool is_plain_name(std::string_view name);
// These files of the folder, as they are now.
Result<Manifest> read_manifest(const std::string& folder, const std::vector<std::string>& names);

}  // namespace kumoi::transfer
