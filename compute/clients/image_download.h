// ImageDownload: one image's data, fetched by several connections at once, delivered in order to
// one sink. The first request asks for a range: a server that answers 206 gets the others in
// parallel, one that answers 200 is read to its end on that one connection. A connection that
// breaks goes on where it ended. Runs on the caller's thread plus `streams` of its own; at most
// (streams + 2) * range_bytes of memory. Used once.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/clients/http_types.h"

namespace kumoi::clients {

struct DownloadOptions {
    int streams = 4;
    uint64_t range_bytes = 8u << 20;
    bool check_hash = true;  // false: whoever takes the data checks it (the image cache)
    int resumes_max = 3;     // of one range, without any byte in between
};

class ImageDownload {
public:
    // Sends a GET of the image's data with these additional headers.
    using Fetch = std::function<Result<HttpReply>(const HttpHeaders& headers, const HttpHead& head,
                                                  const HttpSink& sink)>;
    // Makes the Error of a reply that is no 2xx.
    using Refuse = std::function<Error(const HttpReply& reply)>;

    // size 0: unknown; then one connection.
    ImageDownload(Fetch fetch, Refuse refuse, uint64_t size, DownloadOptions options)
        : fetch_(std::move(fetch)), refuse_(std::move(refuse)), size_(size), options_(options) {}

    Result<void> run(const HttpSink& sink);
    bool was_parallel() const { return parallel_; }

private:
    struct Parts;

    // One range, or everything when the server takes no ranges. `whole` says which it was.
    Result<void> fetch_range(uint64_t offset, uint64_t length, const HttpSink& sink, bool& whole);
    Result<void> fetch_once(uint64_t offset, uint64_t end, const HttpSink& sink, bool& whole);
    Result<void> deliver_rest(Parts& parts, const HttpSink& sink);
    void work(Parts& parts);
    Result<void> fetch_part(Parts& parts, uint64_t part, std::vector<std::byte>& bytes);

    const Fetch fetch_;
    const Refuse refuse_;
    const uint64_t size_;
    const DownloadOptions options_;
    bool parallel_ = false;
};

}  // namespace kumoi::clients
