// QueuePort: the IoPort of one disk queue: calls go to io_uring or to a few threads, completions
// come through the event loop of the thread that opened it.
#pragma once

#include <coroutine>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/block/disk_image.h"
#include "hypervisor/block/qcow2/io_port.h"

namespace kumoi::hypervisor::qcow2 {

class QueuePort : public IoPort {
public:
    // Error when io_uring is asked for and not there; Automatic takes threads then.
    static Result<std::unique_ptr<QueuePort>> create(DiskEngine engine, EventLoop& loop);

    // After each round of completions.
    void on_round(std::function<void()> function) { round_ = std::move(function); }
    void post(std::coroutine_handle<> handle) final;
    // Hands started calls to the kernel and takes what completed at once.
    virtual void kick() = 0;
    // Waits for something to complete, and completes it.
    virtual void wait() = 0;

protected:
    Result<void> open(EventLoop& loop);
    virtual bool reap() = 0;  // completes what is finished; true when there was any
    virtual void set_quiet(bool /*quiet*/) {}
    virtual bool has_more() const { return false; }
    void run();  // reaps and resumes until nothing is left to do
    void wake();
    int event_fd() const { return event_.get(); }
    void wait_for_event();

private:
    bool resume_posted();

    const std::thread::id thread_ = std::this_thread::get_id();
    UniqueFd event_;
    EventLoop::Watch watch_;
    std::function<void()> round_;
    std::vector<std::coroutine_handle<>> local_;  // posted by this thread
    bool running_ = false;
    std::mutex mutex_;  // guards remote_
    std::vector<std::coroutine_handle<>> remote_;
};

}  // namespace kumoi::hypervisor::qcow2
