#include "compute/driver/simulated_driver.h"

#include <gtest/gtest.h>

#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

class SimulatedDriverTest : public testing::Test {
protected:
    SimulatedDriver make(SimulatedOptions options = {}) {
        return {options, clock_, random_,
                [this](int64_t nanoseconds) { clock_.advance(nanoseconds); }};
    }
    static Instance server(const std::string& uuid) {
        Instance instance;
        instance.uuid = uuid;
        instance.hostname = "web";
        instance.flavor.memory_mb = 1024;
        instance.flavor.root_gb = 10;
        instance.flavor.vcpus = 2;
        return instance;
    }
    ManualClock clock_;
    SeededRandom random_{7};
};

TEST_F(SimulatedDriverTest, RefusesWhatARealOneWould) {
    SimulatedDriver driver = make();
    EXPECT_EQ(driver.get_info(server("a")).error().fault, "InstanceNotFound");
    EXPECT_FALSE(driver.pause(server("a")).ok());
    EXPECT_FALSE(driver.get_console_output(server("a"), 1).ok());
    ASSERT_TRUE(driver.spawn({{}, server("a"), {}}).ok());
    EXPECT_FALSE(driver.spawn({{}, server("a"), {}}).ok());
    ASSERT_TRUE(driver.power_off(server("a"), 0).ok());
    EXPECT_EQ(driver.pause(server("a")).error().fault, "InstanceInvalidState");
}

TEST_F(SimulatedDriverTest, FailsTheShareOfSpawnsItWasToldTo) {
    SimulatedOptions options;
    options.failure_rate = 0.25;
    SimulatedDriver driver = make(options);
    int failed = 0;
    for (int index = 0; index < 1000; ++index) {
        failed += driver.spawn({{}, server(std::to_string(index)), {}}).ok() ? 0 : 1;
    }
    EXPECT_NEAR(failed, 250, 60);
    EXPECT_EQ(driver.list_instance_uuids()->size(), static_cast<size_t>(1000 - failed));
}

TEST_F(SimulatedDriverTest, TakesItsTimeOnTheInjectedClock) {
    SimulatedOptions options;
    options.spawn_delay_ms = 2000;
    options.operation_delay_ms = 300;
    SimulatedDriver driver = make(options);
    ASSERT_TRUE(driver.spawn({{}, server("a"), {}}).ok());
    EXPECT_EQ(clock_.monotonic_ns(), 2000 * kNanosPerMilli);
    ASSERT_TRUE(driver.reboot(server("a"), RebootType::Hard).ok());
    EXPECT_EQ(clock_.monotonic_ns(), 2300 * kNanosPerMilli);
}

TEST_F(SimulatedDriverTest, FollowsTheVerbs) {
    SimulatedDriver driver = make();
    const Instance instance = server("a");
    ASSERT_TRUE(driver.spawn({{}, instance, {}}).ok());
    EXPECT_EQ(driver.get_info(instance)->power_state, power_states::kRunning);
    EXPECT_EQ(driver.get_available_resource()->memory_mb_used, 1024);
    ASSERT_TRUE(driver.pause(instance).ok());
    EXPECT_EQ(driver.get_info(instance)->power_state, power_states::kPaused);
    ASSERT_TRUE(driver.unpause(instance).ok());
    ASSERT_TRUE(driver.power_off(instance, 60).ok());
    EXPECT_EQ(driver.get_info(instance)->power_state, power_states::kShutdown);
    ASSERT_TRUE(driver.power_on(instance).ok());
    EXPECT_NE(driver.get_console_output(instance, -1)->find("booted"), std::string::npos);
    EXPECT_EQ(driver.get_instance_diagnostics(instance)->integer_or("num_cpus"), 2);
    ASSERT_TRUE(driver.destroy(instance).ok());
    ASSERT_TRUE(driver.destroy(instance).ok());
    EXPECT_TRUE(driver.list_instance_uuids()->empty());
}

TEST_F(SimulatedDriverTest, TellsWhatItsGuestsDo) {
    SimulatedDriver driver = make();
    ASSERT_TRUE(driver.spawn({{}, server("a"), {}}).ok());
    std::vector<LifecycleEvent> events;
    driver.set_event_listener([&](const LifecycleEvent& event) { events.push_back(event); });
    driver.guest_event("a", LifecycleEvent::Kind::Crashed, "panic");
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].detail, "panic");
    EXPECT_EQ(driver.get_info(server("a"))->power_state, power_states::kCrashed);
}

}  // namespace
}  // namespace kumoi::compute
