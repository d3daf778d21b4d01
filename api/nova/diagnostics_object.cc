#include "api/nova/diagnostics_object.h"

namespace kumoi::nova {
namespace {

// Takes over each member of `values` that the object has a field for and whose value fits it.
NovaObject object_with(const ObjectTable& table, std::string_view name, const Json& values) {
    NovaObject object = NovaObject::make(table, name);
    const ObjectInfo& info = *table.find(name);
    if (!values.is_object()) {
        return object;
    }
    for (const auto& [key, value] : values.as_object()) {
        const auto field = info.fields.find(key);
        if (field != info.fields.end() && field->second.kind != FieldType::Kind::Object &&
            field->second.kind != FieldType::Kind::Items &&
            table.check(field->second, value, key).ok()) {
            object.set(key, value);
        }
    }
    return object;
}

Json list_of(const ObjectTable& table, std::string_view name, const Json* values) {
    Json list = Json::array();
    if (values != nullptr && values->is_array()) {
        for (const Json& value : values->as_array()) {
            list.push_back(object_with(table, name, value).primitive());
        }
    }
    return list;
}

}  // namespace

Json diagnostics_object(const ObjectTable& table, const Json& values) {
    NovaObject object = object_with(table, "Diagnostics", values);
    object.set("driver", "libvirt");
    object.set("hypervisor", "kumoi");
    object.set("cpu_details", list_of(table, "CpuDiagnostics", values.find("cpu_details")));
    object.set("nic_details", list_of(table, "NicDiagnostics", values.find("nic_details")));
    object.set("disk_details", list_of(table, "DiskDiagnostics", values.find("disk_details")));
    const Json* memory = values.find("memory_details");
    object.set(
        "memory_details",
        object_with(table, "MemoryDiagnostics", memory == nullptr ? Json() : *memory).primitive());
    return object.primitive();
}

}  // namespace kumoi::nova
