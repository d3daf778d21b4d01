#include <gtest/gtest.h>

#include <deque>

#include "compute/clients/host_inventory_report.h"
#include "compute/clients/http_client.h"
#include "compute/clients/report_client.h"
#include "tests/support/recorded_cloud.h"

namespace kumoi::clients {
namespace {

using test::RecordedCloud;
using test::ScriptServer;
using Reply = ScriptServer::Reply;
using Request = ScriptServer::Request;

constexpr const char* kNode = "de11a95f-1fa9-4eac-87c3-4f60aeed3aa2";

// A report client against whatever serves at `url`; without tokens.
struct Reporter {
    explicit Reporter(const std::string& url)
        : service("Placement", {.endpoint_override = url, .version_service = "placement"},
                  {&session, nullptr, transport}) {}
    ManualClock clock;
    SeededRandom random{1};
    std::vector<int64_t> waits;
    HttpClient http;
    RetryingTransport transport{http, {}, random, [this](int64_t ns) { waits.push_back(ns); }};
    KeystoneSession session{{.auth_type = "none"}, http, clock};
    ServiceClient service;
    PlacementClient placement{service};
    ReportClient report{placement, {clock, random, [this](int64_t ns) { waits.push_back(ns); }}};
    Caller caller{.request_id = "req-1"};
};

std::vector<std::string> lines(const std::vector<Request>& requests) {
    std::vector<std::string> text;
    for (const Request& request : requests) {
        text.push_back(request.method + " " + request.target);
    }
    return text;
}

RootResources zed_fake_driver() {
    return {.vcpus = 1000,
            .memory_mb = 800'000,
            .disk_gb = 600'000,
            .cpu_ratio = {{}, 16.0},
            .memory_ratio = {{}, 1.5}};
}
const std::set<std::string> kFakeCapabilities = {
    "attach_interface",     "device_tagging", "tagged_attach_interface",
    "tagged_attach_volume", "extend_volume",  "multiattach",
    "trusted_certs",        "accelerators",   "image_type_raw"};

TEST(ClientsPlacement, AFirstStartSaysWhatNovaSaid) {
    RecordedCloud cloud(test::load_recording("first_start.json"));
    Reporter reporter(cloud.url());
    // The recording asks for the traits in Python's order of a set; ours are sorted.
    cloud.answer_once("GET",
                      "/traits?name=in:COMPUTE_ACCELERATORS,COMPUTE_DEVICE_TAGGING,"
                      "COMPUTE_IMAGE_TYPE_RAW,COMPUTE_NET_ATTACH_INTERFACE,"
                      "COMPUTE_NET_ATTACH_INTERFACE_WITH_TAG,COMPUTE_NODE,COMPUTE_TRUSTED_CERTS,"
                      "COMPUTE_VOLUME_ATTACH_WITH_TAG,COMPUTE_VOLUME_EXTEND,"
                      "COMPUTE_VOLUME_MULTI_ATTACH",
                      {.body = cloud.recorded("GET", "/traits").reply.dump()});
    const WantedProvider root{.uuid = kNode,
                              .name = "cn1",
                              .inventories = root_inventory(zed_fake_driver()),
                              .traits = capability_traits(kFakeCapabilities)};
    const auto outcome = reporter.report.update_from(reporter.caller, {root});
    ASSERT_TRUE(outcome.ok()) << outcome.error().text();
    for (const char* method_and_path : {"POST /resource_providers", "PUT /resource_providers"}) {
        const std::string text = method_and_path;
        const std::string method = text.substr(0, text.find(' '));
        const auto asked = cloud.asked(method, text.substr(text.find(' ') + 1));
        for (size_t i = 0; i < asked.size(); ++i) {
            const auto& recorded = cloud.recorded(method, asked[i].target);
            EXPECT_EQ(asked[i].header("openstack-api-version"), recorded.microversion);
            Json ours = Json::parse(asked[i].body).value();
            if (asked[i].target.ends_with("/traits")) {  // a set
                EXPECT_EQ(ours.find("traits")->size(), recorded.body.find("traits")->size());
                ours.set("traits", *recorded.body.find("traits"));
            }
            if (asked[i].target.ends_with("/inventories")) {  // 16 is 16.0
                EXPECT_EQ(parse_inventories(ours).value().inventories,
                          parse_inventories(recorded.body).value().inventories);
                continue;
            }
            EXPECT_EQ(ours, recorded.body) << asked[i].target;
        }
    }
    const size_t count = cloud.requests().size();
    EXPECT_EQ(count, 5u);  // in_tree, POST, inventories, traits?, traits
    ASSERT_TRUE(reporter.report.update_from(reporter.caller, {root}).ok());
    EXPECT_EQ(cloud.requests().size(), count);  // nothing changed: nothing is asked
}

// A Placement with one provider, whose generation moves with every write.
struct MiniPlacement {
    MiniPlacement() : server([this](const Request& request) { return answer(request); }) {}

    Reply answer(const Request& request) {
        const std::string path = request.target.substr(0, request.target.find('?'));
        if (path == "/resource_providers" && request.method == "GET") {
            return {.body =
                        fmt::format(R"({{"resource_providers":[{}]}})", exists ? provider() : "")};
        }
        if (path == "/resource_providers") {
            exists = true;
            return {.status = 200, .body = provider()};
        }
        if (path == "/traits") {
            return {.body = R"({"traits":["COMPUTE_NODE"]})"};
        }
        if (request.method == "PUT" && path.starts_with("/resource_providers/")) {
            return write(request, path);
        }
        if (path.ends_with("/inventories")) {
            return {.body = inventories_body(inventories, generation).dump()};
        }
        if (path.ends_with("/traits")) {
            return {.body = names("traits", traits)};
        }
        if (path.ends_with("/aggregates")) {
            return {.body = names("aggregates", aggregates)};
        }
        return {.status = 201, .body = ""};
    }
    Reply write(const Request& request, const std::string& path) {
        const Json body = Json::parse(request.body).value();
        if (conflicts > 0 || body.integer_or("resource_provider_generation", -1) != generation) {
            conflicts -= conflicts > 0 ? 1 : 0;
            return {.status = 409,
                    .body = R"({"errors":[{"status":409,"title":"Conflict","detail":)"
                            R"("resource provider generation conflict",)"
                            R"("code":"placement.concurrent_update"}]})"};
        }
        ++generation;
        if (path.ends_with("/inventories")) {
            inventories = parse_inventories(body).value().inventories;
            return {.body = inventories_body(inventories, generation).dump()};
        }
        auto& set = path.ends_with("/traits") ? traits : aggregates;
        const char* member = path.ends_with("/traits") ? "traits" : "aggregates";
        set = parse_names(body, member).value().names;
        return {.body = names(member, set)};
    }
    std::string provider() const {
        return fmt::format(R"({{"uuid":"{}","name":"cn1","generation":{}}})", kNode, generation);
    }
    std::string names(const char* member, const std::set<std::string>& set) const {
        return Json::object(
                   {{member, Json::array_of(set)}, {"resource_provider_generation", generation}})
            .dump();
    }

    bool exists = true;
    int64_t generation = 7;
    int conflicts = 0;
    Inventories inventories;
    Traits traits = {"CUSTOM_GOLD", "COMPUTE_STATUS_DISABLED", "COMPUTE_ACCELERATORS"};
    Aggregates aggregates = {"agg-1"};
    ScriptServer server;
};

const WantedProvider kWanted{
    .uuid = kNode,
    .name = "cn1",
    .inventories = {{"VCPU", {.total = 4, .max_unit = 4}}, {"DISK_GB", {.total = 0}}},
    .traits = {"COMPUTE_NODE"}};

TEST(ClientsReport, ForeignTraitsAndAggregatesStay) {
    MiniPlacement placement;
    Reporter reporter(placement.server.url());
    ASSERT_TRUE(reporter.report.update_from(reporter.caller, {kWanted}).ok());
    EXPECT_EQ(placement.traits, (Traits{"COMPUTE_NODE", "COMPUTE_STATUS_DISABLED", "CUSTOM_GOLD"}));
    EXPECT_EQ(placement.aggregates, Aggregates{"agg-1"});
    EXPECT_EQ(placement.inventories.size(), 1u);  // no class with nothing in it
}

TEST(ClientsReport, AConflictIsReadAgainAndRedone) {
    MiniPlacement placement;
    placement.conflicts = 2;
    Reporter reporter(placement.server.url());
    const auto outcome = reporter.report.update_from(reporter.caller, {kWanted});
    ASSERT_TRUE(outcome.ok()) << outcome.error().text();
    EXPECT_EQ(placement.inventories.size(), 1u);
    EXPECT_TRUE(reporter.waits.empty());  // at once
}

TEST(ClientsReport, AChangeBehindOurBackIsAConflictAndNotOverwritten) {
    MiniPlacement placement;
    Reporter reporter(placement.server.url());
    ASSERT_TRUE(reporter.report.update_from(reporter.caller, {kWanted}).ok());
    placement.traits.insert("CUSTOM_NEW");
    ++placement.generation;
    WantedProvider more = kWanted;
    more.inventories["MEMORY_MB"] = {.total = 100, .max_unit = 100};
    more.traits.insert("COMPUTE_VOLUME_EXTEND");
    ASSERT_TRUE(reporter.report.update_from(reporter.caller, {more}).ok());
    EXPECT_TRUE(placement.traits.contains("CUSTOM_NEW"));
    EXPECT_TRUE(placement.traits.contains("COMPUTE_VOLUME_EXTEND"));
    EXPECT_EQ(placement.inventories.size(), 2u);
}

TEST(ClientsReport, GivesUpAfterFourConflicts) {
    MiniPlacement placement;
    placement.conflicts = 100;
    Reporter reporter(placement.server.url());
    const auto outcome = reporter.report.update_from(reporter.caller, {kWanted});
    ASSERT_FALSE(outcome.ok());
    EXPECT_EQ(outcome.error().fault, "ResourceProviderSyncFailed");
    EXPECT_EQ(placement.conflicts, 96);
}

TEST(ClientsReport, AssociationsAreReadAgainAfterAWhile) {
    MiniPlacement placement;
    Reporter reporter(placement.server.url());
    ASSERT_TRUE(reporter.report.update_from(reporter.caller, {kWanted}).ok());
    const size_t first = placement.server.requests().size();
    reporter.clock.advance(299 * kNanosPerSecond);
    ASSERT_TRUE(reporter.report.update_from(reporter.caller, {kWanted}).ok());
    EXPECT_EQ(placement.server.requests().size(), first);
    reporter.clock.advance(2 * kNanosPerSecond);
    ASSERT_TRUE(reporter.report.update_from(reporter.caller, {kWanted}).ok());
    EXPECT_EQ(placement.server.requests().size(), first + 3);
}

TEST(ClientsReport, CustomClassesAreMadeOnce) {
    MiniPlacement placement;
    Reporter reporter(placement.server.url());
    WantedProvider wanted = kWanted;
    wanted.inventories["CUSTOM_PMEM"] = {.total = 2, .max_unit = 2};
    ASSERT_TRUE(reporter.report.update_from(reporter.caller, {wanted}).ok());
    wanted.inventories["CUSTOM_PMEM"].total = 3;
    ASSERT_TRUE(reporter.report.update_from(reporter.caller, {wanted}).ok());
    const auto asked = lines(placement.server.requests());
    EXPECT_EQ(std::count(asked.begin(), asked.end(), "PUT /resource_classes/CUSTOM_PMEM"), 1);
}

TEST(ClientsReport, TheDisabledTraitFollowsTheService) {
    RecordedCloud cloud(test::load_recording("service_disable.json"));
    Reporter reporter(cloud.url());
    const std::string node = "eeee9fe7-35a9-4a74-afe5-0a570d7dc074";
    cloud.answer_once("GET", "/traits?name=in:COMPUTE_STATUS_DISABLED",
                      {.body = R"({"traits":["COMPUTE_STATUS_DISABLED"]})"});
    const auto on = reporter.report.set_disabled(reporter.caller, node, true);
    ASSERT_TRUE(on.ok()) << on.error().text();
    const auto off = reporter.report.set_disabled(reporter.caller, node, false);
    ASSERT_TRUE(off.ok()) << off.error().text();
    const auto written = cloud.asked("PUT", "/resource_providers/" + node + "/traits");
    ASSERT_EQ(written.size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
        const Json ours = Json::parse(written[i].body).value();
        const Json& recorded = cloud.recorded("PUT", written[i].target, i).body;
        EXPECT_EQ(parse_names(ours, "traits").value().names,
                  parse_names(recorded, "traits").value().names);
        EXPECT_EQ(*ours.find("resource_provider_generation"),
                  *recorded.find("resource_provider_generation"));
    }
}

TEST(ClientsReport, ARevertMovesAllocationsBackAsNovaDid) {
    RecordedCloud cloud(test::load_recording("resize_revert_placement.json"));
    Reporter reporter(cloud.url());
    const auto& recorded = cloud.recorded("POST", "/allocations");
    const std::string migration = recorded.body.as_object()[0].first;
    const std::string instance = recorded.body.as_object()[1].first;
    const auto moved = reporter.report.move_allocations(reporter.caller, migration, instance);
    ASSERT_TRUE(moved.ok()) << moved.error().text();
    EXPECT_TRUE(*moved);
    const auto posted = cloud.asked("POST", "/allocations");
    ASSERT_EQ(posted.size(), 1u);
    Json ours = Json::parse(posted[0].body).value();
    Json theirs = recorded.body;
    // Nova sends the provider's generation along, which Placement ignores.
    for (auto& [consumer, allocations] : theirs.as_object()) {
        for (auto& [uuid, amounts] : allocations.find("allocations")->as_object()) {
            amounts.erase("generation");
        }
    }
    EXPECT_EQ(ours, theirs);
    EXPECT_EQ(posted[0].header("openstack-api-version"), "placement 1.28");
}

// Answers GET with one allocation and each write with the next of `statuses`.
struct MiniAllocations {
    MiniAllocations(std::deque<int> write_statuses, std::string text)
        : statuses(std::move(write_statuses)),
          detail(std::move(text)),
          server([this](const Request& request) -> Reply {
              if (request.method == "GET") {
                  return {.body = R"({"allocations":{"rp-1":{"generation":3,"resources":)"
                                  R"({"VCPU":1}},"rp-2":{"generation":1,"resources":{"VCPU":2}}},)"
                                  R"("consumer_generation":4,"project_id":"p","user_id":"u",)"
                                  R"("resource_providers":[]})"};
              }
              const int status = statuses.front();
              statuses.pop_front();
              return {.status = status,
                      .body = fmt::format(R"({{"errors":[{{"detail":"{}",)"
                                          R"("code":"placement.concurrent_update"}}]}})",
                                          detail)};
          }) {}
    std::deque<int> statuses;
    std::string detail;
    ScriptServer server;
};

TEST(ClientsReport, AllocationWritesAreRepeatedWithJitter) {
    MiniAllocations placement({409, 409, 204}, "inventory changed while attempting to allocate");
    Reporter reporter(placement.server.url());
    ASSERT_TRUE(reporter.report.remove_provider_from(reporter.caller, "c", "rp-1").ok());
    EXPECT_EQ(reporter.waits.size(), 2u);
    const auto last = placement.server.requests().back();
    EXPECT_EQ(last.body, R"({"allocations":{"rp-2":{"resources":{"VCPU":2}}},"project_id":"p",)"
                         R"("user_id":"u","consumer_generation":4})");
}

TEST(ClientsReport, AnotherWriterOfTheSameConsumerWins) {
    MiniAllocations placement({409}, "consumer generation conflict - expected 5 but got 4");
    Reporter reporter(placement.server.url());
    const auto outcome = reporter.report.delete_allocations(reporter.caller, "c", false);
    ASSERT_FALSE(outcome.ok());
    EXPECT_EQ(outcome.error().fault, "AllocationDeleteFailed");
    EXPECT_TRUE(reporter.waits.empty());
}

TEST(ClientsPlacement, AnInventoryInUseIsNoConflict) {
    ScriptServer server([](const Request&) {
        return Reply{.status = 409,
                     .body = R"({"errors":[{"detail":"Inventory for 'VCPU' on resource provider)"
                             R"( 'x' in use.","code":"placement.inventory.inuse"}]})"};
    });
    Reporter reporter(server.url());
    const auto outcome = reporter.placement.set_inventories(reporter.caller, "x", {}, 1);
    ASSERT_FALSE(outcome.ok());
    EXPECT_EQ(outcome.error().fault, "InventoryInUse");
}

TEST(ClientsPlacement, AProviderSomebodyMadeIsRead) {
    ScriptServer server([](const Request& request) {
        if (request.method == "GET") {
            return Reply{.body = R"({"uuid":"x","name":"cn1","generation":5})"};
        }
        return Reply{.status = 409,
                     .body = request.body.find("taken") == std::string::npos
                                 ? R"({"errors":[{"detail":"Conflicting uuid"}]})"
                                 : R"({"errors":[{"detail":"Conflicting resource provider name: )"
                                   R"(taken already exists."}]})"};
    });
    Reporter reporter(server.url());
    EXPECT_EQ(reporter.placement.create_provider(reporter.caller, "x", "cn1").value().generation,
              5);
    const auto taken = reporter.placement.create_provider(reporter.caller, "x", "taken");
    ASSERT_FALSE(taken.ok());
    EXPECT_EQ(taken.error().fault, "ResourceProviderCreationFailed");
}

TEST(ClientsPlacement, HostileRepliesAreErrors) {
    for (const char* body : {"", "[]", "{}", R"({"inventories":{"VCPU":{"total":-1}}})",
                             R"({"resource_provider_generation":"x","inventories":{}})",
                             R"({"resource_provider_generation":1,"inventories":{"VCPU":7}})"}) {
        ScriptServer server([&](const Request&) { return Reply{.body = body}; });
        Reporter reporter(server.url());
        EXPECT_FALSE(reporter.placement.inventories(reporter.caller, "x").ok()) << body;
    }
}

TEST(ClientsTree, OrdersParentsFirstAndSurvivesARing) {
    ProviderTree tree;
    tree.put({.uuid = "c", .parent_uuid = "b", .root_uuid = "a"});
    tree.put({.uuid = "a", .root_uuid = "a"});
    tree.put({.uuid = "b", .parent_uuid = "a", .root_uuid = "a"});
    EXPECT_EQ(tree.uuids_top_down(), (std::vector<std::string>{"a", "b", "c"}));
    tree.drop("b");
    EXPECT_EQ(tree.uuids_top_down(), std::vector<std::string>{"a"});
    tree.put({.uuid = "x", .parent_uuid = "y"});
    tree.put({.uuid = "y", .parent_uuid = "x"});
    EXPECT_EQ(tree.uuids_top_down().size(), 3u);
    tree.drop("x");
    EXPECT_EQ(tree.uuids_top_down().size(), 1u);
}

TEST(ClientsInventory, RatiosComeFromConfigurationThenPlacementThenDefault) {
    RootResources resources{.vcpus = 8, .memory_mb = 1000, .reserved_memory_mb = 5000};
    auto inventories = root_inventory(resources);
    EXPECT_EQ(inventories["VCPU"].allocation_ratio, 4.0);
    EXPECT_EQ(inventories["MEMORY_MB"].reserved, 1000);
    EXPECT_FALSE(inventories.contains("DISK_GB"));
    const Inventories existing = {{"VCPU", {.total = 8, .allocation_ratio = 2.5}}};
    EXPECT_EQ(root_inventory(resources, existing)["VCPU"].allocation_ratio, 2.5);
    resources.cpu_ratio.configured = 9.0;
    EXPECT_EQ(root_inventory(resources, existing)["VCPU"].allocation_ratio, 9.0);
}

}  // namespace
}  // namespace kumoi::clients
