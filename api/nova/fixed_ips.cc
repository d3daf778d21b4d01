#include "api/nova/fixed_ips.h"

#include "compute/manager/verb.h"

namespace kumoi::nova {

Result<void> FixedIps::add(const compute::RequestContext& context, const std::string& uuid,
                           const std::string& network_id) {
    return change(context, uuid, "compute_add_fixed_ip_to_instance",
                  [&](const compute::Instance& instance) {
                      return borders_.ports.add_fixed_ip(context, instance, network_id);
                  });
}

Result<void> FixedIps::remove(const compute::RequestContext& context, const std::string& uuid,
                              const std::string& address) {
    return change(context, uuid, "compute_remove_fixed_ip_from_instance",
                  [&](const compute::Instance& instance) {
                      return borders_.ports.remove_fixed_ip(context, instance, address);
                  });
}

Result<void> FixedIps::refresh(const compute::RequestContext& context, const std::string& uuid) {
    return borders_.manager.external_instance_event(
        context, uuid, {.kind = compute::ServerEvent::Kind::NetworkChanged, .port_id = {}});
}

// No action's event belongs to these: the start and the end are told to listeners alone.
Result<void> FixedIps::change(const compute::RequestContext& context, const std::string& uuid,
                              const std::string& event,
                              const std::function<Result<void>(const compute::Instance&)>& work) {
    borders_.conductor.announce_start(context, uuid, event);
    auto changed = [&]() -> Result<void> {
        TRY(work(TRY(borders_.conductor.instance_get(uuid))));
        TRY(refresh(context, uuid));
        return borders_.conductor.touch(uuid);
    }();
    if (!changed.ok() && !compute::is_instance_gone(changed.error())) {
        compute::warn_unless_ok(borders_.conductor.fault_create(
                                    uuid, compute::fault_from(changed.error(), borders_.clock)),
                                "the fault was not recorded");
    }
    borders_.conductor.announce_end(context, uuid, event,
                                    changed.ok() ? std::nullopt : std::optional(changed.error()));
    return changed;
}

}  // namespace kumoi::nova
