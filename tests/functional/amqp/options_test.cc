// The options that change queues, against a broker that checks them; TLS.
#include "base/subprocess.h"
#include "tests/functional/amqp/rpc_lab.h"

namespace kumoi::amqp {
namespace {

std::string certificates;  // folder

AmqpOptions options_of(const std::string& exchange) {
    AmqpOptions options;
    options.control_exchange = exchange;  // an exchange of other durability would be refused
    return options;
}

// Calls, and a fanout to two servers, on queues of `topic`.
void expect_works(const AmqpOptions& options, const std::string& topic) {
    Peer peer(options);
    Server one(peer, topic, "one");
    Server two(peer, topic, "two");
    AmqpRpcClient client(*peer.transport);
    const auto answer = client.call({.topic = topic, .server = "one", .version = "6.0"},
                                    Json::object(), "echo", Json::object());
    ASSERT_TRUE(answer.ok()) << answer.error().text();
    ASSERT_TRUE(client
                    .cast({.topic = topic, .version = "6.0", .fanout = true}, Json::object(),
                          "note", Json::object())
                    .ok());
    EXPECT_TRUE(one.wait_for_calls(2));
    EXPECT_TRUE(two.wait_for_calls(1));
}

TEST(Options, Durable) {
    AmqpOptions options = options_of("durable");
    options.amqp_durable_queues = true;
    expect_works(options, "durable");
}

TEST(Options, QuorumAndTransientQuorum) {
    AmqpOptions options = options_of("quorum");
    options.rabbit_quorum_queue = true;
    options.rabbit_quorum_delivery_limit = 5;
    options.rabbit_transient_quorum_queue = true;
    expect_works(options, "quorum");
}

TEST(Options, StreamFanout) {
    AmqpOptions options = options_of("stream");
    options.rabbit_quorum_queue = true;
    options.rabbit_transient_quorum_queue = true;
    options.rabbit_stream_fanout = true;
    options.rabbit_qos_prefetch_count = 10;
    expect_works(options, "stream");
}

TEST(Options, QueueManagerAndCompression) {
    AmqpOptions options = options_of("managed");
    options.use_queue_manager = true;
    options.hostname = fmt::format("kumoi-test-{}", ::getpid());
    options.processname = "kumoi-test";
    options.kombu_compression = "gzip";
    expect_works(options, "managed");
    const std::string counter =
        fmt::format("/dev/shm/{}_{}_qmanager", options.hostname, options.processname);
    EXPECT_TRUE(path_exists(counter));
    EXPECT_TRUE(remove_file(counter).ok());
    options.kombu_compression = "bz2";
    options.use_queue_manager = false;
    expect_works(options, "managed");
}

TEST(Options, QueueOfAnotherDurabilityIsUsedAllTheSame) {
    AmqpOptions durable = options_of("mixed");
    durable.amqp_durable_queues = true;
    expect_works(durable, "mixed");  // leaves its queues
    expect_works(options_of("mixed"), "mixed");
    AmqpOptions quorum = options_of("mixed");
    quorum.rabbit_quorum_queue = true;
    expect_works(quorum, "mixed");
}

AmqpOptions tls_options() {
    AmqpOptions options;
    options.transport_url =
        fmt::format("rabbit://guest:guest@127.0.0.1:{}/?ssl=1", broker->tls_port());
    return options;
}

TEST(Tls, WorksWithAndWithoutACheckedCertificate) {
    AmqpOptions options = tls_options();
    expect_works(options, "tls");
    options.ssl_ca_file = certificates + "/ca.pem";
    expect_works(options, "tls");
    options.ssl_cert_file = certificates + "/server.pem";
    options.ssl_key_file = certificates + "/server.key";
    expect_works(options, "tls");
}

TEST(Tls, CertificateOfAnotherAuthorityIsRefused) {
    AmqpOptions options = tls_options();
    options.ssl_ca_file = certificates + "/other.pem";
    Peer peer(options);
    AmqpRpcClient client(*peer.transport);
    const auto answer = client.call({.topic = "tls", .version = "6.0"}, Json::object(), "echo",
                                    Json::object(), {.timeout_ms = 1500});
    EXPECT_FALSE(answer.ok());
    EXPECT_FALSE(peer.transport->consuming().is_up());
}

// A throw-away authority, the broker's certificate, and an authority that did not sign it.
Result<void> make_certificates(const std::string& folder) {
    const auto authority = [&](const std::string& name) {
        return run_checked({"/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
                            "-days", "2", "-subj", "/CN=kumoi test " + name, "-keyout",
                            folder + "/" + name + ".key", "-out", folder + "/" + name + ".pem"});
    };
    TRY(authority("ca"));
    TRY(authority("other"));
    TRY(run_checked({"/usr/bin/openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj",
                     "/CN=127.0.0.1", "-keyout", folder + "/server.key", "-out",
                     folder + "/server.csr"}));
    TRY(write_file_atomic(folder + "/names", "subjectAltName=IP:127.0.0.1,DNS:localhost\n"));
    TRY(run_checked({"/usr/bin/openssl", "x509", "-req", "-in", folder + "/server.csr", "-CA",
                     folder + "/ca.pem", "-CAkey", folder + "/ca.key", "-CAcreateserial", "-days",
                     "2", "-extfile", folder + "/names", "-out", folder + "/server.pem"}));
    return {};
}

}  // namespace
}  // namespace kumoi::amqp

int main(int argc, char** argv) {
    const auto folder = kumoi::TemporaryDirectory::create("kumoi-tls").value();
    kumoi::amqp::certificates = folder.path();
    const auto made = kumoi::amqp::make_certificates(folder.path());
    if (!made.ok()) {
        std::puts(made.error().text().c_str());
        return 1;
    }
    return kumoi::amqp::lab_main(argc, argv,
                                 {.ca_file = folder.path() + "/ca.pem",
                                  .cert_file = folder.path() + "/server.pem",
                                  .key_file = folder.path() + "/server.key"});
}
