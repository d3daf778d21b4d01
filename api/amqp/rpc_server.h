// RpcServer: answers remote calls to topics. For each topic it consumes the shared queue `<topic>`,
// its own `<topic>.<server>` and a fanout queue.
//
// A request is acknowledged first and then run, on a pool of threads: at most once, whatever
// happens. A copy with a `_unique_id` seen before is dropped. While a call with a monitor timeout
// runs, the caller gets signs of life. A reply whose queue is missing (its owner is connecting
// again) is tried for a minute. When all threads are busy and many requests wait, further ones stay
// unacknowledged with the broker.
//
//     RpcServer server(transport, {});
//     server.start({"compute", "compute-alt"}, host, [&](const RpcRequest& request) { ... });
//
// start() and stop() from one thread; the handler is called from many.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/amqp/transport.h"
#include "base/json.h"
#include "base/worker_pool.h"

namespace kumoi::amqp {

struct RpcRequest {
    Json context = Json::object();  // without the "_context_" prefix
    std::string method;
    std::string namespace_;
    std::string version = "1.0";
    Json args = Json::object();
    bool wants_reply = false;
    int64_t call_monitor_timeout_s = 0;
    std::string topic;  // the subscription it came through; "" in tests that have none
};

// An Error becomes the failure of the reply (rpc_failure.h). After a cast it is only logged.
using RpcHandler = std::function<Result<Json>(const RpcRequest&)>;

class RpcServer {
public:
    struct Settings {
        // Threads that run requests, shared with others. nullptr: own ones,
        // executor_thread_pool_size of them.
        WorkerPool* pool = nullptr;
        std::string exchange;  // empty: control_exchange
    };
    // A pool of `thread_count` threads for several servers.
    static std::unique_ptr<WorkerPool> make_pool(size_t thread_count);

    RpcServer(Transport& transport, Settings settings);  // both outlive this
    ~RpcServer();                                        // stop()
    RpcServer(const RpcServer&) = delete;
    RpcServer& operator=(const RpcServer&) = delete;

    // Consumes in the background as soon as a broker is there, and again after every outage.
    void start(const std::vector<std::string>& topics, const std::string& server,
               RpcHandler handler);
    // True once every queue is consumed. Waits in real time.
    bool wait_until_listening(int64_t timeout_ms);
    bool is_listening() const;  // now: for readiness checks
    // Takes no new request, lets running ones end and their replies go out.
    void stop();

    class State;

private:
    // Shared with callbacks on the connections' threads.
    std::shared_ptr<State> state_;
    std::unique_ptr<WorkerPool> own_pool_;
};

}  // namespace kumoi::amqp
