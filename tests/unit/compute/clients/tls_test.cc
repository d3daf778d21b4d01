// TLS of HttpClient: whom it trusts, and the certificate it shows.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <thread>

#include "compute/clients/http_client.h"
#include "tests/support/tls_identity.h"

namespace kumoi::clients {
namespace {

using Identity = TlsIdentity;

// Answers every request with 200 and "ok", one connection after the other.
class TlsServer {
public:
    TlsServer(const Identity& identity, const Identity* wanted_client)
        : context_(SSL_CTX_new(TLS_server_method()), SSL_CTX_free) {
        SSL_CTX_use_certificate(context_.get(), identity.certificate.get());
        SSL_CTX_use_PrivateKey(context_.get(), identity.key.get());
        if (wanted_client != nullptr) {
            SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                               nullptr);
            X509_STORE_add_cert(SSL_CTX_get_cert_store(context_.get()),
                                wanted_client->certificate.get());
        }
        listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof(address);
        EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), length), 0);
        EXPECT_EQ(::listen(listener_, 8), 0);
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
        url_ = fmt::format("https://127.0.0.1:{}/", ntohs(address.sin_port));
        thread_ = std::thread([this] { run(); });
    }
    ~TlsServer() {
        ::shutdown(listener_, SHUT_RDWR);
        thread_.join();
        ::close(listener_);
    }
    const std::string& url() const { return url_; }

private:
    void run() {
        for (int fd = 0; (fd = ::accept(listener_, nullptr, nullptr)) >= 0; ::close(fd)) {
            std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context_.get()), SSL_free);
            SSL_set_fd(ssl.get(), fd);
            char request[4096];
            if (SSL_accept(ssl.get()) == 1 && SSL_read(ssl.get(), request, sizeof(request)) > 0) {
                constexpr std::string_view kReply =
                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                SSL_write(ssl.get(), kReply.data(), kReply.size());
                SSL_shutdown(ssl.get());
            }
        }
    }

    std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
    int listener_ = -1;
    std::string url_;
    std::thread thread_;
};

class ClientsTls : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_NE(::mkdtemp(folder_), nullptr);
        server_identity_.write(path("server.pem"));
        client_identity_.write(path("client.pem"));
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    std::string path(const std::string& name) const { return std::string(folder_) + "/" + name; }
    static Result<HttpReply> get(const TlsServer& server, TlsOptions tls) {
        return HttpClient({.tls = std::move(tls)}).send({.url = server.url()});
    }

    char folder_[32] = "/tmp/kumoi-tls-XXXXXX";
    Identity server_identity_;
    Identity client_identity_;
};

TEST_F(ClientsTls, OnlyKnownAuthoritiesAreTrusted) {
    const TlsServer server(server_identity_, nullptr);
    const auto unknown = get(server, {});
    ASSERT_FALSE(unknown.ok());
    EXPECT_EQ(unknown.error().code, ErrorCode::Unavailable);
    EXPECT_NE(unknown.error().hint.find("cafile"), std::string::npos);
    const auto known = get(server, {.ca_file = path("server.pem")});
    ASSERT_TRUE(known.ok()) << known.error().text();
    EXPECT_EQ(known->body, "ok");
    EXPECT_FALSE(get(server, {.ca_file = path("client.pem")}).ok());
    EXPECT_FALSE(get(server, {.ca_file = path("absent.pem")}).ok());
    EXPECT_TRUE(get(server, {.insecure = true}).ok());
}

TEST_F(ClientsTls, TheClientsCertificateIsShown) {
    const TlsServer server(server_identity_, &client_identity_);
    EXPECT_FALSE(get(server, {.ca_file = path("server.pem")}).ok());
    const auto shown =
        get(server, {.ca_file = path("server.pem"), .cert_file = path("client.pem")});
    ASSERT_TRUE(shown.ok()) << shown.error().text();
}

}  // namespace
}  // namespace kumoi::clients
