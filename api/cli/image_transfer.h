// Images on their way between the Image API and this host, with progress on stderr. Blocking.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "api/cli/session.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

// Until the image is active. An Error when it is killed or vanishes, or after wait_seconds without
// any progress.
Result<Json> wait_for_image(Session& session, const std::string& id);

using ImageSink = std::function<Result<void>(std::span<const std::byte> bytes)>;
// `image` as the Image API shows it: its size and checksum are checked.
Result<void> download_image(Session& session, const Json& image, const ImageSink& sink);

struct NewImage {
    std::string name;
    std::string disk_format;  // qcow2, raw, aki, ari
    uint64_t min_disk_gib = 0;
    std::map<std::string, std::string> properties;
};
// Makes an image of a file; its id. Nothing stays behind when it fails.
Result<std::string> upload_image(Session& session, const NewImage& image, const std::string& path);

// Images that are deleted again when this goes, unless they are to be kept.
class TemporaryImages {
public:
    explicit TemporaryImages(Session& session) : session_(session) {}
    ~TemporaryImages();
    TemporaryImages(const TemporaryImages&) = delete;
    TemporaryImages& operator=(const TemporaryImages&) = delete;
    void add(std::string id) { ids_.push_back(std::move(id)); }
    void keep() { ids_.clear(); }

private:
    Session& session_;
    std::vector<std::string> ids_;
};

// The whole file, piece by piece.
Result<void> read_pieces(const std::string& path, const ImageSink& sink);
Result<std::string> file_digest(const std::string& path);  // SHA-256, hexadecimal

}  // namespace kumoi::cli
