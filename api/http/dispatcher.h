// Runs requests on a bounded WorkerPool and counts them. Shared by both servers. submit() may be
// called from any I/O thread; `done` is called exactly once, on a worker thread, or at once when
// the queue is full (503 with Retry-After).
#pragma once

#include <array>
#include <atomic>
#include <functional>

#include "api/http/connection.h"
#include "base/metrics.h"
#include "base/worker_pool.h"

namespace kumoi::api {

class Dispatcher {
public:
    // All references must outlive the dispatcher.
    Dispatcher(const ServerOptions& options, const Router& router,
               const ServerDependencies& dependencies);

    void submit(Connection::Next next, std::function<void(Answer)> done);
    // Runs handler and middleware of a streaming request on the calling thread.
    Reply run(Request& request, BodyReader* body);
    Reply busy_reply(const Request* request) const;
    void count_connection(int by) { connections_.add(by); }
    // From now on every answer says that its connection closes.
    void drain() { draining_ = true; }
    bool draining() const { return draining_; }
    void stop();  // refuses new work, waits for what runs

private:
    const ServerOptions& options_;
    const Router& router_;
    const ServerDependencies& dependencies_;
    std::array<Counter*, 6> requests_{};  // by status class
    Histogram& seconds_;
    Counter& refused_;
    Gauge& connections_;
    std::atomic<bool> draining_{false};
    WorkerPool pool_;
};

}  // namespace kumoi::api
