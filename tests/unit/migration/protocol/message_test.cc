#include "migration/protocol/message.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <condition_variable>
#include <mutex>

#include "migration/protocol/control_link.h"

namespace kumoi::migration {
namespace {

using hypervisor::SectionWriter;

TEST(Message, AnOfferComesBackAsItWas) {
    Offer offer;
    offer.id[3] = 7;
    offer.epoch = 41;
    offer.memory_size = uint64_t{1} << 40;
    offer.streams = 4;
    offer.program = "0.1.0";
    offer.shape = "abc";
    const auto bytes = offer.encode();
    const auto back = Offer::decode(bytes).value();
    EXPECT_EQ(back.id, offer.id);
    EXPECT_EQ(back.epoch, 41u);
    EXPECT_EQ(back.memory_size, offer.memory_size);
    EXPECT_EQ(back.streams, 4u);
    EXPECT_EQ(back.program, "0.1.0");
    EXPECT_EQ(back.shape, "abc");
    for (size_t size = 0; size < bytes.size(); ++size) {
        EXPECT_FALSE(Offer::decode(std::span(bytes).first(size)).ok()) << size;
    }
}

TEST(Message, SectionsArriveByNameAndOnlyOnce) {
    SectionWriter section("serial0", 2);
    section.u64(1, 99);
    ReceivedState state;
    ASSERT_TRUE(state.add(encode_section(section)).ok());
    EXPECT_EQ(state.count(), 1u);
    auto reader = state.section("serial0").value();
    EXPECT_EQ(reader.version(), 2);
    EXPECT_EQ(reader.u64(1).value(), 99u);
    EXPECT_EQ(state.add(encode_section(section)).error().code, ErrorCode::Corrupt);
    EXPECT_EQ(state.section("vcpu0").error().code, ErrorCode::NotFound);
}

TEST(Message, AStateWithoutEndIsRefused) {
    ReceivedState state;
    const std::string big(1 << 20, 'x');
    Result<void> added;
    for (size_t i = 0; i < 1000 && added.ok(); ++i) {
        SectionWriter section(fmt::format("s{}", i), 1);
        section.text(1, big);
        added = state.add(encode_section(section));
    }
    EXPECT_EQ(added.error().code, ErrorCode::TooLarge);
}

// What a link told, for the test's thread to wait for.
struct Heard {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<Message> messages;
    std::optional<Error> lost;

    ControlLink::Events events() {
        return {.message =
                    [this](Message message) {
                        const std::lock_guard lock(mutex);
                        messages.push_back(std::move(message));
                        changed.notify_all();
                    },
                .lost =
                    [this](const Error& error) {
                        const std::lock_guard lock(mutex);
                        lost = error;
                        changed.notify_all();
                    }};
    }
    template <class Condition>
    void wait(const Condition& condition) {
        std::unique_lock lock(mutex);
        changed.wait(lock, condition);
    }
};

class ControlLinkTest : public testing::Test {
protected:
    void SetUp() override {
        int fds[2];
        ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        near_ = StreamSocket::adopt(UniqueFd(fds[0])).value();
        far_ = StreamSocket::adopt(UniqueFd(fds[1])).value();
    }
    SystemClock clock_;
    std::unique_ptr<StreamSocket> near_, far_;
    Heard near_heard_, far_heard_;
    // Quick beats, so that the test need not last.
    ControlLink::Times quick_{.beat_ns = kNanosPerMilli, .lost_ns = 20 * kNanosPerMilli};
};

TEST_F(ControlLinkTest, MessagesGoBothWaysInOrder) {
    ControlLink near(std::move(near_), clock_, {}, near_heard_.events());
    ControlLink far(std::move(far_), clock_, {}, far_heard_.events());
    ASSERT_TRUE(near.send(MessageType::Declined, encode_text("no room")).ok());
    ASSERT_TRUE(near.send(MessageType::Accepted, {}).ok());
    ASSERT_TRUE(far.send(MessageType::Handover, encode_handover(HandoverMessage::Running)).ok());
    far_heard_.wait([&] { return far_heard_.messages.size() == 2; });
    near_heard_.wait([&] { return near_heard_.messages.size() == 1; });
    EXPECT_EQ(decode_text(far_heard_.messages[0].body), "no room");
    EXPECT_EQ(far_heard_.messages[1].type, MessageType::Accepted);
    EXPECT_EQ(decode_handover(near_heard_.messages[0].body).value(), HandoverMessage::Running);
}

TEST_F(ControlLinkTest, SilenceMeansThatTheOtherSideIsLost) {
    ControlLink near(std::move(near_), clock_, quick_, near_heard_.events());
    near_heard_.wait([&] { return near_heard_.lost.has_value(); });  // far_ says nothing
    EXPECT_EQ(near_heard_.lost->code, ErrorCode::Unavailable);
}

TEST_F(ControlLinkTest, APeerThatBeatsIsNotLost) {
    quick_.lost_ns = 10 * kNanosPerSecond;
    ControlLink near(std::move(near_), clock_, quick_, near_heard_.events());
    for (int i = 0; i < 5; ++i) {  // beats come without anybody sending
        std::array<std::byte, MessageHeader::kSize> bytes;
        ASSERT_TRUE(far_->receive(std::span(bytes)).ok());
        EXPECT_EQ(MessageHeader::decode(bytes).value().type, MessageType::Beat);
    }
    EXPECT_FALSE(near_heard_.lost);
}

TEST_F(ControlLinkTest, AClosedConnectionIsLostAtOnce) {
    ControlLink near(std::move(near_), clock_, {}, near_heard_.events());
    far_.reset();
    near_heard_.wait([&] { return near_heard_.lost.has_value(); });
}

TEST_F(ControlLinkTest, ADamagedMessageEndsTheConnection) {
    ControlLink near(std::move(near_), clock_, {}, near_heard_.events());
    MessageHeader header{MessageType::Accepted, 4, 12345};
    const auto bytes = header.encode();
    ASSERT_TRUE(far_->send(std::span(bytes)).ok());
    ASSERT_TRUE(far_->send(std::as_bytes(std::span("abcd", 4))).ok());
    near_heard_.wait([&] { return near_heard_.lost.has_value(); });
    EXPECT_EQ(near_heard_.lost->code, ErrorCode::Corrupt);
}

TEST(Acceptance, OneOfAnOlderReleaseTakesNoDeltas) {
    EXPECT_TRUE(Acceptance::decode(Acceptance{.delta = true}.encode()).value().delta);
    EXPECT_FALSE(Acceptance::decode(Acceptance{}.encode()).value().delta);
    EXPECT_FALSE(Acceptance::decode({}).value().delta);
    EXPECT_FALSE(Acceptance::decode(std::vector<std::byte>(3)).ok());
}

}  // namespace
}  // namespace kumoi::migration
