// What the client decides by itself: which record is meant, which flavor and network, how fit the
// host is.
#include <gtest/gtest.h>

#include "api/cli/exit_code.h"
#include "api/cli/find.h"
#include "api/cli/local_machines.h"
#include "api/cli/preflight.h"
#include "api/cli/server_launch.h"
#include "api/cli/server_waiting.h"
#include "api/cli/session.h"
#include "base/file.h"

namespace kumoi::cli {
namespace {

Json json(const char* text) {
    return Json::parse(text).value();
}

const Json::Array& servers() {
    static const Json::Array kServers =
        json(R"([{"id":"aa11","name":"web-1"},{"id":"aa22","name":"web-10"},
                 {"id":"bb33","name":"db"},{"id":"cc44","name":"db"}])")
            .as_array();
    return kServers;
}

TEST(FindOne, PrefersIdThenNameThenAUniqueBeginning) {
    EXPECT_EQ(find_one("server", servers(), "aa22").value().string_or("name"), "web-10");
    EXPECT_EQ(find_one("server", servers(), "web-1").value().string_or("id"), "aa11");
    EXPECT_EQ(find_one("server", servers(), "web-10").value().string_or("id"), "aa22");
    EXPECT_EQ(find_one("server", servers(), "bb").value().string_or("id"), "bb33");
}

TEST(FindOne, ListsWhatIsMeantTwiceAndSuggestsWhatIsMeant) {
    const auto twice = find_one("server", servers(), "db");
    EXPECT_EQ(twice.error().code, ErrorCode::Conflict);
    EXPECT_NE(twice.error().message.find("db (bb33), db (cc44)"), std::string::npos);
    EXPECT_EQ(find_one("server", servers(), "web").error().code, ErrorCode::Conflict);
    const auto typo = find_one("server", servers(), "wbe-1");
    EXPECT_EQ(typo.error().code, ErrorCode::NotFound);
    EXPECT_EQ(typo.error().hint, "Did you mean web-1?");
    EXPECT_EQ(find_one("server", servers(), "").error().code, ErrorCode::InvalidArgument);
}

TEST(Launch, ChoosesTheSmallestFlavorThatFits) {
    const auto flavors = json(R"([{"name":"big","ram":4096,"vcpus":2,"disk":40},
        {"name":"tiny","ram":256,"vcpus":1,"disk":1},{"name":"small","ram":512,"vcpus":1,"disk":10},
        {"name":"fast","ram":512,"vcpus":2,"disk":10}])")
                             .as_array();
    const auto name = [&](const char* image) {
        return choose_flavor(flavors, json(image)).value().string_or("name");
    };
    EXPECT_EQ(name(R"({"min_ram":0,"min_disk":0,"size":1000})"), "tiny");
    EXPECT_EQ(name(R"({"min_ram":300,"size":1000})"), "small");
    EXPECT_EQ(name(R"({"virtual_size":2147483649,"size":1000})"), "small");
    EXPECT_EQ(name(R"({"min_disk":11})"), "big");
    const auto none = choose_flavor(flavors, json(R"({"name":"x","min_ram":9000})"));
    EXPECT_EQ(exit_code(none.error()), kRefused);
    EXPECT_NE(none.error().message.find("9000 MiB"), std::string::npos);
}

TEST(Launch, TakesTheOnlyNetworkAndAsksAmongSeveral) {
    const auto choose = [](const char* text) { return choose_network(json(text).as_array()); };
    EXPECT_EQ(choose("[]").value().dump(), "\"none\"");
    EXPECT_EQ(choose(R"([{"id":"n1","name":"a"},{"id":"n2","name":"out","router:external":true}])")
                  .value()
                  .dump(),
              R"([{"uuid":"n1"}])");
    const auto several = choose(R"([{"id":"n1","name":"a"},{"id":"n2","name":"b"}])");
    EXPECT_EQ(exit_code(several.error()), kUsage);
    EXPECT_NE(several.error().message.find("a, b"), std::string::npos);
}

TEST(Waiting, NamesPhasesAndFaults) {
    EXPECT_EQ(phase_of(json(R"({"status":"BUILD","OS-EXT-STS:task_state":"scheduling"})")),
              "scheduling");
    EXPECT_EQ(phase_of(json(R"({"status":"BUILD","OS-EXT-STS:task_state":"spawning"})")),
              "building (spawning)");
    EXPECT_EQ(phase_of(json(R"({"status":"SHUTOFF","OS-EXT-STS:task_state":null})")), "shutoff");
    EXPECT_EQ(first_address(json(R"({"addresses":{"n":[{"addr":"10.0.0.5"}]}})")), "10.0.0.5");
    EXPECT_EQ(first_address(json(R"({"addresses":{}})")), "");
    const Error no_host = fault_of(json(R"({"name":"db","fault":{"code":500,
        "message":"No valid host was found. cn-1: RamFilter: 9 MiB usable, 16 MiB requested"}})"));
    EXPECT_EQ(exit_code(no_host), kRefused);
    EXPECT_NE(no_host.message.find("RamFilter"), std::string::npos);
    EXPECT_EQ(exit_code(fault_of(json(R"({"name":"db"})"))), kFailed);
}

TEST(ExitCodes, AreThePromisedOnes) {
    EXPECT_EQ(exit_code(Error::invalid("x")), 2);
    EXPECT_EQ(exit_code(Error::not_found("x")), 3);
    EXPECT_EQ(exit_code(Error::conflict("x")), 4);
    EXPECT_EQ(exit_code(Error::forbidden("x")), 5);
    EXPECT_EQ(exit_code(Error::timeout("x")), 6);
    EXPECT_EQ(exit_code(Error::unavailable("x")), 7);
    EXPECT_EQ(exit_code(Error::internal("x")), 1);
}

TEST(Preflight, JudgesProcessors) {
    EXPECT_EQ(judge_processor("flags : fpu vmx sse\n", true).verdict, Verdict::Good);
    EXPECT_EQ(judge_processor("flags : fpu svm hypervisor\n", true).verdict, Verdict::Warning);
    const Finding slow = judge_processor("flags : fpu hypervisor\n", true);
    EXPECT_EQ(slow.verdict, Verdict::Warning);
    EXPECT_NE(slow.text.find("ring 0"), std::string::npos);
    EXPECT_EQ(judge_processor("flags : fpu vmxoff\n", false).verdict, Verdict::Bad);
}

TEST(Preflight, JudgesMemoryAndClock) {
    EXPECT_EQ(judge_memory("MemTotal: 9\nMemAvailable:   1048576 kB\n").text,
              "1024 MiB of memory available");
    EXPECT_EQ(judge_memory("MemAvailable: 1024 kB\n").verdict, Verdict::Warning);
    EXPECT_EQ(judge_memory("").verdict, Verdict::Warning);
    EXPECT_EQ(judge_clock(0).verdict, Verdict::Bad);
    EXPECT_EQ(judge_clock(1'795'000'000LL * kNanosPerSecond).verdict, Verdict::Good);
}

TEST(LocalMachines, ABrokenFolderHidesNoOther) {
    const auto directory = TemporaryDirectory::create("cli").value();
    const std::string good = directory.path() + "/0b0c8f5e-3c5c-4a51-8a3f-0123456789ab";
    const std::string broken = directory.path() + "/1b0c8f5e-3c5c-4a51-8a3f-0123456789ab";
    for (const std::string& path : {good, broken, directory.path() + "/lost+found"}) {
        ASSERT_TRUE(make_directories(path).ok());
    }
    ASSERT_TRUE(write_file_atomic(good + "/config.json",
                                  R"({"name":"web","flavor":{"vcpus":2,"memory_mb":64},
                                  "vifs":[{"fixed_ips":[{"address":"10.0.0.2"}]}]})")
                    .ok());
    ASSERT_TRUE(write_file_atomic(good + "/console.log.1", "a\nb\n").ok());
    ASSERT_TRUE(write_file_atomic(good + "/console.log", "c\nd").ok());
    ASSERT_TRUE(write_file_atomic(broken + "/config.json", "{").ok());
    const auto machines = local_machines(directory.path()).value();
    ASSERT_EQ(machines.size(), 2u);
    EXPECT_EQ(machines[0].string_or("name"), "web");
    EXPECT_EQ(machines[0].string_or("state"), "stopped");
    EXPECT_EQ(machines[0].string_or("address"), "10.0.0.2");
    EXPECT_NE(machines[1].string_or("problem").find("config.json"), std::string::npos);
    EXPECT_EQ(call_machine(machines[0], "pause").error().code, ErrorCode::Conflict);
    EXPECT_EQ(console_log(machines[0], 0).value(), "a\nb\nc\nd");
    EXPECT_EQ(console_log(machines[0], 2).value(), "c\nd");
    EXPECT_EQ(local_machines(directory.path() + "/none").value().size(), 0u);
}

TEST(LastLines, CountsFromTheEnd) {
    EXPECT_EQ(last_lines("a\nb\nc\n", 2), "b\nc\n");
    EXPECT_EQ(last_lines("a\nb\nc\n", 9), "a\nb\nc\n");
    EXPECT_EQ(last_lines("", 3), "");
}

TEST(ConfigValue, ReadsTheDefaultSectionOnly) {
    const char* text = "[DEFAULT]\n# state_path = /no\nstate_path = /srv/kumoi\n[api]\nhost = x\n";
    EXPECT_EQ(config_value(text, "state_path"), "/srv/kumoi");
    EXPECT_EQ(config_value(text, "host"), "");
}

}  // namespace
}  // namespace kumoi::cli
