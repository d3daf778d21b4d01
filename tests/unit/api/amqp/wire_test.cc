// What goes over the wire: real messages of both releases come out of our encoders byte for byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "api/amqp/envelope.h"
#include "api/amqp/nova_exceptions.h"
#include "api/amqp/rpc_failure.h"
#include "api/amqp/rpc_message.h"
#include "api/amqp/topology.h"
#include "base/file.h"
#include "base/python_json.h"

namespace kumoi::amqp {
namespace {

std::vector<Json> lines(const std::string& path) {
    const std::string text = read_file(path).value();
    std::vector<Json> found;
    for (size_t start = 0; start < text.size();) {
        const size_t end = text.find('\n', start);
        found.push_back(Json::parse(std::string_view(text).substr(start, end - start)).value());
        start = end + 1;
    }
    return found;
}

std::string encoded_again(const std::string& text, bool is_reply) {
    Json message = Json::parse(text).value();
    return python_dump(is_reply ? ReplyMessage::decode(std::move(message)).value().encode()
                                : RequestMessage::decode(message).value().encode());
}

TEST(GoldenMessages, RequestsAndRepliesOfBothReleasesComeOutByteForByte) {
    std::set<std::string> releases;
    for (const Json& golden : lines("tests/data/oslo/golden.jsonl")) {
        releases.insert(golden.string_or("release"));
        const std::string text = golden.string_or("message");
        EXPECT_EQ(encoded_again(text, golden.string_or("kind") == "reply"), text)
            << golden.string_or("name");
    }
    EXPECT_THAT(releases, ::testing::ElementsAre("2026.1", "zed"));
}

TEST(GoldenMessages, ExchangeAndKeyAreTheTopology) {
    const AmqpOptions options;
    int requests = 0;
    for (const Json& golden : lines("tests/data/oslo/golden.jsonl")) {
        if (golden.string_or("kind") == "reply" || golden.string_or("kind") == "fanout") {
            continue;
        }
        ++requests;
        const std::string key = golden.string_or("routing_key");
        const Subscription mine = topic_subscription(options, "nova", key, true);
        if (golden.string_or("exchange") == "nova") {
            EXPECT_EQ(mine.exchange->name, "nova");
            EXPECT_EQ(mine.routing_key, key);
        }
    }
    EXPECT_GT(requests, 20);
}

TEST(CapturedMessages, EveryBodyOfARealCloudComesOutByteForByte) {
    std::set<std::string> captures;
    for (const Json& captured : lines("tests/data/oslo/captured.jsonl")) {
        captures.insert(captured.string_or("capture"));
        const std::string body = captured.string_or("body");
        const Json message = open(body).value();
        EXPECT_EQ(seal(message), body);
        if (captured.string_or("type") == "notification") {
            continue;
        }
        const bool is_reply = captured.string_or("type") == "reply";
        const std::string text = Json::parse(body)->string_or("oslo.message");
        EXPECT_EQ(encoded_again(text, is_reply), text) << captured.string_or("method");
    }
    EXPECT_GE(captures.size(), 70u);
}

TEST(CapturedMessages, FailuresComeOutByteForByte) {
    int failures = 0;
    for (const Json& captured : lines("tests/data/oslo/captured.jsonl")) {
        if (captured.string_or("type") != "reply") {
            continue;
        }
        const auto reply = ReplyMessage::decode(open(captured.string_or("body")).value()).value();
        if (reply.failure) {
            EXPECT_EQ(RpcFailure::decode(*reply.failure).encode(), *reply.failure);
            ++failures;
        }
    }
    EXPECT_GT(failures, 0);
}

TEST(PythonJson, WritesAsPythonDoes) {
    const Json json =
        Json::parse(R"({"a":[1,2.0,1e22,0.1,-0.0,1e-7],"b":{},"c":[],"d":null,"e":true,)"
                    R"("f":"grüß \u0000\u007f\n\"\\/ 😀"})")
            .value();
    EXPECT_EQ(python_dump(json),
              R"({"a": [1, 2.0, 1e+22, 0.1, -0.0, 1e-07], "b": {}, "c": [], "d": null, "e": true, )"
              R"("f": "gr\u00fc\u00df \u0000\u007f\n\"\\/ \ud83d\ude00"})");
}

TEST(PythonJson, BrokenUtf8BecomesTheReplacementCharacter) {
    std::string out;
    python_dump_string(out, "a\xff\xc3(\xed\xa0\x80z\xf0\x9f\x98");
    EXPECT_EQ(out, R"("a\ufffd\ufffd(\ufffd\ufffd\ufffdz\ufffd\ufffd\ufffd")");
}

TEST(Envelope, RefusesWhatItDoesNotSpeak) {
    EXPECT_FALSE(open("").ok());
    EXPECT_FALSE(open("[1]").ok());
    EXPECT_FALSE(open(R"({"oslo.version": "3.0", "oslo.message": "{}"})").ok());
    EXPECT_FALSE(open(R"({"oslo.version": "2.1", "oslo.message": "{}"})").ok());
    EXPECT_FALSE(open(R"({"oslo.version": 2, "oslo.message": "{}"})").ok());
    EXPECT_FALSE(open(R"({"oslo.version": "2.0", "oslo.message": {}})").ok());
    EXPECT_FALSE(open(R"({"oslo.version": "2.0", "oslo.message": "7"})").ok());
    EXPECT_EQ(open(R"({"method": "bare"})")->string_or("method"), "bare");
}

TEST(Envelope, CompressionGoesThereAndBack) {
    const std::string body(100'000, 'x');
    for (const char* method : {"gzip", "bz2"}) {
        std::string header;
        const std::string packed = compress(body, method, header).value();
        EXPECT_LT(packed.size(), 1000u);
        EXPECT_EQ(decompress(packed, header).value(), body);
        EXPECT_EQ(decompress(packed, header, 99'999).error().code, ErrorCode::TooLarge);
        EXPECT_FALSE(decompress(packed.substr(0, packed.size() / 2), header).ok());
    }
    EXPECT_EQ(decompress("x", "application/zstd").error().code, ErrorCode::Unsupported);
}

TEST(RpcMessage, HostileRequestsAreRefused) {
    for (const char* text :
         {R"({})", R"({"method": 7})", R"({"method": "x", "args": []})",
          R"({"method": "x", "version": 6})", R"({"method": "x", "_reply_q": {}})"}) {
        EXPECT_FALSE(RequestMessage::decode(Json::parse(text).value()).ok()) << text;
    }
    const auto odd = RequestMessage::decode(
        Json::parse(R"({"method": "x", "_timeout": "60", "args": null})").value());
    EXPECT_EQ(odd->call_monitor_timeout_s, 60);
    const auto huge =
        RequestMessage::decode(Json::parse(R"({"method": "x", "_timeout": 1e300})").value());
    EXPECT_FALSE(huge->call_monitor_timeout_s.has_value());
}

TEST(RpcFailure, ErrorsTravelAsNovaExceptions) {
    const RpcFailure known = failure_from(
        Error::not_found("Instance x could not be found.").with_fault("InstanceNotFound"));
    EXPECT_EQ(known.module, "nova.exception");
    EXPECT_EQ(known.class_name, "InstanceNotFound");
    EXPECT_EQ(known.kwargs.integer_or("code"), 404);
    EXPECT_EQ(failure_from(Error::io("disk broke")).class_name, "NovaException");
    EXPECT_EQ(failure_from(Error::unsupported("no")).module, "builtins");
    EXPECT_EQ(failure_from(Error::unsupported("no").with_fault("UnsupportedVersion")).module,
              "oslo_messaging.rpc.dispatcher");
}

TEST(RpcFailure, ArrivesAsAnErrorWithItsClass) {
    const Error error = error_from(RpcFailure::decode(
        R"({"class": "UnexpectedTaskStateError_Remote", "module": "nova.exception",)"
        R"( "message": "Conflict", "tb": ["x"], "args": [], "kwargs": {"code": 409}})"));
    EXPECT_EQ(error.fault, "UnexpectedTaskStateError");
    EXPECT_EQ(error.code, ErrorCode::Conflict);
    EXPECT_EQ(error.message, "Conflict");
    EXPECT_EQ(error_from(RpcFailure::decode("nonsense")).fault, "RemoteError");
    EXPECT_EQ(nova_exception_status("NoValidHost"), 500);
    EXPECT_FALSE(nova_exception_status("Nonsense").has_value());
}

TEST(Topology, ZedDefaults) {
    const AmqpOptions options;
    const Subscription reply = reply_subscription(options, "ab");
    EXPECT_EQ(reply.queue.name, "reply_ab");
    EXPECT_FALSE(reply.queue.durable);
    EXPECT_EQ(reply.queue.arguments, Json::object({{"x-expires", 1'800'000}}));
    const Subscription fanout = fanout_subscription(options, "compute", "ab");
    EXPECT_EQ(fanout.queue.name, "compute_fanout_ab");
    EXPECT_EQ(fanout.exchange->name, "compute_fanout");
    EXPECT_TRUE(fanout.exchange->auto_delete);
    EXPECT_FALSE(fanout.exchange->durable);
    EXPECT_EQ(fanout.routing_key, "compute");
    const Subscription topic = topic_subscription(options, "nova", "compute", false);
    EXPECT_FALSE(topic.queue.durable);
    EXPECT_EQ(topic.queue.arguments, Json::object());
    EXPECT_EQ(topic.exchange->type, "topic");
}

TEST(Topology, QuorumStreamAndTheRest) {
    AmqpOptions options;
    options.rabbit_quorum_queue = true;
    options.rabbit_quorum_delivery_limit = 3;
    options.rabbit_quorum_max_memory_bytes = 1000;
    const Subscription topic = topic_subscription(options, "nova", "compute", false);
    EXPECT_TRUE(topic.queue.durable);
    EXPECT_TRUE(topic.exchange->durable);
    EXPECT_EQ(topic.queue.arguments, Json::object({{"x-queue-type", "quorum"},
                                                   {"x-delivery-limit", 3},
                                                   {"x-max-in-memory-bytes", 1000}}));
    EXPECT_FALSE(reply_subscription(options, "a").queue.durable);
    options.rabbit_transient_quorum_queue = true;
    const Subscription reply = reply_subscription(options, "a");
    EXPECT_TRUE(reply.queue.durable);
    EXPECT_EQ(reply.queue.arguments.string_or("x-queue-type"), "quorum");
    EXPECT_EQ(reply.queue.arguments.integer_or("x-expires"), 1'800'000);
    options.rabbit_stream_fanout = true;
    options.rabbit_qos_prefetch_count = 10;
    const Subscription stream = fanout_subscription(options, "compute", "unused");
    EXPECT_EQ(stream.queue.name, "compute_fanout");
    EXPECT_EQ(stream.queue.arguments,
              Json::object({{"x-queue-type", "stream"}, {"x-max-age", "1800s"}}));
    EXPECT_EQ(stream.consume_arguments.string_or("x-stream-offset"), "last");
    EXPECT_EQ(stream.prefetch, 10);
    options = {};
    options.rabbit_ha_queues = true;
    options.rabbit_transient_queues_ttl_s = 0;
    EXPECT_EQ(topic_subscription(options, "nova", "x", false).queue.arguments,
              Json::object({{"x-ha-policy", "all"}}));
    EXPECT_EQ(reply_subscription(options, "a").queue.arguments, Json::object());
}

}  // namespace
}  // namespace kumoi::amqp
