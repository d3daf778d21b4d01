// ConsoleProxy: where users reach the consoles of servers: noVNC's pages, and WebSockets that lead
// to guests' unix sockets by token. Nova's nova-novncproxy and nova-serialproxy in one.
//
//     auto proxy = TRY(ConsoleProxy::start({.address = "127.0.0.1", .port = 6080}, auth, ...));
//     ...
//     proxy.reset();      // ends every session
//
// One thread with a loop of its own does all of it; a token is looked up there, which is one read
// of the database for each connection.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "api/console/console_session.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/metrics.h"

namespace kumoi::api {

struct ConsoleProxyOptions {
    std::string address = "127.0.0.1";
    uint16_t port = 0;
    std::string files;  // noVNC's folder
    std::vector<std::string> allowed_origins;
    size_t sessions_max = 256;
    int64_t request_timeout_ns = 10 * kNanosPerSecond;  // until a console is open, or a file sent
};

class ConsoleProxy {
public:
    using Validate = std::function<Result<compute::ConsoleToken>(std::string_view token)>;
    static Result<std::unique_ptr<ConsoleProxy>> start(ConsoleProxyOptions options,
                                                       Validate validate, const Clock& clock,
                                                       Metrics& metrics);
    ~ConsoleProxy();
    ConsoleProxy(const ConsoleProxy&) = delete;
    ConsoleProxy& operator=(const ConsoleProxy&) = delete;
    uint16_t port() const { return port_; }

private:
    ConsoleProxy(ConsoleProxyOptions options, Validate validate, const Clock& clock,
                 Metrics& metrics);
    void accept_some();
    void accept_one(UniqueFd client);
    void drop(uint64_t id);

    const ConsoleProxyOptions options_;
    EventLoop loop_;
    const StaticFiles files_;
    const ConsoleSession::Services services_;
    Gauge& sessions_open_;
    Counter& sessions_total_;
    UniqueFd listener_;
    uint16_t port_ = 0;
    EventLoop::Watch watch_;
    uint64_t next_id_ = 1;
    std::map<uint64_t, std::unique_ptr<ConsoleSession>> sessions_;
    std::thread thread_;
};

}  // namespace kumoi::api
