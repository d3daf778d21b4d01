#include "api/nova/compute_endpoint.h"

#include <gtest/gtest.h>

#include "api/nova/oslo_context.h"
#include "tests/support/conductor_fakes.h"
#include "tests/support/golden_messages.h"
#include "tests/support/nova_node.h"

namespace kumoi::nova {
namespace {

using compute::conductor_fakes::ComputeApiFake;

class OneConsole final : public ConsolePorts {
public:
    Result<Json> connect(const Json& /*context*/, const std::string& uuid,
                         const std::string& type) override {
        asked = type + " " + uuid;
        return Json::object({{"port", 5900}});
    }
    bool is_valid(const std::string& /*uuid*/, const std::string& port,
                  const std::string& /*type*/) override {
        return port == "5900";
    }
    std::string asked;
};

class ScriptedPorts final : public PortAddresses {
public:
    Result<void> add_fixed_ip(const compute::RequestContext& /*context*/,
                              const compute::Instance& instance,
                              const std::string& network_id) override {
        asked.push_back("add " + instance.uuid + " " + network_id);
        return answer;
    }
    Result<void> remove_fixed_ip(const compute::RequestContext& /*context*/,
                                 const compute::Instance& instance,
                                 const std::string& address) override {
        asked.push_back("remove " + instance.uuid + " " + address);
        return answer;
    }
    std::vector<std::string> asked;
    Result<void> answer;
};

class ComputeEndpointTest : public testing::TestWithParam<Release>, protected test::NovaNode {
protected:
    ComputeEndpointTest() : NovaNode(GetParam(), "compute endpoint") {
        manager.finish_at_once = false;
        manager.conductor = &conductor;
    }

    Result<Json> handle(const std::string& method, Json args, const std::string& version = "6.0") {
        amqp::RpcRequest request;
        request.method = method;
        request.version = version;
        request.args = std::move(args);
        request.context = Json::object({{"request_id", "req-1"}, {"roles", Json::array()}});
        return endpoint.handle(request);
    }
    // What Nova's own client sends.
    Result<Json> replay(const std::string& method) {
        const Json message = test::golden_message(GetParam(), "compute." + method);
        return handle(method, *message.find("args"), message.string_or("version"));
    }

    ComputeApiFake manager{"cmp1"};
    compute::ExternalEvents events;
    OneConsole consoles;
    ScriptedPorts ports;
    FixedIps fixed_ips{{ports, conductor, manager, clock}};
    HostPower host_power{{}};
    ComputeEndpoint endpoint{
        {manager, conductor, objects, node, events, consoles, nullptr, &fixed_ips, &host_power}};
    const std::string uuid = "00000001-0000-4000-8000-000000000001";
};

INSTANTIATE_TEST_SUITE_P(Nova, ComputeEndpointTest,
                         testing::Values(Release::Zed, Release::Gazpacho));

TEST_P(ComputeEndpointTest, ABuildReachesTheManagerWithAllOfIt) {
    const auto answer = replay("build_and_run_instance");
    ASSERT_TRUE(answer.ok()) << answer.error().text();
    ASSERT_EQ(manager.builds.size(), 1u);
    const compute::BuildRequest& build = manager.builds[0];
    EXPECT_EQ(build.instance.uuid, uuid);
    EXPECT_EQ(build.instance.image.properties.at("hw_disk_bus"), "virtio");
    EXPECT_EQ(build.instance.image.size, 21430272u);
    EXPECT_EQ(build.instance.admin_password, "secret");
    EXPECT_EQ(build.instance.security_groups, std::vector<std::string>{"default"});
    ASSERT_EQ(build.requested_networks.size(), 1u);
    EXPECT_EQ(build.requested_networks[0].network_id, "00000091-0000-4000-8000-000000000091");
    EXPECT_EQ(build.instance.flavor.root_gb, 20);
    EXPECT_EQ(build.context.request_id, "req-1");
}

TEST_P(ComputeEndpointTest, ABuildWithoutNamedNetworksSaysWhichItMeans) {
    const Json message = test::golden_message(GetParam(), "compute.build_and_run_instance");
    const auto ask = [&](const std::string& network_id) {
        Json args = *message.find("args");
        Json& data = *args.find("requested_networks")->find("nova_object.data");
        Json& objects = *data.find("objects");
        if (network_id.empty()) {
            objects = Json::array();
        } else {
            objects.as_array()[0].find("nova_object.data")->set("network_id", network_id);
        }
        const auto answer = handle("build_and_run_instance", args, message.string_or("version"));
        EXPECT_TRUE(answer.ok()) << answer.error().text();
        return manager.builds.back().requested_networks;
    };
    EXPECT_TRUE(ask("none").empty());
    ASSERT_EQ(ask("").size(), 1u);  // the project's only network
    EXPECT_EQ(ask("")[0].network_id, std::nullopt);
    ASSERT_EQ(ask("auto").size(), 1u);
    EXPECT_EQ(ask("auto")[0].network_id, "auto");
}

TEST_P(ComputeEndpointTest, PowerVerbsReachTheManager) {
    for (const auto& [method, call] :
         std::map<std::string, std::string>{{"stop_instance", "stop"},
                                            {"start_instance", "start"},
                                            {"pause_instance", "pause"},
                                            {"terminate_instance", "terminate"},
                                            {"reboot_instance", "reboot soft"},
                                            {"snapshot_instance", "snapshot"},
                                            {"shelve_instance", "shelve"},
                                            {"rebuild_instance", "rebuild"}}) {
        const auto answer = replay(method);
        ASSERT_TRUE(answer.ok()) << method << ": " << answer.error().text();
        EXPECT_TRUE(answer->is_null());
        EXPECT_EQ(manager.calls.back(), call + " " + uuid);
    }
    EXPECT_EQ(manager.rebuild_password, "secret");
}

TEST_P(ComputeEndpointTest, CallsAnswer) {
    EXPECT_EQ(replay("get_console_output")->as_string(), "line 1\nline 2\nline 3\n");
    EXPECT_EQ(replay("get_vnc_console")->integer_or("port"), 5900);
    EXPECT_EQ(consoles.asked, "novnc " + uuid);
    EXPECT_EQ(replay("set_host_enabled")->as_string(), "disabled");
    EXPECT_NE(handle("get_host_uptime", Json::object())->as_string().find("up 0 days,  1:01"),
              std::string::npos);
    const Json instance =
        *test::golden_message(GetParam(), "compute.stop_instance").find_path({"args", "instance"});
    const auto diagnostics =
        handle("get_instance_diagnostics", Json::object({{"instance", instance}}));
    ASSERT_TRUE(diagnostics.ok());
    EXPECT_EQ(diagnostics->find_path({"nova_object.data", "driver"})->as_string(), "libvirt");
    EXPECT_TRUE(
        handle("validate_console_port",
               Json::object({{"instance", instance}, {"port", "5900"}, {"console_type", "novnc"}}))
            ->as_bool());
}

TEST_P(ComputeEndpointTest, EventsWakeWhoeverWaits) {
    const Json message = test::golden_message(GetParam(), "compute.external_instance_event");
    const Json* data =
        message.find_path({"args", "events"})->as_array()[0].find("nova_object.data");
    auto expected = events.expect(data->string_or("instance_uuid"),
                                  {data->string_or("name") + "-" + data->string_or("tag")});
    ASSERT_TRUE(replay("external_instance_event").ok());
    EXPECT_TRUE(expected.wait(0).ok());
}

TEST_P(ComputeEndpointTest, EventsThatAreWorkReachTheManager) {
    const Json message = test::golden_message(GetParam(), "compute.external_instance_event");
    const auto tell = [&](const char* name, const char* tag) {
        Json args = *message.find("args");
        Json event = args.find("events")->as_array()[0];
        Json& data = event["nova_object.data"];
        data.set("instance_uuid", uuid);
        data.set("name", name);
        data.set("tag", *tag == 0 ? Json() : Json(tag));
        args.set("events", Json(Json::Array{event}));
        const auto answer = handle("external_instance_event", args, message.string_or("version"));
        EXPECT_TRUE(answer.ok()) << answer.error().text();
    };
    tell("network-changed", "port-1");
    tell("network-vif-deleted", "port-1");
    tell("power-update", "POWER_ON");
    tell("power-update", "POWER_OFF");
    tell("power-update", "SIDEWAYS");
    tell("network-vif-unplugged", "port-1");
    EXPECT_EQ(manager.calls, (std::vector<std::string>{
                                 "network-changed " + uuid + " ", "vif-deleted " + uuid + " port-1",
                                 "power-on " + uuid + " ", "power-off " + uuid + " "}));
}

TEST_P(ComputeEndpointTest, VolumesReachTheManager) {
    const auto reserved = replay("reserve_block_device_name");
    ASSERT_TRUE(reserved.ok()) << reserved.error().text();
    EXPECT_EQ(reserved->string_or("nova_object.name"), "BlockDeviceMapping");
    EXPECT_EQ(reserved->find_path({"nova_object.data", "device_name"})->as_string(), "/dev/vdb");
    EXPECT_TRUE(reserved->find_path({"nova_object.data", "boot_index"})->is_null());
    ASSERT_TRUE(replay("attach_volume").ok());
    EXPECT_EQ(manager.calls.back().substr(0, 14 + uuid.size()), "attach_volume " + uuid);
    const Json instance =
        *test::golden_message(GetParam(), "compute.stop_instance").find_path({"args", "instance"});
    const Json args = Json::object({{"instance", instance},
                                    {"volume_id", "v"},
                                    {"attachment_id", "a"},
                                    {"old_volume_id", "v"},
                                    {"new_volume_id", "w"},
                                    {"new_attachment_id", "b"},
                                    {"extended_volume_id", "v"}});
    for (const char* method :
         {"detach_volume", "swap_volume", "extend_volume", "remove_volume_connection"}) {
        const auto answer = handle(method, args);
        EXPECT_TRUE(answer.ok()) << method << ": " << answer.error().text();
    }
    EXPECT_EQ(std::vector<std::string>(manager.calls.end() - 4, manager.calls.end()),
              (std::vector<std::string>{
                  "detach_volume " + uuid + " v", "swap_volume " + uuid + " w",
                  "volume-extended " + uuid + " v", "remove_volume_connection " + uuid + " v"}));
}

TEST_P(ComputeEndpointTest, EveryMethodOfNovaIsAnsweredOrRefusedByAnExceptionOfNova) {
    std::set<std::string> methods;
    for (const Json& message : test::golden_messages(GetParam())) {
        if (message.string_or("routing_key").starts_with("compute")) {
            methods.insert(message.string_or("method"));
            const auto answer = handle(message.string_or("method"), *message.find("args"),
                                       message.string_or("version"));
            EXPECT_TRUE(answer.ok() || !answer.error().fault.empty())
                << message.string_or("method") << ": " << answer.error().text();
            EXPECT_TRUE(answer.ok() || answer.error().fault != "NoSuchMethod")
                << message.string_or("method");
        }
    }
    EXPECT_GE(methods.size(), 25u);
    EXPECT_EQ(ComputeEndpoint::methods().size(), 76u);
    const auto page = read_file("docs/reference/nova-rpc.md");
    ASSERT_TRUE(page.ok());
    for (const std::string_view method : ComputeEndpoint::methods()) {
        EXPECT_NE(page->find(fmt::format("| {} |", method)), std::string::npos) << method;
    }
}

TEST_P(ComputeEndpointTest, AddressesChangeInNeutronAndAreReadAgain) {
    const Json instance =
        *test::golden_message(GetParam(), "compute.stop_instance").find_path({"args", "instance"});
    const auto ask = [&](const std::string& method, const char* name, const char* value) {
        rpc.sent.clear();
        return handle(method, Json::object({{"instance", instance}, {name, value}}));
    };
    ASSERT_TRUE(ask("add_fixed_ip_to_instance", "network_id", "net").ok());
    EXPECT_EQ(rpc.calls().back(), "Instance.save");
    EXPECT_EQ(rpc.sent.back().args.find_path({"objinst", "nova_object.changes"})->dump(),
              R"(["updated_at"])");
    ASSERT_TRUE(ask("remove_fixed_ip_from_instance", "address", "10.0.0.5").ok());
    EXPECT_EQ(ports.asked,
              (std::vector<std::string>{"add " + uuid + " net", "remove " + uuid + " 10.0.0.5"}));
    EXPECT_EQ(manager.calls.back(), "network-changed " + uuid + " ");
    const size_t before = manager.calls.size();
    ASSERT_TRUE(ask("inject_network_info", "unused", "").ok());
    EXPECT_EQ(manager.calls.size(), before + 1);
    ports.answer = Error::not_found("no").with_fault("NetworkNotFoundForInstance");
    EXPECT_EQ(ask("add_fixed_ip_to_instance", "network_id", "net").error().fault,
              "NetworkNotFoundForInstance");
    EXPECT_EQ(rpc.calls().back(), "InstanceFault.create");
}

TEST_P(ComputeEndpointTest, TheHostsOwnPowerIsItsOperators) {
    const auto ask = [&] {
        return handle("host_power_action", Json::object({{"action", "reboot"}}));
    };
    EXPECT_EQ(ask().error().fault, "NotImplementedError");
    host_power = HostPower({"systemctl"}, [](const auto&) { return Result<void>(); });
    EXPECT_EQ(ask()->as_string(), "reboot");
    EXPECT_EQ(handle("host_maintenance_mode", Json::object()).error().fault, "NotImplementedError");
}

TEST_P(ComputeEndpointTest, ARefusedCastLeavesTheServerFreeAndSaysWhy) {
    const Json instance =
        *test::golden_message(GetParam(), "compute.stop_instance").find_path({"args", "instance"});
    const auto answer =  // a cast: nobody waits
        handle("volume_snapshot_create", Json::object({{"instance", instance}}));
    ASSERT_FALSE(answer.ok());
    EXPECT_EQ(rpc.calls(), (std::vector<std::string>{
                               "InstanceActionEvent.event_start", "InstanceFault.create",
                               "Instance.save", "InstanceActionEvent.event_finish_with_failure"}));
    const Json* saved = rpc.sent[2].args.find("objinst");
    EXPECT_TRUE(saved->find_path({"nova_object.data", "task_state"})->is_null());
}

// The messages of a stock nova-conductor, and what it is given back.
TEST_P(ComputeEndpointTest, ALiveMigrationReachesTheManager) {
    const auto checked = replay("check_can_live_migrate_destination");
    ASSERT_TRUE(checked.ok()) << checked.error().text();
    EXPECT_EQ(manager.calls.back(), "check_destination " + uuid);
    EXPECT_EQ(checked->string_or("nova_object.name"), "LibvirtLiveMigrateData");
    EXPECT_EQ(checked->string_or("nova_object.version"),
              GetParam() == Release::Zed ? "1.10" : "1.14");
    EXPECT_EQ(checked->find_path({"nova_object.data", "filename"})->as_string(), "facts");
    ASSERT_TRUE(replay("check_can_live_migrate_source").ok());
    const auto begun = replay("live_migration");
    ASSERT_TRUE(begun.ok()) << begun.error().text();
    const Json message = test::golden_message(GetParam(), "compute.live_migration");
    const std::string to = message.find("args")->string_or("dest");
    EXPECT_EQ(manager.calls.back(), "live_migration " + uuid + " to " + to);
    const auto prepared = replay("pre_live_migration");
    ASSERT_TRUE(prepared.ok()) << prepared.error().text();
    const Json& data = *prepared->find("nova_object.data");
    EXPECT_EQ(data.string_or("target_connect_addr"), "door");
    EXPECT_TRUE(data.bool_or("wait_for_vif_plugged"));
    EXPECT_EQ(data.find_path({"old_vol_attachment_ids", "volume"})->as_string(), "attachment");
    ASSERT_TRUE(replay("post_live_migration_at_destination").ok());
    EXPECT_EQ(manager.calls.back(), "post " + uuid);
}

// What conductor was told of a port's binding there is how it is plugged there.
TEST_P(ComputeEndpointTest, ThePortsOfALiveMigrationAreTheDestinations) {
    Json args = *test::golden_message(GetParam(), "compute.pre_live_migration").find("args");
    const Json source = Json::object({{"id", "port-1"},
                                      {"address", "fa:16:3e:00:00:01"},
                                      {"type", "ovs"},
                                      {"vnic_type", "normal"},
                                      {"network", Json::object({{"id", "net-1"}})}});
    NovaObject vif = NovaObject::make(objects.table(), "VIFMigrateData");
    vif.set("port_id", "port-1");
    vif.set("source_vif", source.dump());
    vif.set("vif_type", "bridge");
    vif.set("vnic_type", "normal");
    vif.set("vif_details_json", R"({"bridge_name": "br-there"})");
    vif.set("profile_json", "{}");
    Json vifs = Json::array();
    vifs.push_back(vif.primitive());
    args["migrate_data"]["nova_object.data"].set("vifs", std::move(vifs));
    ASSERT_TRUE(handle("pre_live_migration", args).ok());
    ASSERT_EQ(manager.live.back().vifs.size(), 1u);
    const compute::VifInfo& there = manager.live.back().vifs[0];
    EXPECT_EQ(there.port_id, "port-1");
    EXPECT_EQ(there.vif_type, "bridge");
    EXPECT_EQ(there.details.at("bridge_name"), "br-there");
    EXPECT_FALSE(there.active);
}

TEST_P(ComputeEndpointTest, ALiveMigrationIsAbortedForcedAndRolledBack) {
    const Json args = *test::golden_message(GetParam(), "compute.live_migration").find("args");
    const Json& instance = *args.find("instance");
    ASSERT_TRUE(
        handle("live_migration_abort", Json::object({{"instance", instance}, {"migration_id", 7}}))
            .ok());
    EXPECT_EQ(manager.calls.back(), "live_migration_abort " + uuid + " 7");
    ASSERT_TRUE(
        handle("live_migration_force_complete", Json::object({{"instance", instance}})).ok());
    EXPECT_EQ(manager.calls.back(), "live_migration_force_complete " + uuid);
    ASSERT_TRUE(handle("rollback_live_migration_at_destination",
                       Json::object({{"instance", instance},
                                     {"destroy_disks", true},
                                     {"migrate_data", *args.find("migrate_data")}}))
                    .ok());
    EXPECT_EQ(manager.calls.back(), "rollback " + uuid + " with disks");
    ASSERT_TRUE(
        handle("drop_move_claim_at_destination", Json::object({{"instance", instance}})).ok());
    Json other = args;  // another hypervisor's
    other["migrate_data"].set("nova_object.name", "HyperVLiveMigrateData");
    other["migrate_data"].set("nova_object.version", "1.4");
    other["migrate_data"].set("nova_object.data", Json::object());
    EXPECT_EQ(handle("live_migration", other).error().fault, "MigrationPreCheckError");
}

TEST_P(ComputeEndpointTest, EachStepOfAMoveReachesTheManager) {
    const std::map<std::string, compute::MoveStep> steps = {
        {"prep_resize", compute::MoveStep::PrepResize},
        {"resize_instance", compute::MoveStep::ResizeInstance},
        {"finish_resize", compute::MoveStep::FinishResize},
        {"confirm_resize", compute::MoveStep::ConfirmResize},
        {"revert_resize", compute::MoveStep::RevertResize},
    };
    for (const auto& [method, step] : steps) {
        const auto answer = replay(method);
        ASSERT_TRUE(answer.ok()) << method << ": " << answer.error().text();
        ASSERT_FALSE(manager.moves.empty());
        EXPECT_EQ(manager.moves.back().step, step) << method;
        EXPECT_EQ(manager.moves.back().uuid, uuid) << method;
        EXPECT_FALSE(manager.moves.back().wait) << method;
    }
    ASSERT_TRUE(replay("prep_resize").ok());
    EXPECT_EQ(manager.moves.back().flavor.root_gb, 20);
    Json arguments = *test::golden_message(GetParam(), "compute.prep_resize").find("args");
    arguments.erase("migration");
    EXPECT_EQ(handle("prep_resize", arguments).error().fault, "TypeError");
}

TEST_P(ComputeEndpointTest, AnEvacuationIsAMove) {
    const Json message = test::golden_message(GetParam(), "compute.rebuild_instance");
    Json arguments = *message.find("args");
    arguments.set("recreate", true);
    arguments.set("on_shared_storage", nullptr);
    arguments.set("migration", *test::golden_message(GetParam(), "compute.confirm_resize")
                                    .find_path({"args", "migration"}));
    arguments.set("target_state", "stopped");
    ASSERT_TRUE(handle("rebuild_instance", arguments).ok());
    ASSERT_EQ(manager.moves.size(), 1u);
    EXPECT_EQ(manager.moves[0].step, compute::MoveStep::Evacuate);
    EXPECT_TRUE(manager.moves[0].leave_stopped);
    EXPECT_FALSE(manager.moves[0].on_shared_storage);
    arguments.set("target_state", "flying");
    EXPECT_EQ(handle("rebuild_instance", arguments).error().fault,
              "InstanceEvacuateNotSupportedTargetState");
}

TEST_P(ComputeEndpointTest, WhatTheAgentInAGuestDoes) {
    const Json message = test::golden_message(GetParam(), "compute.pause_instance");
    Json arguments = Json::object({{"instance", *message.find("args")->find("instance")}});
    Json secret = arguments;
    secret.set("new_pass", "s3cret");
    const auto set = handle("set_admin_password", secret);
    ASSERT_TRUE(set.ok()) << set.error().text();
    EXPECT_EQ(manager.admin_password, "s3cret");
    ASSERT_TRUE(handle("quiesce_instance", arguments).ok());
    const auto mapping = Json::parse(R"([{"source_type": "snapshot", "snapshot_id": "s1"},
        {"source_type": "image", "snapshot_id": "no"}, 7,
        {"source_type": "snapshot", "snapshot_id": "s2"}])");
    Json thaw = arguments;
    thaw.set("mapping", *mapping);
    ASSERT_TRUE(handle("unquiesce_instance", thaw).ok());
    ASSERT_TRUE(handle("unquiesce_instance", arguments).ok());
    const std::vector<std::string> last(manager.calls.end() - 3, manager.calls.end());
    EXPECT_EQ(last[0], "quiesce " + uuid);
    EXPECT_EQ(last[1], "unquiesce " + uuid + " after s1,s2");
    EXPECT_EQ(last[2], "unquiesce " + uuid + " after ");
}

TEST_P(ComputeEndpointTest, VersionsAndNamesAreChecked) {
    const auto fault = [&](const std::string& method, const std::string& version) {
        const auto answer = handle(method, Json::object(), version);
        return answer.ok() ? "" : answer.error().fault;
    };
    EXPECT_EQ(fault("get_host_uptime", "6.5"), "");
    EXPECT_EQ(fault("get_host_uptime", "5.13"), "");
    EXPECT_EQ(fault("get_host_uptime", "6.6"), "UnsupportedVersion");
    EXPECT_EQ(fault("get_host_uptime", "4.0"), "UnsupportedVersion");
    EXPECT_EQ(fault("get_host_uptime", "x"), "UnsupportedVersion");
    EXPECT_EQ(fault("_delete_instance", "6.0"), "NoSuchMethod");
    EXPECT_EQ(fault("stop_instance", "6.0"), "TypeError");
    EXPECT_EQ(fault("quiesce_instance", "6.0"), "TypeError");
}

}  // namespace
}  // namespace kumoi::nova
