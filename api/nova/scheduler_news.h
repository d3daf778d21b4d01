// SchedulerNews: tells every nova-scheduler which servers this host has (fanout casts, version 4.2
// of its RPC), so that affinity filters see them before the database is asked. Only with
// [filter_scheduler] track_instance_changes; nothing depends on their arrival. Any thread.
#pragma once

#include <string>
#include <vector>

#include "api/amqp/rpc_client.h"
#include "api/nova/nova_object.h"
#include "base/clock.h"
#include "base/random.h"

namespace kumoi::nova {

class SchedulerNews {
public:
    SchedulerNews(amqp::RpcClient& rpc, const ObjectTable& table, std::string host,
                  const Clock& clock, Random& random, bool enabled)
        : rpc_(rpc),
          table_(table),
          host_(std::move(host)),
          clock_(clock),
          random_(random),
          enabled_(enabled) {}

    void updated(const NovaObject& instance);
    void deleted(const std::string& uuid);
    void all(const std::vector<std::string>& uuids);  // periodic: what the host has now

private:
    void tell(const std::string& method, Json args);
    amqp::RpcClient& rpc_;
    const ObjectTable& table_;
    const std::string host_;
    const Clock& clock_;
    Random& random_;
    const bool enabled_;
};

}  // namespace kumoi::nova
