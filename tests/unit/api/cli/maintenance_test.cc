// Moves and drains against a cloud of a few lines: servers that take some looks to get elsewhere.
#include "api/cli/maintenance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace kumoi::cli {
namespace {

using testing::HasSubstr;

api::HttpResponse reply(int status, const Json& body) {
    api::HttpResponse response;
    response.status = status;
    response.body = body.dump();
    return response;
}

struct FakeServer {
    std::string id;
    std::string status = "ACTIVE";
    std::string host = "cn-1";
    std::string task;
    int looks_left = 0;
    int64_t remaining = 0;
    bool refuses = false;  // the migration ends where it began
};

class FakeNova {
public:
    std::map<std::string, FakeServer> servers;
    std::string service_status = "enabled";
    std::string reason;
    int moving_most = 0;
    int looks = 3;  // a migration takes so many
    bool actions_tell = true;
    std::function<void()> at_each_pause;

    Result<api::HttpResponse> answer(const api::HttpRequest& request) {
        const std::string path = request.url.substr(std::string("http://nova").size());
        if (request.url.starts_with("http://k")) {
            auto login =
                reply(201, *Json::parse(R"({"token":{"catalog":[{"type":"compute","endpoints":[
                    {"interface":"public","region_id":"R","url":"http://nova"}]}]}})"));
            login.headers.set("X-Subject-Token", "t");
            return login;
        }
        if (path.starts_with("/os-services")) {
            return services(request);
        }
        if (path.starts_with("/servers/detail")) {
            Json all = Json::array();
            for (const auto& [id, server] : servers) {
                if (server.host == "cn-1") {
                    all.push_back(view(server));
                }
            }
            return reply(200, Json::object({{"servers", std::move(all)}}));
        }
        if (path.starts_with("/os-migrations")) {
            return reply(200, *Json::parse(R"({"migrations":[{"id":7,"status":"failed",
                "source_compute":"cn-1"}]})"));
        }
        const std::string id = path.substr(9, 1);
        const std::string rest = path.substr(std::min<size_t>(10, path.size()));
        return of_server(servers.at(id), rest, request);
    }

private:
    static Json view(const FakeServer& server) {
        return Json::object(
            {{"id", server.id},
             {"name", "server-" + server.id},
             {"status", server.status},
             {"hostId", "of " + server.host},
             {"OS-EXT-SRV-ATTR:host", server.host},
             {"OS-EXT-STS:task_state", server.task.empty() ? Json() : Json(server.task)}});
    }
    api::HttpResponse services(const api::HttpRequest& request) {
        if (request.method == "PUT") {
            const Json body = *Json::parse(request.body);
            service_status = body.string_or("status");
            reason = body.string_or("disabled_reason");
        }
        Json service = Json::object({{"id", "s1"},
                                     {"host", "cn-1"},
                                     {"binary", "nova-compute"},
                                     {"status", service_status},
                                     {"disabled_reason", reason.empty() ? Json() : Json(reason)}});
        Json all = Json::array();
        all.push_back(std::move(service));
        return reply(200, Json::object({{"services", std::move(all)}}));
    }
    api::HttpResponse of_server(FakeServer& server, const std::string& rest,
                                const api::HttpRequest& request) {
        if (rest == "/action") {
            return act(server, *Json::parse(request.body));
        }
        if (rest == "/migrations") {
            Json all = Json::array();
            if (server.status == "MIGRATING") {
                all.push_back(
                    Json::object({{"id", 7},
                                  {"status", "running"},
                                  {"memory_total_bytes", 1 << 30},
                                  {"memory_processed_bytes", (1 << 30) - server.remaining},
                                  {"memory_remaining_bytes", server.remaining}}));
            }
            return reply(200, Json::object({{"migrations", std::move(all)}}));
        }
        if (rest.starts_with("/os-instance-actions/")) {
            return reply(200, *Json::parse(R"({"instanceAction":{"events":[
                {"result":"Error","details":"the link broke"}]}})"));
        }
        if (rest == "/os-instance-actions") {
            return reply(
                200,
                *Json::parse(server.refuses && actions_tell
                                 ? R"({"instanceActions":[{"message":"Error","request_id":"r"}]})"
                                 : R"({"instanceActions":[]})"));
        }
        look(server);
        return reply(200, Json::object({{"server", view(server)}}));
    }
    api::HttpResponse act(FakeServer& server, const Json& body) {
        if (body.contains("os-migrateLive")) {
            server.status = "MIGRATING";
            server.task = "migrating";
        } else if (body.contains("migrate")) {
            server.task = "resize_prep";
        } else if (body.contains("confirmResize")) {
            server.status = "SHUTOFF";
            return reply(204, Json());
        }
        server.looks_left = looks;
        server.remaining = 1 << 29;
        int moving = 0;
        for (const auto& [id, one] : servers) {
            moving += one.task.empty() ? 0 : 1;
        }
        moving_most = std::max(moving_most, moving);
        return reply(202, Json());
    }
    static void look(FakeServer& server) {
        if (server.task.empty() || --server.looks_left > 0) {
            server.remaining /= 2;
            return;
        }
        const bool live = server.task == "migrating";
        server.status = live ? "ACTIVE" : "VERIFY_RESIZE";
        server.task.clear();
        if (!server.refuses) {
            server.host = "cn-2";
        } else {
            server.status = live ? "ACTIVE" : "SHUTOFF";
        }
    }
};

class Maintenance : public testing::Test {
protected:
    Maintenance()
        : cloud_({.auth_url = "http://k", .user_name = "a", .password = "p"},
                 [this](const api::HttpRequest& request) { return nova_.answer(request); }) {}
    void add(const std::string& id, const std::string& status = "ACTIVE") {
        nova_.servers[id] = {.id = id, .status = status};
    }
    Drain drain(DrainOptions options) {
        options.host = "cn-1";
        return Drain({cloud_, clock_,
                      [this] {
                          clock_.advance(kNanosPerSecond);
                          if (nova_.at_each_pause) {
                              nova_.at_each_pause();
                          }
                      },
                      [this](const std::string& line) { lines_.push_back(line); }},
                     std::move(options));
    }
    ManualClock clock_;
    FakeNova nova_;
    Cloud cloud_;
    std::vector<std::string> lines_;
};

TEST_F(Maintenance, APlanTouchesNothing) {
    add("a");
    add("b", "SHUTOFF");
    add("c", "ERROR");
    add("d", "SUSPENDED");
    Drain dry = drain({});
    ASSERT_TRUE(dry.plan().ok());
    std::map<std::string, std::string> plans;
    for (const DrainItem& item : dry.items()) {
        plans[item.server.string_or("id")] = item.record().string_or("plan");
    }
    EXPECT_EQ(plans["a"], "live migration");
    EXPECT_EQ(plans["b"], "cold migration");
    EXPECT_EQ(plans["c"], "stays");
    EXPECT_EQ(plans["d"], "stays");
    EXPECT_EQ(nova_.service_status, "enabled");
    EXPECT_EQ(nova_.servers.at("a").task, "");
    EXPECT_FALSE(find_compute_service(cloud_, "mars").ok());
}

TEST_F(Maintenance, AHostIsEmptied) {
    for (const char* id : {"a", "b", "c", "d"}) {
        add(id);
    }
    add("e", "SHUTOFF");
    Drain all = drain({.reason = "new fans", .parallel = 2});
    const auto done = all.run();
    ASSERT_TRUE(done.ok()) << done.error().text();
    EXPECT_EQ(nova_.service_status, "disabled");
    EXPECT_EQ(nova_.reason, "kumoi maintenance: new fans");
    for (const auto& [id, server] : nova_.servers) {
        EXPECT_EQ(server.host, "cn-2") << id;
    }
    EXPECT_EQ(nova_.servers.at("e").status, "SHUTOFF");  // confirmed
    EXPECT_EQ(all.count(DrainItem::State::Moved), 5);
    EXPECT_EQ(nova_.moving_most, 2);
    EXPECT_THAT(lines_.back(), HasSubstr("5 of 5 servers have left"));
}

TEST_F(Maintenance, WhatFailsIsSaidAndTheOthersGo) {
    add("a");
    add("b");
    nova_.servers.at("a").refuses = true;
    Drain all = drain({.parallel = 1});
    ASSERT_TRUE(all.run().ok());
    EXPECT_EQ(all.count(DrainItem::State::Failed), 1);
    EXPECT_EQ(all.count(DrainItem::State::Moved), 1);
    EXPECT_EQ(all.items()[0].why, "the link broke");
}

TEST_F(Maintenance, WhatNoActionTellsTheRecordDoes) {
    add("a");
    nova_.servers.at("a").refuses = true;
    nova_.actions_tell = false;
    Drain all = drain({.parallel = 1});
    ASSERT_TRUE(all.run().ok());
    EXPECT_EQ(all.items()[0].why,
              "the hosts gave it up (migration 7 is failed); the log of cn-1 says why");
}

TEST_F(Maintenance, AnotherKumoiStopsIt) {
    for (const char* id : {"a", "b", "c"}) {
        add(id);
    }
    nova_.at_each_pause = [this] {
        EXPECT_TRUE(disable_for_maintenance(cloud_, "s1", "enough", true).ok());
    };
    Drain all = drain({.parallel = 1});
    ASSERT_TRUE(all.run().ok());
    EXPECT_TRUE(all.stopped());
    EXPECT_EQ(all.count(DrainItem::State::Moved), 1);  // it was on its way
    EXPECT_EQ(all.count(DrainItem::State::Waiting), 2);
    EXPECT_EQ(nova_.service_status, "disabled");
}

TEST_F(Maintenance, StoppedServersMayStay) {
    add("a", "SHUTOFF");
    Drain all = drain({.leave_stopped = true});
    ASSERT_TRUE(all.run().ok());
    EXPECT_EQ(nova_.servers.at("a").host, "cn-1");
}

TEST(ParallelMovesTest, OneMoreAsLongAsItHelps) {
    ParallelMoves moves(0);
    EXPECT_EQ(moves.limit(), 1);
    moves.measured(1, 100);
    EXPECT_EQ(moves.limit(), 2);
    moves.measured(1, 50);  // only one of two runs: says nothing
    EXPECT_EQ(moves.limit(), 2);
    moves.measured(2, 190);
    EXPECT_EQ(moves.limit(), 3);
    moves.measured(3, 195);  // the link is full
    EXPECT_EQ(moves.limit(), 2);
    moves.measured(2, 400);
    EXPECT_EQ(moves.limit(), 2);
    EXPECT_EQ(ParallelMoves(5).limit(), 5);
}

Json progress(int64_t processed, int64_t remaining) {
    return Json::object({{"status", "running"},
                         {"memory_total_bytes", 1000 << 20},
                         {"memory_processed_bytes", processed << 20},
                         {"memory_remaining_bytes", remaining << 20}});
}

TEST(Forecast, TellsRatesAndTheEnd) {
    MigrationForecast forecast;
    forecast.add(0, progress(0, 1000));
    EXPECT_EQ(forecast.state().bandwidth, std::nullopt);
    forecast.add(2 * kNanosPerSecond, progress(200, 840));
    const auto state = forecast.state();
    EXPECT_EQ(state.bandwidth, 100 << 20);
    EXPECT_EQ(state.dirty_rate, 20 << 20);
    EXPECT_EQ(state.remaining_ms, 10'500);
    EXPECT_FALSE(state.never);
    EXPECT_EQ(forecast.line(),
              "running, 840 of 1000 MiB left, 100 MiB/s, guest writes 20 MiB/s, 11 s to go");
    EXPECT_EQ(forecast.verdict(), "");
}

TEST(Forecast, ZerosBeforeTheCountAreNoSample) {
    MigrationForecast forecast;
    forecast.add(0, Json::object({{"status", "running"}, {"memory_total_bytes", 0}}));
    forecast.add(kNanosPerSecond, progress(1000, 0));
    EXPECT_EQ(forecast.line(), "running, 0.0 of 1000 MiB left");
}

TEST(Forecast, SaysPlainlyThatItWillNotEnd) {
    MigrationForecast forecast;
    for (int second = 0; second <= 6; ++second) {
        forecast.add(second * kNanosPerSecond, progress(100 * second, 500 + 10 * second));
    }
    EXPECT_TRUE(forecast.state().never);
    EXPECT_THAT(forecast.line(), HasSubstr("does not converge"));
    EXPECT_THAT(forecast.verdict(), HasSubstr("the guest writes 110 MiB/s and 100 MiB/s go over"));
    EXPECT_THAT(forecast.verdict(), HasSubstr("force-complete"));
}

TEST(Forecast, NumbersThatStandStillAreNoNews) {
    MigrationForecast forecast;
    forecast.add(0, progress(0, 1000));
    for (int second = 1; second < 5; ++second) {
        forecast.add(second * kNanosPerSecond, progress(0, 1000));
    }
    EXPECT_EQ(forecast.state().bandwidth, std::nullopt);
    EXPECT_FALSE(forecast.state().never);
    forecast.add(5 * kNanosPerSecond, Json::object({{"status", "running"}}));  // null members
    EXPECT_EQ(forecast.state().total, 0);
}

}  // namespace
}  // namespace kumoi::cli
