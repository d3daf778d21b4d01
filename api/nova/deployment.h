// What a node finds out about its deployment before it can work: that a nova-conductor answers, and
// of which release the conductors are.
#pragma once

#include <string>

#include "api/amqp/rpc_client.h"
#include "api/nova/release.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/random.h"
#include "base/result.h"

namespace kumoi::nova {

// Asks until one answers: ten times with 10 s, then for ever with 60 s, as nova-compute does.
// Cancelled when a signal stops the loop meanwhile.
Result<void> wait_for_conductor(amqp::RpcClient& rpc, const Clock& clock, Random& random,
                                EventLoop& loop);

// `name` is the option [kumoi] release; "auto": by the newest nova-conductor's Service.version.
Result<Release> find_release(amqp::RpcClient& rpc, const std::string& name, const Clock& clock,
                             Random& random);

}  // namespace kumoi::nova
