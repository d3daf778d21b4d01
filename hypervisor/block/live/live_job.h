// LiveJob: work on a running guest's disk, on a thread of its own. Made and asked on the control
// thread; work() runs on the job's. cancel() (also by the destructor) ends the work soon and joins.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::hypervisor {

class LiveJob {
public:
    enum class State { Running, Done, Failed };

    // `file`: what it writes to; empty: the disk's own files.
    explicit LiveJob(std::string kind, std::string file = {})
        : kind_(std::move(kind)), file_(std::move(file)) {}
    virtual ~LiveJob();
    LiveJob(const LiveJob&) = delete;
    LiveJob& operator=(const LiveJob&) = delete;

    // `worked`: called at the end of the work, on the job's thread; then finish() is due.
    void start(std::function<void()> worked);
    void cancel() { cancelled_ = true; }
    void join();
    // Control thread, the disk standing still, after the work: what it changes about the disk, or
    // takes back because it failed. False: there is more to do, start() again.
    bool finish();
    bool running() const { return state_ == State::Running; }
    Json status() const;
    const std::string& kind() const { return kind_; }

protected:
    virtual Result<void> work() = 0;
    // How the work ended, or was cut short. Returns whether it is complete (false: work() again).
    virtual Result<bool> settle(const Result<void>& worked) = 0;
    bool cancelled() const { return cancelled_; }
    void finish_unsettled();  // in the destructor of each kind

    std::atomic<uint64_t> done_bytes_{0};
    std::atomic<uint64_t> total_bytes_{0};

private:
    const std::string kind_;
    const std::string file_;
    std::thread thread_;
    std::atomic<bool> cancelled_{false};
    State state_ = State::Running;
    std::optional<Result<void>> worked_;
    std::string error_;
};

}  // namespace kumoi::hypervisor
