#include "migration/transfer/manifest.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/json.h"
#include "migration/transfer/frame.h"

namespace kumoi::transfer {
namespace {

constexpr uint32_t kModeMask = 0777;
constexpr uint64_t kStatBlock = 512;

bool is_plain_character(char character) {
    return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
           (character >= '0' && character <= '9') || character == '.' || character == '_' ||
           character == '-';
}

Result<ManifestFile> file_from(const JsonView& view) {
    ManifestFile file;
    file.name = TRY(view.string("name"));
    if (!is_plain_name(file.name)) {
        return Error::corrupt("the peer's list of files has a name that leads elsewhere");
    }
    const JsonRange sizes{0, static_cast<int64_t>(kFileSizeMax)};
    file.size = static_cast<uint64_t>(TRY(view.integer("size", sizes)));
    file.allocated = static_cast<uint64_t>(TRY(view.integer("allocated", sizes)));
    file.mode = static_cast<uint32_t>(TRY(view.integer("mode", {0, kModeMask})));
    return file;
}

}  // namespace

bool is_plain_name(std::string_view name) {
    return !name.empty() && name.size() <= kNameMax && name[0] != '.' &&
           std::ranges::all_of(name, is_plain_character);
}

std::string Manifest::text() const {
    Json list = Json::array();
    for (const ManifestFile& file : files) {
        list.push_back(Json::object({{"name", file.name},
                                     {"size", file.size},
                                     {"allocated", file.allocated},
                                     {"mode", file.mode}}));
    }
    return Json::object({{"files", std::move(list)}}).dump();
}

Result<Manifest> Manifest::parse(std::string_view text) {
    const Json json = TRY(Json::parse(text, {kManifestMax, 8}));
    const auto list = TRY(JsonView(json).array("files"));
    if (list.size() > kFilesMax) {
        return Error::too_large("the peer's list has {} files, {} are allowed", list.size(),
                                kFilesMax);
    }
    Manifest manifest;
    std::set<std::string> names;
    for (const JsonView& view : list) {
        manifest.files.push_back(TRY(file_from(view)));
        if (!names.insert(manifest.files.back().name).second) {
            return Error::corrupt("the peer's list has file {} twice", manifest.files.back().name);
        }
    }
    return manifest;
}

Result<Manifest> read_manifest(const std::string& folder, const std::vector<std::string>& names) {
    if (names.size() > kFilesMax) {
        return Error::too_large("{} has {} files, a transfer takes {}", folder, names.size(),
                                kFilesMax);
    }
    Manifest manifest;
    for (const std::string& name : names) {
        struct stat status {};
        const std::string path = folder + "/" + name;
        if (!is_plain_name(name) || ::lstat(path.c_str(), &status) != 0 ||
            !S_ISREG(status.st_mode)) {
            return Error::invalid("{} is no plain file that could be moved", path);
        }
        manifest.files.push_back({name, static_cast<uint64_t>(status.st_size),
                                  static_cast<uint64_t>(status.st_blocks) * kStatBlock,
                                  static_cast<uint32_t>(status.st_mode & kModeMask)});
    }
    return manifest;
}

}  // namespace kumoi::transfer
