// An image upload as it comes off the wire: rest of the head, then the body in whatever framing the
// head says, through the real router into a real store on tmpfs. Afterwards the image is either
// queued with nothing left behind, or active with exactly the bytes it claims.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "api/http/connection.h"
#include "api/rest/image/image_router.h"
#include "base/file.h"

namespace kumoi::api {
namespace {

class AnyToken final : public TokenValidator {
public:
    Result<AuthContext> validate(std::string_view) override {
        AuthContext who;
        who.project_id = "p";
        who.roles = {"member"};
        return who;
    }
};

// What StreamSession does, from memory: the input ends where the client hangs up.
class WireBody final : public BodyReader {
public:
    WireBody(Connection::Body body, std::string_view more)
        : body_(std::move(body)), input_(body_.buffered + std::string(more)), unread_(input_) {}
    Result<size_t> read(std::span<std::byte> buffer) override {
        while (!body_.decoder.finished()) {
            if (unread_.empty()) {
                return Error::cancelled("client gone");
            }
            const std::string_view piece = TRY(body_.decoder.decode(unread_, buffer.size()));
            if (!piece.empty()) {
                std::memcpy(buffer.data(), piece.data(), piece.size());
                return piece.size();
            }
        }
        return size_t{0};
    }
    std::optional<uint64_t> declared_length() const override { return body_.declared_length; }

private:
    Connection::Body body_;
    std::string input_;
    std::string_view unread_;
};

struct Harness {
    Harness() {
        setenv("TMPDIR", "/dev/shm", 1);
        directory.emplace(TemporaryDirectory::create("image-upload-fuzz").value());
        store = compute::ImageStore::create(
                    {.directory = directory->path(), .size_max = 64 * 1024, .sync = false},
                    *database, clock, random)
                    .value();
        router = make_image_router({.store = *store, .validator = validator, .identity_uri = ""});
    }
    ManualClock clock;
    SeededRandom random{1};
    Metrics metrics;
    std::unique_ptr<compute::Database> database = compute::Database::open(":memory:").value();
    std::optional<TemporaryDirectory> directory;
    std::unique_ptr<compute::ImageStore> store;
    AnyToken validator;
    ServerOptions options;
    Router router;
    ServerDependencies dependencies{clock, random, metrics};
};

void run(Harness& harness, const std::string& disk_format, std::string_view input) {
    compute::Image image;
    image.owner = "p";
    image.disk_format = disk_format;
    image.container_format = "bare";
    const std::string id = harness.store->add(image)->id;

    Connection connection(harness.options, harness.router, harness.dependencies, "p", "l");
    connection.receive("PUT /v2/images/" + id +
                       "/file HTTP/1.1\r\nHost: a\r\nX-Auth-Token: t\r\n"
                       "Content-Type: application/octet-stream\r\n");
    const size_t first = input.size() / 2;
    connection.receive(input.substr(0, first));
    auto next = connection.next_request();
    if (!next) {
        connection.receive(input.substr(first));
        input = {};
        next = connection.next_request();
    } else {
        input = input.substr(first);
    }
    if (next && next->stream) {
        WireBody body(connection.take_body(), input);
        const Reply reply = harness.router.handle(next->request, &body);
        KUMOI_ASSERT(reply.status != 500);
    }
    const compute::Image after = harness.store->get(id).value();
    const std::string path = harness.directory->path() + "/" + id;
    if (after.status == "active") {
        KUMOI_ASSERT(file_size(path).value() == after.size);
    } else {
        KUMOI_ASSERT(after.status == "queued");
        KUMOI_ASSERT(!path_exists(path));
    }
    KUMOI_ASSERT(list_directory(harness.directory->path() + "/incoming")->empty());
    KUMOI_ASSERT(harness.store->remove(id).ok());
}

}  // namespace
}  // namespace kumoi::api

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 1) {
        return 0;
    }
    static kumoi::api::Harness harness;
    constexpr const char* kFormats[] = {"raw", "qcow2", "iso", "aki"};
    kumoi::api::run(harness, kFormats[data[0] % 4],
                    {reinterpret_cast<const char*>(data) + 1, size - 1});
    return 0;
}
