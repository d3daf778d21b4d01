// A guest's agent on a unix socket, one client at a time as kumoi-vmm's channel has it. What it
// answers to each line is the test's. Its thread ends with the object.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/file.h"
#include "base/json.h"

namespace kumoi::compute {

class GuestAgentFake {
public:
    // The text sent back for a request; empty: silence. sync() is one that behaves.
    using Answer = std::function<std::string(const Json& request)>;

    explicit GuestAgentFake(Answer answer) : answer_(std::move(answer)) {
        listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path().data(), path().size());
        (void)::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
        (void)::listen(listener_.get(), 8);
        thread_ = std::thread([this] { serve(); });
    }
    ~GuestAgentFake() {
        stopping_ = true;
        ::shutdown(listener_.get(), SHUT_RDWR);
        thread_.join();
    }
    GuestAgentFake(const GuestAgentFake&) = delete;
    GuestAgentFake& operator=(const GuestAgentFake&) = delete;

    std::string path() const { return directory_.path() + "/agent"; }
    std::vector<std::string> commands() const {  // but for the syncs
        const std::lock_guard lock(mutex_);
        return commands_;
    }
    static bool is_sync(const Json& request) {
        return request.string_or("execute") == "guest-sync-delimited";
    }
    static std::string sync(const Json& request) {
        const Json* id = request.find_path({"arguments", "id"});
        return "\xff{\"return\": " + (id == nullptr ? "null" : id->dump()) + "}\n";
    }
    static std::string done(const std::string& value = "{}") {
        return "{\"return\": " + value + "}\n";
    }

private:
    void serve() {
        while (!stopping_) {
            const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            if (client.is_open()) {
                serve(client.get());
            }
        }
    }
    void serve(int client) {
        std::string text;
        while (!stopping_) {
            pollfd one{client, POLLIN, 0};
            if (::poll(&one, 1, 20) <= 0) {
                continue;
            }
            char bytes[4096];
            const ssize_t count = ::recv(client, bytes, sizeof bytes, 0);
            if (count <= 0) {
                return;
            }
            text.append(bytes, static_cast<size_t>(count));
            for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n')) {
                handle(client, text.substr(0, end));
                text.erase(0, end + 1);
            }
        }
    }
    void handle(int client, std::string line) {
        const size_t sentinel = line.rfind('\xff');
        line.erase(0, sentinel == std::string::npos ? 0 : sentinel + 1);
        const auto request = Json::parse(line);
        if (!request.ok()) {
            return;
        }
        if (!is_sync(*request)) {
            const std::lock_guard lock(mutex_);
            commands_.push_back(request->string_or("execute"));
        }
        const std::string answer = answer_(*request);
        (void)::send(client, answer.data(), answer.size(), MSG_NOSIGNAL);
    }

    const Answer answer_;
    const TemporaryDirectory directory_ = TemporaryDirectory::create("agent").value();
    UniqueFd listener_;
    std::atomic<bool> stopping_{false};
    mutable std::mutex mutex_;
    std::vector<std::string> commands_;
    std::thread thread_;
};

}  // namespace kumoi::compute
