// RabbitLink: BrokerLink over librabbitmq. The only place that knows that library.
//
// What it adds: bounded waits everywhere (connecting, the handshake, declarations, and writes to a
// broker that stopped reading: TCP_USER_TIMEOUT), login properties with the capabilities that make
// a broker tell us about cancelled consumers and blocked publishers, TLS, and frames put together
// into messages with a limit on their size. Heartbeats are sent and watched inside next_event(), by
// the system's clock. One thread at a time.
#pragma once

#include <memory>

#include "api/amqp/amqp_options.h"
#include "api/amqp/broker_link.h"
#include "api/amqp/transport_url.h"

namespace kumoi::amqp {

// Connects and logs in; waits at most about twice options.connect_timeout_ms. Unauthenticated: the
// broker refused user, password or vhost.
Result<std::unique_ptr<BrokerLink>> connect_rabbit(const TransportUrl::Host& host,
                                                   const std::string& vhost,
                                                   const AmqpOptions& options,
                                                   const std::string& connection_name);

}  // namespace kumoi::amqp
