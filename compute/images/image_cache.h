// ImageCache: the images of this host's servers, as files by checksum under one folder (Nova's
// _base). Concurrent spawns of one image share one download; what arrives is hashed against the
// image's record before anybody sees it; qcow2 is converted to raw once (or kept, if the caller
// takes it), with the format always named and never probed, and refused when it refers to another
// file. Downloads and conversions a crash cut short are removed at start. A file with a second hard
// link is the base of somebody's linked clone and stays. Any thread; fetch() blocks for as long as
// the download takes.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "compute/manager/image_api.h"

namespace kumoi::compute {

struct ImageCacheOptions {
    std::string directory;
    int64_t unused_age_s = 86400;                   // remove_unused_original_minimum_age_seconds
    int64_t convert_timeout_ms = 30 * 60'000;       // for one image
    std::string img_path = "kumoi-img";             // the program that reads qcow2 ...
    int64_t img_memory_max = 1 << 30;               // ... with so many bytes of address space
    uint64_t virtual_size_max = uint64_t{1} << 44;  // bytes; 16 TiB
};

struct CachedImage {
    std::string path;            // read only, shared with other servers
    uint64_t size = 0;           // bytes: the image's virtual size
    std::string format = "raw";  // or "qcow2", if asked for
};

// Raw: what is not is converted. AsStored: qcow2 stays qcow2.
enum class CacheForm { Raw, AsStored };

class ImageCache {
public:
    ImageCache(ImageCacheOptions options, ImageApi& images, const Clock& clock);

    Result<void> clean_up();  // once, before the first fetch()

    // `meta` as ImageApi::show() gave it. Faults: ImageUnacceptable, InvalidDiskFormat,
    // ImageNotFound, ImageNotActive.
    Result<CachedImage> fetch(const RequestContext& context, const ImageMeta& meta,
                              CacheForm form = CacheForm::Raw);

    bool has(const ImageMeta& meta, CacheForm form = CacheForm::Raw) const;

    // Removes what no fetch() asked for during unused_age_s and no linked clone reads. Returns how
    // many files went.
    Result<size_t> remove_unused();

private:
    struct Download {
        bool done = false;
        int waiting = 0;
        Result<void> result;
    };
    Result<void> wait_for(const std::string& key, std::unique_lock<std::mutex>& lock);
    Result<CachedImage> use(const std::string& path, const std::string& format) const;
    Result<void> touch(const std::string& path) const;
    Result<void> produce(const RequestContext& context, const ImageMeta& meta,
                         const std::string& format, const std::string& path) const;
    Result<void> download(const RequestContext& context, const ImageMeta& meta,
                          const std::string& path) const;
    Result<void> check_qcow2(const ImageMeta& meta, const std::string& path) const;
    Result<void> convert(const ImageMeta& meta, const std::string& from,
                         const std::string& to) const;

    const ImageCacheOptions options_;
    ImageApi& images_;
    const Clock& clock_;
    std::mutex mutex_;  // guards downloads_
    std::condition_variable changed_;
    std::map<std::string, Download> downloads_;  // by cache key
};

}  // namespace kumoi::compute
