// Names that oslo.messaging's queue manager (use_queue_manager, 2026.1) gives to reply and fanout
// queues: `<host>:<process>:<number>`. The number counts up in a file in /dev/shm that the
// processes of one group share, so that a restarted service takes the queues it had. Any thread.
#pragma once

#include <string>

#include "api/amqp/amqp_options.h"

namespace kumoi::amqp {

std::string host_name(const AmqpOptions& options);     // hostname, or this machine's
std::string process_name(const AmqpOptions& options);  // processname, or "nova-compute"

// "host:process:1", then "host:process:2", ... A folder that cannot be written: a random part.
std::string managed_queue_name(const AmqpOptions& options, const std::string& folder = "/dev/shm");

}  // namespace kumoi::amqp
