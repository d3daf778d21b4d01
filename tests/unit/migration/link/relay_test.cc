#include "migration/link/relay.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <thread>

#include "base/file.h"
#include "tests/support/programs.h"
#include "tests/support/tls_identity.h"

namespace kumoi::link {
namespace {

const std::string kSecret(kTlsSecretSize, 's');

struct Connection {
    UniqueFd client;
    UniqueFd server;
};

Connection connect() {
    const UniqueFd listener = std::move(listen_tcp({})).value();
    Connection one;
    one.client = std::move(connect_tcp("127.0.0.1", *local_port(listener.get()), 5000)).value();
    pollfd ready{listener.get(), POLLIN, 0};
    ::poll(&ready, 1, -1);
    one.server.reset(::accept(listener.get(), nullptr, nullptr));
    return one;
}

std::string read_all(int socket) {
    std::string all;
    std::string piece(65536, '\0');
    for (ssize_t count = 1; count > 0;) {
        count = ::recv(socket, piece.data(), piece.size(), 0);
        all.append(piece.data(), count > 0 ? static_cast<size_t>(count) : 0);
    }
    return all;
}

class RelayTest : public testing::Test {
protected:
    void SetUp() override { link::ignore_broken_pipes(); }
    struct Both {
        Result<std::vector<UniqueFd>> client = Error::internal("not run");
        Result<std::vector<UniqueFd>> server = Error::internal("not run");
    };
    Both secure(const RelayOptions& client, const RelayOptions& server, Encryption encryption,
                size_t streams = 2, const std::string& server_secret = kSecret) {
        Both both;
        std::vector<LinkStream> near(streams);
        std::vector<LinkStream> far(streams);
        for (size_t i = 0; i < streams; ++i) {
            Connection one = connect();
            near[i] = {std::move(one.client), kSecret};
            far[i] = {std::move(one.server), server_secret};
        }
        std::thread other([&] {
            both.server = secure_streams(std::move(far), TlsRole::Server, encryption, server);
        });
        both.client = secure_streams(std::move(near), TlsRole::Client, encryption, client);
        other.join();
        return both;
    }
    RelayOptions options(const TlsIdentity* own = nullptr, const TlsIdentity* peer = nullptr) {
        RelayOptions one;
        one.program = built_program("kumoi-relay");
        EXPECT_NE(one.program, "") << "kumoi-relay is not built beside the tests";
        if (own != nullptr) {
            const std::string name = folder_.path() + "/" + std::to_string(++files_);
            own->write(name + ".pem");
            peer->write(name + ".ca.pem");
            one.files = {name + ".pem", name + ".pem", name + ".ca.pem", {"127.0.0.1"}};
        }
        return one;
    }
    TemporaryDirectory folder_ = std::move(TemporaryDirectory::create("kumoi-relay")).value();
    int files_ = 0;
};

void carries_both_ways(std::vector<UniqueFd>& client, std::vector<UniqueFd>& server) {
    ASSERT_EQ(client.size(), server.size());
    for (size_t i = 0; i < client.size(); ++i) {
        const std::string much(5u << 20, static_cast<char>('a' + i));
        const auto send_all_and_end = [&much](UniqueFd& socket) {
            EXPECT_TRUE(write_all(socket.get(), std::as_bytes(std::span(much))).ok());
            ::shutdown(socket.get(), SHUT_WR);
        };
        std::thread there([&] { send_all_and_end(client[i]); });
        EXPECT_EQ(read_all(server[i].get()), much);  // and the end of it
        there.join();
        std::thread back([&] { send_all_and_end(server[i]); });
        EXPECT_EQ(read_all(client[i].get()), much);
        back.join();
    }
}

TEST_F(RelayTest, CarriesStreamsUnderAKey) {
    Both both = secure(options(), options(), Encryption::Psk);
    ASSERT_TRUE(both.client.ok()) << both.client.error().text();
    ASSERT_TRUE(both.server.ok()) << both.server.error().text();
    carries_both_ways(*both.client, *both.server);
}

TEST_F(RelayTest, CarriesStreamsUnderCertificates) {
    const TlsIdentity one;
    const TlsIdentity other;
    Both both = secure(options(&one, &other), options(&other, &one), Encryption::Certificates);
    ASSERT_TRUE(both.client.ok()) << both.client.error().text();
    ASSERT_TRUE(both.server.ok()) << both.server.error().text();
    carries_both_ways(*both.client, *both.server);
}

TEST_F(RelayTest, WithoutEncryptionTheConnectionsThemselvesAreHandedOn) {
    Both both = secure({}, {}, Encryption::None);
    ASSERT_TRUE(both.client.ok() && both.server.ok());
    carries_both_ways(*both.client, *both.server);
}

// What is on the wire is not what was sent.
TEST_F(RelayTest, EncryptsWhatItCarries) {
    Connection near = connect();
    Connection far = connect();
    std::vector<LinkStream> client(1);
    std::vector<LinkStream> server(1);
    client[0] = {std::move(near.client), kSecret};
    server[0] = {std::move(far.server), kSecret};
    std::string seen;
    std::thread middle([&, to = std::move(far.client), from = std::move(near.server)] {
        std::array<char, 65536> piece{};
        std::array<pollfd, 2> ends = {{{from.get(), POLLIN, 0}, {to.get(), POLLIN, 0}}};
        while (::poll(ends.data(), 2, -1) > 0) {
            const bool out = ends[0].revents != 0;
            const ssize_t count =
                ::recv(out ? from.get() : to.get(), piece.data(), piece.size(), 0);
            if (count <= 0) {
                return;
            }
            seen.append(piece.data(), static_cast<size_t>(count));
            (void)::send(out ? to.get() : from.get(), piece.data(), static_cast<size_t>(count), 0);
        }
    });
    auto far_end = [&] { return Result<std::vector<UniqueFd>>(Error::internal("not run")); }();
    std::thread other([&] {
        far_end = secure_streams(std::move(server), TlsRole::Server, Encryption::Psk, options());
    });
    auto near_end = secure_streams(std::move(client), TlsRole::Client, Encryption::Psk, options());
    other.join();
    ASSERT_TRUE(near_end.ok() && far_end.ok());
    const std::string text(4000, 'Z');
    ASSERT_TRUE(write_all((*near_end)[0].get(), std::as_bytes(std::span(text))).ok());
    (*near_end)[0].reset();
    EXPECT_EQ(read_all((*far_end)[0].get()), text);
    (*far_end)[0].reset();
    middle.join();
    EXPECT_GT(seen.size(), text.size());
    EXPECT_EQ(seen.find("ZZZZZZZZ"), std::string::npos);
}

TEST_F(RelayTest, AnotherKeyIsRefusedOnBothSides) {
    const Both both =
        secure(options(), options(), Encryption::Psk, 1, std::string(kTlsSecretSize, 'x'));
    EXPECT_FALSE(both.client.ok());
    EXPECT_FALSE(both.server.ok());
}

TEST_F(RelayTest, ACertificateOfAnotherAuthorityIsRefused) {
    const TlsIdentity one;
    const TlsIdentity other;
    const TlsIdentity stranger;
    const Both both =
        secure(options(&one, &other), options(&stranger, &one), Encryption::Certificates, 1);
    EXPECT_FALSE(both.client.ok());
}

TEST_F(RelayTest, ACertificateOfAnotherHostIsRefused) {
    const TlsIdentity one;
    const TlsIdentity other("DNS:elsewhere.example");
    const Both both =
        secure(options(&one, &other), options(&other, &one), Encryption::Certificates, 1);
    ASSERT_FALSE(both.client.ok());
    EXPECT_NE(both.client.error().message.find("127.0.0.1"), std::string::npos)
        << both.client.error().text();
    RelayOptions by_name = options(&one, &other);
    by_name.files.hosts = {"elsewhere.example"};
    const Both named = secure(by_name, options(&other, &one), Encryption::Certificates, 1);
    EXPECT_TRUE(named.client.ok()) << named.client.error().text();
}

// Certificates are read for each migration: a new one counts from the next on, without a restart.
TEST_F(RelayTest, NewCertificatesCountFromTheNextMigrationOn) {
    const TlsIdentity one;
    const TlsIdentity old_host("DNS:elsewhere.example");
    const TlsIdentity new_host;
    RelayOptions client = options(&one, &old_host);
    RelayOptions server = options(&old_host, &one);
    EXPECT_FALSE(secure(client, server, Encryption::Certificates, 1).client.ok());
    new_host.write(server.files.certificate);
    new_host.write(client.files.authority);
    const Both both = secure(client, server, Encryption::Certificates, 1);
    EXPECT_TRUE(both.client.ok()) << both.client.error().text();
}

TEST_F(RelayTest, SaysWhichFileCannotBeUsed) {
    const TlsIdentity one;
    RelayOptions broken = options(&one, &one);
    broken.files.authority = folder_.path() + "/missing.pem";
    const Both both = secure(broken, options(&one, &one), Encryption::Certificates, 1);
    ASSERT_FALSE(both.client.ok());
    EXPECT_NE(both.client.error().message.find("missing.pem"), std::string::npos);
}

TEST_F(RelayTest, ACutConnectionEndsThePlainOne) {
    Both both = secure(options(), options(), Encryption::Psk, 1);
    ASSERT_TRUE(both.client.ok() && both.server.ok());
    both.server->clear();  // as when the process there was killed
    EXPECT_EQ(read_all((*both.client)[0].get()), "");
}

// Where the kernel has taken a session over, nothing is left to relay.
TEST(SecureStream, HandsOverToTheKernelWhereItCan) {
    Connection one = connect();
    RelayOrder order;
    order.secrets = {kSecret};
    const auto secured = [&](TlsRole role, bool kernel) {
        const auto context = psk_context(role);
        const int socket = role == TlsRole::Client ? one.client.get() : one.server.get();
        auto session = secure_stream(socket, **context, role, order, 0,
                                     [kernel](const SSL&) { return kernel; });
        EXPECT_TRUE(session.ok()) << session.error().text();
        return session.ok() && *session == nullptr;
    };
    bool server_in_kernel = true;
    std::thread other([&] { server_in_kernel = secured(TlsRole::Server, false); });
    EXPECT_TRUE(secured(TlsRole::Client, true));
    other.join();
    EXPECT_FALSE(server_in_kernel);
}

TEST(RelayOrder, ComesBackAsItWasWritten) {
    const RelayOrder order{TlsRole::Server,
                           Encryption::Certificates,
                           {"c", "k", "a", {"h1", "h2"}},
                           false,
                           7,
                           {kSecret, std::string(kTlsSecretSize, '\0')}};
    const auto again = RelayOrder::parse(order.text());
    ASSERT_TRUE(again.ok()) << again.error().text();
    EXPECT_EQ(again->text(), order.text());
    EXPECT_EQ(again->secrets, order.secrets);
    EXPECT_FALSE(RelayOrder::parse(R"({"secrets":["eHg="]})").ok());
}

}  // namespace
}  // namespace kumoi::link
