#include "api/nova/vif_records.h"

#include "api/nova/oslo_context.h"
#include "compute/device_tags.h"
#include "compute/manager/verb.h"
#include "compute/nic_slots.h"

namespace kumoi::nova {

Json VifRecords::wire(const Context& context) {
    return elevated(wire_context(context, clock_, random_));
}

Result<void> VifRecords::record(const Context& context, const Instance& instance,
                                const VifInfo& vif) {
    NovaObject object = NovaObject::make(objects_.table(), "VirtualInterface");
    object.set("address", vif.mac + "/" + vif.port_id);  // a MAC may be there twice
    object.set("instance_uuid", instance.uuid);
    object.set("uuid", vif.port_id);
    object.set("tag", vif.tag.empty() ? Json() : Json(vif.tag));
    TRY(objects_.action(wire(context), object, "create"));
    return {};
}

Result<void> VifRecords::forget(const Context& context, const std::string& port_id) {
    auto object = objects_.class_object(wire(context), "VirtualInterface", "get_by_uuid",
                                        text_arguments({port_id}));
    if (!object.ok()) {
        return object.error().code == ErrorCode::NotFound ? Result<void>()
                                                          : Result<void>(std::move(object).error());
    }
    object->reset_changes();
    TRY(objects_.action(wire(context), *object, "destroy"));
    return {};
}

Result<std::vector<compute::VifInfo>> VifRecords::allocate_for_instance(
    const Context& context, const Instance& instance,
    const std::vector<RequestedNetwork>& requested) {
    auto vifs = TRY(network_.allocate_for_instance(context, instance, requested));
    tag_vifs(vifs, requested);
    for (const VifInfo& vif : vifs) {
        if (compute::find_vif(instance.network_info, vif.port_id) != nullptr) {
            continue;  // of an earlier try
        }
        auto recorded = record(context, instance, vif);
        if (!recorded.ok()) {
            compute::warn_unless_ok(deallocate_for_instance(context, instance),
                                    "ports without a record stay");
            return std::move(recorded).error();
        }
    }
    return vifs;
}

Result<void> VifRecords::deallocate_for_instance(const Context& context, const Instance& instance) {
    TRY(network_.deallocate_for_instance(context, instance));
    TRY(objects_.class_action(wire(context), "VirtualInterface", "delete_by_instance_uuid",
                              text_arguments({instance.uuid})));
    return {};
}

Result<compute::VifInfo> VifRecords::allocate_port_for_instance(const Context& context,
                                                                const Instance& instance,
                                                                const RequestedNetwork& requested) {
    VifInfo vif = TRY(network_.allocate_port_for_instance(context, instance, requested));
    vif.tag = requested.tag.value_or("");
    auto recorded = record(context, instance, vif);
    if (!recorded.ok()) {
        compute::warn_unless_ok(
            network_.deallocate_port_for_instance(context, instance, vif.port_id),
            "a port without a record stays");
        compute::warn_unless_ok(forget(context, vif.port_id), "the record of no port stays");
        return std::move(recorded).error();
    }
    return vif;
}

Result<void> VifRecords::deallocate_port_for_instance(const Context& context,
                                                      const Instance& instance,
                                                      const std::string& port_id) {
    TRY(network_.deallocate_port_for_instance(context, instance, port_id));
    return forget(context, port_id);
}

Result<std::vector<compute::RequestedNetwork>> VifRecords::validate_networks(
    const Context& context, std::vector<RequestedNetwork> requested, bool automatic,
    const std::vector<std::string>& security_groups) {
    return network_.validate_networks(context, std::move(requested), automatic, security_groups);
}

Result<std::vector<compute::VifInfo>> VifRecords::network_info(const std::string& instance_uuid) {
    return network_.network_info(instance_uuid);
}

Result<std::vector<compute::VifInfo>> VifRecords::refresh(const Context& context,
                                                          const Instance& instance) {
    return network_.refresh(context, instance);
}

Result<void> VifRecords::rebind(const Context& context, const Instance& instance,
                                const std::string& host) {
    return network_.rebind(context, instance, host);
}

Result<void> VifRecords::unbind(const Context& context, const Instance& instance) {
    return network_.unbind(context, instance);
}

Result<void> VifRecords::set_migrating_to(const Context& context, const Instance& instance,
                                          const std::string& source,
                                          const std::string& destination) {
    return network_.set_migrating_to(context, instance, source, destination);
}

Result<void> VifRecords::activate_bindings(const Context& context, const Instance& instance,
                                           const std::string& host) {
    return network_.activate_bindings(context, instance, host);
}

Result<void> VifRecords::delete_bindings(const Context& context, const Instance& instance,
                                         const std::string& host) {
    return network_.delete_bindings(context, instance, host);
}

}  // namespace kumoi::nova
