#include "api/amqp/rabbit_connector.h"

#include <memory>
#include <utility>

#include "api/amqp/rabbit_link.h"

namespace kumoi::amqp {

RabbitConnector::RabbitConnector(EventLoop& loop, const AmqpOptions& options, std::string vhost,
                                 std::string connection_name)
    : loop_(loop),
      options_(options),
      vhost_(std::move(vhost)),
      connection_name_(std::move(connection_name)) {}

RabbitConnector::~RabbitConnector() {
    stop();
}

void RabbitConnector::stop() {
    if (thread_.joinable()) {
        thread_.join();
    }
}

void RabbitConnector::connect(const TransportUrl::Host& host, Done done) {
    stop();  // the attempt before has posted its outcome, so this does not wait
    thread_ = std::thread([this, host, done = std::move(done)] {
        // Shared: a posted function must be copyable, a link is not.
        auto outcome = std::make_shared<Result<std::unique_ptr<BrokerLink>>>(
            connect_rabbit(host, vhost_, options_, connection_name_));
        loop_.post([outcome, done] { done(std::move(*outcome)); });
    });
}

}  // namespace kumoi::amqp
