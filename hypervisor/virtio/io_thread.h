// IoThread: one thread with an event loop on which one device does all its work. Started by the
// constructor, stopped and joined by the destructor. All signals are blocked on it, so vCPU kicks
// and the process's own signals go elsewhere. loop().post() and call() from any other thread.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/event_loop.h"

namespace kumoi::hypervisor {

class IoThread {
public:
    explicit IoThread(std::string name);
    ~IoThread();
    IoThread(const IoThread&) = delete;
    IoThread& operator=(const IoThread&) = delete;

    EventLoop& loop() { return loop_; }
    const Clock& clock() const { return clock_; }
    void call(const std::function<void()>& function);  // runs it there, returns when it has run

private:
    void run();

    const std::string name_;
    SystemClock clock_;
    EventLoop loop_;
    std::thread thread_;  // last: everything above exists when it starts
};

}  // namespace kumoi::hypervisor
