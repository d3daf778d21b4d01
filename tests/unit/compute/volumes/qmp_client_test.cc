#include "compute/volumes/qmp_client.h"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <thread>
#include <vector>

#include "base/file.h"

namespace kumoi::compute {
namespace {

// A monitor that gives one answer after the other, whatever it is asked, and keeps the questions.
class Monitor {
public:
    explicit Monitor(std::vector<std::string> answers) : answers_(std::move(answers)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path().data(), path().size());
        listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        EXPECT_EQ(
            ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
            0);
        EXPECT_EQ(::listen(listener_.get(), 1), 0);
        thread_ = std::thread([this] { serve(); });
    }
    ~Monitor() { thread_.join(); }
    std::string path() const { return directory_.path() + "/qmp"; }
    // After the client is gone.
    const std::vector<std::string>& asked() {
        thread_.join();
        thread_ = std::thread([] {});
        return asked_;
    }

private:
    void serve() {
        const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        say(client.get(), R"({"QMP": {}})");
        std::string text;
        char bytes[4096];
        for (ssize_t size = 0; (size = ::recv(client.get(), bytes, sizeof bytes, 0)) > 0;) {
            text.append(bytes, static_cast<size_t>(size));
            for (size_t end = 0; (end = text.find('\n')) != std::string::npos;) {
                asked_.push_back(text.substr(0, end));
                text.erase(0, end + 1);
                if (asked_.size() <= answers_.size()) {
                    say(client.get(), answers_[asked_.size() - 1]);
                }
            }
        }
    }
    static void say(int fd, const std::string& line) {
        const std::string bytes = line + "\n";
        (void)::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("qmp").value();
    UniqueFd listener_;
    const std::vector<std::string> answers_;
    std::vector<std::string> asked_;
    std::thread thread_;
};

constexpr char kDone[] = R"({"return": {}})";
constexpr char kGarbled[] =
    R"({"error": {"class": "GenericError", "desc": "QMP input member 'eexcute' is unexpected"}})";

TEST(QmpClientTest, WhatTheDaemonCouldNotReadIsAskedAgain) {
    Monitor monitor({kDone, kGarbled, R"({"return": {"node": 1}})"});
    {
        auto client = QmpClient::connect(monitor.path(), 5'000);
        ASSERT_TRUE(client.ok()) << client.error().text();
        const auto answer = client->call("blockdev-add", Json::object({{"driver", "raw"}}), 5'000);
        ASSERT_TRUE(answer.ok()) << answer.error().text();
        EXPECT_EQ(answer->integer_or("node"), 1);
    }
    const auto& asked = monitor.asked();
    ASSERT_EQ(asked.size(), 3u);
    EXPECT_EQ(asked[1], asked[2]);
}

TEST(QmpClientTest, ARefusalIsNotAskedAgain) {
    Monitor monitor(
        {kDone, R"({"error": {"class": "GenericError", "desc": "Could not open '/x'"}})"});
    {
        auto client = QmpClient::connect(monitor.path(), 5'000);
        ASSERT_TRUE(client.ok());
        const auto answer = client->call("blockdev-add", Json::object(), 5'000);
        ASSERT_FALSE(answer.ok());
        EXPECT_EQ(answer.error().message, "Could not open '/x'");
    }
    EXPECT_EQ(monitor.asked().size(), 2u);
}

TEST(QmpClientTest, OneThatNeverUnderstandsIsGivenUp) {
    Monitor monitor({kDone, kGarbled, kGarbled, kGarbled, kGarbled, kGarbled});
    {
        auto client = QmpClient::connect(monitor.path(), 5'000);
        ASSERT_TRUE(client.ok());
        EXPECT_FALSE(client->call("blockdev-add", Json::object(), 5'000).ok());
    }
    EXPECT_EQ(monitor.asked().size(), 5u);
}

}  // namespace
}  // namespace kumoi::compute
