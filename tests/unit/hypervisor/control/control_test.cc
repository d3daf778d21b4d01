#include <array>
#include <cerrno>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "base/file.h"
#include "hypervisor/control/control_client.h"
#include "hypervisor/control/control_server.h"

namespace kumoi::hypervisor {
namespace {

TEST(ControlProtocol, RefusesWhatIsNoRequest) {
    for (const std::string_view line :
         {"", "[]", "{}", "{\"method\":7}", "{\"method\":\"a\",\"params\":[]}",
          "{\"method\":\"a\",\"extra\":1}", "{\"id\":{},\"method\":\"a\"}", "{\"method\":\"a\"",
          "{\"id\":1.5,\"method\":\"a\"}"}) {
        EXPECT_FALSE(parse_control_request(line).ok()) << line;
    }
}

TEST(ControlProtocol, EchoesIdsAndCarriesErrors) {
    const auto request = parse_control_request(R"({"id":"x","method":"pause"})");
    ASSERT_TRUE(request.ok());
    EXPECT_EQ(request->id, Json("x"));
    EXPECT_TRUE(request->params.is_object());
    const auto line =
        control_error_line(request->id, Error::conflict("it is {}", "off").with_hint("start it"));
    EXPECT_EQ(line,
              "{\"id\":\"x\",\"error\":{\"code\":\"conflict\",\"message\":\"it is off\","
              "\"hint\":\"start it\"}}\n");
    const Json answer = Json::parse(line).value();
    const Error error = control_error(*answer.find("error"));
    EXPECT_EQ(error.code, ErrorCode::Conflict);
    EXPECT_EQ(error.hint, "start it");
    EXPECT_EQ(control_error_code("no such"), ErrorCode::Internal);
}

TEST(LineBuffer, CutsLinesFromAnyPieces) {
    LineBuffer buffer(8);
    ASSERT_TRUE(buffer.append("ab").ok());
    EXPECT_FALSE(buffer.next_line());
    ASSERT_TRUE(buffer.append("c\r\n\nde").ok());
    EXPECT_EQ(buffer.next_line(), "abc");
    EXPECT_EQ(buffer.next_line(), "");
    EXPECT_FALSE(buffer.next_line());
    ASSERT_TRUE(buffer.append("f\n").ok());
    EXPECT_EQ(buffer.next_line(), "def");
    EXPECT_FALSE(buffer.append("123456789").ok());
}

// A server on its own thread's loop, as in a kumoi-vmm.
class ControlSocketTest : public ::testing::Test {
protected:
    void SetUp() override {
        auto server = ControlServer::listen(
            loop, direct_files(), path,
            [this](const ControlRequest& request) {
                if (request.method == "fail") {
                    return Result<Json>(Error::conflict("no"));
                }
                if (request.method == "read") {
                    return read_passed(request.params.string_or("path"));
                }
                return Result<Json>(
                    Json::object({{"method", request.method}, {"params", request.params}}));
            },
            &table);
        ASSERT_TRUE(server.ok()) << server.error().text();
        control = std::move(server).value();
        thread = std::thread([this] { loop.run(); });
    }
    void TearDown() override {
        if (thread.joinable()) {
            loop.stop();
            thread.join();
        }
        control.reset();
    }
    ControlClient connect() {
        auto client = ControlClient::connect(path, 2000);
        EXPECT_TRUE(client.ok()) << client.error().text();
        return std::move(client).value();
    }
    void publish(std::string name) {
        loop.post([this, name] { control->publish({name, Json::object({{"n", 1}})}); });
    }
    Result<Json> read_passed(const std::string& name) {
        const UniqueFd fd = TRY(table.open(name, O_RDONLY));
        std::array<std::byte, 64> bytes;
        const size_t count = TRY(pread_some(fd.get(), bytes, 0));
        return Json::object(
            {{"text", std::string(reinterpret_cast<const char*>(bytes.data()), count)}});
    }
    UniqueFd file_with(const std::string& name, std::string_view text) {
        const std::string file = directory.path() + "/" + name;
        EXPECT_TRUE(write_file_atomic(file, text).ok());
        return open_file(file, O_RDONLY).value();
    }
    SystemClock clock;
    EventLoop loop{clock};
    PassedFiles table;
    TemporaryDirectory directory = TemporaryDirectory::create("control-test").value();
    std::string path = directory.path() + "/c.sock";
    std::unique_ptr<ControlServer> control;
    std::thread thread;
};

TEST_F(ControlSocketTest, AnswersManyClients) {
    std::vector<ControlClient> clients;
    for (int i = 0; i < 10; ++i) {
        clients.push_back(connect());
    }
    for (auto& client : clients) {
        const auto answer = client.call("state", Json::object({{"a", 1}}), 2000);
        ASSERT_TRUE(answer.ok()) << answer.error().text();
        EXPECT_EQ(answer->string_or("method"), "state");
    }
    const auto refused = clients[0].call("fail", Json::object(), 2000);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::Conflict);
    EXPECT_TRUE(clients[0].connected());
}

TEST_F(ControlSocketTest, DescriptorsComeUnderTheirNames) {
    auto client = connect();
    const UniqueFd one = file_with("one", "first");
    const UniqueFd two = file_with("two", "second");
    const std::vector<NamedDescriptor> both = {{"/x/one", one.get()}, {"/x/two", two.get()}};
    for (const auto& [name, text] : {std::pair("/x/one", "first"), std::pair("/x/two", "second")}) {
        const auto answer = client.call("read", Json::object({{"path", name}}), 2000, both);
        ASSERT_TRUE(answer.ok()) << answer.error().text();
        EXPECT_EQ(answer->string_or("text"), text);
    }
    // What the method did not take is gone with it, and so is what it took.
    const auto late = client.call("read", Json::object({{"path", "/x/two"}}), 2000);
    EXPECT_EQ(late.error().code, ErrorCode::NotFound);
    // A long request goes out in pieces; the descriptors are still the request's.
    const Json long_params =
        Json::object({{"path", "/x/one"}, {"filler", std::string(900'000, 'f')}});
    EXPECT_TRUE(client.call("read", long_params, 5000, both).ok());
}

TEST_F(ControlSocketTest, WrongDescriptorsAreRefused) {
    auto client = connect();
    const UniqueFd file = file_with("file", "content");
    const UniqueFd folder = open_file(directory.path(), O_RDONLY | O_DIRECTORY).value();
    const auto read = [&](const std::string& name, int fd) {
        const NamedDescriptor descriptor{name, fd};
        return client.call("read", Json::object({{"path", name}}), 2000, std::span(&descriptor, 1))
            .error()
            .code;
    };
    EXPECT_EQ(read("/", folder.get()), ErrorCode::InvalidArgument);
    EXPECT_EQ(read("/folder", folder.get()), ErrorCode::InvalidArgument);
    EXPECT_EQ(read("relative", file.get()), ErrorCode::InvalidArgument);
    EXPECT_EQ(read("tap:", file.get()), ErrorCode::InvalidArgument);
    EXPECT_EQ(read("tap:tap0", file.get()), ErrorCode::InvalidArgument);
    EXPECT_EQ(read("listen:/door", file.get()), ErrorCode::InvalidArgument);
    EXPECT_EQ(read("connect:/door", client.fd()), ErrorCode::NotFound);  // right kind, no file
    EXPECT_EQ(read("listen:/door", client.fd()), ErrorCode::InvalidArgument);
    EXPECT_EQ(read("tcp:127.0.0.1:1", client.fd()), ErrorCode::InvalidArgument);
    // A refused request does not leave its descriptors to the next one.
    loop.post([this] { EXPECT_EQ(table.size(), 0u); });
    EXPECT_TRUE(client.call("state", Json::object(), 2000).ok());

    std::vector<NamedDescriptor> many(kControlFdsMax + 1, {"/x", file.get()});
    EXPECT_EQ(client.call("read", Json::object(), 2000, many).error().code,
              ErrorCode::InvalidArgument);
    many.pop_back();
    EXPECT_TRUE(client.call("state", Json::object(), 2000, many).ok());
}

TEST_F(ControlSocketTest, NamesWithoutDescriptorsAndDescriptorsWithoutNames) {
    const UniqueFd raw = direct_files().connect(path).value();
    const auto exchange = [&raw](std::string_view line, std::vector<int> descriptors) {
        iovec vector{const_cast<char*>(line.data()), line.size()};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 40)> ancillary{};
        msghdr message{};
        message.msg_iov = &vector;
        message.msg_iovlen = 1;
        if (!descriptors.empty()) {
            message.msg_control = ancillary.data();
            message.msg_controllen = CMSG_SPACE(sizeof(int) * descriptors.size());
            cmsghdr* header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int) * descriptors.size());
            std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size() * sizeof(int));
        }
        EXPECT_EQ(sendmsg(raw.get(), &message, 0), static_cast<ssize_t>(line.size()));
        std::array<char, 4096> answer{};
        const ssize_t count = recv(raw.get(), answer.data(), answer.size(), 0);
        return std::string(answer.data(), static_cast<size_t>(std::max<ssize_t>(count, 0)));
    };
    EXPECT_NE(exchange("{\"method\":\"state\",\"fds\":[\"/a\"]}\n", {}).find("1 descriptors and 0"),
              std::string::npos);
    EXPECT_NE(exchange("{\"method\":\"state\",\"fds\":[7]}\n", {}).find("fds[0]"),
              std::string::npos);
    EXPECT_NE(exchange("{\"method\":\"state\",\"fds\":[\"\"]}\n", {}).find("fds[0]"),
              std::string::npos);
    // Unnamed ones pile up to a limit; then the client is cut off.
    const std::vector<int> forty(40, raw.get());
    EXPECT_NE(exchange("{\"method\":\"state\"}\n", forty).find("result"), std::string::npos);
    EXPECT_NE(exchange("{\"method\":\"state\"}\n", forty).find("too_large"), std::string::npos);
    std::array<char, 64> end;
    EXPECT_LE(recv(raw.get(), end.data(), end.size(), 0), 0);
}

TEST_F(ControlSocketTest, SendsEventsToSubscribersOnly) {
    auto listener = connect();
    auto other = connect();
    ASSERT_TRUE(listener.call("subscribe", Json::object(), 2000).ok());
    ASSERT_TRUE(other.call("state", Json::object(), 2000).ok());
    publish("paused");
    const auto event = listener.wait_event(2000);
    ASSERT_TRUE(event.ok()) << event.error().text();
    ASSERT_TRUE(event->has_value());
    EXPECT_EQ((*event)->name, "paused");
    const auto none = other.wait_event(0);
    ASSERT_TRUE(none.ok());
    EXPECT_FALSE(none->has_value());
}

TEST_F(ControlSocketTest, WhoSubscribesToAnEndingMachineIsToldSo) {
    publish("paused");
    publish("exiting");
    auto late = connect();
    ASSERT_TRUE(late.call("subscribe", Json::object(), 2000).ok());
    EXPECT_EQ((*late.wait_event(2000).value()).name, "exiting");
}

TEST_F(ControlSocketTest, KeepsEventsThatComeDuringACall) {
    auto client = connect();
    ASSERT_TRUE(client.call("subscribe", Json::object(), 2000).ok());
    publish("one");
    publish("two");
    ASSERT_TRUE(client.call("state", Json::object(), 2000).ok());
    EXPECT_EQ((*client.wait_event(2000).value()).name, "one");
    EXPECT_EQ((*client.wait_event(2000).value()).name, "two");
}

TEST_F(ControlSocketTest, ARudeClientIsCutOffAndOthersGoOn) {
    auto good = connect();
    auto rude = connect();
    const std::string chunk(4096, 'x');
    const int64_t deadline = clock.monotonic_ns() + 10 * kNanosPerSecond;
    bool cut_off = false;
    while (!cut_off && clock.monotonic_ns() < deadline) {
        const ssize_t sent = send(rude.fd(), chunk.data(), chunk.size(), MSG_NOSIGNAL);
        cut_off = sent < 0 && errno != EAGAIN && errno != EINTR;
    }
    EXPECT_TRUE(cut_off);
    EXPECT_TRUE(good.call("state", Json::object(), 2000).ok());
}

TEST_F(ControlSocketTest, RubbishGetsAnErrorAndTheConnectionLives) {
    auto client = connect();
    const std::string rubbish = "this is not JSON\n";
    ASSERT_TRUE(write_all(client.fd(), std::as_bytes(std::span(rubbish))).ok());
    const auto answer = client.call("state", Json::object(), 2000);
    ASSERT_TRUE(answer.ok()) << answer.error().text();
}

TEST_F(ControlSocketTest, TellsThatTheMachineHasGone) {
    auto client = connect();
    ASSERT_TRUE(client.call("state", Json::object(), 2000).ok());
    loop.stop();
    thread.join();
    control.reset();
    const auto answer = client.call("state", Json::object(), 2000);
    ASSERT_FALSE(answer.ok());
    EXPECT_EQ(answer.error().code, ErrorCode::Unavailable);
    EXPECT_FALSE(client.connected());
    EXPECT_EQ(ControlClient::connect(path, 100).error().code, ErrorCode::NotFound);
}

TEST_F(ControlSocketTest, RefusesASocketThatIsInUseAndReplacesAStaleOne) {
    EventLoop other(clock);
    const auto second = ControlServer::listen(
        other, direct_files(), path, [](const ControlRequest&) { return Result<Json>(Json()); });
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().code, ErrorCode::Conflict);
    const std::string file = directory.path() + "/file";
    ASSERT_TRUE(write_file_atomic(file, "precious").ok());
    EXPECT_FALSE(StreamServer::listen(other, direct_files(), file, {}, {}).ok());
    EXPECT_EQ(read_file(file).value(), "precious");
    EXPECT_FALSE(StreamServer::listen(other, direct_files(), std::string(200, 'p'), {}, {}).ok());
}

}  // namespace
}  // namespace kumoi::hypervisor
