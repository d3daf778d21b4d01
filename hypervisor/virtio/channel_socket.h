// ChannelSocket: a ChannelBackend on a unix stream socket, one client at a time; the next one is
// taken when the first has gone. What a client sent before it hung up is dropped if the guest has
// not had it by then: whoever waits for no answer gets nothing done. Threading as ChannelBackend.
#pragma once

#include <memory>
#include <string>

#include "base/fd.h"
#include "hypervisor/sandbox/file_source.h"
#include "hypervisor/virtio/channel_backend.h"

namespace kumoi::hypervisor {

class ChannelSocket final : public ChannelBackend {
public:
    // Waiting for a client that reads slowly, before the guest has to; twice that at most.
    static constexpr size_t kOutputMax = 64u << 10;

    static Result<std::unique_ptr<ChannelBackend>> open(FileSource& files, const std::string& path);
    ~ChannelSocket() override;

    Result<void> start(EventLoop& loop, Events events) override;
    void stop() override;
    bool connected() const override { return client_.is_open(); }
    void set_input_enabled(bool enabled) override;
    size_t read(std::span<std::byte> bytes) override;
    bool has_room() const override { return output_.size() < kOutputMax; }
    size_t write(std::span<const std::byte> bytes) override;

private:
    ChannelSocket(FileSource& files, std::string path) : files_(files), path_(std::move(path)) {}
    void watch_listener();
    void accept();
    void watch_client();
    void client_event(uint32_t events);
    bool flush();  // false: the client is gone
    bool hung_up() const;
    void lose_client();
    void update_events();

    FileSource& files_;
    const std::string path_;
    UniqueFd listener_;
    UniqueFd client_;
    std::string output_;
    bool input_enabled_ = false;
    bool input_ended_ = false;  // the client says nothing more
    EventLoop* loop_ = nullptr;
    Events events_;
    EventLoop::Watch listener_watch_;
    EventLoop::Watch client_watch_;
};

}  // namespace kumoi::hypervisor
