// VncServer: the viewers of one guest: listening sockets, plain RFB or WebSocket, and the thread on
// which pictures are compared, encoded and sent.
//
//     auto server = TRY(VncServer::create({.name = "web-1"}, source, input));
//     TRY(server->listen(std::move(socket), VncServer::Kind::Plain));
//
// While nobody looks it costs a sleeping thread and no picture is kept. A viewer that does not read
// gets no further picture until it has read the last one, so what waits for it is bounded by one
// picture. Without `shared` in its greeting a viewer takes the others' place, as RFB demands.
// listen() and statistics() may be called from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/metrics.h"
#include "base/result.h"
#include "hypervisor/display/display_source.h"
#include "hypervisor/display/input_hub.h"
#include "hypervisor/display/screen.h"
#include "hypervisor/limits/report_limit.h"

namespace kumoi::hypervisor {

class IoThread;

class VncServer {
public:
    enum class Kind { Plain, WebSocket };
    struct Options {
        std::string name = "guest";  // what a viewer's window is called
        size_t viewers_max = 16;
        int64_t frame_ns = 33'000'000;   // at least between two pictures
        int64_t still_ns = 200'000'000;  // between looks at a picture that does not change
    };

    static Result<std::unique_ptr<VncServer>> create(Options options, const DisplaySource& source,
                                                     InputHub& input);
    ~VncServer();
    VncServer(const VncServer&) = delete;
    VncServer& operator=(const VncServer&) = delete;

    // Takes a listening stream socket of any family.
    Result<void> listen(UniqueFd socket, Kind kind);
    Json statistics() const;

private:
    class Viewer;
    struct Listener {
        UniqueFd fd;
        EventLoop::Watch watch;
        Kind kind;
    };
    VncServer(Options options, const DisplaySource& source, InputHub& input);
    void accept_all(int listener, Kind kind);
    void serve(uint64_t id, uint32_t events);
    void drop(uint64_t id, const std::string& reason);
    void drop_others(uint64_t id);
    enum class Pace { Now, Moving, Still };
    void schedule_frame(Pace pace);
    void frame();
    void stop();

    const Options options_;
    InputHub& input_;
    ReportLimit reports_;
    Counter viewers_total_, sent_bytes_, received_bytes_, frames_;
    std::atomic<uint64_t> viewer_count_{0};
    // The rest belongs to the thread.
    Screen screen_;
    bool frame_scheduled_ = false;
    bool still_ = false;  // the scheduled look is a rare one
    uint64_t frame_timer_ = 0;
    uint64_t next_id_ = 1;
    std::vector<std::unique_ptr<Listener>> listeners_;
    std::map<uint64_t, std::unique_ptr<Viewer>> viewers_;
    std::unique_ptr<IoThread> thread_;
};

}  // namespace kumoi::hypervisor
