#include "api/nova/scheduler_news.h"

#include "api/nova/oslo_context.h"
#include "base/log.h"

namespace kumoi::nova {

void SchedulerNews::tell(const std::string& method, Json args) {
    if (!enabled_) {
        return;
    }
    amqp::Target target;
    target.topic = "scheduler";
    target.version = "4.2";
    target.fanout = true;
    const auto sent = rpc_.cast(target, admin_context(clock_, random_), method, std::move(args));
    if (!sent.ok()) {
        log_debug("nova", "schedulers were not told", {{"why", sent.error().text()}});
    }
}

void SchedulerNews::updated(const NovaObject& instance) {
    NovaObject list = NovaObject::make(table_, "InstanceList");
    Json objects = Json::array();
    objects.push_back(instance.primitive());
    list.set("objects", std::move(objects));
    list.reset_changes();
    tell("update_instance_info",
         Json::object({{"host_name", host_}, {"instance_info", list.primitive()}}));
}

void SchedulerNews::deleted(const std::string& uuid) {
    tell("delete_instance_info", Json::object({{"host_name", host_}, {"instance_uuid", uuid}}));
}

void SchedulerNews::all(const std::vector<std::string>& uuids) {
    tell("sync_instance_info",
         Json::object({{"host_name", host_}, {"instance_uuids", Json::array_of(uuids)}}));
}

}  // namespace kumoi::nova
