// One server of either kind with a router that shows what the handler saw. Tests written against it
// run once per implementation: the seam promises that nobody can tell them apart.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "api/http/server.h"
#include "raw_client.h"

namespace kumoi::api {

// Holds handlers until the test lets them go.
class Gate {
public:
    void wait() {
        std::unique_lock lock(mutex_);
        ++waiting_;
        changed_.notify_all();
        changed_.wait_for(lock, std::chrono::seconds(20), [this] { return open_; });
    }
    void open() {
        const std::lock_guard lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }
    bool wait_for_waiting(int count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return waiting_ >= count; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    int waiting_ = 0;
    bool open_ = false;
};

enum class ServerKind { Pistache, Beast };

class ServerFixture : public ::testing::TestWithParam<ServerKind> {
protected:
    void TearDown() override {
        gate_.open();
        server_.reset();
    }

    static Json describe(const Request& request) {
        Json json = Json::object({{"method", request.method},
                                  {"target", request.raw_target},
                                  {"body", request.body},
                                  {"request_id", request.request_id},
                                  {"global_request_id", request.global_request_id},
                                  {"peer", request.peer_address}});
        json.set("segments", Json::array_of(request.segments));
        Json query = Json::array();
        for (const auto& [name, value] : request.query) {
            query.push_back(name + "=" + value);
        }
        json.set("query", std::move(query));
        Json headers = Json::array();
        for (const auto& [name, value] : request.headers) {
            headers.push_back(name + "=" + value);
        }
        json.set("headers", std::move(headers));
        return json;
    }

    virtual Router make_router() {
        Router router;
        const auto echo = [](Request& request) { return Reply::json(describe(request)); };
        router.get("/echo/{path...}", echo);
        router.post("/echo/{path...}", echo);
        router.post("/size", [](Request& request) {
            return Reply::text(std::to_string(request.body.size()));
        });
        router.get("/big", [](Request&) { return Reply::text(std::string(8u << 20, 'x')); });
        router.get("/throw", [](Request&) -> Reply { throw std::runtime_error("secret text"); });
        router.get("/throw-int", [](Request&) -> Reply { throw 42; });
        router.get("/gate", [this](Request&) {
            ++gated_;
            gate_.wait();
            return Reply::text("opened");
        });
        router.del("/thing", [](Request&) { return Reply::no_content(); });
        router.get("/ok", [](Request&) { return Reply::text("ok"); });
        router.get("/headers", [](Request&) {
            Reply reply = Reply::text("ok");
            reply.headers.add("Set-Cookie", "a=1");
            reply.headers.add("Set-Cookie", "b=2");
            reply.headers.add("X-Subject-Token", "tok");
            reply.headers.add("OpenStack-API-Version", "compute 2.90");
            reply.headers.add("X-Broken", "a\r\nInjected: yes");
            return reply;
        });
        return router;
    }

    void start(ServerOptions options = {}) {
        options.name = "test";
        auto made = GetParam() == ServerKind::Pistache
                        ? make_pistache_server(options, make_router(), {clock_, random_, metrics_})
                        : make_beast_server(options, make_router(), {clock_, random_, metrics_});
        ASSERT_TRUE(made.ok()) << made.error().text();
        server_ = std::move(made).value();
        const auto started = server_->start();
        ASSERT_TRUE(started.ok()) << started.error().text();
    }

    uint16_t port() const { return server_->port(); }

    bool wait_for_open_connections(int count) {
        const std::string line = "kumoi_http_connections{server=\"test\"} " + std::to_string(count);
        for (int attempt = 0; attempt < 1000; ++attempt) {
            if (metrics_.render().find(line + "\n") != std::string::npos) {
                return true;
            }
            pollfd nothing{-1, 0, 0};
            ::poll(&nothing, 1, 10);
        }
        return false;
    }

    // One request on a fresh connection.
    std::optional<RawResponse> ask(std::string_view bytes) {
        RawClient client(port());
        client.send(bytes);
        return client.response();
    }
    static Json json_of(const RawResponse& response) {
        auto parsed = Json::parse(response.body);
        return parsed.ok() ? std::move(parsed).value() : Json();
    }

    ManualClock clock_;
    SystemRandom random_;
    Metrics metrics_;
    Gate gate_;
    std::atomic<int> gated_{0};
    std::unique_ptr<HttpServer> server_;
};

}  // namespace kumoi::api
