// RabbitConnector: connects with librabbitmq on a thread of its own, because resolving, connecting
// and logging in wait, and posts the outcome to a loop. One attempt at a time. Loop thread, except
// stop().
#pragma once

#include <string>
#include <thread>

#include "api/amqp/connection.h"

namespace kumoi::amqp {

class RabbitConnector final : public Connector {
public:
    RabbitConnector(EventLoop& loop, const AmqpOptions& options, std::string vhost,
                    std::string connection_name);
    ~RabbitConnector() override;
    void connect(const TransportUrl::Host& host, Done done) override;
    void stop() override;

private:
    EventLoop& loop_;
    const AmqpOptions& options_;
    const std::string vhost_;
    const std::string connection_name_;
    std::thread thread_;
};

}  // namespace kumoi::amqp
