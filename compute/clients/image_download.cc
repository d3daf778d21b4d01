#include "compute/clients/image_download.h"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/log.h"

namespace kumoi::clients {
namespace {

constexpr int kResumesMax = 100;  // of one range, however little each brings

// "bytes 0-99/1000": where the bytes of a 206 begin.
std::optional<uint64_t> range_start(const HttpHeaders& headers) {
    const std::string text = headers.first("Content-Range").value_or("");
    constexpr std::string_view kUnit = "bytes ";
    uint64_t start = 0;
    if (!text.starts_with(kUnit) ||
        std::from_chars(text.data() + kUnit.size(), text.data() + text.size(), start).ec !=
            std::errc()) {
        return std::nullopt;
    }
    return start;
}

bool may_resume(const Error& error) {
    return error.code == ErrorCode::Unavailable || error.code == ErrorCode::Timeout;
}

}  // namespace

// What the workers and the caller share.
struct ImageDownload::Parts {
    using Bytes = std::vector<std::byte>;

    std::mutex mutex;
    std::condition_variable changed;
    uint64_t count = 0;
    uint64_t next = 1;       // the part a free worker takes; 0 came first
    uint64_t delivered = 1;  // parts the sink has
    std::map<uint64_t, Bytes> ready;
    std::vector<Bytes> spare;  // buffers to use again
    std::optional<Error> failure;
    bool cancelled = false;
};

Result<void> ImageDownload::run(const HttpSink& sink) {
    if (options_.streams <= 1 || size_ <= options_.range_bytes) {
        bool whole = true;
        return fetch_range(0, 0, sink, whole);
    }
    bool whole = false;
    TRY(fetch_range(0, options_.range_bytes, sink, whole));
    if (whole) {
        return {};
    }
    parallel_ = true;
    Parts parts;
    parts.count = (size_ + options_.range_bytes - 1) / options_.range_bytes;
    std::vector<std::thread> workers;
    const uint64_t worker_count =
        std::min<uint64_t>(static_cast<uint64_t>(options_.streams), parts.count - 1);
    for (uint64_t i = 0; i < worker_count; ++i) {
        workers.emplace_back([this, &parts, fields = log_scope_fields()] {
            const LogAdopt adopt(fields);
            work(parts);
        });
    }
    auto outcome = deliver_rest(parts, sink);
    {
        const std::lock_guard lock(parts.mutex);
        parts.cancelled = true;
    }
    parts.changed.notify_all();
    for (std::thread& worker : workers) {
        worker.join();
    }
    return outcome;
}

Result<void> ImageDownload::deliver_rest(Parts& parts, const HttpSink& sink) {
    for (uint64_t part = 1; part < parts.count; ++part) {
        Parts::Bytes bytes;
        {
            std::unique_lock lock(parts.mutex);
            parts.changed.wait(
                lock, [&] { return parts.failure.has_value() || parts.ready.contains(part); });
            if (parts.failure) {
                return *parts.failure;
            }
            bytes = std::move(parts.ready.extract(part).mapped());
        }
        TRY(sink(bytes));
        const std::lock_guard lock(parts.mutex);
        parts.spare.push_back(std::move(bytes));
        ++parts.delivered;
        parts.changed.notify_all();
    }
    return {};
}

void ImageDownload::work(Parts& parts) {
    const auto window = static_cast<uint64_t>(options_.streams) + 2;
    for (;;) {
        uint64_t part = 0;
        Parts::Bytes bytes;
        {
            std::unique_lock lock(parts.mutex);
            parts.changed.wait(lock, [&] {
                return parts.cancelled || parts.failure || parts.next >= parts.count ||
                       parts.next < parts.delivered + window;
            });
            if (parts.cancelled || parts.failure || parts.next >= parts.count) {
                return;
            }
            part = parts.next++;
            if (!parts.spare.empty()) {
                bytes = std::move(parts.spare.back());
                parts.spare.pop_back();
            }
        }
        auto outcome = fetch_part(parts, part, bytes);
        const std::lock_guard lock(parts.mutex);
        if (!outcome.ok()) {
            parts.failure = parts.failure ? parts.failure : std::move(outcome).error();
        } else {
            parts.ready[part] = std::move(bytes);
        }
        parts.changed.notify_all();
    }
}

Result<void> ImageDownload::fetch_part(Parts& parts, uint64_t part, std::vector<std::byte>& bytes) {
    const uint64_t offset = part * options_.range_bytes;
    bytes.resize(std::min(options_.range_bytes, size_ - offset));
    uint64_t filled = 0;
    const HttpSink fill = [&](std::span<const std::byte> piece) -> Result<void> {
        {
            const std::lock_guard lock(parts.mutex);
            if (parts.cancelled) {
                return Error::cancelled("The download has ended");
            }
        }
        if (piece.size() > bytes.size() - filled) {
            return Error::corrupt("A range holds more bytes than asked for");
        }
        std::memcpy(bytes.data() + filled, piece.data(), piece.size());
        filled += piece.size();
        return {};
    };
    bool whole = false;
    return fetch_range(offset, bytes.size(), fill, whole);
}

Result<void> ImageDownload::fetch_range(uint64_t offset, uint64_t length, const HttpSink& sink,
                                        bool& whole) {
    uint64_t done = 0;
    std::optional<Error> sink_error;  // of the disk, not of the network
    const HttpSink counting = [&](std::span<const std::byte> bytes) -> Result<void> {
        done += bytes.size();
        auto taken = sink(bytes);
        if (!taken.ok()) {
            sink_error = taken.error();
        }
        return taken;
    };
    int idle_resumes = 0;
    for (int resumes = 0;; ++resumes) {
        const uint64_t before = done;
        const uint64_t end = whole || length == 0 ? 0 : offset + length;
        auto outcome = fetch_once(offset + done, end, counting, whole);
        const uint64_t wanted = whole || length == 0 ? size_ : length;
        if (outcome.ok() && done >= wanted) {
            return {};
        }
        if (sink_error) {
            return std::move(*sink_error);
        }
        Error why = outcome.ok()
                        ? Error::unavailable("The data ended {} bytes early", wanted - done)
                        : std::move(outcome).error();
        idle_resumes = done > before ? 0 : idle_resumes + 1;
        if (!may_resume(why) || idle_resumes > options_.resumes_max || resumes >= kResumesMax) {
            return why;
        }
        log_info("clients", "an image download goes on where it broke off",
                 {{"offset", offset + done}, {"why", why.message}});
    }
}

// `whole` becomes true when the server sends everything from the start on. end 0: all the rest.
Result<void> ImageDownload::fetch_once(uint64_t offset, uint64_t end, const HttpSink& sink,
                                       bool& whole) {
    HttpHeaders headers;
    if (end != 0) {
        headers.add("Range", fmt::format("bytes={}-{}", offset, end - 1));
    } else if (offset != 0) {
        headers.add("Range", fmt::format("bytes={}-", offset));
    }
    uint64_t skip = 0;
    const HttpHead head = [&](int status, const HttpHeaders& reply) -> Result<void> {
        if (status == 206) {
            const auto start = range_start(reply);
            if (!start || *start != offset) {
                return Error::corrupt("The service sent another range than asked for: '{}'",
                                      reply.first("Content-Range").value_or("none"));
            }
            return {};
        }
        if (end != 0 && offset != 0) {
            return Error::corrupt("The service took a range before and ignores one now");
        }
        whole = true;
        skip = offset;  // what is delivered already
        return {};
    };
    const HttpSink skipping = [&](std::span<const std::byte> bytes) -> Result<void> {
        const uint64_t over = std::min<uint64_t>(skip, bytes.size());
        skip -= over;
        bytes = bytes.subspan(over);
        return bytes.empty() ? Result<void>() : sink(bytes);
    };
    const HttpReply reply = TRY(fetch_(headers, head, skipping));
    if (!reply.ok()) {
        return refuse_(reply);
    }
    return {};
}

}  // namespace kumoi::clients
