// How fast a Glance image comes over loopback: GlanceClient with parallel ranges against `curl`
// with one stream, from the same server, in turns. As fast as the server can, and with a server
// that gives each connection a fixed rate, as a Glance worker does. One line a figure.
//
//     image_download_bench [MIB [RATE_MIB_PER_S]]      (1024, 100)
#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "base/digest.h"
#include "compute/clients/glance_client.h"
#include "compute/clients/http_client.h"

namespace kumoi::clients {
namespace {

constexpr int kStreams = 4;

void pause_ns(int64_t nanoseconds) {
    system_wait()(nanoseconds);
}

// Serves one image from memory: GET /v2/images/img and /file with ranges. One thread a connection.
class ImageServer {
public:
    ImageServer(uint64_t size, bool hashed) : size_(size) {
        file_ = ::memfd_create("image", MFD_CLOEXEC);
        std::vector<char> piece(1u << 20);
        SeededRandom random(1);
        random.fill(std::as_writable_bytes(std::span(piece)));
        Digest digest(DigestKind::Sha512);
        for (uint64_t done = 0; done < size; done += piece.size()) {
            if (::write(file_, piece.data(), piece.size()) < 0) {
                std::abort();
            }
            digest.update(std::as_bytes(std::span(piece)));
        }
        if (hashed) {
            hash_ = digest.finish_hex();
        }
        listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof(address);
        if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
            ::listen(listener_, 64) != 0 ||
            ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
            std::abort();
        }
        port_ = ntohs(address.sin_port);
        std::thread([this] { accept_loop(); }).detach();
    }

    std::string url() const { return fmt::format("http://127.0.0.1:{}", port_); }
    std::atomic<int64_t> rate_bytes_per_s{0};  // of each connection; 0: no limit

private:
    void accept_loop() {
        for (;;) {
            const int fd = ::accept(listener_, nullptr, nullptr);
            if (fd >= 0) {
                std::thread([this, fd] { serve(fd); }).detach();
            }
        }
    }
    void serve(int fd) {
        const int on = 1;
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        std::string buffer;
        char piece[8192];
        for (;;) {
            size_t end = 0;
            while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
                const ssize_t got = ::recv(fd, piece, sizeof(piece), 0);
                if (got <= 0) {
                    ::close(fd);
                    return;
                }
                buffer.append(piece, static_cast<size_t>(got));
            }
            const std::string head = buffer.substr(0, end);
            buffer.erase(0, end + 4);
            if (head.find("/file ") == std::string::npos) {
                answer_image(fd);
            } else if (!answer_data(fd, head)) {
                ::close(fd);
                return;
            }
        }
    }
    void answer_image(int fd) const {
        const std::string body =
            fmt::format(R"({{"id":"img","status":"active","size":{},"os_hash_algo":"{}",)"
                        R"("os_hash_value":"{}"}})",
                        size_, hash_.empty() ? "" : "sha512", hash_);
        const std::string text =
            fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body);
        (void)::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    }
    bool answer_data(int fd, const std::string& head) const {
        uint64_t from = 0;
        uint64_t to = size_ - 1;
        const size_t range = head.find("Range: bytes=");
        if (range != std::string::npos) {
            char* rest = nullptr;
            from = std::strtoull(head.c_str() + range + 13, &rest, 10);
            to = std::min<uint64_t>(to, std::strtoull(rest + 1, nullptr, 10));
        }
        const std::string text = fmt::format(
            "HTTP/1.1 {}\r\nContent-Length: {}\r\nContent-Range: bytes {}-{}/{}\r\n\r\n",
            range == std::string::npos ? "200 OK" : "206 Partial Content", to - from + 1, from, to,
            size_);
        if (::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_MORE) < 0) {
            return false;
        }
        const int64_t rate = rate_bytes_per_s;
        const size_t step = rate == 0 ? 4u << 20 : 1u << 20;
        auto offset = static_cast<off_t>(from);
        while (static_cast<uint64_t>(offset) <= to) {
            const size_t left = static_cast<size_t>(to) + 1 - static_cast<size_t>(offset);
            const ssize_t sent = ::sendfile(fd, file_, &offset, std::min(step, left));
            if (sent <= 0) {
                return false;
            }
            if (rate != 0) {
                pause_ns(sent * kNanosPerSecond / rate);
            }
        }
        return true;
    }

    const uint64_t size_;
    std::string hash_;
    int file_ = -1;
    int listener_ = -1;
    uint16_t port_ = 0;
};

double mib_per_s(uint64_t size, int64_t nanoseconds) {
    return static_cast<double>(size) / (1 << 20) * 1e9 / static_cast<double>(nanoseconds);
}

double measure_ours(const ImageServer& server, uint64_t size, int streams) {
    SystemClock clock;
    SystemRandom random;
    HttpClient http;
    RetryingTransport transport(http, {}, random, system_wait());
    KeystoneSession session({.auth_type = "none"}, http, clock);
    ServiceClient service("Glance", {.endpoint_override = server.url()},
                          {&session, nullptr, transport});
    GlanceClient glance(service, {.streams = streams});
    uint64_t got = 0;
    const int64_t start_ns = clock.monotonic_ns();
    const auto outcome =
        glance.download({}, "img", [&](std::span<const std::byte> bytes) -> Result<void> {
            got += bytes.size();
            return {};
        });
    const int64_t took_ns = clock.monotonic_ns() - start_ns;
    if (!outcome.ok() || got != size) {
        fmt::print(stderr, "download: {}\n", outcome.ok() ? "short" : outcome.error().text());
        std::exit(1);
    }
    return mib_per_s(size, took_ns);
}

double measure_curl(const ImageServer& server, uint64_t size) {
    const std::string command =
        fmt::format("curl -s -o /dev/null {}/v2/images/img/file", server.url());
    SystemClock clock;
    const int64_t start_ns = clock.monotonic_ns();
    if (std::system(command.c_str()) != 0) {
        std::exit(1);
    }
    return mib_per_s(size, clock.monotonic_ns() - start_ns);
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

void measure(const char* name, ImageServer& server, uint64_t size, int64_t rate) {
    server.rate_bytes_per_s = rate;
    std::vector<double> parallel, single, curl;
    for (int round = 0; round < 3; ++round) {
        parallel.push_back(measure_ours(server, size, kStreams));
        single.push_back(measure_ours(server, size, 1));
        curl.push_back(measure_curl(server, size));
    }
    fmt::print(
        "image_download {} parallel_{}={:.0f} one_stream={:.0f} curl={:.0f} MiB/s "
        "ratio={:.2f}\n",
        name, kStreams, median(parallel), median(single), median(curl),
        median(parallel) / median(curl));
}

}  // namespace
}  // namespace kumoi::clients

int main(int argc, char** argv) {
    using namespace kumoi::clients;
    const uint64_t mib = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1024;
    const int64_t rate_mib = argc > 2 ? std::strtoll(argv[2], nullptr, 10) : 100;
    const uint64_t size = mib << 20;
    ImageServer plain(size, false);
    measure("unlimited_no_hash", plain, size, 0);
    ImageServer hashed(size, true);
    measure("unlimited_sha512", hashed, size, 0);
    measure(fmt::format("each_connection_{}_MiB/s_sha512", rate_mib).c_str(), hashed, size,
            rate_mib << 20);
    std::fflush(stdout);
    std::_Exit(0);  // the servers' threads wait for ever
}
