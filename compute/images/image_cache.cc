#include "compute/images/image_cache.h"

#include "compute/images/file_digest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/subprocess.h"
#include "compute/images/qcow2_file.h"

namespace kumoi::compute {
namespace {

constexpr std::string_view kPartial = ".part";  // being downloaded
constexpr std::string_view kConverting = ".converting";
constexpr int64_t kInfoTimeoutMs = 60'000;

bool is_raw(const std::string& format) {
    return format == "raw" || format == "aki" || format == "ari" || format == "ami" ||
           format == "iso";
}

// Two images with the same bytes in the same format share one file.
std::string cache_key(const ImageMeta& meta, const std::string& kept_format) {
    const std::string identity = meta.os_hash_value.empty()
                                     ? meta.id + meta.checksum
                                     : meta.os_hash_algo + meta.os_hash_value;
    std::string form = is_raw(meta.disk_format) ? "raw" : meta.disk_format;
    if (kept_format != "raw") {
        form += "/kept";
    }
    return digest_hex(DigestKind::Sha256, identity + "/" + form);
}

std::string kept_format(const ImageMeta& meta, CacheForm form) {
    return form == CacheForm::AsStored && !is_raw(meta.disk_format) ? meta.disk_format : "raw";
}

Error unacceptable(const ImageMeta& meta, std::string_view why) {
    return Error::invalid("Image {} is unacceptable: {}", meta.id, why)
        .with_fault("ImageUnacceptable");
}

std::optional<DigestKind> digest_kind(const ImageMeta& meta) {
    if (meta.os_hash_value.empty()) {
        return meta.checksum.empty() ? std::nullopt : std::optional(DigestKind::Md5);
    }
    if (meta.os_hash_algo == "sha512") {
        return DigestKind::Sha512;
    }
    return meta.os_hash_algo == "sha256" ? std::optional(DigestKind::Sha256) : std::nullopt;
}

Result<void> check_usable(const ImageMeta& meta) {
    if (meta.status != "active") {
        return Error::conflict("Image {} is not active but {}", meta.id, meta.status)
            .with_hint("Upload its data first.")
            .with_fault("ImageNotActive");
    }
    if (!is_raw(meta.disk_format) && meta.disk_format != "qcow2") {
        return Error::unsupported("Image {} has disk format '{}'; raw and qcow2 are possible",
                                  meta.id, meta.disk_format)
            .with_hint("Convert it with qemu-img convert and upload it again.")
            .with_fault("InvalidDiskFormat");
    }
    if (meta.container_format != "bare" && meta.container_format != meta.disk_format) {
        return unacceptable(
            meta, fmt::format("container format '{}' is not bare", meta.container_format));
    }
    return {};
}

Result<void> sync_and_rename(const std::string& from, const std::string& to) {
    const UniqueFd file = TRY(open_file(from, O_RDONLY));
    if (::fdatasync(file.get()) != 0) {
        return Error::from_errno(errno, "syncing " + from);
    }
    if (::rename(from.c_str(), to.c_str()) != 0) {
        return Error::from_errno(errno, fmt::format("renaming {} to {}", from, to));
    }
    return {};
}

void remove_quietly(const std::string& path) {
    const auto removed = remove_file(path);
    if (!removed.ok()) {
        log_warn("image_cache", "a file stays behind", {{"why", removed.error().text()}});
    }
}

}  // namespace

ImageCache::ImageCache(ImageCacheOptions options, ImageApi& images, const Clock& clock)
    : options_(std::move(options)), images_(images), clock_(clock) {}

Result<void> ImageCache::clean_up() {
    TRY(make_directories(options_.directory, 0700));
    for (const std::string& name : TRY(list_directory(options_.directory))) {
        if (name.ends_with(kPartial) || name.ends_with(kConverting)) {
            log_info("image_cache", "removing an interrupted download", {{"file", name}});
            TRY(remove_file(options_.directory + "/" + name));
        }
    }
    return {};
}

bool ImageCache::has(const ImageMeta& meta, CacheForm form) const {
    return path_exists(options_.directory + "/" + cache_key(meta, kept_format(meta, form)));
}

Result<CachedImage> ImageCache::fetch(const RequestContext& context, const ImageMeta& meta,
                                      CacheForm form) {
    TRY(check_usable(meta));
    const std::string format = kept_format(meta, form);
    const std::string key = cache_key(meta, format);
    const std::string path = options_.directory + "/" + key;
    std::unique_lock lock(mutex_);
    if (downloads_.contains(key)) {
        TRY(wait_for(key, lock));
        return use(path, format);
    }
    if (path_exists(path)) {
        return use(path, format);
    }
    Download& mine = downloads_[key];
    lock.unlock();
    const Result<void> produced = produce(context, meta, format, path);
    lock.lock();
    mine.done = true;
    mine.result = produced;
    if (mine.waiting == 0) {
        downloads_.erase(key);
    }
    changed_.notify_all();
    TRY(produced);
    return use(path, format);
}

// The outcome of a download that another thread began; the last one to see it clears it away.
Result<void> ImageCache::wait_for(const std::string& key, std::unique_lock<std::mutex>& lock) {
    Download& running = downloads_[key];
    ++running.waiting;
    changed_.wait(lock, [&] { return running.done; });
    Result<void> result = running.result;
    if (--running.waiting == 0) {
        downloads_.erase(key);
    }
    return result;
}

Result<CachedImage> ImageCache::use(const std::string& path, const std::string& format) const {
    TRY(touch(path));
    const uint64_t size = format == "raw" ? TRY(file_size(path)) : TRY(qcow2_virtual_size(path));
    return CachedImage{path, size, format};
}

// Its time of modification tells when it was last wanted.
Result<void> ImageCache::touch(const std::string& path) const {
    const int64_t now = clock_.wall_ns();
    const timespec time{now / kNanosPerSecond, now % kNanosPerSecond};
    const timespec times[2] = {time, time};
    if (::utimensat(AT_FDCWD, path.c_str(), times, 0) != 0) {
        return Error::from_errno(errno, "using cached image " + path);
    }
    return {};
}

Result<void> ImageCache::produce(const RequestContext& context, const ImageMeta& meta,
                                 const std::string& format, const std::string& path) const {
    const std::string partial = path + std::string(kPartial);
    const std::string converting = path + std::string(kConverting);
    auto result = [&]() -> Result<void> {
        TRY_CONTEXT(download(context, meta, partial), "downloading image {}", meta.id);
        if (is_raw(meta.disk_format)) {
            return sync_and_rename(partial, path);
        }
        TRY(check_qcow2(meta, partial));
        if (format == meta.disk_format) {
            return sync_and_rename(partial, path);
        }
        TRY_CONTEXT(convert(meta, partial, converting), "converting image {}", meta.id);
        return sync_and_rename(converting, path);
    }();
    remove_quietly(partial);
    remove_quietly(converting);
    return result;
}

Result<void> ImageCache::download(const RequestContext& context, const ImageMeta& meta,
                                  const std::string& path) const {
    const UniqueFd file = TRY(open_file(path, O_RDWR | O_CREAT | O_TRUNC, 0600));
    const auto kind = digest_kind(meta);
    std::optional<FileDigest> digest;
    if (kind) {
        digest.emplace(file.get(), *kind);
    }
    uint64_t size = 0;
    TRY(images_.download(context, meta.id, [&](std::span<const std::byte> bytes) -> Result<void> {
        size += bytes.size();
        if (size > meta.size) {
            return Error::corrupt("more than the {} bytes of its record arrived", meta.size);
        }
        TRY(write_all(file.get(), bytes));
        if (digest) {
            digest->advance(bytes.size());
        }
        return {};
    }));
    if (size != meta.size) {
        return Error::unavailable("{} of {} bytes arrived", size, meta.size);
    }
    const std::string& expected = meta.os_hash_value.empty() ? meta.checksum : meta.os_hash_value;
    if (digest && TRY(digest->finish_hex()) != expected) {
        return unacceptable(meta, "its data does not have the checksum of its record");
    }
    return {};
}

// A qcow2 file can name files of this host; such a one must never reach a driver (CVE-2024-32498).
Result<void> ImageCache::check_qcow2(const ImageMeta& meta, const std::string& path) const {
    // A tenant made the file: reading it may take so much address space and CPU time.
    const std::vector<std::string> argv = {
        "prlimit",  fmt::format("--as={}", options_.img_memory_max),
        "--cpu=30", options_.img_path,
        "info",     "--json",
        "-f",       "qcow2",
        path};
    CommandOptions options;
    options.timeout_ms = kInfoTimeoutMs;
    const auto output = run_checked(argv, options);
    if (!output.ok()) {
        return unacceptable(meta, "it is no qcow2 that can be used: " + output.error().message)
            .with_hint("Check the image with kumoi-img info, and the disk_format of its record.");
    }
    const Json info = TRY(Json::parse(*output));
    if (info.contains("backing_file")) {
        return unacceptable(meta, "it has a backing file");
    }
    const int64_t size = info.integer_or("virtual_size", -1);
    if (size <= 0 || static_cast<uint64_t>(size) > options_.virtual_size_max) {
        return unacceptable(
            meta, fmt::format("its virtual size is {} bytes, at most {} are allowed", size,
                              options_.virtual_size_max));
    }
    return {};
}

Result<void> ImageCache::convert(const ImageMeta& meta, const std::string& from,
                                 const std::string& to) const {
    CommandOptions options;
    options.timeout_ms = options_.convert_timeout_ms;
    TRY(run_checked({options_.img_path, "convert", "-f", meta.disk_format, "-O", "raw", from, to},
                    options));
    return {};
}

Result<size_t> ImageCache::remove_unused() {
    size_t removed = 0;
    for (const std::string& name : TRY(list_directory(options_.directory))) {
        const std::string path = options_.directory + "/" + name;
        const std::lock_guard lock(mutex_);  // no fetch() may begin to use it now
        struct stat status {};
        if (name.find('.') != std::string::npos || downloads_.contains(name) ||
            ::stat(path.c_str(), &status) != 0) {
            continue;
        }
        if (status.st_nlink > 1) {
            TRY(touch(path));  // its age counts from when the last clone was seen
            continue;
        }
        const int64_t age_s = clock_.wall_ns() / kNanosPerSecond - status.st_mtim.tv_sec;
        if (age_s >= options_.unused_age_s) {
            log_info("image_cache", "removing an unused image", {{"file", name}, {"age_s", age_s}});
            TRY(remove_file(path));
            ++removed;
        }
    }
    return removed;
}

}  // namespace kumoi::compute
