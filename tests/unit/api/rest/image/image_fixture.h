// An image service without a network: requests go straight to its router, uploads through a fake
// body.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "api/rest/image/image_router.h"
#include "base/file.h"

namespace kumoi::api {

// Token "<project>" or "<project>:<role>": that project's member, or the role.
class FakeValidator final : public TokenValidator {
public:
    Result<AuthContext> validate(std::string_view token) override {
        const size_t colon = token.find(':');
        AuthContext who;
        who.user_id = "user";
        who.project_id = token.substr(0, colon);
        const std::string role(colon == std::string_view::npos ? "member"
                                                               : token.substr(colon + 1));
        if (who.project_id == "bad") {
            return Error::unauthenticated("no such token");
        }
        who.roles = {role};
        who.is_admin = role == "admin";
        return who;
    }
};

class FakeBody final : public BodyReader {
public:
    explicit FakeBody(std::string data, std::optional<Error> end = std::nullopt)
        : data_(std::move(data)), end_(std::move(end)) {}
    Result<size_t> read(std::span<std::byte> buffer) override {
        was_read = true;
        const size_t size = std::min(buffer.size(), data_.size() - at_);
        if (size == 0 && end_) {
            return *end_;
        }
        std::memcpy(buffer.data(), data_.data() + at_, size);
        at_ += size;
        return size;
    }
    std::optional<uint64_t> declared_length() const override { return data_.size(); }
    bool was_read = false;

private:
    std::string data_;
    size_t at_ = 0;
    std::optional<Error> end_;
};

class ImageFixture : public ::testing::Test {
protected:
    void SetUp() override {
        auto made = TemporaryDirectory::create("image-api-test");
        ASSERT_TRUE(made.ok());
        directory_.emplace(std::move(made).value());
        database_ = compute::Database::open(":memory:").value();
        auto store = compute::ImageStore::create(
            {.directory = directory_->path(), .size_max = 1u << 20, .sync = false}, *database_,
            clock_, random_);
        ASSERT_TRUE(store.ok()) << store.error().text();
        store_ = std::move(store).value();
        router_ = make_image_router(
            {.store = *store_, .validator = validator_, .identity_uri = "http://127.0.0.1:5000"});
    }

    Reply ask(std::string_view method, std::string_view target, std::string body = {},
              HeaderMap headers = {}, std::string_view token = "p1") {
        headers.add("X-Auth-Token", std::string(token));
        headers.add("Host", "images.test:9292");
        if (method == "POST" && !headers.has("Content-Type")) {
            headers.add("Content-Type", "application/json");
        }
        Request request = make_request(method, target, std::move(body), headers);
        FakeBody none("");
        return router_.handle(request, &none);
    }
    Reply as(std::string_view token, std::string_view method, std::string_view target,
             std::string body = {}) {
        return ask(method, target, std::move(body), {}, token);
    }
    Reply patch(const std::string& id, std::string body, std::string_view token = "p1") {
        HeaderMap headers;
        headers.add("Content-Type", "application/openstack-images-v2.1-json-patch");
        return ask("PATCH", "/v2/images/" + id, std::move(body), headers, token);
    }
    Reply upload(const std::string& id, BodyReader& body, std::string_view token = "p1",
                 HeaderMap headers = {}) {
        headers.add("X-Auth-Token", std::string(token));
        if (!headers.has("Content-Type")) {
            headers.add("Content-Type", "application/octet-stream");
        }
        Request request = make_request("PUT", "/v2/images/" + id + "/file", {}, headers);
        return router_.handle(request, &body);
    }
    std::string create(std::string extra = {}, std::string_view token = "p1") {
        clock_.advance(kNanosPerSecond);
        const Reply reply =
            as(token, "POST", "/v2/images",
               R"({"name":"cirros","disk_format":"raw","container_format":"bare")" + extra + "}");
        EXPECT_EQ(reply.status, 201) << reply.body;
        return json(reply).string_or("id");
    }
    std::string create_active(std::string_view data = "hello", std::string extra = {}) {
        const std::string id = create(std::move(extra));
        FakeBody body{std::string(data)};
        EXPECT_EQ(upload(id, body).status, 204);
        return id;
    }
    static Json json(const Reply& reply) {
        auto parsed = Json::parse(reply.body);
        return parsed.ok() ? std::move(parsed).value() : Json();
    }
    std::vector<std::string> names(std::string_view target, std::string_view token = "p1") {
        const Json answer = json(as(token, "GET", target));
        std::vector<std::string> found;
        if (const Json* images = answer.find("images")) {
            for (const Json& image : images->as_array()) {
                found.push_back(image.string_or("name"));
            }
        }
        return found;
    }

    std::optional<TemporaryDirectory> directory_;
    std::unique_ptr<compute::Database> database_;
    ManualClock clock_;
    SeededRandom random_{7};
    std::unique_ptr<compute::ImageStore> store_;
    FakeValidator validator_;
    Router router_;
};

}  // namespace kumoi::api
