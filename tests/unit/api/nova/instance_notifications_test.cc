// Against what nova-compute of a real Zed cloud sent: tests/data/openstack/notifications.jsonl has
// each notification with the Instance as it was then.
#include "api/nova/instance_notifications.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "api/nova/notification_payload.h"
#include "api/nova/nova_conductor.h"
#include "api/nova/oslo_context.h"
#include "base/file.h"
#include "tests/support/golden_messages.h"
#include "tests/support/quiet_rpc.h"

namespace kumoi::nova {
namespace {

using Format = InstanceNotifications::Format;

struct Sent {
    Format format;
    std::string priority, publisher, event_type;
    Json payload, context;
};

struct Listener {
    InstanceNotifications::Sink sink() {
        return {[this](Format format) { return formats.contains(format); },
                [this](Format format, const std::string& priority, const std::string& publisher,
                       const std::string& event_type, const Json& payload, const Json& context) {
                    sent.push_back({format, priority, publisher, event_type, payload, context});
                }};
    }
    std::vector<std::string> events() const {
        std::vector<std::string> names;
        for (const Sent& one : sent) {
            names.push_back(one.event_type);
        }
        return names;
    }
    std::set<Format> formats = {Format::Legacy, Format::Versioned};
    std::vector<Sent> sent;
};

std::vector<Json> recorded() {
    std::istringstream lines(
        read_file("tests/data/openstack/notifications.jsonl").value_or(std::string()));
    std::vector<Json> all;
    for (std::string line; std::getline(lines, line);) {
        all.push_back(std::move(Json::parse(line)).value());
    }
    return all;
}

// The action that the recorded operation was, by its number.
std::string event_of(const std::string& capture) {
    static const std::map<std::string, std::string> kEvents = {
        {"03", "compute__do_build_and_run_instance"},
        {"06", "compute_stop_instance"},
        {"10", "compute_pause_instance"},
        {"14", "compute_rescue_instance"},
        {"22", "compute_snapshot_instance"},
        {"26", "compute_shelve_offload_instance"},
        {"28", "compute_terminate_instance"},
        {"30", "compute_prep_resize"}};
    return kEvents.at(capture);
}

// When the usage period of the recorded payload ended: the clock of that moment.
int64_t moment_of(const Json& payload) {
    std::string text = payload.string_or("audit_period_ending");
    if (const Json* end = payload.find_path(
            {"nova_object.data", "audit_period", "nova_object.data", "audit_period_ending"})) {
        text = end->as_string();
    }
    return parse_iso8601(text).value_or(0);
}

// What is known to differ: Nova's times of a moment ago have microseconds, where a record has
// seconds; of actions other than create it looks up which volumes there are, and of a rescue image
// its name.
Json comparable(const Json& payload, const std::string& event) {
    Json same = payload;
    for (const char* field : {"launched_at", "terminated_at"}) {
        if (const std::string text = payload.string_or(field); text.size() > 19) {
            same.set(field, text.substr(0, 19));
        }
    }
    same.set("rescue_image_name", nullptr);
    if (Json* devices = same.find("nova_object.data"); devices != nullptr &&
                                                       devices->find("block_devices") != nullptr &&
                                                       !event.starts_with("instance.create")) {
        devices->set("block_devices", nullptr);
    }
    return same;
}

compute::VolumeNews volume_news(const Json& one) {
    using Action = compute::VolumeNews::Action;
    static const std::map<std::string, Action> kActions = {
        {"44", Action::Attach}, {"45", Action::Swap}, {"48", Action::Detach}};
    const auto action = kActions.find(one.string_or("capture"));
    const Json& arguments = *one.find("arguments");
    return action == kActions.end()
               ? compute::VolumeNews{}
               : compute::VolumeNews{action->second, arguments.string_or("volume_id"),
                                     arguments.string_or("new_volume_id")};
}

void expect_sent(const Listener& listener, const Json& one) {
    const std::string name = one.string_or("event_type");
    const auto found = std::find_if(listener.sent.begin(), listener.sent.end(),
                                    [&](const Sent& sent) { return sent.event_type == name; });
    ASSERT_NE(found, listener.sent.end());
    EXPECT_EQ(found->publisher, one.string_or("publisher"));
    EXPECT_EQ(found->priority, one.string_or("priority"));
    EXPECT_TRUE(comparable(found->payload, name) == comparable(*one.find("payload"), name))
        << "ours " << found->payload.dump() << "\nNova's " << one.find("payload")->dump();
}

TEST(InstanceNotifications, SayWhatNovaSaid) {
    const auto cases = recorded();
    ASSERT_GT(cases.size(), 20u);
    for (const Json& one : cases) {
        const std::string name = one.string_or("event_type");
        SCOPED_TRACE(one.string_or("capture") + " " + name);
        const auto instance =
            NovaObject::parse(ObjectTable::of(Release::Zed), *one.find("instance"));
        ASSERT_TRUE(instance.ok()) << instance.error().text();
        ManualClock clock(moment_of(*one.find("payload")));
        Listener listener;
        const std::string publisher = one.string_or("publisher");
        const std::string host = publisher.substr(publisher.find_first_of(".:") + 1);
        const InstanceNotifications notifications(
            listener.sink(), Release::Zed, host,
            host == "cn1" ? "http://127.0.0.1:19004/" : "http://127.0.0.1:19104/", clock);
        const Json& arguments = *one.find("arguments");
        const Json* flavor = arguments.find("flavor");
        const InstanceNotifications::Details details{arguments.string_or("image_id"),
                                                     arguments.string_or("image_name"),
                                                     {},
                                                     flavor == nullptr ? Json() : *flavor};
        if (const auto news = volume_news(one); !news.volume_id.empty()) {
            notifications.volume_started(news, *instance, *one.find("context"));
            notifications.volume_ended(news, *instance, *one.find("context"), std::nullopt);
            expect_sent(listener, one);
            continue;
        }
        const std::string event = event_of(one.string_or("capture"));
        if (name.ends_with(".end")) {
            notifications.finished(event, *instance, *one.find("context"), details, std::nullopt);
        } else {
            notifications.started(event, *instance, *one.find("context"), details);
        }
        expect_sent(listener, one);
    }
}

TEST(InstanceNotifications, AVolumeThatFailsIsAnError) {
    const Json one = recorded().back();
    const auto instance = NovaObject::parse(ObjectTable::of(Release::Zed), *one.find("instance"));
    ManualClock clock;
    Listener listener;
    const InstanceNotifications notifications(listener.sink(), Release::Zed, "cn1", "", clock);
    const Error why = Error::conflict("no").with_fault("VolumeAttachFailed");
    using Action = compute::VolumeNews::Action;
    for (const Action action : {Action::Attach, Action::Detach, Action::Swap}) {
        notifications.volume_ended({action, "v"}, *instance, *one.find("context"), why);
    }
    EXPECT_EQ(listener.events(),
              (std::vector<std::string>{"instance.volume_attach.error", "compute.exception",
                                        "compute.exception", "instance.volume_swap.error",
                                        "compute.exception"}));
    EXPECT_EQ(
        listener.sent[0]
            .payload.find_path({"nova_object.data", "fault", "nova_object.data", "function_name"})
            ->as_string(),
        "attach_volume");
}

class AnnouncingConductor : public testing::TestWithParam<Release> {
protected:
    std::string adopt() {
        Json primitive = *test::golden_message(GetParam(), "compute.stop_instance")
                              .find_path({"args", "instance"});
        auto object = NovaObject::parse(objects.table(), std::move(primitive)).value();
        return conductor.adopt(context, std::move(object))->uuid;
    }
    ManualClock clock{1'767'323'045'000'000'000};
    SeededRandom random{1, "announcing conductor"};
    test::QuietRpc rpc;
    test::RecordedAllocations allocations;
    ObjectClient objects{rpc, ObjectTable::of(GetParam())};
    SchedulerNews scheduler{rpc, objects.table(), "cmp1", clock, random, true};
    NodeRecords node{objects,
                     clock,
                     random,
                     {"cmp1", "cmp1", GetParam()},
                     [](const compute::ComputeNode&, bool) { return Result<void>(); }};
    Listener listener;
    InstanceNotifications notifications{listener.sink(), GetParam(), "cmp1", "", clock};
    NovaConductor conductor{
        {objects, allocations, node, scheduler, clock, random, 120, &notifications}};
    compute::RequestContext context = request_context(
        Json::object({{"request_id", "req-1"}, {"user_id", "u"}, {"project_id", "p"}}));
};
INSTANTIATE_TEST_SUITE_P(Nova, AnnouncingConductor,
                         testing::Values(Release::Zed, Release::Gazpacho));

TEST_P(AnnouncingConductor, TellsBothFormatsOfStartAndEnd) {
    const std::string uuid = adopt();
    ASSERT_TRUE(conductor.action_event_start(context, uuid, "compute_stop_instance", "cmp1").ok());
    ASSERT_TRUE(conductor.action_event_finish(context, uuid, "compute_stop_instance", {}).ok());
    EXPECT_EQ(listener.events(), (std::vector<std::string>{
                                     "compute.instance.power_off.start", "instance.power_off.start",
                                     "compute.instance.power_off.end", "instance.power_off.end"}));
    const Json& versioned = listener.sent[1].payload;
    EXPECT_EQ(versioned.string_or("nova_object.version"),
              GetParam() == Release::Zed ? "1.8" : "1.9");
    EXPECT_EQ(versioned.find_path({"nova_object.data", "shares"}) != nullptr,
              GetParam() == Release::Gazpacho);
    EXPECT_EQ(versioned.find_path({"nova_object.data", "action_initiator_user"})->as_string(), "u");
    EXPECT_EQ(listener.sent[1].context.string_or("request_id"), "req-1");
}

TEST_P(AnnouncingConductor, TellsOfTheEndOfADeletedServerOnce) {
    const std::string uuid = adopt();
    const std::string event = "compute_terminate_instance";
    ASSERT_TRUE(conductor.action_event_start(context, uuid, event, "cmp1").ok());
    listener.sent.clear();
    ASSERT_TRUE(conductor.instance_destroy(uuid).ok());
    ASSERT_TRUE(conductor.action_event_finish(context, uuid, event, {}).ok());
    EXPECT_EQ(listener.events(),
              (std::vector<std::string>{"compute.instance.shutdown.end", "instance.shutdown.end",
                                        "compute.instance.delete.end", "instance.delete.end"}));
}

TEST_P(AnnouncingConductor, SaysWhyAnActionFailed) {
    listener.formats = {Format::Versioned};
    const std::string uuid = adopt();
    const Error why = Error::conflict("no").with_fault("InstanceInvalidState");
    ASSERT_TRUE(conductor.action_event_finish(context, uuid, "compute_reboot_instance", why).ok());
    EXPECT_EQ(listener.events(),
              (std::vector<std::string>{"instance.reboot.error", "compute.exception"}));
    EXPECT_EQ(listener.sent[0].priority, "ERROR");
    EXPECT_EQ(listener.sent[1].payload.find_path({"nova_object.data", "exception"})->as_string(),
              "InstanceInvalidState");
}

TEST(InstanceNotifications, NameTheVolumesOfACreate) {
    const Json list = std::move(Json::parse(R"({"nova_object.data":{"objects":[
        {"nova_object.data":{"volume_id":null,"device_name":"/dev/vda"}},
        {"nova_object.data":{"volume_id":"v-1","device_name":"/dev/vdb","boot_index":0,
                             "delete_on_termination":true,"tag":null}}]}})"))
                          .value();
    const Json payloads = block_device_payloads(list);
    ASSERT_EQ(payloads.size(), 1u);
    const Json& volume = *payloads.as_array()[0].find("nova_object.data");
    EXPECT_EQ(volume.string_or("volume_id"), "v-1");
    EXPECT_TRUE(volume.bool_or("delete_on_termination", false));
    EXPECT_EQ(block_device_payloads(Json()).size(), 0u);
}

TEST_P(AnnouncingConductor, IsQuietAboutWhatNobodyWants) {
    listener.formats = {};
    const std::string uuid = adopt();
    ASSERT_TRUE(conductor.action_event_start(context, uuid, "compute_stop_instance", "cmp1").ok());
    EXPECT_TRUE(listener.sent.empty());
}

}  // namespace
}  // namespace kumoi::nova
