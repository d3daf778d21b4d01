// HTTP figures of both servers, and the image soak. Every figure is one line "name value unit".
//
//     http_bench                      requests/s, answers of 1 KiB and 100 KiB, 16 connections
//     http_bench --upload-gib 4 DIR   one upload and download of 4 GiB, files in DIR, peak memory
#include <fmt/core.h>
#include <poll.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "../unit/api/http/raw_client.h"
#include "api/http/http_client.h"
#include "api/http/server.h"
#include "api/rest/image/image_router.h"
#include "base/file.h"

namespace kumoi::api {
namespace {

constexpr int kConnections = 16;
constexpr int64_t kSeconds = 3;

Router make_router() {
    Router router;
    router.get("/small", [](Request&) { return Reply::text(std::string(1024, 'x')); });
    router.get("/large", [](Request&) { return Reply::text(std::string(100 * 1024, 'x')); });
    return router;
}

struct Environment {
    SystemClock clock;
    SystemRandom random;
    Metrics metrics;
    ServerDependencies dependencies{clock, random, metrics};
};

double measure(uint16_t port, const std::string& target, const Clock& clock) {
    const std::string request = "GET " + target + " HTTP/1.1\r\nHost: bench\r\n\r\n";
    std::atomic<uint64_t> answers{0};
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    const int64_t started_ns = clock.monotonic_ns();
    for (int index = 0; index < kConnections; ++index) {
        threads.emplace_back([&] {
            RawClient client(port);
            while (!stop && client.send(request) && client.response()) {
                ++answers;
            }
        });
    }
    while (clock.monotonic_ns() - started_ns < kSeconds * kNanosPerSecond) {
        ::poll(nullptr, 0, 50);
    }
    stop = true;
    for (std::thread& thread : threads) {
        thread.join();
    }
    return static_cast<double>(answers) * kNanosPerSecond /
           static_cast<double>(clock.monotonic_ns() - started_ns);
}

int bench_requests() {
    Environment environment;
    for (const bool pistache : {true, false}) {
        const ServerOptions options{.name = "bench", .worker_threads = 2};
        auto made = pistache
                        ? make_pistache_server(options, make_router(), environment.dependencies)
                        : make_beast_server(options, make_router(), environment.dependencies);
        if (!made.ok() || !made.value()->start().ok()) {
            std::fputs("the server does not start\n", stderr);
            return 1;
        }
        for (const char* target : {"/small", "/large"}) {
            fmt::print("http_{}{} {:.0f} requests/s\n", pistache ? "pistache" : "beast",
                       std::strcmp(target, "/small") == 0 ? "_1kib" : "_100kib",
                       measure(made.value()->port(), target, environment.clock));
            std::fflush(stdout);
        }
    }
    return 0;
}

class AnyToken final : public TokenValidator {
public:
    Result<AuthContext> validate(std::string_view) override {
        AuthContext who;
        who.project_id = "bench";
        who.roles = {"member"};
        return who;
    }
};

unsigned long peak_kib() {
    unsigned long kib = 0;
    const std::string status = read_file("/proc/self/status").value();
    std::sscanf(status.c_str() + status.find("VmHWM:"), "VmHWM: %lu", &kib);
    return kib;
}

Result<void> soak(uint64_t bytes, const std::string& directory) {
    Environment environment;
    AnyToken validator;
    auto database = TRY(compute::Database::open(":memory:"));
    auto store = TRY(compute::ImageStore::create({.directory = directory}, *database,
                                                 environment.clock, environment.random));
    auto server = TRY(make_beast_server(
        {.name = "image"},
        make_image_router({.store = *store, .validator = validator, .identity_uri = ""}),
        environment.dependencies));
    TRY(server->start());
    compute::Image image;
    image.owner = "bench";
    image.disk_format = "raw";
    image.container_format = "bare";
    const std::string id = TRY(store->add(image)).id;

    HttpClient client({.timeout_ms = 0});
    HttpRequest request{
        .method = "PUT",
        .url = fmt::format("http://127.0.0.1:{}/v2/images/{}/file", server->port(), id)};
    request.headers.add("X-Auth-Token", "t");
    request.headers.add("Content-Type", "application/octet-stream");
    request.source_length = bytes;
    request.source = [left = bytes](std::span<std::byte> buffer) mutable -> Result<size_t> {
        const size_t size = static_cast<size_t>(std::min<uint64_t>(buffer.size(), left));
        std::memset(buffer.data(), static_cast<int>(left >> 20), size);
        left -= size;
        return size;
    };
    int64_t started_ns = environment.clock.monotonic_ns();
    const auto report = [&](const char* name) {
        const int64_t elapsed_ns = environment.clock.monotonic_ns() - started_ns;
        fmt::print(
            "image_{} {:.0f} MiB/s\n", name,
            static_cast<double>(bytes >> 20) * kNanosPerSecond / static_cast<double>(elapsed_ns));
    };
    if (const int status = TRY(client.send(request)).status; status != 204) {
        return Error::internal("the upload was answered {}", status);
    }
    report("upload");
    request.method = "GET";
    request.source = nullptr;
    uint64_t got = 0;
    request.sink = [&](std::span<const std::byte> piece) -> Result<void> {
        got += piece.size();
        return {};
    };
    started_ns = environment.clock.monotonic_ns();
    TRY(client.send(request));
    report("download");
    if (got != bytes) {
        return Error::internal("{} of {} bytes came back", got, bytes);
    }
    fmt::print("image_peak_memory {} KiB\n", peak_kib());
    return store->remove(id);
}

}  // namespace
}  // namespace kumoi::api

int main(int argc, char** argv) {
    if (argc == 4 && std::strcmp(argv[1], "--upload-gib") == 0) {
        const auto done = kumoi::api::soak(std::strtoull(argv[2], nullptr, 10) << 30, argv[3]);
        if (!done.ok()) {
            std::fprintf(stderr, "%s\n", done.error().text().c_str());
            return 1;
        }
        return 0;
    }
    return kumoi::api::bench_requests();
}
