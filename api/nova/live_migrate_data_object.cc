#include "api/nova/live_migrate_data_object.h"

#include "compute/clients/vif_json.h"

namespace kumoi::nova {
namespace {

constexpr char kClass[] = "LibvirtLiveMigrateData";
constexpr char kVifClass[] = "VIFMigrateData";

// The interface as the source has it, with what conductor was told of its binding there.
Result<compute::VifInfo> vif_from(const NovaObject& object) {
    Json vif = TRY(Json::parse(object.text("source_vif")));
    if (!vif.is_object()) {
        return Error::invalid("source_vif of port {} is no object", object.text("port_id"));
    }
    if (const std::string type = object.text("vif_type"); !type.empty()) {
        vif.set("type", type);
        vif.set("vnic_type", object.text("vnic_type", "normal"));
        for (const auto& [field, member] :
             {std::pair{"vif_details_json", "details"}, std::pair{"profile_json", "profile"}}) {
            if (const std::string text = object.text(field); !text.empty()) {
                vif.set(member, TRY(Json::parse(text)));
            }
        }
        vif.set("active", false);  // there
    }
    return clients::parse_vif(vif);
}

// As pre_live_migration and conductor expect them: one for each port.
Json vif_objects(const ObjectTable& table, const std::vector<compute::VifInfo>& vifs) {
    Json all = Json::array();
    for (const compute::VifInfo& vif : vifs) {
        NovaObject object = NovaObject::make(table, kVifClass);
        object.set("port_id", vif.port_id);
        object.set("source_vif", clients::vif_text(vif));
        all.push_back(object.primitive());
    }
    return all;
}

}  // namespace

Result<compute::LiveMigrateData> live_migrate_data_from(const NovaObject& object) {
    if (object.name() != kClass) {
        return Error::unsupported("Live migration data are of class {}, and only {} is understood",
                                  object.name(), kClass)
            .with_hint("Both hosts must be kumoi nodes.")
            .with_fault("MigrationPreCheckError");
    }
    compute::LiveMigrateData data;
    data.wire = object.primitive();
    data.facts = object.text("filename");
    if (object.has("block_migration")) {
        data.block_migration = object.boolean("block_migration");
    }
    data.disk_over_commit = object.boolean("disk_over_commit");
    data.is_volume_backed = object.boolean("is_volume_backed");
    data.is_shared_instance_path = object.boolean("is_shared_instance_path");
    data.arrival = object.text("target_connect_addr");
    data.wait_for_vif_plugged = object.boolean("wait_for_vif_plugged");
    const Json* old = object.get("old_vol_attachment_ids");
    if (old != nullptr && old->is_object()) {
        for (const auto& [volume, id] : old->as_object()) {
            data.old_attachment_ids[volume] = id.is_string() ? id.as_string() : "";
        }
    }
    if (const auto migration = object.object("migration"); migration.ok()) {
        data.migration_uuid = migration->text("uuid");
    }
    if (object.has("vifs")) {
        for (const NovaObject& vif : TRY(object.objects("vifs"))) {
            data.vifs.push_back(TRY(vif_from(vif)));
        }
    }
    return data;
}

Result<NovaObject> live_migrate_data_object(const ObjectTable& table,
                                            const compute::LiveMigrateData& data,
                                            const Json& migration) {
    NovaObject object = data.wire.is_object() ? TRY(NovaObject::parse(table, data.wire))
                                              : NovaObject::make(table, kClass);
    object.set("filename", data.facts);
    object.set("image_type", "default");
    if (data.block_migration) {
        object.set("block_migration", *data.block_migration);
    }
    object.set("disk_over_commit", data.disk_over_commit);
    object.set("is_volume_backed", data.is_volume_backed);
    object.set("is_shared_instance_path", data.is_shared_instance_path);
    object.set("is_shared_block_storage", data.is_shared_instance_path);
    if (!data.arrival.empty()) {
        object.set("target_connect_addr", data.arrival);
        object.set("wait_for_vif_plugged", data.wait_for_vif_plugged);
        Json old = Json::object();
        for (const auto& [volume, id] : data.old_attachment_ids) {
            old.set(volume, id);
        }
        object.set("old_vol_attachment_ids", std::move(old));
    }
    const Json* vifs = object.get("vifs");
    if (vifs == nullptr || vifs->size() == 0) {  // conductor looks for them, if only for none
        object.set("vifs", vif_objects(table, data.vifs));
    }
    if (migration.is_object()) {
        object.set("migration", migration);
    }
    return object;
}

}  // namespace kumoi::nova
