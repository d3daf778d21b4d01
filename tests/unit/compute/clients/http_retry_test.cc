#include "compute/clients/http_retry.h"

#include <gtest/gtest.h>

#include <deque>

namespace kumoi::clients {
namespace {

// Gives the scripted outcomes one after the other, the last one for ever.
class ScriptedTransport final : public HttpTransport {
public:
    explicit ScriptedTransport(std::deque<Result<HttpReply>> outcomes)
        : outcomes_(std::move(outcomes)) {}
    Result<HttpReply> send(const HttpRequest&) override {
        ++count;
        Result<HttpReply> outcome = outcomes_.front();
        if (outcomes_.size() > 1) {
            outcomes_.pop_front();
        }
        return outcome;
    }
    int count = 0;

private:
    std::deque<Result<HttpReply>> outcomes_;
};

struct Retries {
    explicit Retries(std::deque<Result<HttpReply>> outcomes)
        : transport(std::move(outcomes)),
          retrying(transport, {}, random, [this](int64_t ns) { waits.push_back(ns); }) {}
    SeededRandom random{7};
    std::vector<int64_t> waits;
    ScriptedTransport transport;
    RetryingTransport retrying;
};

HttpReply status(int code, HttpHeaders headers = {}) {
    return {.status = code, .headers = std::move(headers)};
}
Error connect_failure() {
    return Error::unavailable("refused").with_fault(kConnectFailure);
}

TEST(ClientsRetry, RepeatsUntilTheServiceIsBack) {
    Retries retries({connect_failure(), status(503), status(200)});
    const auto reply = retries.retrying.send({.url = "x"});
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ(reply.value().status, 200);
    EXPECT_EQ(retries.waits.size(), 2u);
    EXPECT_LT(retries.waits[0], 500 * kNanosPerMilli);
    EXPECT_LT(retries.waits[1], 1000 * kNanosPerMilli);
}

TEST(ClientsRetry, GivesTheLastOutcomeAfterItsAttempts) {
    Retries retries({status(502)});
    EXPECT_EQ(retries.retrying.send({.url = "x"}).value().status, 502);
    EXPECT_EQ(retries.transport.count, 4);
}

TEST(ClientsRetry, APostIsRepeatedOnlyWhenItCannotHaveArrived) {
    Retries arrived({Error::unavailable("the connection broke"), status(201)});
    EXPECT_FALSE(arrived.retrying.send({.method = "POST"}).ok());
    EXPECT_EQ(arrived.transport.count, 1);
    Retries busy({status(503), status(201)});
    EXPECT_EQ(busy.retrying.send({.method = "POST"}).value().status, 503);
    Retries token({status(503), status(201)});
    EXPECT_EQ(token.retrying.send({.method = "POST", .repeatable = true}).value().status, 201);
    Retries refused({connect_failure(), status(201)});
    EXPECT_EQ(refused.retrying.send({.method = "POST"}).value().status, 201);
}

TEST(ClientsRetry, AStreamIsNotRepeatedOnceItRan) {
    Retries retries({Error::unavailable("cut"), status(200)});
    HttpRequest request;
    request.sink = [](std::span<const std::byte>) { return Result<void>(); };
    EXPECT_FALSE(retries.retrying.send(request).ok());
    EXPECT_EQ(retries.transport.count, 1);
}

TEST(ClientsRetry, WaitsAsLongAsItIsTold) {
    Retries retries({status(429, {{"Retry-After", "7"}}), status(200)});
    EXPECT_EQ(retries.retrying.send({.method = "POST"}).value().status, 200);
    ASSERT_EQ(retries.waits.size(), 1u);
    EXPECT_EQ(retries.waits[0], 7 * kNanosPerSecond);
    Retries too_long({status(503, {{"Retry-After", "3600"}}), status(200)});
    EXPECT_EQ(too_long.retrying.send({}).value().status, 503);
}

TEST(ClientsRetry, ABrokenServiceGetsNoStorm) {
    Retries retries({status(503)});
    for (int i = 0; i < 100; ++i) {
        EXPECT_EQ(retries.retrying.send({}).value().status, 503);
    }
    EXPECT_EQ(retries.transport.count, 110);  // the budget's reserve of ten, and not one more
}

TEST(ClientsRetry, RepliesRefillTheBudget) {
    RetryBudget budget(2.0, 0.5);
    EXPECT_TRUE(budget.take());
    EXPECT_TRUE(budget.take());
    EXPECT_FALSE(budget.take());
    budget.earn();
    budget.earn();
    EXPECT_TRUE(budget.take());
    for (int i = 0; i < 100; ++i) {
        budget.earn();
    }
    EXPECT_EQ(budget.left(), 2.0);
}

TEST(ClientsRetry, OtherRefusalsAreNotRepeated) {
    for (const int code : {400, 401, 403, 404, 409, 500}) {
        Retries retries({status(code)});
        EXPECT_EQ(retries.retrying.send({}).value().status, code);
        EXPECT_EQ(retries.transport.count, 1) << code;
    }
}

}  // namespace
}  // namespace kumoi::clients
