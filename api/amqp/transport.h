// Transport: everything of one transport_url that servers, clients and notifiers share: the
// connection that consumes, the connection that publishes (a broker short of memory blocks the
// second, and must not silence the first), their threads, and the names that this process uses.
// Any number of RpcServers, clients and notifiers may use one Transport: a process with a thousand
// simulated hosts has two connections. Threads: each method may be called from any.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "api/amqp/amqp_options.h"
#include "api/amqp/connection.h"
#include "api/amqp/transport_url.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/random.h"

namespace kumoi::amqp {

class Transport {
public:
    struct Needs {
        const Clock& clock;
        Random& random;
        Metrics& metrics;
    };
    // Connects in the background, and keeps trying. Refuses a wrong transport_url or wrong options.
    static Result<std::unique_ptr<Transport>> create(Needs needs, AmqpOptions options);
    ~Transport();  // after all servers, clients and notifiers
    Transport(const Transport&) = delete;
    Transport& operator=(const Transport&) = delete;

    const AmqpOptions& options() const { return options_; }
    const Clock& clock() const { return needs_.clock; }
    Random& random() { return needs_.random; }
    Metrics& metrics() { return needs_.metrics; }
    Connection& consuming() { return *consuming_->connection; }
    Connection& publishing() { return *publishing_->connection; }

    std::string new_id();  // 32 hexadecimal digits
    // For queue names: random, or the queue manager's repeatable one with use_queue_manager.
    std::string unique_queue_part();

private:
    struct Running {
        std::unique_ptr<EventLoop> loop;
        std::unique_ptr<Connector> connector;
        std::unique_ptr<Connection> connection;
        std::thread thread;
    };
    Transport(Needs needs, AmqpOptions options, TransportUrl url);
    std::unique_ptr<Running> run(const std::string& name);
    static void end(Running& running);

    Needs needs_;
    const AmqpOptions options_;
    const TransportUrl url_;
    std::unique_ptr<Running> consuming_;
    std::unique_ptr<Running> publishing_;
};

}  // namespace kumoi::amqp
