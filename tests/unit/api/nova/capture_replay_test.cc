// What a real nova-compute was asked and what it then told nova-conductor (tests/data/captures),
// asked of our node again: the same action events, the same task_states and vm_states in the same
// order, the same casts, the same records touched, and a record that says the same at the end. What
// we do differently on purpose is in tests/data/captures/differences.json, each with its reason; a
// line there that is not needed any more fails too. REST calls are compared by the clients' tests.
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "compute/clients/vif_json.h"
#include "tests/support/nova_world.h"

namespace kumoi::nova {
namespace {

using test::NovaWorld;

const std::string kFolder = "tests/data/captures/";

Json load(const std::string& name) {
    const auto text = read_file(kFolder + name);
    EXPECT_TRUE(text.ok()) << name;
    auto json = Json::parse(text.ok() ? *text : "null");
    EXPECT_TRUE(json.ok()) << name;
    return json.ok() ? *json : Json();
}

std::vector<std::string> captures() {
    std::vector<std::string> names;
    for (const auto& file : std::filesystem::directory_iterator(kFolder)) {
        const std::string name = file.path().filename();
        if (name.ends_with(".json") && name != "differences.json") {
            names.push_back(name.substr(0, name.size() - 5));
        }
    }
    std::ranges::sort(names);
    return names;
}

std::vector<std::string> words_of(const std::string& line) {
    std::vector<std::string> words;
    for (size_t begin = 0; begin < line.size();) {
        const size_t end = std::min(line.find(' ', begin), line.size());
        words.push_back(line.substr(begin, end - begin));
        begin = end + 1;
    }
    return words;
}

// What a caller or another service can tell apart.
struct Story {
    std::string events, tasks, states, casts;
    std::set<std::string> writes;

    void add(const std::string& line) {
        const auto words = words_of(line);
        if (words[0] == "cast") {
            casts += " " + words[1];
            return;
        }
        if (words[0].starts_with("InstanceActionEvent.")) {
            const bool starts = words[0].ends_with("event_start");
            const bool failed = words.size() > 2 && words[2] == "failed";
            events += std::string(starts ? " +" : failed ? " !" : " -") + words[1];
            return;
        }
        if (!words[0].ends_with(".save")) {
            writes.insert(words[0]);
            return;
        }
        for (size_t i = 1; i < words.size() && words[i] != "if"; ++i) {
            const size_t equals = words[i].find('=');
            const std::string field = words[i].substr(0, equals);
            const std::string value =
                equals == std::string::npos ? "" : words[i].substr(equals + 1);
            writes.insert(words[0] + " " + field);
            if (words[0] == "Instance.save" && field == "task_state") {
                append(tasks, value);
            } else if (words[0] == "Instance.save" && field == "vm_state") {
                append(states, value);
            }
        }
    }

private:
    // A save that repeats what the record says tells nothing.
    static void append(std::string& all, const std::string& value) {
        if (!all.ends_with(" " + value)) {
            all += " " + value;
        }
    }
};

std::string value_of(const Json& data, const std::string& field) {
    const Json* value = data.find(field);
    return value == nullptr ? "unset" : value->dump();
}

// As cut.py writes a message of Nova's.
std::optional<std::string> line_of(const test::NovaDatabase::Sent& message) {
    const Json& args = message.args;
    const std::string verb = args.string_or("objmethod");
    if (verb.starts_with("get_") || verb == "refresh") {
        return std::nullopt;
    }
    if (message.method == "object_class_action_versions") {
        std::string line = args.string_or("objname") + "." + verb;
        if (args.string_or("objname") == "InstanceActionEvent") {
            line += " " + args.find("args")->as_array().at(1).as_string();
            const Json* failure = args.find_path({"kwargs", "exc_val"});
            line += failure != nullptr && !failure->is_null() ? " failed" : "";
        }
        return line;
    }
    if (message.method != "object_action") {
        return "cast " + message.method;
    }
    const Json& object = *args.find("objinst");
    const std::string name = object.string_or("nova_object.name");
    if (name == "ComputeNode" || name == "Service") {
        return std::nullopt;  // own_records()
    }
    std::string line = name + "." + verb;
    const Json* changes = object.find("nova_object.changes");
    if ((verb == "save" || verb == "create") && changes != nullptr) {
        for (const Json& field : changes->as_array()) {
            line += " " + field.as_string();
            if (field.as_string().ends_with("_state")) {
                line += "=" + value_of(*object.find("nova_object.data"), field.as_string());
            }
        }
    }
    return line;
}

void compare(const std::string& what, const std::string& nova, const std::string& kumoi,
             const Json& differences) {
    const Json* known = differences.find(what);
    if (known == nullptr) {
        EXPECT_EQ(kumoi, nova) << what;
        return;
    }
    EXPECT_FALSE(known->string_or("why").empty()) << what;
    EXPECT_EQ(kumoi, known->string_or("kumoi")) << what;
    EXPECT_NE(kumoi, nova) << what << ": not different any more";
}

class CaptureReplay : public testing::TestWithParam<std::string> {
protected:
    // The host as it was: the server of the request with its guest, ports and images.
    void prepare() {
        world.schedulers_hear = true;
        world.with_moves = true;
        world.driver.peer = &other;
        world.database.peers = [this](const std::string&, const std::string& method, Json args) {
            return other_host(method, std::move(args));
        };
        if (!GetParam().starts_with("00-")) {  // hosts that are known already
            world.database.nodes = {{"cn1", "aaaaaaaa-0000-4000-8000-000000000001"},
                                    {"cn2", "aaaaaaaa-0000-4000-8000-000000000002"}};
        }
        if (capture.bool_or("starts")) {
            return;
        }
        world.start_node();
        for (const Json& request : capture.find("received")->as_array()) {
            const Json* instance = request.find_path({"args", "instance"});
            const Json* instances = request.find_path({"args", "instances"});
            if (instance != nullptr) {
                place(*instance, request.string_or("method"));
            } else if (instances != nullptr && instances->is_array()) {
                for (const Json& one : instances->as_array()) {
                    place(one, request.string_or("method"));
                }
            }
        }
        (void)world.manager->update_available_resource();
    }
    // The other end of a live migration, which was a Nova too.
    Result<Json> other_host(const std::string& method, Json args) {
        if (method == "check_can_live_migrate_source") {
            Json data = *args.find("dest_check_data");
            data["nova_object.data"].set("is_volume_backed", false);
            return data;
        }
        if (method == "pre_live_migration") {
            const Json& server = *args.find_path({"instance", "nova_object.data", "uuid"});
            other.owners[server.as_string()] = compute::GuestOwner::Incoming;
            Json data = *args.find("migrate_data");
            data["nova_object.data"].set("target_connect_addr", "there");
            return data;
        }
        return Json();
    }
    static Json whole(const Json& instance) {
        Json row = instance;
        Json& fields = row["nova_object.data"];
        for (const char* field : {"task_state", "host", "node"}) {
            if (!fields.contains(field)) {
                fields.set(field, nullptr);
            }
        }
        return row;
    }
    void place(const Json& instance, const std::string& method) {
        const Json& data = *instance.find("nova_object.data");
        const std::string uuid = data.string_or("uuid");
        if (!world.database.primitive(uuid).is_null()) {
            return;
        }
        world.database.add(whole(instance));
        world.database.allocations.insert(uuid);
        const std::string vm_state = data.string_or("vm_state");
        const bool is_left = method == "confirm_resize" || method == "finish_revert_resize";
        if (is_left) {
            world.driver.kept[uuid] = "disk";
        }
        const bool elsewhere = data.string_or("host") != world.host;
        if (elsewhere && method.starts_with("check_can")) {
            add_ports(uuid, data);
        }
        if (method == "build_and_run_instance" || vm_state == "shelved_offloaded" || is_left ||
            elsewhere) {
            return;
        }
        add_ports(uuid, data);
        const bool runs = vm_state == "active" || vm_state == "resized";
        world.driver.set_guest(uuid, runs                   ? compute::power_states::kRunning
                                     : vm_state == "paused" ? compute::power_states::kPaused
                                                            : compute::power_states::kShutdown);
    }
    void add_ports(const std::string& uuid, const Json& data) {
        const Json* networks = data.find_path({"info_cache", "nova_object.data", "network_info"});
        if (networks != nullptr && networks->is_string()) {
            world.network.change_ports(uuid, [&](std::vector<compute::VifInfo>& ports) {
                ports = clients::parse_network_info(networks->as_string()).value();
                for (const compute::VifInfo& port : ports) {
                    add_record(uuid, port);
                }
            });
        }
    }
    void add_record(const std::string& uuid, const compute::VifInfo& port) {
        NovaObject record =
            NovaObject::make(ObjectTable::of(nova::Release::Zed), "VirtualInterface");
        record.set("uuid", port.port_id);
        record.set("instance_uuid", uuid);
        record.set("address", port.mac + "/" + port.port_id);
        record.set("tag", nullptr);
        world.database.vifs[port.port_id] = record.primitive();
    }
    // A volume that Cinder knows, and its record, whole or as far as an id tells.
    void add_volume(const std::string& server, const std::string& volume,
                    const std::string& attachment, const Json* record) {
        world.cinder.volumes.try_emplace(
            volume, compute::VolumeRecord{.id = volume, .status = "available", .size_gb = 1});
        if (!attachment.empty()) {
            world.cinder.attached[attachment] = {volume, server, false, false};
        }
        if (record != nullptr) {
            const int64_t id = record->find("nova_object.data")->integer_or("id");
            world.database.block_devices[id] = *record;
            return;
        }
        Json device = *NovaWorld::arguments_of("compute.attach_volume").find("bdm");
        Json& data = device["nova_object.data"];
        data.set("id", 1);
        data.set("instance_uuid", server);
        data.set("volume_id", volume);
        data.set("attachment_id", attachment);
        world.database.block_devices[1] = device;
        if (world.driver.attach_volume(server_of(server), {.volume_id = volume}).ok()) {
            world.volume_host.running.insert({server, volume});
        }
    }
    static compute::Instance server_of(const std::string& uuid) {
        compute::Instance server;
        server.uuid = uuid;
        return server;
    }
    void add_volumes(const std::string& method, Json& args) {
        Json* device = args.find("bdm");
        const Json* devices =
            args.find_path({"block_device_mapping", "nova_object.data", "objects"});
        const Json* uuid = args.find_path({"instance", "nova_object.data", "uuid"});
        if (device != nullptr) {  // the record that was made before
            (*device)["nova_object.data"].set("id", world.database.block_devices.rbegin()->first);
            const Json& data = *device->find("nova_object.data");
            add_volume(uuid->as_string(), data.string_or("volume_id"),
                       data.string_or("attachment_id"), device);
        } else if (devices != nullptr) {
            for (const Json& one : devices->as_array()) {
                add_volume(uuid->as_string(), "a volume", "", &one);
            }
        } else if (method == "detach_volume") {
            add_volume(uuid->as_string(), args.string_or("volume_id"),
                       args.string_or("attachment_id"), nullptr);
        } else if (method == "swap_volume") {
            add_volume(uuid->as_string(), args.string_or("old_volume_id"), "old", nullptr);
            const std::string fresh = args.string_or("new_volume_id");
            world.cinder.volumes[fresh] = {.id = fresh, .status = "attaching", .size_gb = 1};
            world.cinder.attached[args.string_or("new_attachment_id")] = {fresh, uuid->as_string(),
                                                                          false, false};
        } else if (GetParam().starts_with("47-") && method.starts_with("check_can")) {
            add_volume(uuid->as_string(), "35952857-f40e-45cf-acc9-bc86c7cfb161", "old", nullptr);
        } else if (GetParam().starts_with("46-") && method == "external_instance_event") {
            const Json& event = args.find("events")->as_array()[0];
            const Json& data = *event.find("nova_object.data");
            add_volume(data.string_or("instance_uuid"), data.string_or("tag"), "one", nullptr);
        }
    }
    void add_images(const Json& args) {
        const std::string id = args.string_or("image_id");
        if (!id.empty()) {
            compute::ImageMeta queued;
            queued.id = id;
            world.images.add_queued(queued);
        }
        const Json* metadata = args.find_path({"instance", "nova_object.data", "system_metadata"});
        for (const char* key : {"shelved_image_id", "image_base_image_ref"}) {
            if (metadata != nullptr && metadata->contains(key)) {
                compute::ImageMeta active;
                active.id = metadata->string_or(key);
                world.images.add(active, "bytes");
            }
        }
    }
    void replay() {
        for (const Json& request : capture.find("received")->as_array()) {
            const std::string method = request.string_or("method");
            Json args = *request.find("args");
            add_images(args);
            add_volumes(method, args);
            if (method == "post_live_migration_at_destination") {  // the guest has come meanwhile
                const Json& server = *args.find_path({"instance", "nova_object.data", "uuid"});
                world.driver.owners.clear();
                world.driver.set_guest(server.as_string(), compute::power_states::kRunning);
            }
            if (const Json* migration = args.find("migration")) {
                world.database.migrations = {*migration};
                Json instance = whole(*args.find("instance"));  // as the other host left it
                if (method != "prep_resize") {
                    instance["nova_object.data"].set(
                        "migration_context", context_of(*migration->find("nova_object.data")));
                }
                world.database.add(std::move(instance));
            }
            if (method == "finish_resize") {
                args.set("disk_info", "data:disk");  // the driver's own words
            }
            if (Json* instance = args.find("instance")) {
                const Json now =
                    world.database.primitive(instance->find("nova_object.data")->string_or("uuid"));
                args.set("instance", now);
            }
            (void)world.request(method, std::move(args), request.string_or("version"));
        }
    }
    static Json context_of(const Json& migration) {
        return Json::object(
            {{"nova_object.name", "MigrationContext"},
             {"nova_object.namespace", "nova"},
             {"nova_object.version", "1.2"},
             {"nova_object.data", Json::object({{"instance_uuid", *migration.find("instance_uuid")},
                                                {"migration_id", *migration.find("id")}})}});
    }
    // Nobody asked this host for anything: its daemon started, or others changed a record.
    void live_on() {
        if (capture.bool_or("starts")) {
            start();
            return;
        }
        Json instance = *NovaWorld::build_arguments().find("instance");
        Json& data = instance["nova_object.data"];
        for (const auto& [field, value] :
             std::initializer_list<std::pair<const char*, Json>>{{"vm_state", "active"},
                                                                 {"task_state", nullptr},
                                                                 {"power_state", 1},
                                                                 {"host", world.host},
                                                                 {"node", world.host}}) {
            data.set(field, value);
        }
        for (const Json& uuid : capture.find("servers")->as_array()) {
            data.set("uuid", uuid);
            const Json* before = capture.find_path({"before", uuid.as_string()});
            if (before != nullptr) {
                for (const auto& [field, value] : before->as_object()) {
                    if (!value.is_null()) {
                        data.set(field, value);
                    }
                }
            }
            place(instance, "");
            const Json after = after_of(uuid.as_string());
            for (const auto& [field, value] : after.as_object()) {
                world.database.set(uuid.as_string(), field == "deleted" ? "deleted" : field,
                                   field == "deleted" ? Json(value.dump() != "0") : value);
            }
        }
        if (GetParam().starts_with("02-")) {
            world.manager->stop();
            return;
        }
        world.let_time_pass();
    }
    Json after_of(const std::string& uuid) const {
        const Json* after = capture.find_path({"after", uuid});
        return after == nullptr ? Json::object() : *after;
    }
    void start() {
        if (const Json* evacuated = capture.find("evacuated")) {
            for (const Json& one : evacuated->as_array()) {
                Json instance = whole(*one.find("instance"));
                instance["nova_object.data"].set("host", "cn2");
                instance["nova_object.data"].set("task_state", nullptr);
                world.database.add(instance);
                Json migration = *one.find("migration");
                migration["nova_object.data"].set("status", "done");
                world.database.migrations.push_back(migration);
                const std::string uuid = instance.find("nova_object.data")->string_or("uuid");
                world.driver.set_guest(uuid, compute::power_states::kRunning);
            }
        }
        world.start_node();
        EXPECT_TRUE(world.node->register_service().ok());
        EXPECT_TRUE(world.manager->update_available_resource().ok());
        world.manager->heartbeat();
        std::set<std::string> nova;
        for (const Json& one : capture.find("records")->as_array()) {
            nova.insert(one.as_string());
        }
        const auto made = world.database.own_records();
        compare("records", fmt::format("{}", fmt::join(nova, " ")),
                fmt::format("{}", fmt::join(made, " ")), here);
    }
    // What went wrong in the capture goes wrong here too.
    void fail_as_then() {
        const Json* failure = here.find("fails");
        if (failure == nullptr) {
            return;
        }
        world.log.fail = [call = failure->string_or("call"),
                          fault = failure->string_or("fault")](const std::string& name) {
            return name == call ? Result<void>(Error::unavailable("as captured").with_fault(fault))
                                : Result<void>();
        };
    }
    std::vector<std::string> passed_on() const {
        std::vector<std::string> methods;
        for (const auto& delivery : world.database.deliveries) {
            methods.push_back(delivery.method);
        }
        return methods;
    }
    Story ours() const {
        static const std::set<std::string> kToHosts = {
            "resize_instance",      "finish_resize",
            "finish_revert_resize", "check_can_live_migrate_source",
            "pre_live_migration",   "post_live_migration_at_destination"};
        Story story;
        for (const auto& message : world.database.sent) {
            if (kToHosts.contains(message.method)) {
                continue;  // passed_on()
            }
            if (const auto line = line_of(message)) {
                story.add(*line);
            }
        }
        return story;
    }

    const Json capture = load(GetParam() + ".json");
    const Json all = load("differences.json");
    const Json here = all.find(GetParam()) == nullptr ? Json::object() : *all.find(GetParam());
    NovaWorld world{std::make_shared<test::NovaCloud>(), capture.string_or("host")};
    compute::moving::MovingDriver other{world.log};
};

// Writes that one of the two does not make: each for a reason that holds everywhere, or here.
void compare_writes(const std::set<std::string>& nova, const std::set<std::string>& kumoi,
                    const Json& everywhere, const Json& here) {
    const auto expect_known = [&](const std::set<std::string>& some,
                                  const std::set<std::string>& others, const char* side) {
        for (const std::string& write : some) {
            const Json* general = everywhere.find(side);
            const Json* special = here.find(side);
            const bool known = (general != nullptr && general->contains(write)) ||
                               (special != nullptr && special->contains(write));
            EXPECT_TRUE(others.contains(write) || known) << side << ": " << write;
        }
    };
    expect_known(nova, kumoi, "only nova");
    expect_known(kumoi, nova, "only kumoi");
}

TEST_P(CaptureReplay, WeTellConductorWhatNovaTells) {
    prepare();
    fail_as_then();
    world.database.sent.clear();
    if (capture.find("received")->as_array().empty()) {
        live_on();
    } else {
        replay();
    }
    Story nova;
    for (const Json& line : capture.find("sent")->as_array()) {
        nova.add(line.as_string());
    }
    const Story kumoi = ours();
    compare("events", nova.events, kumoi.events, here);
    compare("tasks", nova.tasks, kumoi.tasks, here);
    compare("states", nova.states, kumoi.states, here);
    compare("casts", nova.casts, kumoi.casts, here);
    std::vector<std::string> methods;
    if (const Json* passed = capture.find("passes_on")) {
        for (const Json& method : passed->as_array()) {
            methods.push_back(method.as_string());
        }
    }
    compare("passes on", fmt::format("{}", fmt::join(methods, " ")),
            fmt::format("{}", fmt::join(passed_on(), " ")), here);
    compare_writes(nova.writes, kumoi.writes, *all.find("everywhere"), here);
    for (const auto& [uuid, after] : capture.find("after")->as_object()) {
        if (world.database.primitive(uuid).is_null()) {
            continue;
        }
        const Json record = world.database.primitive(uuid);
        const Json& row = *record.find("nova_object.data");
        for (const auto& [field, value] : after.as_object()) {
            if (field == "deleted") {
                compare("after deleted", value.dump() == "0" ? "no" : "yes",
                        row.bool_or("deleted") ? "yes" : "no", here);
            } else if (field == "host" || field == "node") {
                compare("after " + field, value.is_null() ? "none" : "a host",
                        row.string_or(field).empty() ? "none" : "a host", here);
            } else {
                compare("after " + field, value.dump(), value_of(row, field), here);
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Captures, CaptureReplay, testing::ValuesIn(captures()),
                         [](const auto& test) {
                             std::string name = test.param;
                             std::ranges::replace_if(
                                 name, [](char letter) { return letter == '-' || letter == '.'; },
                                 '_');
                             return name;
                         });

}  // namespace
}  // namespace kumoi::nova
