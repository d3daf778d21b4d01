#include "hypervisor/vhost_user/connection.h"

#include <gtest/gtest.h>

#include "hypervisor/memory/guest_memory.h"
#include "tests/support/vhost_user_backend_fake.h"

namespace kumoi::hypervisor {
namespace {

using vhost_user::Message;
using vhost_user::MessageChannel;
using vhost_user::Request;

constexpr VhostUserConnection::Wanted kWanted{
    .features = 1ull << 9,
    .features_required = 1ull << 32,
    .protocol_features = vhost_user::kProtocolMultiQueue | vhost_user::kProtocolReplyAck |
                         vhost_user::kProtocolConfig | vhost_user::kProtocolBackendRequest |
                         vhost_user::kProtocolInflight};

bool is(const Message& message, Request request) {
    return message.request == static_cast<uint32_t>(request);
}

class VhostUserConnectionTest : public ::testing::Test {
protected:
    void connect(int64_t timeout_ms = 5000) {
        connection = VhostUserConnection::over(backend.start(), {.timeout_ms = timeout_ms});
    }
    void reply_with(Request request, std::vector<std::byte> payload,
                    uint32_t flags = vhost_user::kFlagReply) {
        backend.intercept = [=](MessageChannel& channel, const Message& message) {
            if (!is(message, request)) {
                return false;
            }
            EXPECT_TRUE(channel.send(message.request, flags, payload).ok());
            return true;
        };
    }

    VhostUserBackendFake backend;
    std::unique_ptr<VhostUserConnection> connection;
};

TEST_F(VhostUserConnectionTest, NegotiatesWhatBothSidesKnow) {
    connect();
    ASSERT_TRUE(connection->negotiate(kWanted).ok());
    EXPECT_EQ(connection->features(), 1ull << 9 | 1ull << 32 | 1ull << 30);
    EXPECT_EQ(connection->protocol_features(), kWanted.protocol_features);
    EXPECT_EQ(connection->queue_count().value(), 4);
}

TEST_F(VhostUserConnectionTest, RefusesABackEndWithoutARequiredFeature) {
    backend.features = 1ull << 30;
    connect();
    const auto negotiated = connection->negotiate(kWanted);
    ASSERT_FALSE(negotiated.ok());
    EXPECT_EQ(negotiated.error().code, ErrorCode::Unsupported);
}

TEST_F(VhostUserConnectionTest, WorksWithoutProtocolFeatures) {
    backend.features = 1ull << 32;
    connect();
    ASSERT_TRUE(connection->negotiate(kWanted).ok());
    EXPECT_EQ(connection->protocol_features(), 0u);
    EXPECT_EQ(connection->queue_count().value(), 1);
    std::array<std::byte, 8> config{};
    EXPECT_EQ(connection->read_config(config).error().code, ErrorCode::Unsupported);
    EXPECT_EQ(connection->get_inflight(1, 8).error().code, ErrorCode::Unsupported);
}

TEST_F(VhostUserConnectionTest, ReportsAMessageTheBackEndRefuses) {
    backend.intercept = [](MessageChannel& channel, const Message& message) {
        if (!is(message, Request::SetVringNum)) {
            return false;
        }
        const uint64_t status = 22;
        return channel
            .send(message.request, vhost_user::kFlagReply, std::as_bytes(std::span(&status, 1)))
            .ok();
    };
    connect();
    ASSERT_TRUE(connection->negotiate(kWanted).ok());
    const auto started = connection->start_ring({.index = 0, .size = 8});
    ASSERT_FALSE(started.ok());
    EXPECT_EQ(started.error().code, ErrorCode::Conflict);
}

TEST_F(VhostUserConnectionTest, ReadsTheConfigurationSpace) {
    backend.set_capacity_sectors(0x1234);
    connect();
    ASSERT_TRUE(connection->negotiate(kWanted).ok());
    std::array<std::byte, 60> config{};
    ASSERT_TRUE(connection->read_config(config).ok());
    EXPECT_EQ(config[0], std::byte{0x34});
    EXPECT_EQ(config[1], std::byte{0x12});
}

TEST_F(VhostUserConnectionTest, StopsRingsAndLearnsTheirBase) {
    connect();
    ASSERT_TRUE(connection->negotiate(kWanted).ok());
    auto memory = GuestMemory::create(1 << 20).value();
    ASSERT_TRUE(connection->set_memory_table(memory_table_of(memory)).ok());
    const UniqueFd kick = make_eventfd().value();
    const UniqueFd call = make_eventfd().value();
    const std::byte* host = memory.regions()[0].host;
    ASSERT_TRUE(connection
                    ->start_ring({.index = 1,
                                  .size = 8,
                                  .descriptors = host,
                                  .available = host + 4096,
                                  .used = host + 8192,
                                  .base = 5,
                                  .kick_fd = kick.get(),
                                  .call_fd = call.get()})
                    .ok());
    EXPECT_EQ(connection->stop_ring(1).value(), 5);
}

TEST_F(VhostUserConnectionTest, HandsTheInflightMemoryOn) {
    connect();
    ASSERT_TRUE(connection->negotiate(kWanted).ok());
    auto inflight = connection->get_inflight(2, 128);
    ASSERT_TRUE(inflight.ok()) << inflight.error().text();
    EXPECT_EQ(uint64_t{inflight->description.mmap_size}, 4096u);
    EXPECT_EQ(inflight->description.queue_count, 2);
    EXPECT_TRUE(connection->set_inflight(*inflight).ok());
}

TEST_F(VhostUserConnectionTest, TakesTheBackEndsRequests) {
    connect();
    ASSERT_TRUE(connection->negotiate(kWanted).ok());
    ASSERT_TRUE(connection->open_backend_channel().ok());
    backend.send_config_change();
    EXPECT_EQ(connection->take_backend_request().value(), vhost_user::BackendRequest::ConfigChange);
}

// --- Back ends that lie ---

TEST_F(VhostUserConnectionTest, RefusesAnswersOfTheWrongSize) {
    reply_with(Request::GetFeatures, std::vector<std::byte>(4));
    connect();
    EXPECT_EQ(connection->negotiate(kWanted).error().code, ErrorCode::Corrupt);
}

TEST_F(VhostUserConnectionTest, RefusesAnswersThatAreNoAnswers) {
    reply_with(Request::GetFeatures, std::vector<std::byte>(8), 0);
    connect();
    EXPECT_EQ(connection->negotiate(kWanted).error().code, ErrorCode::Corrupt);
}

TEST_F(VhostUserConnectionTest, RefusesAnswersToAnotherRequest) {
    backend.intercept = [](MessageChannel& channel, const Message& /*message*/) {
        const uint64_t value = 0;
        return channel.send(15, vhost_user::kFlagReply, std::as_bytes(std::span(&value, 1))).ok();
    };
    connect();
    EXPECT_EQ(connection->negotiate(kWanted).error().code, ErrorCode::Corrupt);
}

TEST_F(VhostUserConnectionTest, RefusesOversizedPayloads) {
    reply_with(Request::GetFeatures, std::vector<std::byte>(vhost_user::kPayloadMax + 1));
    connect();
    EXPECT_EQ(connection->negotiate(kWanted).error().code, ErrorCode::Corrupt);
}

TEST_F(VhostUserConnectionTest, RefusesDescriptorsNobodyAskedFor) {
    backend.intercept = [](MessageChannel& channel, const Message& message) {
        const uint64_t value = ~0ull;
        const std::array<int, 1> fds{channel.fd()};
        return channel
            .send(message.request, vhost_user::kFlagReply, std::as_bytes(std::span(&value, 1)), fds)
            .ok();
    };
    connect();
    EXPECT_EQ(connection->negotiate(kWanted).error().code, ErrorCode::Corrupt);
}

TEST_F(VhostUserConnectionTest, RefusesAConfigurationOfAnotherSize) {
    reply_with(Request::GetConfig, std::vector<std::byte>(12 + 8));
    connect();
    ASSERT_TRUE(connection->negotiate(kWanted).ok());
    std::array<std::byte, 60> config{};
    EXPECT_EQ(connection->read_config(config).error().code, ErrorCode::Corrupt);
}

TEST_F(VhostUserConnectionTest, RefusesARingBaseBeyondSixteenBits) {
    const vhost_user::RingState state{0, 0x10000};
    const auto bytes = std::as_bytes(std::span(&state, 1));
    reply_with(Request::GetVringBase, {bytes.begin(), bytes.end()});
    connect();
    ASSERT_TRUE(connection->negotiate(kWanted).ok());
    EXPECT_EQ(connection->stop_ring(0).error().code, ErrorCode::Corrupt);
}

TEST_F(VhostUserConnectionTest, GivesUpOnASilentBackEnd) {
    backend.intercept = [](MessageChannel& /*channel*/, const Message& /*message*/) {
        return true;
    };
    connect(/*timeout_ms=*/1);
    EXPECT_EQ(connection->negotiate(kWanted).error().code, ErrorCode::Timeout);
}

TEST_F(VhostUserConnectionTest, SaysWhenTheBackEndHasGone) {
    connect();
    backend.stop();
    EXPECT_EQ(connection->negotiate(kWanted).error().code, ErrorCode::Unavailable);
}

TEST_F(VhostUserConnectionTest, SaysThatNobodyListens) {
    const auto refused = VhostUserConnection::connect("/nonexistent/vhost.sock", {});
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("/nonexistent/vhost.sock"), std::string::npos);
    EXPECT_FALSE(VhostUserConnection::connect(std::string(200, 'x'), {}).ok());
}

TEST_F(VhostUserConnectionTest, RefusesMoreMemoryThanTheProtocolCarries) {
    connect();
    ASSERT_TRUE(connection->negotiate(kWanted).ok());
    const std::vector<VhostUserConnection::MemoryTableRegion> regions(9);
    EXPECT_EQ(connection->set_memory_table(regions).error().code, ErrorCode::Unsupported);
}

}  // namespace
}  // namespace kumoi::hypervisor
