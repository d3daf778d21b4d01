// SocketConsole: a ConsoleBackend on a unix stream socket. Up to kClientsMax clients read the
// guest's output; what any of them sends is the guest's input. A client that does not read loses
// output, the guest never waits. The socket exists from open() on, so a client may connect before
// the guest is up; its file is removed with the object. Threading as ConsoleBackend.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "hypervisor/sandbox/file_source.h"
#include "hypervisor/virtio/console_backend.h"

namespace kumoi::hypervisor {

class SocketConsole final : public ConsoleBackend {
public:
    static constexpr size_t kClientsMax = 8;

    static Result<std::unique_ptr<ConsoleBackend>> open(FileSource& files, const std::string& path);
    ~SocketConsole() override;

    Result<void> start(EventLoop& loop, std::function<void()> input_ready) override;
    void stop() override;
    void set_input_enabled(bool enabled) override;
    size_t write(std::span<const std::byte> bytes) override;
    size_t read(std::span<std::byte> bytes) override;

private:
    struct Client {
        UniqueFd fd;
        EventLoop::Watch watch;
    };
    SocketConsole(FileSource& files, std::string path) : files_(files), path_(std::move(path)) {}
    void accept();
    void watch_client(Client& client);

    FileSource& files_;
    const std::string path_;
    UniqueFd listener_;
    EventLoop* loop_ = nullptr;
    std::function<void()> input_ready_;
    bool input_enabled_ = false;
    EventLoop::Watch listener_watch_;
    std::vector<Client> clients_;
};

}  // namespace kumoi::hypervisor
