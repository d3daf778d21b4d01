// The image service on a real server: many bytes, little memory.
#include <cstdio>

#include "api/http/http_client.h"
#include "api/http/server.h"
#include "base/digest.h"
#include "image_fixture.h"

namespace kumoi::api {
namespace {

constexpr uint64_t kBytes = 256u << 20;

// Peak resident memory of this process, KiB.
uint64_t peak_kib() {
    const std::string status = read_file("/proc/self/status").value();
    unsigned long kib = 0;
    std::sscanf(status.c_str() + status.find("VmHWM:"), "VmHWM: %lu", &kib);
    return kib;
}

BodySource pattern(uint64_t total) {
    return [total, at = uint64_t{0}](std::span<std::byte> buffer) mutable -> Result<size_t> {
        const size_t size = static_cast<size_t>(std::min<uint64_t>(buffer.size(), total - at));
        std::memset(buffer.data(), static_cast<int>(at >> 20), size);
        at += size;
        return size;
    };
}

class ImageStream : public ImageFixture {
protected:
    void SetUp() override {
        ImageFixture::SetUp();
        auto store = compute::ImageStore::create({.directory = directory_->path(), .sync = false},
                                                 *database_, system_clock_, random_);
        ASSERT_TRUE(store.ok());
        store_ = std::move(store).value();
        auto server = make_beast_server(
            {.name = "image"},
            make_image_router({.store = *store_, .validator = validator_, .identity_uri = ""}),
            {system_clock_, random_, metrics_});
        ASSERT_TRUE(server.ok());
        server_ = std::move(server).value();
        ASSERT_TRUE(server_->start().ok());
        base_ = "http://127.0.0.1:" + std::to_string(server_->port());
    }
    void TearDown() override { server_.reset(); }

    HttpRequest request(std::string method, std::string target) {
        HttpRequest made{.method = std::move(method), .url = base_ + target};
        made.headers.add("X-Auth-Token", "p1");
        made.headers.add("Content-Type", "application/octet-stream");
        return made;
    }
    std::string create_over_http() {
        HttpRequest create = request("POST", "/v2/images");
        create.headers.set("Content-Type", "application/json");
        create.body = R"({"disk_format":"raw","container_format":"bare"})";
        return client_.send(create)->json()->string_or("id");
    }

    SystemClock system_clock_;
    Metrics metrics_;
    HttpClient client_;
    std::unique_ptr<HttpServer> server_;
    std::string base_;
};

TEST_F(ImageStream, Moves256MiBBothWaysInConstantMemory) {
    const std::string id = create_over_http();
    ASSERT_FALSE(id.empty());
    const uint64_t before_kib = peak_kib();

    HttpRequest put = request("PUT", "/v2/images/" + id + "/file");
    put.source = pattern(kBytes);  // without length: chunked
    const auto stored = client_.send(put);
    ASSERT_TRUE(stored.ok()) << stored.error().text();
    EXPECT_EQ(stored->status, 204);

    Digest md5(DigestKind::Md5);
    uint64_t got = 0;
    HttpRequest get = request("GET", "/v2/images/" + id + "/file");
    get.sink = [&](std::span<const std::byte> bytes) -> Result<void> {
        md5.update(bytes);
        got += bytes.size();
        return {};
    };
    const auto loaded = client_.send(get);
    ASSERT_TRUE(loaded.ok()) << loaded.error().text();
    EXPECT_EQ(got, kBytes);
    EXPECT_EQ(md5.finish_hex(), store_->get(id)->checksum);
    EXPECT_EQ(loaded->headers.first("Content-MD5"), store_->get(id)->checksum);
    EXPECT_LT(peak_kib() - before_kib, 16u * 1024) << "KiB more at the peak";
}

TEST_F(ImageStream, AnUploadCutOnTheWireLeavesTheImageQueued) {
    const std::string id = create_over_http();
    HttpRequest put = request("PUT", "/v2/images/" + id + "/file");
    put.source = [count = 0](std::span<std::byte> buffer) mutable -> Result<size_t> {
        if (++count > 3) {
            return Error::cancelled("the client gives up");
        }
        std::memset(buffer.data(), 'x', buffer.size());
        return buffer.size();
    };
    EXPECT_EQ(client_.send(put).error().message, "the client gives up");
    ASSERT_TRUE(server_->drain(10'000).ok());
    EXPECT_EQ(store_->get(id)->status, "queued");
    EXPECT_TRUE(list_directory(directory_->path() + "/incoming")->empty());
}

}  // namespace
}  // namespace kumoi::api
