#include "api/cli/image_transfer.h"

#include <chrono>
#include <thread>

#include <fcntl.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"

namespace kumoi::cli {
namespace {

constexpr uint64_t kMib = 1u << 20;
constexpr int64_t kPollNs = 500'000'000;

void show_progress(Session& session, std::string_view verb, uint64_t done, uint64_t all) {
    session.out.progress(fmt::format(" {} {} of {} MiB", verb, done / kMib, all / kMib));
}

void discard_image(Session& session, Cloud& cloud, const std::string& id) {
    if (auto removed = cloud.remove("image", "/images/" + id); !removed) {
        session.out.say(fmt::format("image {} stays behind: {}", id, removed.error().text()));
    }
}

}  // namespace

Result<Json> wait_for_image(Session& session, const std::string& id) {
    Cloud* cloud = TRY(session.cloud());
    const int64_t end =
        session.clock().monotonic_ns() + session.options.wait_seconds * kNanosPerSecond;
    while (true) {
        Json image = TRY(cloud->get("image", "/images/" + id));
        const std::string status = image.string_or("status");
        if (status == "active") {
            return image;
        }
        if (status == "killed" || status == "deleted" || status == "pending_delete") {
            return Error::unavailable("the image became {}: the server could not be copied", status)
                .with_hint("see: openstack server event list SERVER");
        }
        if (session.clock().monotonic_ns() > end) {
            return Error::timeout("the image is {} after {} s", status,
                                  session.options.wait_seconds)
                .with_hint("--wait-seconds gives it longer");
        }
        session.out.progress(fmt::format(" image: {}", status));
        std::this_thread::sleep_for(std::chrono::nanoseconds(kPollNs));
    }
}

Result<void> download_image(Session& session, const Json& image, const ImageSink& sink) {
    const auto size = static_cast<uint64_t>(image.integer_or("size"));
    uint64_t done = 0;
    uint64_t shown = 0;
    Digest digest(DigestKind::Md5);  // what Glance's "checksum" is
    TRY(TRY(session.cloud())
            ->download("image", "/images/" + image.string_or("id") + "/file",
                       [&](std::span<const std::byte> bytes) -> Result<void> {
                           done += bytes.size();
                           if (done > size) {
                               return Error::corrupt("the image is longer than its {} bytes", size);
                           }
                           digest.update(bytes);
                           if (done - shown >= 16 * kMib) {
                               shown = done;
                               show_progress(session, "downloading", done, size);
                           }
                           return sink(bytes);
                       }));
    if (done != size) {
        return Error::corrupt("the image ended after {} of {} bytes", done, size);
    }
    const std::string checksum = image.string_or("checksum");
    if (const std::string found = digest.finish_hex(); !checksum.empty() && checksum != found) {
        return Error::corrupt("the image's checksum is {} and should be {}", found, checksum);
    }
    return {};
}

namespace {

Result<void> send_file(Session& session, const std::string& id, const std::string& path) {
    const UniqueFd file = TRY(open_file(path, O_RDONLY));
    const uint64_t size = TRY(file_size(path));
    uint64_t done = 0;
    uint64_t shown = 0;
    const auto source = [&](std::span<std::byte> buffer) -> Result<size_t> {
        const ssize_t now = read(file.get(), buffer.data(), buffer.size());
        if (now < 0) {
            return Error::from_errno(errno, fmt::format("reading {}", path));
        }
        done += static_cast<uint64_t>(now);
        if (done - shown >= 16 * kMib) {
            shown = done;
            show_progress(session, "uploading", done, size);
        }
        return static_cast<size_t>(now);
    };
    return TRY(session.cloud())->upload("image", "/images/" + id + "/file", source, size);
}

}  // namespace

Result<std::string> upload_image(Session& session, const NewImage& image, const std::string& path) {
    Cloud* cloud = TRY(session.cloud());
    Json body = Json::object(
        {{"name", image.name},
         {"disk_format", image.disk_format},
         {"container_format",
          image.disk_format == "aki" || image.disk_format == "ari" ? image.disk_format : "bare"},
         {"min_disk", image.min_disk_gib}});
    for (const auto& [key, value] : image.properties) {
        body.set(key, value);
    }
    const Json made = TRY(cloud->post("image", "/images", body));
    const std::string id = made.string_or("id");
    Result<void> sent = send_file(session, id, path);
    if (sent) {
        const auto ready = wait_for_image(session, id);
        if (ready) {
            return id;
        }
        sent = ready.error();
    }
    discard_image(session, *cloud, id);
    return sent.error();
}

TemporaryImages::~TemporaryImages() {
    const auto cloud = session_.cloud();
    for (const std::string& id : ids_) {
        if (cloud) {
            discard_image(session_, **cloud, id);
        }
    }
}

Result<void> read_pieces(const std::string& path, const ImageSink& sink) {
    const UniqueFd file = TRY(open_file(path, O_RDONLY));
    std::vector<std::byte> buffer(kMib);
    while (true) {
        const ssize_t size = read(file.get(), buffer.data(), buffer.size());
        if (size < 0) {
            return Error::from_errno(errno, fmt::format("reading {}", path));
        }
        if (size == 0) {
            return {};
        }
        TRY(sink(std::span(buffer).first(static_cast<size_t>(size))));
    }
}

Result<std::string> file_digest(const std::string& path) {
    Digest digest(DigestKind::Sha256);
    TRY(read_pieces(path, [&digest](std::span<const std::byte> bytes) -> Result<void> {
        digest.update(bytes);
        return {};
    }));
    return digest.finish_hex();
}

}  // namespace kumoi::cli
