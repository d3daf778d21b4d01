#include "migration/transfer/folder_client.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "migration/transfer/sparse_file.h"

namespace kumoi::transfer {
namespace {

constexpr int64_t kFirstWaitMs = 500;
constexpr int kMismatchesMax = 2;
constexpr size_t kNoteMax = 1u << 20;

// Another attempt can help.
bool may_retry(const Error& error) {
    return error.code == ErrorCode::Unavailable || error.code == ErrorCode::Timeout ||
           error.code == ErrorCode::Io;
}

Result<UniqueFd> open_target(const std::string& path, const ManifestFile& file, uint64_t keep) {
    UniqueFd fd = TRY(open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, file.mode));
    const bool fresh = keep == 0;
    if ((fresh && ::ftruncate(fd.get(), 0) != 0) ||
        ::ftruncate(fd.get(), static_cast<off_t>(file.size)) != 0 ||
        ::fchmod(fd.get(), file.mode) != 0) {
        return Error::from_errno(errno, fmt::format("making {} with {} bytes", path, file.size));
    }
    return fd;
}

Result<void> sync_file(int fd) {
    return ::fdatasync(fd) == 0 ? Result<void>()
                                : Error::from_errno(errno, "writing a moved file to disk");
}

}  // namespace

Result<PullReport> FolderClient::pull() {
    const int64_t started = borders_.clock.monotonic_ns();
    TRY(load());
    int fruitless = 0;
    int64_t wait_ms = kFirstWaitMs;
    while (!progress_.all) {
        const uint64_t before = report_.bytes;
        const auto outcome = session();
        if (outcome.ok()) {
            break;
        }
        if (!may_retry(outcome.error())) {
            return outcome.error();
        }
        if (report_.bytes != before) {
            fruitless = 0;
            wait_ms = kFirstWaitMs;
        }
        if (++fruitless > options_.attempts_max) {
            return outcome.error();
        }
        log_warn("transfer", "a transfer is taken up again",
                 {{"identity", options_.identity}, {"why", outcome.error().text()}});
        borders_.wait(wait_ms * kNanosPerMilli);
        wait_ms = std::min(wait_ms * 2, options_.wait_ms_max);
    }
    report_.duration_ns = borders_.clock.monotonic_ns() - started;
    return report_;
}

// A note that cannot be read, or of another transfer: the folder is begun anew.
Result<void> FolderClient::load() {
    const auto text = read_file(note(), kNoteMax);
    const auto json = text.ok() ? Json::parse(*text) : Result<Json>(text.error());
    if (json.ok() && json->string_or("identity") == options_.identity) {
        const auto manifest = Manifest::parse(json->string_or("manifest"));
        const Json* on_disk = json->find("on_disk");
        const Json* complete = json->find("complete");
        if (manifest.ok() && on_disk != nullptr && complete != nullptr && on_disk->is_array() &&
            complete->is_array() && on_disk->size() == manifest->files.size() &&
            complete->size() == manifest->files.size()) {
            progress_.manifest = *manifest;
            for (size_t i = 0; i < manifest->files.size(); ++i) {
                const auto bytes = on_disk->as_array()[i].to_uint64().value_or(0);
                progress_.on_disk.push_back(bytes / kBlockSize * kBlockSize);
                progress_.complete.push_back(complete->as_array()[i] == Json(true));
            }
            progress_.all = json->bool_or("all");
            return {};
        }
    }
    TRY(remove_tree(options_.folder));
    return make_directories(options_.folder, 0700);
}

Result<void> FolderClient::save() const {
    Json on_disk = Json::array();
    Json complete = Json::array();
    for (size_t i = 0; i < progress_.on_disk.size(); ++i) {
        on_disk.push_back(progress_.on_disk[i]);
        complete.push_back(static_cast<bool>(progress_.complete[i]));
    }
    const Json json = Json::object({{"identity", options_.identity},
                                    {"manifest", progress_.manifest.text()},
                                    {"on_disk", std::move(on_disk)},
                                    {"complete", std::move(complete)},
                                    {"all", progress_.all}});
    return write_file_atomic(note(), json.dump(), 0600);
}

Result<void> FolderClient::begin(Manifest manifest) {
    if (manifest == progress_.manifest && !progress_.manifest.files.empty()) {
        return {};
    }
    progress_ = {};
    progress_.on_disk.resize(manifest.files.size(), 0);
    progress_.complete.resize(manifest.files.size(), false);
    progress_.manifest = std::move(manifest);
    TRY(check_space());
    return save();
}

Result<void> FolderClient::check_space() const {
    struct statvfs status {};
    if (::statvfs(options_.folder.c_str(), &status) != 0) {
        return Error::from_errno(errno, "measuring " + options_.folder);
    }
    const uint64_t free_bytes = uint64_t{status.f_bavail} * status.f_frsize;
    uint64_t wanted = 0;
    for (const ManifestFile& file : progress_.manifest.files) {
        wanted += std::min(file.allocated, file.size);
    }
    if (wanted > free_bytes) {
        return Error::exhausted("The server's files take {} MiB, {} has {} MiB free", wanted >> 20,
                                options_.folder, free_bytes >> 20);
    }
    return {};
}

Result<void> FolderClient::session() {
    UniqueFd socket = TRY(borders_.connect());
    const auto channel = TRY(SecureChannel::connect(
        std::move(socket), options_.identity, options_.secret, borders_.clock, options_.timeouts));
    ++report_.connections;
    FrameStream stream(*channel, std::max(kDataBodyMax, kManifestMax));
    TRY(stream.send(FrameKind::Hello, hello_body()));
    const Frame frame = TRY(stream.receive());
    if (frame.kind != FrameKind::Manifest) {
        return Error::corrupt("the source of a transfer began without its list of files");
    }
    TRY(begin(TRY(Manifest::parse(frame.body))));
    for (uint32_t index = 0; index < progress_.manifest.files.size(); ++index) {
        if (!progress_.complete[index]) {
            TRY_CONTEXT(fetch(stream, index), "fetching {}", progress_.manifest.files[index].name);
        }
    }
    TRY(sync_directory(options_.folder));
    progress_.all = true;
    TRY(save());
    if (stream.send(FrameKind::Done).ok()) {  // a courtesy: all is here whatever it answers
        (void)stream.receive();
    }
    return {};
}

Result<void> FolderClient::fetch(FrameStream& stream, uint32_t index) {
    const ManifestFile& file = progress_.manifest.files[index];
    uint64_t& on_disk = progress_.on_disk[index];
    const UniqueFd fd = TRY(open_target(options_.folder + "/" + file.name, file, on_disk));
    TRY(stream.send(FrameKind::Read, read_body({index, on_disk})));
    TRY(receive_file(stream, index, fd.get()));
    TRY(sync_file(fd.get()));
    progress_.complete[index] = true;
    return save();
}

Result<void> FolderClient::receive_file(FrameStream& stream, uint32_t index, int fd) {
    const ManifestFile& file = progress_.manifest.files[index];
    uint64_t& on_disk = progress_.on_disk[index];
    uint64_t next = on_disk;  // no block below it may come
    uint64_t unnoted = 0;
    BlockDigest digest;
    TRY(digest.add_file(fd, std::min(next, file.size)));
    while (true) {
        const Frame frame = TRY(stream.receive());
        if (frame.kind == FrameKind::End) {
            const FileEnd end = TRY(parse_end(frame));
            if (end.file == index && end.size == file.size && end.digest == digest.finish()) {
                return {};
            }
            on_disk = 0;  // all of it anew
            Error error = Error::corrupt("what came of {} is not what the source has", file.name);
            error.code = ++mismatches_ < kMismatchesMax ? ErrorCode::Unavailable : error.code;
            return error;
        }
        const DataView data = TRY(parse_data(frame));
        if (data.offset < next || data.offset >= file.size ||
            data.bytes.size() != std::min<uint64_t>(kBlockSize, file.size - data.offset)) {
            return Error::corrupt("a block came for byte {} of {}, which cannot be", data.offset,
                                  file.name);
        }
        TRY(pwrite_all(fd, data.bytes, data.offset));
        digest.add(data.offset, data.bytes);
        next = data.offset + data.bytes.size();
        report_.bytes += data.bytes.size();
        unnoted += data.bytes.size();
        on_disk = next / kBlockSize * kBlockSize;
        if (unnoted >= options_.checkpoint_bytes) {
            TRY(sync_file(fd));
            TRY(save());
            unnoted = 0;
        }
    }
}

}  // namespace kumoi::transfer
