#include "api/amqp/transport.h"

#include <unistd.h>

#include "api/amqp/queue_names.h"
#include "api/amqp/rabbit_connector.h"
#include "base/uuid.h"

namespace kumoi::amqp {

Result<std::unique_ptr<Transport>> Transport::create(Needs needs, AmqpOptions options) {
    TransportUrl url = TRY(TransportUrl::parse(options.transport_url));
    for (const auto& [name, value] : url.options) {
        TRY(options.apply(name, value));
    }
    TRY(options.check());
    options.processname = process_name(options);
    options.hostname = host_name(options);
    return std::unique_ptr<Transport>(new Transport(needs, std::move(options), std::move(url)));
}

Transport::Transport(Needs needs, AmqpOptions options, TransportUrl url)
    : needs_(needs), options_(std::move(options)), url_(std::move(url)) {
    consuming_ = run("consume");
    publishing_ = run("publish");
}

Transport::~Transport() {
    end(*publishing_);
    end(*consuming_);
}

std::unique_ptr<Transport::Running> Transport::run(const std::string& name) {
    auto running = std::make_unique<Running>();
    running->loop = std::make_unique<EventLoop>(needs_.clock);
    const std::string connection_name = fmt::format("{}:{}:{}", options_.processname, ::getpid(),
                                                    Uuid::generate(needs_.random).text());
    running->connector =
        std::make_unique<RabbitConnector>(*running->loop, options_, url_.vhost, connection_name);
    running->connection =
        std::make_unique<Connection>(Connection::Needs{*running->loop, needs_.clock, needs_.random,
                                                       needs_.metrics, *running->connector},
                                     options_, url_, name);
    running->connection->start();
    running->thread = std::thread([loop = running->loop.get()] { loop->run(); });
    return running;
}

void Transport::end(Running& running) {
    running.loop->post([connection = running.connection.get()] { connection->stop(); });
    running.loop->stop();
    running.thread.join();
}

std::string Transport::new_id() {
    return Uuid::generate(needs_.random).hex();
}

std::string Transport::unique_queue_part() {
    return options_.use_queue_manager ? managed_queue_name(options_) : new_id();
}

}  // namespace kumoi::amqp
