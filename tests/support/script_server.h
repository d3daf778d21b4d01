// ScriptServer: a small HTTP/1.1 server on loopback whose replies a test writes: a function answers
// each request, and may cut a reply short, never answer, or send it chunked. One thread a
// connection; the function runs under a lock, so it needs none of its own.
//
//     ScriptServer server([](const ScriptServer::Request& request) {
//         return ScriptServer::Reply{.status = 200, .body = "{}"};
//     });
//     client.send({.url = server.url() + "/thing"});
//     EXPECT_EQ(server.requests().size(), 1u);
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/fd.h"

namespace kumoi::test {

class ScriptServer {
public:
    struct Request {
        std::string method;
        std::string target;
        std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
        std::string body;

        std::string header(const std::string& name) const;  // lower case; empty: absent
    };
    struct Reply {
        int status = 200;
        std::vector<std::pair<std::string, std::string>> headers = {};
        std::string body = {};
        std::optional<size_t> cut_after = {};  // the connection closes after that much of the body
        bool never = false;                    // no reply at all; the connection stays
        bool hang_up = false;                  // no reply at all; the connection closes
        bool close_after = false;              // an idle connection that the server gives up
        bool chunked = false;
    };
    using Handler = std::function<Reply(const Request&)>;

    explicit ScriptServer(Handler handler);
    ~ScriptServer();
    ScriptServer(const ScriptServer&) = delete;
    ScriptServer& operator=(const ScriptServer&) = delete;

    std::string url() const;  // "http://127.0.0.1:<port>"
    std::vector<Request> requests() const;
    int connection_count() const { return connection_count_.load(); }

private:
    void accept_loop();
    void serve(int fd);
    std::optional<Request> read_request(int fd, std::string& buffer);
    bool write_reply(int fd, const Reply& reply, bool head_only);

    const Handler handler_;
    UniqueFd listener_;
    uint16_t port_ = 0;
    std::atomic<bool> stopping_{false};
    std::atomic<int> connection_count_{0};
    mutable std::mutex mutex_;
    std::vector<Request> requests_;
    std::vector<int> open_;
    std::vector<std::thread> threads_;
    std::thread acceptor_;
};

}  // namespace kumoi::test
