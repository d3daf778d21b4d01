// transport_url, options of both releases, names of queues, choice of endpoints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "api/amqp/amqp_options.h"
#include "api/amqp/queue_names.h"
#include "api/amqp/rpc_dispatcher.h"
#include "api/amqp/transport_url.h"
#include "api/amqp/unique_ids.h"
#include "base/file.h"

namespace kumoi::amqp {
namespace {

TEST(TransportUrl, SeveralHostsVhostAndOptions) {
    const auto url = TransportUrl::parse(
        "rabbit://nova:s%40cret@h1:5671,other:x@[::1]:5673,h3/%2Fvh%20?ssl=1&x=");
    ASSERT_TRUE(url.ok()) << url.error().text();
    ASSERT_EQ(url->hosts.size(), 3u);
    EXPECT_EQ(url->hosts[0].password, "s@cret");
    EXPECT_EQ(url->hosts[1].host, "::1");
    EXPECT_EQ(url->hosts[1].port, 5673);
    EXPECT_EQ(url->hosts[1].text(), "[::1]:5673");
    EXPECT_EQ(url->hosts[2].user, "nova");
    EXPECT_EQ(url->hosts[2].port, 5672);
    EXPECT_EQ(url->vhost, "/vh ");
    EXPECT_EQ(url->options.at("ssl"), "1");
    EXPECT_EQ(url->text().find("s@cret"), std::string::npos);
}

TEST(TransportUrl, EmptyPathIsTheRootVhost) {
    EXPECT_EQ(TransportUrl::parse("rabbit://h/")->vhost, "/");
    EXPECT_EQ(TransportUrl::parse("rabbit://h")->vhost, "/");
    EXPECT_EQ(TransportUrl::parse("rabbit://h//")->vhost, "/");
    EXPECT_EQ(TransportUrl::parse("rabbit://h/nova")->vhost, "nova");
    EXPECT_EQ(TransportUrl::parse("rabbit://")->hosts.at(0).host, "localhost");
}

TEST(TransportUrl, RefusesWithAReason) {
    for (const char* text : {"", "amqp://h", "h:5672", "rabbit://h:0", "rabbit://h:65536",
                             "rabbit://h:5x", "rabbit://[::1", "rabbit://u:p@:5672",
                             "rabbit://u:%zz@h", "rabbit://u:%0@h", "rabbit://h/%00"}) {
        EXPECT_FALSE(TransportUrl::parse(text).ok()) << text;
    }
}

Config config(const std::string& text) {
    static OptionTable table = [] {
        OptionTable made;
        made.add_all(amqp_option_table());
        return made;
    }();
    return Config::parse(text, table).value();
}

TEST(AmqpOptions, DefaultsAndOldSpellings) {
    const AmqpOptions defaults = AmqpOptions::from_config(config(""));
    EXPECT_EQ(defaults.control_exchange, "nova");
    EXPECT_EQ(defaults.rabbit_transient_queues_ttl_s, 1800);
    EXPECT_FALSE(defaults.amqp_durable_queues);
    EXPECT_TRUE(defaults.notification_drivers.empty());
    const AmqpOptions old = AmqpOptions::from_config(
        config("[oslo_messaging_rabbit]\nrabbit_durable_queues = true\nrabbit_use_ssl = true\n"
               "rabbit_quroum_max_memory_length = 5\nkombu_ssl_ca_certs = /ca\n"
               "[oslo_messaging_notifications]\ndriver = messagingv2\ndriver = log\n"));
    EXPECT_TRUE(old.amqp_durable_queues);
    EXPECT_TRUE(old.ssl);
    EXPECT_EQ(old.rabbit_quorum_max_memory_length, 5);
    EXPECT_EQ(old.ssl_ca_file, "/ca");
    EXPECT_THAT(old.notification_drivers, ::testing::ElementsAre("messagingv2", "log"));
}

TEST(AmqpOptions, UrlOverridesAndChecks) {
    AmqpOptions options;
    EXPECT_TRUE(options.apply("ssl", "1").ok());
    EXPECT_TRUE(options.ssl);
    EXPECT_TRUE(options.apply("heartbeat_timeout_threshold", "7").ok());
    EXPECT_EQ(options.heartbeat_timeout_threshold_s, 7);
    EXPECT_FALSE(options.apply("heartbeat_timeout_threshold", "x").ok());
    EXPECT_FALSE(options.apply("kombu_reconnect_delay", "-1").ok());
    EXPECT_TRUE(options.apply("unknown", "x").ok());
    EXPECT_TRUE(options.check().ok());
    options.rabbit_stream_fanout = true;
    EXPECT_FALSE(options.check().ok());
    options = {};
    options.rabbit_quorum_queue = options.rabbit_ha_queues = true;
    EXPECT_FALSE(options.check().ok());
    options = {};
    options.rabbit_login_method = "MAGIC";
    EXPECT_FALSE(options.check().ok());
}

TEST(QueueNames, CountUpAndBeginAnewForAnotherGroup) {
    const auto folder = TemporaryDirectory::create("kumoi-qmanager").value();
    AmqpOptions options;
    options.hostname = "cn1";
    options.processname = "nova-compute";
    EXPECT_EQ(managed_queue_name(options, folder.path()), "cn1:nova-compute:1");
    EXPECT_EQ(managed_queue_name(options, folder.path()), "cn1:nova-compute:2");
    const std::string path = folder.path() + "/cn1_nova-compute_qmanager";
    EXPECT_THAT(read_file(path).value(),
                ::testing::StartsWith(std::to_string(::getpgrp()) + ":2:"));
    ASSERT_TRUE(write_file_atomic(path, "1:77:5").ok());
    EXPECT_EQ(managed_queue_name(options, folder.path()), "cn1:nova-compute:1");
    EXPECT_EQ(managed_queue_name(options, "/nonexistent").size(), 32u);
}

TEST(RpcDispatcher, ChoosesByNamespaceVersionAndMethod) {
    RpcDispatcher dispatcher;
    dispatcher.add_base_api("compute");
    const auto named = [](const char* name) {
        return [name](const RpcRequest&) -> Result<Json> { return Json(name); };
    };
    dispatcher.add({"", "6.5", {"build", "_hidden"}, named("six")});
    dispatcher.add({"", "5.13", {"build", "old"}, named("five")});
    RpcRequest request;
    request.method = "build";
    request.version = "6.0";
    EXPECT_EQ(dispatcher(request).value(), Json("six"));
    request.version = "5.13";
    EXPECT_EQ(dispatcher(request).value(), Json("five"));
    request.version = "6.6";
    EXPECT_EQ(dispatcher(request).error().fault, "UnsupportedVersion");
    request.version = "6.5";
    for (const char* method : {"old", "_hidden", "oslo_rpc_server_ping"}) {
        request.method = method;
        EXPECT_EQ(dispatcher(request).error().fault, "NoSuchMethod");
    }
    dispatcher.add_ping();
    EXPECT_EQ(dispatcher(request).value(), Json("pong"));
    request = {};
    request.namespace_ = "baseapi";
    request.method = "ping";
    request.args = Json::object({{"arg", "hello"}});
    EXPECT_EQ(dispatcher(request).value(),
              Json::object({{"service", "compute"}, {"arg", "hello"}}));
    request.method = "get_backdoor_port";
    EXPECT_TRUE(dispatcher(request).value().is_null());
}

TEST(RpcDispatcher, Versions) {
    EXPECT_TRUE(version_serves("6.5", "6.0"));
    EXPECT_TRUE(version_serves("6.5", "6"));
    EXPECT_FALSE(version_serves("6.5", "6.10"));
    EXPECT_FALSE(version_serves("6.5", "5.0"));
    EXPECT_FALSE(version_serves("6.5", ""));
    EXPECT_FALSE(version_serves("6.5", "6.x"));
}

TEST(UniqueIds, DropsASecondCopyAndForgetsInTime) {
    UniqueIds ids;
    EXPECT_TRUE(ids.is_new("a"));
    EXPECT_FALSE(ids.is_new("a"));
    EXPECT_TRUE(ids.is_new(""));
    EXPECT_TRUE(ids.is_new(""));
    for (size_t count = 0; count < UniqueIds::kKept; ++count) {
        ids.is_new(std::to_string(count));
    }
    EXPECT_TRUE(ids.is_new("a"));
}

}  // namespace
}  // namespace kumoi::amqp
