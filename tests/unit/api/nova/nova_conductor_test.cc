#include "api/nova/nova_conductor.h"

#include <gtest/gtest.h>

#include "api/nova/oslo_context.h"
#include "compute/vm_states.h"
#include "tests/support/golden_messages.h"
#include "tests/support/nova_node.h"

namespace kumoi::nova {
namespace {

using compute::InstanceUpdate;

using test::QuietRpc;
using test::RecordedAllocations;

class NovaConductorTest : public testing::TestWithParam<Release>, protected test::NovaNode {
protected:
    NovaConductorTest() : NovaNode(GetParam(), "nova conductor", "cmp1.example.org", true) {}

    Json golden(const std::string& name) const { return test::golden_message(GetParam(), name); }
    compute::RequestContext context() const {
        return request_context(Json::object({{"request_id", "req-1"},
                                             {"user_id", "u"},
                                             {"project_id", "p"},
                                             {"roles", Json::array()}}));
    }
    std::string adopt(const std::string& message) {
        Json golden_instance = *golden(message).find_path({"args", "instance"});
        auto object = NovaObject::parse(objects.table(), std::move(golden_instance));
        EXPECT_TRUE(object.ok());
        auto record = conductor.adopt(context(), std::move(*object));
        EXPECT_TRUE(record.ok()) << record.error().text();
        return record->uuid;
    }
};

INSTANTIATE_TEST_SUITE_P(Nova, NovaConductorTest, testing::Values(Release::Zed, Release::Gazpacho));

TEST_P(NovaConductorTest, AnAdoptedServerIsKnownWithoutAsking) {
    const std::string uuid = adopt("compute.stop_instance");
    const auto instance = conductor.instance_get(uuid);
    ASSERT_TRUE(instance.ok());
    EXPECT_TRUE(rpc.sent.empty());
    EXPECT_EQ(instance->display_name, "vm1");
    EXPECT_EQ(instance->task_state, "powering-off");
    EXPECT_EQ(instance->flavor.memory_mb, 2048);
    EXPECT_EQ(instance->flavor.extra_specs.at("hw:cpu_policy"), "shared");
    EXPECT_EQ(instance->image.disk_format, "qcow2");
    EXPECT_EQ(instance->image.min_disk_gb, 20);
}

// As os-start and os-stop send it. Starting would otherwise record that it has no networks.
TEST_P(NovaConductorTest, AServerThatCameWithoutItsNetworksIsReadBeforeUse) {
    const Json whole = *golden("compute.start_instance").find_path({"args", "instance"});
    Json sent = whole;
    sent.find("nova_object.data")->erase("info_cache");
    auto object = NovaObject::parse(objects.table(), std::move(sent));
    ASSERT_TRUE(object.ok());
    const auto adopted = conductor.adopt(context(), std::move(*object));
    ASSERT_TRUE(adopted.ok()) << adopted.error().text();
    rpc.answers.push_back(whole);
    const auto instance = conductor.instance_get(adopted->uuid);
    ASSERT_TRUE(instance.ok()) << instance.error().text();
    EXPECT_EQ(rpc.calls(), std::vector<std::string>{"Instance.get_by_uuid"});
    EXPECT_EQ(instance->network_info.size(), 1u);
}

TEST_P(NovaConductorTest, StoppingIsRecordedAsNovaRecordsIt) {
    const std::string uuid = adopt("compute.stop_instance");
    InstanceUpdate update;
    update.vm_state = compute::vm_states::kStopped;
    update.power_state = 4;
    update.task_state = std::optional<std::string>();
    update.expected_task_state = {{"powering-off", std::nullopt}};
    ASSERT_TRUE(conductor.instance_save(uuid, update).ok());
    ASSERT_EQ(rpc.calls(), std::vector<std::string>{"Instance.save"});
    Json expected = *golden("conductor.Instance.save").find("args");
    Json sent = rpc.sent[0].args;
    std::set<std::string> changes;
    for (const Json& field : sent.find("objinst")->find("nova_object.changes")->as_array()) {
        changes.insert(field.as_string());
    }
    EXPECT_EQ(changes, (std::set<std::string>{"vm_state", "power_state", "task_state"}));
    sent.find("objinst")->erase("nova_object.changes");
    expected.find("objinst")->erase("nova_object.changes");  // Python names the flavor too
    EXPECT_EQ(sent, expected);
    EXPECT_EQ(rpc.sent[0].target.topic, "conductor");
    EXPECT_EQ(rpc.sent[0].target.version, "3.0");
    EXPECT_EQ(rpc.sent[0].context.string_or("request_id"), "req-1");
    EXPECT_TRUE(rpc.sent[0].context.bool_or("is_admin"));
}

TEST_P(NovaConductorTest, AfterARefusedSaveTheServerIsReadAgain) {
    const std::string uuid = adopt("compute.stop_instance");
    ASSERT_TRUE(conductor.instance_get(uuid).ok());
    rpc.answers.push_back(
        Error::conflict("deleting").with_fault("UnexpectedDeletingTaskStateError"));
    InstanceUpdate update;
    update.task_state = std::optional<std::string>();
    const auto saved = conductor.instance_save(uuid, update);
    ASSERT_FALSE(saved.ok());
    EXPECT_EQ(saved.error().fault, "UnexpectedDeletingTaskStateError");
    rpc.answers.push_back(*golden("compute.stop_instance").find_path({"args", "instance"}));
    ASSERT_TRUE(conductor.instance_get(uuid).ok());
    EXPECT_EQ(rpc.calls(), (std::vector<std::string>{"Instance.save", "Instance.get_by_uuid"}));
}

TEST_P(NovaConductorTest, EventsAndFaultsAreThoseOfNova) {
    const std::string uuid = adopt("compute.stop_instance");
    ASSERT_TRUE(
        conductor.action_event_start(context(), uuid, "compute_stop_instance", "cmp1.example.org")
            .ok());
    ASSERT_TRUE(
        conductor.action_event_finish(context(), uuid, "compute_stop_instance", std::nullopt).ok());
    EXPECT_EQ(rpc.sent[0].args, *golden("conductor.InstanceActionEvent.event_start").find("args"));
    EXPECT_EQ(rpc.sent[1].args,
              *golden("conductor.InstanceActionEvent.event_finish_with_failure").find("args"));
    compute::Fault fault;
    fault.message = "Build aborted";
    fault.details = "Traceback ...";
    ASSERT_TRUE(conductor.fault_create(uuid, fault).ok());
    Json sent = rpc.sent[2].args;
    Json expected = *golden("conductor.InstanceFault.create").find("args");
    sent.find("objinst")->erase("nova_object.changes");
    expected.find("objinst")->erase("nova_object.changes");
    EXPECT_EQ(sent, expected);
}

TEST_P(NovaConductorTest, AFailedBuildGoesBackToConductorWithoutItsAllocation) {
    const std::string uuid = adopt("compute.build_and_run_instance");
    conductor.adopt_build(uuid, {*golden("compute.build_and_run_instance").find("args")});
    ASSERT_TRUE(conductor.reschedule_build(context(), uuid, Error::unavailable("boom")).ok());
    EXPECT_EQ(rpc.calls(), (std::vector<std::string>{"Instance.save", "build_instances"}));
    EXPECT_EQ(allocations.removed, std::vector<std::string>{uuid});
    Json sent = rpc.sent[1].args;
    Json expected = *golden("conductor.compute_task.build_instances_reschedule").find("args");
    EXPECT_EQ(sent.find("filter_properties")->find("retry")->string_or("exc_reason"), "boom");
    EXPECT_EQ(sent.find("instances")
                  ->as_array()[0]
                  .find_path({"nova_object.data", "task_state"})
                  ->as_string(),
              "scheduling");
    for (const char* key : {"instances", "filter_properties"}) {
        sent.erase(key);
        expected.erase(key);
    }
    EXPECT_EQ(sent, expected);
    EXPECT_EQ(rpc.sent[1].target.namespace_, "compute_task");
    EXPECT_EQ(rpc.sent[1].target.version, "1.19");
    EXPECT_FALSE(conductor.reschedule_build(context(), uuid, Error::unavailable("x")).ok());
}

TEST_P(NovaConductorTest, DeletionFreesTheAllocationBeforeTheRecordGoes) {
    const std::string uuid = adopt("compute.terminate_instance");
    ASSERT_TRUE(conductor.instance_destroy(uuid).ok());
    EXPECT_EQ(allocations.removed, std::vector<std::string>{uuid});
    EXPECT_EQ(rpc.calls(),
              (std::vector<std::string>{"ConsoleAuthToken.clean_console_auths_for_instance",
                                        "Instance.destroy", "delete_instance_info"}));
    EXPECT_TRUE(rpc.sent[2].target.fanout);
}

TEST_P(NovaConductorTest, AServerThatLosesItsHostLosesItsAllocation) {
    const std::string uuid = adopt("compute.stop_instance");
    InstanceUpdate update;
    update.vm_state = compute::vm_states::kShelvedOffloaded;
    update.host = "";
    update.node = "";
    ASSERT_TRUE(conductor.instance_save(uuid, update).ok());
    EXPECT_EQ(allocations.removed, std::vector<std::string>{uuid});
    const Json* data = rpc.sent[0].args.find("objinst")->find("nova_object.data");
    EXPECT_TRUE(data->find("host")->is_null());
    EXPECT_TRUE(data->find("availability_zone")->is_null());
}

TEST_P(NovaConductorTest, FailedBuildsAreCountedUntilOneSucceeds) {
    compute::ComputeNode inventory;
    inventory.uuid = "00000080-0000-4000-8000-000000000080";
    inventory.cpu_info_json = "{}";
    inventory.host_ip = "192.0.2.11";
    const auto recorded_failures = [&] {
        if (!node.uuid()) {
            rpc.answers.push_back(Error::not_found("none").with_fault("ComputeHostNotFound"));
        }
        ++inventory.running_vms;  // so that there is something to record
        rpc.sent.clear();
        EXPECT_TRUE(node.update(inventory).ok());
        return rpc.sent.back()
            .args.find("objinst")
            ->find_path({"nova_object.data", "stats", "failed_builds"})
            ->as_string();
    };
    const auto begin = [&] {
        const std::string uuid = adopt("compute.build_and_run_instance");
        conductor.adopt_build(uuid, {*golden("compute.build_and_run_instance").find("args")});
        return uuid;
    };
    EXPECT_EQ(recorded_failures(), "0");
    ASSERT_TRUE(conductor.reschedule_build(context(), begin(), Error::unavailable("boom")).ok());
    EXPECT_EQ(recorded_failures(), "1");
    InstanceUpdate update;
    update.vm_state = compute::vm_states::kError;
    std::string uuid = begin();
    ASSERT_TRUE(conductor.instance_save(uuid, update).ok());
    ASSERT_TRUE(conductor.instance_save(uuid, update).ok());  // no build any more
    EXPECT_EQ(recorded_failures(), "2");
    update.vm_state = compute::vm_states::kActive;
    ASSERT_TRUE(conductor.instance_save(begin(), update).ok());
    EXPECT_EQ(recorded_failures(), "0");
}

TEST_P(NovaConductorTest, SchedulersHearOfAllServersEveryTwoMinutes) {
    Json list = Json::object({{"nova_object.name", "InstanceList"},
                              {"nova_object.namespace", "nova"},
                              {"nova_object.version", "2.6"}});
    const Json instance = *golden("compute.stop_instance").find_path({"args", "instance"});
    list.set("nova_object.data", Json::object({{"objects", Json(Json::Array{instance})}}));
    const auto poll = [&] {
        rpc.sent.clear();
        rpc.answers.push_back(list);
        EXPECT_TRUE(conductor.poll_servers("cmp1").ok());
        return rpc.calls();
    };
    const std::vector<std::string> told = {"InstanceList.get_by_host", "sync_instance_info"};
    rpc.answers.push_back(Error::unavailable("not now"));
    EXPECT_FALSE(conductor.poll_servers("cmp1").ok());
    EXPECT_EQ(poll(), told);
    EXPECT_EQ(rpc.sent[1].args.find("instance_uuids")->as_array().size(), 1u);
    clock.advance(60 * kNanosPerSecond);
    EXPECT_EQ(poll().size(), 1u);
    clock.advance(60 * kNanosPerSecond);
    EXPECT_EQ(poll(), told);
}

TEST_P(NovaConductorTest, OnlyWhatADeletedServerHoldsIsTakenBack) {
    compute::ComputeNode inventory;
    inventory.uuid = "00000080-0000-4000-8000-000000000080";
    inventory.cpu_info_json = "{}";
    inventory.host_ip = "192.0.2.11";
    rpc.answers.push_back(Error::not_found("none").with_fault("ComputeHostNotFound"));
    ASSERT_TRUE(node.update(inventory).ok());
    const std::string here = golden("compute.stop_instance")
                                 .find_path({"args", "instance", "nova_object.data"})
                                 ->string_or("uuid");
    allocations.consumers = {"alive", here, "deleted", "migration"};
    Json alive = *golden("compute.stop_instance").find_path({"args", "instance"});
    alive["nova_object.data"].set("deleted", false);
    Json deleted = alive;
    deleted["nova_object.data"].set("deleted", true);
    Json list = Json::object({{"nova_object.name", "InstanceList"},
                              {"nova_object.namespace", "nova"},
                              {"nova_object.version", "2.6"}});
    list.set("nova_object.data", Json::object({{"objects", Json(Json::Array{alive})}}));
    rpc.sent.clear();
    rpc.answers.push_back(list);
    rpc.answers.push_back(alive);
    rpc.answers.push_back(deleted);
    rpc.answers.push_back(Error::not_found("no").with_fault("InstanceNotFound"));
    ASSERT_TRUE(conductor.poll_servers("cmp1").ok());
    EXPECT_EQ(allocations.removed, std::vector<std::string>{"deleted"});
    EXPECT_EQ(rpc.sent[2].context.string_or("read_deleted"), "yes");
}

TEST_P(NovaConductorTest, ASaveWithNetworksKeepsWhatIsKnownOfTheServer) {
    const std::string uuid = adopt("compute.build_and_run_instance");
    InstanceUpdate update;
    update.vm_state = compute::vm_states::kActive;
    update.launched_ns = clock.wall_ns();
    update.network_info = std::vector<compute::VifInfo>(1);
    (*update.network_info)[0].port_id = "00000090-0000-4000-8000-000000000090";
    ASSERT_TRUE(conductor.instance_save(uuid, update).ok());
    update = {};
    update.power_state = 1;
    ASSERT_TRUE(conductor.instance_save(uuid, update).ok());
    // Nothing is read again, and the schedulers hear of the new server with its networks.
    EXPECT_EQ(rpc.calls(), (std::vector<std::string>{"InstanceInfoCache.save", "Instance.save",
                                                     "update_instance_info", "Instance.save"}));
    const Json* cache =
        rpc.sent[3].args.find("objinst")->find("nova_object.data")->find("info_cache");
    EXPECT_NE(cache->dump().find("00000090-0000-4000-8000-000000000090"), std::string::npos);
    EXPECT_FALSE(cache->contains("nova_object.changes"));
}

TEST_P(NovaConductorTest, ANewHostRecordsItselfAsNovaDoes) {
    rpc.answers.push_back(Json());  // no such service yet
    ASSERT_TRUE(node.register_service().ok());
    EXPECT_EQ(rpc.sent[0].args, *golden("conductor.Service.get_by_host_and_binary").find("args"));
    Json made = rpc.sent[1].args;
    Json expected = *golden("conductor.Service.create").find("args");
    made.find("objinst")->erase("nova_object.changes");
    expected.find("objinst")->erase("nova_object.changes");
    EXPECT_EQ(made, expected);
    rpc.sent.clear();
    ASSERT_TRUE(node.heartbeat().ok());
    EXPECT_EQ(rpc.calls(), std::vector<std::string>{"Service.save"});
    EXPECT_EQ(rpc.sent[0].args.find("objinst")->find("nova_object.changes")->dump(),
              R"(["report_count"])");
}

TEST_P(NovaConductorTest, TheComputeNodeIsMadeOnceAndThenOnlyItsChangesAreSaved) {
    compute::ComputeNode inventory;
    inventory.uuid = "00000080-0000-4000-8000-000000000080";
    inventory.vcpus = 64;
    inventory.cpu_info_json = "{}";
    inventory.host_ip = "192.0.2.11";
    rpc.answers.push_back(Error::not_found("no such node").with_fault("ComputeHostNotFound"));
    ASSERT_TRUE(node.update(inventory).ok());
    EXPECT_EQ(rpc.calls(), (std::vector<std::string>{"ComputeNode.get_by_host_and_nodename",
                                                     "ComputeNode.create"}));
    const Json message = golden("conductor.ComputeNode.create");
    const Json* expected = message.find_path({"args", "objinst", "nova_object.data"});
    for (const auto& [field, value] : expected->as_object()) {
        if (field != "service_id") {  // no service is registered in this test
            EXPECT_TRUE(rpc.sent[1].args.find("objinst")->find("nova_object.data")->contains(field))
                << field;
        }
    }
    rpc.sent.clear();
    ASSERT_TRUE(node.update(inventory).ok());
    EXPECT_TRUE(rpc.sent.empty());
    inventory.vcpus_used = 3;
    ASSERT_TRUE(node.update(inventory).ok());
    EXPECT_EQ(rpc.sent[0].args.find("objinst")->find("nova_object.changes")->dump(),
              R"(["vcpus_used"])");
}

}  // namespace
}  // namespace kumoi::nova
