// Python's own oslo.messaging as the other side, in both roles.
#include <signal.h>
#include <sys/wait.h>

#include "api/amqp/notifier.h"
#include "base/subprocess.h"
#include "tests/functional/amqp/rpc_lab.h"

namespace kumoi::amqp {
namespace {

std::vector<std::string> python(const std::string& mode, const std::string& extra = {}) {
    std::vector<std::string> argv = {"/usr/bin/python3", "-B", "python_peer.py", mode,
                                     broker->url()};
    if (!extra.empty()) {
        argv.push_back(extra);
    }
    return argv;
}

std::vector<Json> json_lines(const std::string& text) {
    std::vector<Json> found;
    for (size_t start = 0; start < text.size();) {
        const size_t end = std::min(text.find('\n', start), text.size());
        auto line = Json::parse(std::string_view(text).substr(start, end - start));
        EXPECT_TRUE(line.ok()) << text;
        found.push_back(std::move(line).value());
        start = end + 1;
    }
    return found;
}

TEST(Interop, PythonCallsOurServer) {
    Peer peer;
    Server server(peer);
    const auto output = run_command(python("client"));
    ASSERT_TRUE(output.ok()) << output.error().text();
    ASSERT_EQ(output->exit_code, 0) << output->err;
    const std::vector<Json> answers = json_lines(output->out);
    ASSERT_EQ(answers.size(), 8u) << output->out;
    const Json* echoed = answers[0].find("result");
    ASSERT_NE(echoed, nullptr) << output->out;
    EXPECT_EQ(echoed->find_path({"args", "text"})->as_string(), "grüß 😀");
    EXPECT_EQ(echoed->find_path({"args", "number"})->as_double(), 1.5);
    EXPECT_EQ(echoed->find_path({"args", "big"})->as_int64(), int64_t{1} << 60);
    EXPECT_EQ(echoed->find_path({"context", "request_id"})->as_string(), "req-py");
    EXPECT_EQ(answers[1].string_or("class"), "InstanceNotFound_Remote");
    EXPECT_THAT(answers[1].string_or("message"),
                ::testing::StartsWith("Instance abc could not be found."));
    EXPECT_EQ(answers[1].integer_or("code"), 404);
    EXPECT_EQ(answers[2].string_or("exc_type"), "NoSuchMethod");
    EXPECT_EQ(answers[3].string_or("exc_type"), "UnsupportedVersion");
    EXPECT_EQ(answers[4].find_path({"result", "arg"})->as_string(), "hello");
    EXPECT_NE(answers[5].find("result"), nullptr) << "signs of life: " << answers[5].dump();
    EXPECT_TRUE(server.wait_for_calls(5));
}

class PythonServer {
public:
    PythonServer() {
        auto started = spawn_daemon(python("server"), {.log_path = broker->folder() + "/python"});
        EXPECT_TRUE(started.ok());
        pid_ = std::move(started).value_or(-1);
    }
    ~PythonServer() {
        ::kill(-pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }

private:
    pid_t pid_ = -1;
};

TEST(Interop, OurClientCallsAPythonServer) {
    const PythonServer server;
    Peer peer;
    AmqpRpcClient client(*peer.transport);
    const Target target{.topic = "pytopic", .server = "pyhost", .version = "6.0"};
    const Json context = Json::object({{"request_id", "req-c"}});
    // The first call waits until Python has declared its queues.
    const auto answer =
        client.call(target, context, "echo", Json::object({{"text", "grüß 😀"}, {"none", Json()}}));
    ASSERT_TRUE(answer.ok()) << answer.error().text();
    EXPECT_EQ(answer->find_path({"args", "text"})->as_string(), "grüß 😀");
    EXPECT_EQ(answer->find_path({"context", "request_id"})->as_string(), "req-c");
    const Error failed = client.call(target, context, "fail", Json::object()).error();
    EXPECT_EQ(failed.fault, "InstanceNotFound");
    EXPECT_EQ(failed.code, ErrorCode::NotFound);
    EXPECT_EQ(client.call(target, context, "crash", Json::object()).error().fault, "KeyError");
    EXPECT_EQ(client.call(target, context, "nothing", Json::object()).error().fault,
              "NoSuchMethod");
    Target later = target;
    later.version = "6.9";
    EXPECT_EQ(client.call(later, context, "echo", Json::object()).error().fault,
              "UnsupportedVersion");
    const auto slow = client.call(target, context, "slow", Json::object({{"seconds", 4}}),
                                  {.timeout_ms = 30'000, .call_monitor_timeout_s = 3});
    EXPECT_TRUE(slow.ok()) << slow.error().text();
}

TEST(Interop, PythonHearsOurNotifications) {
    AmqpOptions options;
    options.notification_drivers = {"messagingv2"};
    options.notification_format = "both";
    Peer peer(options);
    const auto notifier = Notifier::create(*peer.transport).value();
    const Json context = Json::object({{"request_id", "req-n"}});
    notifier->notify(Notifier::Format::Legacy, "INFO", "compute.h", "compute.instance.create.end",
                     Json::object({{"memory_mb", 512}}), context);
    notifier->notify(Notifier::Format::Versioned, "INFO", "nova-compute:h", "instance.create.end",
                     Json::object({{"nova_object.name", "x"}}), context);
    const auto output = run_command(python("listen", "4"));
    ASSERT_TRUE(output.ok() && output->exit_code == 0) << output->err;
    std::vector<std::string> heard;
    for (const Json& line : json_lines(output->out)) {
        heard.push_back(line.string_or("publisher") + " " + line.string_or("event_type"));
    }
    EXPECT_THAT(heard, ::testing::UnorderedElementsAre("compute.h compute.instance.create.end",
                                                       "nova-compute:h instance.create.end"))
        << output->out << output->err;
}

}  // namespace
}  // namespace kumoi::amqp

int main(int argc, char** argv) {
    if (!kumoi::path_exists("/usr/lib/python3/dist-packages/oslo_messaging")) {
        std::puts("amqp functional tests skipped: python3-oslo.messaging is not installed");
        return 0;
    }
    return kumoi::amqp::lab_main(argc, argv);
}
