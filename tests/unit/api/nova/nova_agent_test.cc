// Passwords and still file systems, as a Nova cloud asks for them and records them, with a fault at
// every step.
#include "compute/server_password.h"
#include "compute/ssh_key.h"
#include "tests/support/fault_matrix.h"

namespace kumoi::nova {
namespace {

using namespace fault_matrix;

const Json kSecret = Json::object({{"new_pass", "s3cret"}});

std::vector<Case> cases() {
    return {{"set password",
             build,
             verb(task_states::kUpdatingPassword, "set_admin_password", kSecret),
             {"active"}}};
}

TEST(NovaAgent, APasswordIsSetAndItsCipherKeptInNovasRecords) {
    NovaWorld world;
    world.start_node();
    build(world);
    const auto pair = compute::generate_ssh_keypair(compute::SshKeyKind::Rsa2048, "me").value();
    world.database.set(NovaWorld::kUuid, "key_data", pair.public_key);
    world.set_task(task_states::kUpdatingPassword);
    const auto set = world.request("set_admin_password", kSecret);
    ASSERT_TRUE(set.ok()) << set.error().text();
    EXPECT_EQ(world.driver.admin_password(NovaWorld::kUuid), "s3cret");
    EXPECT_EQ(world.task_state(), "");
    const Json record = world.database.primitive(NovaWorld::kUuid);
    const Json* metadata = record.find_path({"nova_object.data", "system_metadata"});
    ASSERT_NE(metadata, nullptr);
    EXPECT_EQ(metadata->string_or("password_0").size(), compute::kPasswordPieceMax);
    EXPECT_EQ(metadata->string_or("password_1").size(), 344 - compute::kPasswordPieceMax);
    for (const auto& sent : world.database.sent) {
        EXPECT_EQ(sent.args.dump().find("s3cret"), std::string::npos) << sent.method;
    }
}

TEST(NovaAgent, ARefusalIsNovasAndTheServerIsFreeAgain) {
    NovaWorld world;
    world.start_node();
    build(world);
    const auto fail = std::exchange(world.log.fail, [](const std::string& call) {
        return call == "driver.set_admin_password"
                   ? Result<void>(Error::conflict("QEMU guest agent is not enabled")
                                      .with_fault("QemuGuestAgentNotEnabled"))
                   : Result<void>();
    });
    world.set_task(task_states::kUpdatingPassword);
    EXPECT_EQ(world.request("set_admin_password", kSecret).error().fault,
              "QemuGuestAgentNotEnabled");
    EXPECT_EQ(world.task_state(), "");
    EXPECT_EQ(world.vm_state(), "active");
    EXPECT_EQ(world.database.faults[NovaWorld::kUuid], 1);
    world.log.fail = fail;
}

TEST(NovaAgent, FileSystemsStandStillBetweenTwoRequests) {
    NovaWorld world;
    world.start_node();
    build(world);
    ASSERT_TRUE(world.request("quiesce_instance").ok());
    EXPECT_TRUE(world.driver.frozen(NovaWorld::kUuid));
    Json mapping = Json::array();
    mapping.push_back(Json::object({{"source_type", "snapshot"}, {"snapshot_id", "unknown"}}));
    ASSERT_TRUE(world.request("unquiesce_instance", Json::object({{"mapping", mapping}})).ok());
    EXPECT_FALSE(world.driver.frozen(NovaWorld::kUuid));
}

TEST(NovaAgent, TheDaemonIsKilledAtEveryBorder) {
    strike_everywhere(cases(), NovaWorld::Fault::Crash, 4);
}

TEST(NovaAgent, EveryStepFailsOnce) {
    strike_everywhere(cases(), NovaWorld::Fault::Refuse, 3);
}

TEST(NovaAgent, NothingAnswersForAWhileFromEveryStepOn) {
    strike_everywhere(cases(), NovaWorld::Fault::Outage, 3);
}

TEST(NovaAgent, EveryAnswerIsLostOnce) {
    strike_everywhere(cases(), NovaWorld::Fault::NoAnswer, 2);
}

}  // namespace
}  // namespace kumoi::nova
