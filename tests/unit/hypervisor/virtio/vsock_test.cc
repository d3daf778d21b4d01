#include "hypervisor/virtio/vsock.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"
#include "tests/support/vsock_fake.h"

namespace kumoi::hypervisor {
namespace {

using vsock::Header;
using vsock::Operation;
constexpr uint64_t kCid = 7;
constexpr uint32_t kBuffer = 0x4000;  // what the guest has room for, per connection
constexpr uint32_t kReceiveSize = 0x1000;

class VsockTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(device_.start().ok()); }

    struct Packet {
        Header header;
        std::string payload;
    };
    void run() {
        for (int i = 0; i < 8; ++i) {
            device_.loop().run_ready();
            device_.run_pending();
        }
    }
    void add_buffers(int count) {
        for (int i = 0; i < count; ++i) {
            const uint64_t gpa = receive_.allocate(kReceiveSize);
            buffers_[receive_.add({{gpa, kReceiveSize, true}})] = gpa;
        }
        device_.kick(0);
    }
    std::optional<Packet> next() {
        run();
        if (seen_ == receive_.used_index()) {
            return std::nullopt;
        }
        const auto used = receive_.used(seen_++);
        const auto bytes = receive_.get(buffers_[static_cast<uint16_t>(used.head)], used.length);
        Packet packet;
        std::memcpy(&packet.header, bytes.data(), sizeof(Header));
        packet.payload.assign(reinterpret_cast<const char*>(bytes.data()) + sizeof(Header),
                              used.length - sizeof(Header));
        EXPECT_EQ(packet.header.source_cid, vsock::kHostCid);
        EXPECT_EQ(packet.header.destination_cid, kCid);
        EXPECT_EQ(packet.header.length, packet.payload.size());
        return packet;
    }
    Packet expect(Operation operation) {
        const auto packet = next();
        EXPECT_TRUE(packet.has_value());
        EXPECT_EQ(packet->header.operation, static_cast<uint16_t>(operation));
        return packet.value_or(Packet{});
    }
    Header header(Operation operation, uint32_t guest_port, uint32_t host_port) const {
        Header header;
        header.source_cid = kCid;
        header.destination_cid = vsock::kHostCid;
        header.source_port = guest_port;
        header.destination_port = host_port;
        header.type = vsock::kTypeStream;
        header.operation = static_cast<uint16_t>(operation);
        header.buffer_size = kBuffer;
        header.forwarded_count = forwarded_;
        return header;
    }
    void send(Header packet, const std::string& payload = {}) {
        packet.length = static_cast<uint32_t>(payload.size());
        const uint64_t head = transmit_.allocate(std::as_bytes(std::span(&packet, 1)));
        if (payload.empty()) {
            transmit_.add({{head, sizeof(Header), false}});
        } else {
            const uint64_t body = transmit_.allocate(bytes_of(payload));
            transmit_.add({{head, sizeof(Header), false},
                           {body, static_cast<uint32_t>(payload.size()), false}});
        }
        device_.kick(1);
        run();
    }
    // A client of the host asks for a port of the guest, the guest agrees. Returns the client's
    // end.
    UniqueFd connect_from_host(uint32_t guest_port, uint32_t& host_port) {
        UniqueFd client = sockets_->arrive();
        write_text(client, fmt::format("CONNECT {}\n", guest_port));
        const Packet request = expect(Operation::Request);
        EXPECT_EQ(request.header.destination_port, guest_port);
        host_port = request.header.source_port;
        send(header(Operation::Response, guest_port, host_port));
        EXPECT_EQ(read_text(client), fmt::format("OK {}\n", host_port));
        return client;
    }
    void connect_from_guest(uint32_t guest_port, uint32_t host_port) {
        sockets_->listening.insert(host_port);
        send(header(Operation::Request, guest_port, host_port));
        expect(Operation::Response);
    }
    static void write_text(const UniqueFd& fd, const std::string& text) {
        EXPECT_EQ(::write(fd.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    }
    static std::string read_text(const UniqueFd& fd, size_t most = 1u << 20) {
        std::string text(most, '\0');
        const ssize_t size = ::read(fd.get(), text.data(), text.size());
        text.resize(size > 0 ? static_cast<size_t>(size) : 0);
        return text;
    }
    static bool at_end(const UniqueFd& fd) {
        char byte = 0;  // what we did not read makes it a reset
        const ssize_t count = ::read(fd.get(), &byte, 1);
        return count == 0 || (count < 0 && errno == ECONNRESET);
    }

    PlatformFake platform_{64u << 20};
    VsockSocketsFake* sockets_ = new VsockSocketsFake;
    VirtioVsock vsock_{"vsock", kCid, std::unique_ptr<VsockSockets>(sockets_)};
    DeviceFake device_{vsock_, platform_.memory()};
    QueueFake& receive_ = device_.add_queue(0, 64);
    QueueFake& transmit_ = device_.add_queue(1, 64);
    QueueFake& events_ = device_.add_queue(2, 4);
    std::map<uint16_t, uint64_t> buffers_;
    uint16_t seen_ = 0;
    uint32_t forwarded_ = 0;
};

TEST_F(VsockTest, TellsTheGuestItsCid) {
    uint64_t cid = 0;
    vsock_.read_config(0, std::span(reinterpret_cast<uint8_t*>(&cid), 8));
    EXPECT_EQ(cid, kCid);
}

TEST_F(VsockTest, AHostClientReachesTheGuest) {
    add_buffers(32);
    uint32_t port = 0;
    const UniqueFd client = connect_from_host(1024, port);
    EXPECT_GE(port, VirtioVsock::kHostPortFirst);
    write_text(client, "hello guest");
    EXPECT_EQ(expect(Operation::Data).payload, "hello guest");
    send(header(Operation::Data, 1024, port), "hello host");
    EXPECT_EQ(read_text(client), "hello host");
    EXPECT_EQ(device_.statistic("connections"), 1u);
}

TEST_F(VsockTest, WhatFollowsTheConnectLineIsTheGuests) {
    add_buffers(32);
    UniqueFd client = sockets_->arrive();
    write_text(client, "CONNECT 5\nearly");
    const Packet request = expect(Operation::Request);
    EXPECT_FALSE(next().has_value());
    send(header(Operation::Response, 5, request.header.source_port));
    EXPECT_EQ(expect(Operation::Data).payload, "early");
}

TEST_F(VsockTest, ARefusedClientIsClosed) {
    add_buffers(32);
    UniqueFd client = sockets_->arrive();
    write_text(client, "CONNECT 5\n");
    const Packet request = expect(Operation::Request);
    send(header(Operation::Reset, 5, request.header.source_port));
    EXPECT_TRUE(at_end(client));
    EXPECT_EQ(device_.statistic("connections"), 0u);
    for (const char* line : {"HELLO 5\n", "CONNECT\n", "CONNECT 5x\n", "CONNECT 99999999999\n",
                             "CONNECT 5 and a line that does not end for a long time"}) {
        UniqueFd other = sockets_->arrive();
        write_text(other, line);
        run();
        EXPECT_TRUE(at_end(other)) << line;
    }
    EXPECT_FALSE(next().has_value());
}

TEST_F(VsockTest, TheGuestReachesTheHost) {
    add_buffers(32);
    connect_from_guest(2000, 80);
    send(header(Operation::Data, 2000, 80), "GET /");
    const UniqueFd& server = sockets_->connected[80];
    EXPECT_EQ(read_text(server), "GET /");
    write_text(server, "200");
    EXPECT_EQ(expect(Operation::Data).payload, "200");
    send(header(Operation::Request, 2001, 81));  // nobody there
    const Packet refused = expect(Operation::Reset);
    EXPECT_EQ(refused.header.source_port, 81u);
    EXPECT_EQ(refused.header.destination_port, 2001u);
}

TEST_F(VsockTest, StrayPacketsAreReset) {
    add_buffers(32);
    send(header(Operation::Data, 1, 2), "x");
    expect(Operation::Reset);
    send(header(Operation::Reset, 1, 2));  // is not answered
    EXPECT_FALSE(next().has_value());
    Header wrong = header(Operation::Request, 1, 2);
    wrong.type = 9;
    send(wrong);
    EXPECT_EQ(expect(Operation::Reset).header.type, 9u);
    wrong = header(Operation::Request, 1, 2);
    wrong.source_cid = kCid + 1;  // somebody else's name
    send(wrong);
    EXPECT_FALSE(next().has_value());
    EXPECT_EQ(device_.statistic("malformed_chains"), 1u);
}

TEST_F(VsockTest, WithoutBuffersRepliesAreBounded) {
    for (uint32_t i = 0; i < 100; ++i) {
        send(header(Operation::Data, i, 2));
    }
    EXPECT_EQ(device_.statistic("replies_dropped"), 100 - VirtioVsock::kStrayRepliesMax);
    add_buffers(60);
    EXPECT_EQ(receive_.used_index(), 60u);
}

TEST_F(VsockTest, NoMoreIsSentThanTheGuestHasRoomFor) {
    add_buffers(32);
    uint32_t port = 0;
    const UniqueFd client = connect_from_host(9, port);
    const std::string bulk(3 * kBuffer, 'b');
    write_text(client, bulk);
    size_t got = 0;
    bool asked = false;
    while (const auto packet = next()) {
        asked = asked || packet->header.op() == Operation::CreditRequest;
        got += packet->payload.size();
    }
    EXPECT_EQ(got, kBuffer);
    EXPECT_TRUE(asked);
    forwarded_ = 100;  // the program in the guest read a little
    send(header(Operation::CreditUpdate, 9, port));
    got = 0;
    while (const auto packet = next()) {
        got += packet->payload.size();
    }
    EXPECT_EQ(got, 100u);
}

TEST_F(VsockTest, CreditCountsWrapAndLiesAreHarmless) {
    add_buffers(32);
    uint32_t port = 0;
    const UniqueFd client = connect_from_host(9, port);
    forwarded_ = 5;  // more than was ever sent
    send(header(Operation::CreditUpdate, 9, port));
    write_text(client, "x");
    run();
    EXPECT_TRUE(device_.broken_reasons.empty());
}

TEST_F(VsockTest, ASlowReaderIsBufferedAndTheGuestToldLater) {
    add_buffers(60);
    connect_from_guest(2000, 80);
    const UniqueFd& server = sockets_->connected[80];
    const int small = 1;
    ::setsockopt(server.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    uint32_t sent = 0;
    uint32_t told = 0;
    std::string got;
    const std::string piece(0x2000, 'p');
    for (int i = 0; i < 64; ++i) {  // keeps to its credit, as a good driver
        while (const auto packet = next()) {
            told = packet->header.forwarded_count;
        }
        if (sent - told + piece.size() <= VsockConnection::kBufferSize) {
            send(header(Operation::Data, 2000, 80), piece);
            sent += static_cast<uint32_t>(piece.size());
        } else {
            got += read_text(server, 0x3000);
        }
    }
    EXPECT_GT(sent, 2 * VsockConnection::kBufferSize);
    while (got.size() < sent) {
        run();
        const std::string more = read_text(server);
        ASSERT_FALSE(more.empty());
        got += more;
    }
    EXPECT_EQ(got, std::string(sent, 'p'));
}

TEST_F(VsockTest, AGuestThatOverrunsItsCreditIsReset) {
    add_buffers(60);
    connect_from_guest(2000, 80);
    const std::string piece(0x8000, 'p');
    bool reset = false;
    for (int i = 0; i < 64 && !reset; ++i) {
        send(header(Operation::Data, 2000, 80), piece);
        while (const auto packet = next()) {
            reset = reset || packet->header.op() == Operation::Reset;
        }
    }
    EXPECT_TRUE(reset);
    EXPECT_EQ(device_.statistic("connections"), 0u);
}

TEST_F(VsockTest, HalfClosesTravelBothWays) {
    add_buffers(32);
    uint32_t port = 0;
    const UniqueFd client = connect_from_host(9, port);
    ::shutdown(client.get(), SHUT_WR);
    EXPECT_EQ(expect(Operation::Shutdown).header.flags, vsock::kShutdownSend);
    send(header(Operation::Data, 9, port), "still here");
    EXPECT_EQ(read_text(client), "still here");
    Header last = header(Operation::Shutdown, 9, port);
    last.flags = vsock::kShutdownSend;
    send(last);
    EXPECT_TRUE(at_end(client));
    last.flags = vsock::kShutdownBoth;
    send(last);
    expect(Operation::Reset);
    EXPECT_EQ(device_.statistic("connections"), 0u);
}

TEST_F(VsockTest, AClosedClientIsAFullShutdown) {
    add_buffers(32);
    uint32_t port = 0;
    UniqueFd client = connect_from_host(9, port);
    write_text(client, "bye");
    client.reset();
    EXPECT_EQ(expect(Operation::Data).payload, "bye");
    EXPECT_EQ(expect(Operation::Shutdown).header.flags, vsock::kShutdownBoth);
    send(header(Operation::Reset, 9, port));
    EXPECT_EQ(device_.statistic("connections"), 0u);
}

TEST_F(VsockTest, WhatAClosingGuestSentStillArrives) {
    add_buffers(32);
    connect_from_guest(2000, 80);
    send(header(Operation::Data, 2000, 80), "last words");
    Header last = header(Operation::Shutdown, 2000, 80);
    last.flags = vsock::kShutdownBoth;
    send(last);
    expect(Operation::Reset);
    const UniqueFd& server = sockets_->connected[80];
    EXPECT_EQ(read_text(server), "last words");
    EXPECT_TRUE(at_end(server));
}

TEST_F(VsockTest, ConnectionsAreBounded) {
    add_buffers(60);
    sockets_->listening.insert(80);
    for (uint32_t i = 0; i < VirtioVsock::kConnectionsMax + 20; ++i) {
        send(header(Operation::Request, 3000 + i, 80));
        while (next()) {
            add_buffers(1);
        }
    }
    EXPECT_EQ(device_.statistic("connections"), VirtioVsock::kConnectionsMax);
    EXPECT_EQ(device_.statistic("refused"), 20u);
}

TEST_F(VsockTest, APauseKeepsConnectionsAndAResetDropsThem) {
    add_buffers(32);
    uint32_t port = 0;
    const UniqueFd client = connect_from_host(9, port);
    vsock_.quiesce();
    write_text(client, "while paused");
    EXPECT_FALSE(next().has_value());
    vsock_.resume();
    EXPECT_EQ(expect(Operation::Data).payload, "while paused");
    device_.stop();
    EXPECT_TRUE(at_end(client));
}

TEST_F(VsockTest, ARestoredGuestIsToldThatItsConnectionsAreGone) {
    SectionWriter out("vsock", 1);
    vsock_.save(out);
    auto in = SectionReader::parse(out).value();
    ASSERT_TRUE(vsock_.load(in).ok());
    const uint64_t gpa = events_.allocate(8);
    events_.store<uint32_t>(gpa, 99);
    events_.add({{gpa, 4, true}});
    device_.kick(2);
    ASSERT_EQ(events_.used_index(), 1u);
    EXPECT_EQ(events_.used(0).length, 4u);
    EXPECT_EQ(events_.load<uint32_t>(gpa), vsock::kEventTransportReset);
}

TEST_F(VsockTest, MalformedBuffersAreReturned) {
    uint32_t port = 0;
    add_buffers(2);
    const UniqueFd client = connect_from_host(9, port);
    receive_.add({{receive_.allocate(64), 40, true}});   // no room for a header
    receive_.add({{receive_.allocate(64), 64, false}});  // not ours to write
    write_text(client, "x");
    device_.kick(0);
    run();
    EXPECT_EQ(device_.statistic("malformed_chains"), 2u);
    transmit_.add({{transmit_.allocate(64), 20, false}});
    device_.kick(1);
    EXPECT_EQ(device_.statistic("malformed_chains"), 3u);
    Header lies = header(Operation::Data, 9, port);
    lies.length = 5000;
    const uint64_t head = transmit_.allocate(std::as_bytes(std::span(&lies, 1)));
    transmit_.add({{head, sizeof(Header), false}});
    device_.kick(1);
    EXPECT_EQ(device_.statistic("malformed_chains"), 4u);
    EXPECT_TRUE(device_.broken_reasons.empty());
}

}  // namespace
}  // namespace kumoi::hypervisor
