// What both servers promise, over raw sockets. The first group is what Pistache 0.0.5 was measured
// to get wrong (reference DEPS.md §1).
#include <sys/resource.h>
#include <unistd.h>

#include "api/http/response_head.h"
#include "server_fixture.h"

namespace kumoi::api {
namespace {

class Server : public ServerFixture {};

std::string get(std::string_view target, std::string_view headers = {}) {
    return "GET " + std::string(target) + " HTTP/1.1\r\nHost: test\r\n" + std::string(headers) +
           "\r\n";
}

std::vector<std::string> strings(const Json* array) {
    std::vector<std::string> out;
    if (array != nullptr && array->is_array()) {
        for (const Json& item : array->as_array()) {
            out.push_back(item.as_string());
        }
    }
    return out;
}

TEST_P(Server, RefusesBrokenRequestsAndCloses) {
    start();
    const std::pair<const char*, int> cases[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400},
        {"POST /size HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: "
         "chunked\r\n\r\n",
         400},
        {"POST /size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"POST /size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
         "chunked\r\n\r\n",
         501},
        {"POST /size HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST /size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
        {"POST /size HTTP/1.1\r\nHost: a\r\nContent-Length: 8589934592\r\n\r\n", 413},
        {"POST /size HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n", 400},
        {"GET / HTTP/1.1\nHost: a\n\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", 400},
        {"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
        {"GET\r\n\r\n", 400},
        {"\x16\x03\x01\x02 some tls hello\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n", 417},
        {"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    };
    for (const auto& [bytes, status] : cases) {
        RawClient client(port());
        client.send(bytes);
        const auto response = client.response();
        ASSERT_TRUE(response) << bytes;
        EXPECT_EQ(response->status, status) << bytes;
        EXPECT_TRUE(response->headers.list_has("Connection", "close")) << bytes;
        EXPECT_TRUE(client.closed_by_server()) << bytes;
    }
}

TEST_P(Server, LetsOddButHarmlessHeadersReachTheHandler) {
    start();
    for (const char* header : {"Accept: %%%/;;,", "Accept:", "Content-Type: nonsense",
                               "Content-Type:", "Date: yesterday",
                               "Cookie: =;;=", "Cache-Control: max-age=x", "Authorization: ???"}) {
        const auto response = ask(get("/echo/a", std::string(header) + "\r\n"));
        ASSERT_TRUE(response) << header;
        EXPECT_EQ(response->status, 200) << header;
    }
}

TEST_P(Server, AnswersPipelinedRequestsAllAndInOrder) {
    start();
    RawClient client(port());
    std::string bytes;
    for (int index = 0; index < 50; ++index) {
        const std::string body = "body" + std::to_string(index);
        bytes += "POST /echo/" + std::to_string(index) +
                 " HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) +
                 "\r\n\r\n" + body;
    }
    client.send(bytes);
    for (int index = 0; index < 50; ++index) {
        const auto response = client.response();
        ASSERT_TRUE(response) << index;
        EXPECT_EQ(json_of(*response).string_or("target"), "/echo/" + std::to_string(index));
        EXPECT_EQ(json_of(*response).string_or("body"), "body" + std::to_string(index));
    }
}

TEST_P(Server, AnswersInOrderWhileAnEarlierHandlerIsSlow) {
    start();
    RawClient client(port());
    client.send(get("/gate"));
    ASSERT_TRUE(gate_.wait_for_waiting(1));
    client.send(get("/echo/second"));
    EXPECT_TRUE(client.silent_for(50));
    gate_.open();
    EXPECT_EQ(client.response()->body, "opened");
    EXPECT_EQ(json_of(*client.response()).string_or("target"), "/echo/second");
}

TEST_P(Server, AsksForTheBodyWhenTheClientExpectsContinue) {
    start();
    RawClient client(port());
    client.send(
        "POST /size HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    const auto interim = client.response();
    ASSERT_TRUE(interim);
    EXPECT_EQ(interim->status, 100);
    client.send("hello");
    EXPECT_EQ(client.response()->body, "5");
}

TEST_P(Server, RefusesTooLargeBodiesBeforeAskingForThem) {
    start({.body_bytes_max = 10});
    RawClient client(port());
    client.send(
        "POST /size HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n");
    EXPECT_EQ(client.response()->status, 413);
    EXPECT_TRUE(client.closed_by_server());
}

TEST_P(Server, LimitsChunkedBodies) {
    start({.body_bytes_max = 10});
    RawClient client(port());
    client.send(
        "POST /size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n");
    client.send("5\r\nabcde\r\n0\r\n\r\n");
    EXPECT_EQ(client.response()->status, 413);
    EXPECT_TRUE(client.closed_by_server());
}

TEST_P(Server, ReadsChunkedBodiesHoweverTheyAreCut) {
    start();
    const std::string_view request =
        "POST /echo/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
        "4;name=\"value\"\r\nWiki\r\n00005\r\npedia\r\n0\r\nTrailer: gone\r\n\r\n";
    for (size_t cut = 1; cut < request.size(); cut += 7) {
        RawClient client(port());
        client.send(request.substr(0, cut));
        client.send(request.substr(cut));
        const auto response = client.response();
        ASSERT_TRUE(response) << cut;
        EXPECT_EQ(json_of(*response).string_or("body"), "Wikipedia") << cut;
    }
}

TEST_P(Server, DecodesPathAndQueryAndKeepsRepeats) {
    start();
    const auto response =
        ask(get("/echo/a%20b/%2Fc?tag=x&tag=y%26z&empty=&flag&plus=a+b&utf=%C3%A9",
                "X-A: 1\r\nx-a: 2\r\n"));
    ASSERT_TRUE(response);
    const Json seen = json_of(*response);
    EXPECT_EQ(strings(seen.find("segments")), (std::vector<std::string>{"echo", "a b", "/c"}));
    EXPECT_EQ(strings(seen.find("query")),
              (std::vector<std::string>{"tag=x", "tag=y&z", "empty=", "flag=", "plus=a b",
                                        "utf=\xc3\xa9"}));
    EXPECT_EQ(strings(seen.find("headers")),
              (std::vector<std::string>{"Host=test", "X-A=1", "x-a=2"}));
}

TEST_P(Server, SendsHeadersOfAnyNameSeveralTimesAndNoInjectedOnes) {
    start();
    const auto response = ask(get("/headers"));
    ASSERT_TRUE(response);
    EXPECT_EQ(response->headers.all("Set-Cookie"), (std::vector<std::string>{"a=1", "b=2"}));
    EXPECT_EQ(response->headers.first_or("X-Subject-Token"), "tok");
    EXPECT_EQ(response->headers.first_or("OpenStack-API-Version"), "compute 2.90");
    EXPECT_FALSE(response->headers.has("X-Broken"));
    EXPECT_FALSE(response->headers.has("Injected"));
    EXPECT_EQ(response->headers.first_or("Date"), http_date(clock_.wall_ns()));
    EXPECT_TRUE(response->headers.first_or("X-Openstack-Request-Id").starts_with("req-"));
}

TEST_P(Server, AnswersHeadWithTheLengthButNoBody) {
    start();
    RawClient client(port());
    client.send("HEAD /ok HTTP/1.1\r\nHost: a\r\n\r\n" + get("/ok"));
    const auto head = client.response(true);
    ASSERT_TRUE(head);
    EXPECT_EQ(head->status, 200);
    EXPECT_EQ(head->headers.first_or("Content-Length"), "2");
    EXPECT_EQ(client.response()->body, "ok");
}

TEST_P(Server, SendsNoContentWithoutLength) {
    start();
    RawClient client(port());
    client.send("DELETE /thing HTTP/1.1\r\nHost: a\r\n\r\n" + get("/ok"));
    const auto gone = client.response();
    ASSERT_TRUE(gone);
    EXPECT_EQ(gone->status, 204);
    EXPECT_FALSE(gone->headers.has("Content-Length"));
    EXPECT_EQ(client.response()->body, "ok");
}

TEST_P(Server, ClosesWhenAskedToAndAfterHttp10) {
    start();
    for (const std::string& bytes :
         {get("/ok", "Connection: close\r\n"), get("/ok", "Connection: x, Close\r\n"),
          std::string("GET /ok HTTP/1.0\r\n\r\n"),
          std::string("GET /ok HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")}) {
        RawClient client(port());
        client.send(bytes);
        const auto response = client.response();
        ASSERT_TRUE(response) << bytes;
        EXPECT_EQ(response->body, "ok");
        EXPECT_TRUE(response->headers.list_has("Connection", "close"));
        EXPECT_TRUE(client.closed_by_server()) << bytes;
    }
}

TEST_P(Server, Distinguishes404And405AndAnswersOptions) {
    start();
    EXPECT_EQ(ask(get("/nowhere"))->status, 404);
    const auto wrong_method = ask("PATCH /thing HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(wrong_method->status, 405);
    EXPECT_EQ(wrong_method->headers.first_or("Allow"), "DELETE, OPTIONS");
    EXPECT_EQ(ask("OPTIONS /ok HTTP/1.1\r\nHost: a\r\n\r\n")->headers.first_or("Allow"),
              "GET, HEAD, OPTIONS");
    EXPECT_EQ(ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")->status, 204);
    EXPECT_EQ(ask(get("/ok/"))->status, 200);
    EXPECT_EQ(ask("GET http://other:80/ok HTTP/1.1\r\nHost: a\r\n\r\n")->status, 200);
}

TEST_P(Server, HidesTheTextOfWhateverHandlersThrow) {
    start();
    for (const char* target : {"/throw", "/throw-int"}) {
        RawClient client(port());
        client.send(get(target) + get("/ok"));
        const auto response = client.response();
        ASSERT_TRUE(response);
        EXPECT_EQ(response->status, 500);
        EXPECT_EQ(response->body.find("secret"), std::string::npos);
        EXPECT_EQ(client.response()->status, 200);
    }
}

TEST_P(Server, TakesOnlyWellFormedGlobalRequestIds) {
    start();
    const std::string good = "req-0123abcd-1234-4321-8765-0123456789ab";
    const Json seen = json_of(*ask(get("/echo/a", "X-OpenStack-Request-ID: " + good + "\r\n")));
    EXPECT_EQ(seen.string_or("global_request_id"), good);
    EXPECT_NE(seen.string_or("request_id"), good);
    EXPECT_EQ(json_of(*ask(get("/echo/a", "X-OpenStack-Request-ID: req-'; drop\r\n")))
                  .string_or("global_request_id"),
              "");
}

// ---- time, limits, overload --------------------------------------------------------------------

TEST_P(Server, ServesOthersWhileSlowReadersHoldTheirAnswers) {
    start({.worker_threads = 2});
    std::vector<std::unique_ptr<RawClient>> slow;
    for (int index = 0; index < 20; ++index) {
        slow.push_back(std::make_unique<RawClient>(port(), 4096));
        slow.back()->send(get("/big"));
    }
    for (int index = 0; index < 50; ++index) {
        EXPECT_EQ(ask(get("/ok"))->status, 200);
    }
    const clock_t before = clock();
    EXPECT_TRUE(slow[0]->fill());  // something is there, and the rest waits for us
    pollfd nothing{-1, 0, 0};
    ::poll(&nothing, 1, 300);
    const double cpu_seconds = static_cast<double>(clock() - before) / CLOCKS_PER_SEC;
    EXPECT_LT(cpu_seconds, 0.15) << "the server spins";
    const auto whole = slow[0]->response();
    ASSERT_TRUE(whole);
    EXPECT_EQ(whole->body.size(), 8u << 20);
}

TEST_P(Server, CutsReadersThatMakeNoProgress) {
    start();
    RawClient client(port(), 4096);
    client.send(get("/big"));
    ASSERT_TRUE(client.fill());
    pollfd nothing{-1, 0, 0};
    ::poll(&nothing, 1, 300);  // until the buffers between us are full
    clock_.advance(61 * kNanosPerSecond);
    ASSERT_TRUE(wait_for_open_connections(0));
    while (client.fill()) {
    }
    EXPECT_LT(client.unread().size(), 8u << 20);
}

TEST_P(Server, TimesOutHalfARequestWith408) {
    start();
    for (const char* part : {"GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n",
                             "POST /size HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"}) {
        RawClient client(port());
        client.send(part);
        EXPECT_TRUE(client.silent_for(50));
        clock_.advance(31 * kNanosPerSecond);
        const auto response = client.response();
        ASSERT_TRUE(response) << part;
        EXPECT_EQ(response->status, 408);
        EXPECT_TRUE(client.closed_by_server());
    }
}

TEST_P(Server, ClosesSilentAndIdleConnectionsWithoutAWord) {
    start();
    RawClient silent(port());
    EXPECT_TRUE(silent.silent_for(50));
    clock_.advance(11 * kNanosPerSecond);
    EXPECT_TRUE(silent.closed_by_server());
    RawClient idle(port());
    idle.send(get("/ok"));
    EXPECT_EQ(idle.response()->status, 200);
    EXPECT_TRUE(idle.silent_for(50));
    clock_.advance(60 * kNanosPerSecond);
    EXPECT_TRUE(idle.silent_for(300));
    clock_.advance(16 * kNanosPerSecond);
    EXPECT_TRUE(idle.closed_by_server());
}

TEST_P(Server, LimitsTheHead) {
    start();
    EXPECT_EQ(ask("GET /" + std::string(70'000, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n")->status,
              414);
    EXPECT_EQ(ask(get("/ok", "X: " + std::string(70'000, 'a') + "\r\n"))->status, 431);
    std::string many;
    for (int index = 0; index < 300; ++index) {
        many += "X: y\r\n";
    }
    EXPECT_EQ(ask(get("/ok", many))->status, 431);
    EXPECT_EQ(ask(get("/ok", "X: " + std::string(60'000, 'a') + "\r\n"))->status, 200);
}

TEST_P(Server, Answers503WhenTheQueueIsFull) {
    start({.worker_threads = 1, .queue_length_max = 1});
    RawClient running(port());
    running.send(get("/gate"));
    ASSERT_TRUE(gate_.wait_for_waiting(1));
    RawClient queued(port());
    queued.send(get("/ok"));
    std::optional<RawResponse> refused;
    // The queued request may still be on its way: ask until the one place in the queue is taken.
    for (int attempt = 0; attempt < 3 && !refused; ++attempt) {
        RawClient client(port());
        client.send(get("/ok"));
        if (!client.silent_for(200)) {
            refused = client.response();
        }
    }
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->status, 503);
    EXPECT_EQ(refused->headers.first_or("Retry-After"), "1");
    gate_.open();
    EXPECT_EQ(running.response()->body, "opened");
}

TEST_P(Server, TurnsConnectionsAwayOverTheLimit) {
    start({.connections_max = 2});
    RawClient first(port());
    RawClient second(port());
    first.send(get("/ok"));
    second.send(get("/ok"));
    EXPECT_EQ(first.response()->status, 200);
    EXPECT_EQ(second.response()->status, 200);
    RawClient third(port());
    const auto refused = third.response();
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->status, 503);
    EXPECT_TRUE(third.closed_by_server());
    first.send(get("/ok"));
    EXPECT_EQ(first.response()->status, 200);
}

TEST_P(Server, PausesAcceptingWhileDescriptorsAreOut) {
    start();
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const int next_fd = ::dup(0);
    ASSERT_GE(next_fd, 0);
    ::close(next_fd);
    rlimit tight = before;
    tight.rlim_cur = static_cast<rlim_t>(next_fd) + 1;  // room for the client alone
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
    RawClient client(port());
    const clock_t cpu_before = clock();
    const bool silent = client.send(get("/ok")) && client.silent_for(300);
    const double cpu_seconds = static_cast<double>(clock() - cpu_before) / CLOCKS_PER_SEC;
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_TRUE(silent);
    EXPECT_LT(cpu_seconds, 0.15) << "the server spins";
    const auto response = client.response();
    ASSERT_TRUE(response);
    EXPECT_EQ(response->body, "ok");
}

// ---- clients that go, drain, stop --------------------------------------------------------------

TEST_P(Server, AnswersAClientThatClosedItsSendingSide) {
    start();
    RawClient client(port());
    client.send(get("/ok") + get("/echo/x"));
    client.end_sending();
    EXPECT_EQ(client.response()->body, "ok");
    EXPECT_EQ(client.response()->status, 200);
    EXPECT_TRUE(client.closed_by_server());
}

TEST_P(Server, SurvivesClientsThatVanishAtAnyMoment) {
    start({.worker_threads = 4});
    for (int round = 0; round < 30; ++round) {
        RawClient half(port());
        half.send("POST /size HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
        half.reset();
        RawClient reading(port(), 4096);
        reading.send(get("/big"));
        if (round % 3 == 0) {
            reading.fill();
        }
        reading.reset();
    }
    RawClient gated(port());
    gated.send(get("/gate"));
    ASSERT_TRUE(gate_.wait_for_waiting(1));
    gated.reset();
    gate_.open();
    EXPECT_EQ(ask(get("/ok"))->status, 200);
}

TEST_P(Server, NeverSendsAnAnswerToTheNextOwnerOfADescriptor) {
    start({.worker_threads = 4});
    for (int round = 0; round < 50; ++round) {
        RawClient gone(port());
        gone.send(get("/gate"));
        if (round == 0) {
            ASSERT_TRUE(gate_.wait_for_waiting(1));
            gone.reset();
            RawClient next(port());  // gets the descriptor number just freed
            next.send(get("/echo/mine"));
            gate_.open();
            EXPECT_EQ(json_of(*next.response()).string_or("target"), "/echo/mine");
            EXPECT_TRUE(next.silent_for(30));
            continue;
        }
        gone.reset();
        RawClient next(port());
        next.send(get("/echo/mine"));
        const auto response = next.response();
        ASSERT_TRUE(response);
        EXPECT_EQ(json_of(*response).string_or("target"), "/echo/mine");
    }
}

TEST_P(Server, DrainStopsAcceptingFinishesWorkAndClosesIdleConnections) {
    start();
    RawClient idle(port());
    idle.send(get("/ok"));
    EXPECT_EQ(idle.response()->status, 200);
    RawClient busy(port());
    busy.send(get("/gate"));
    ASSERT_TRUE(gate_.wait_for_waiting(1));

    Result<void> drained;
    std::thread drainer([&] { drained = server_->drain(10'000); });
    EXPECT_TRUE(idle.closed_by_server());
    EXPECT_FALSE(RawClient(port()).connected());
    gate_.open();
    const auto last = busy.response();
    ASSERT_TRUE(last);
    EXPECT_EQ(last->body, "opened");
    EXPECT_TRUE(last->headers.list_has("Connection", "close"));
    EXPECT_TRUE(busy.closed_by_server());
    busy.reset();
    drainer.join();
    EXPECT_TRUE(drained.ok()) << drained.error().text();
}

TEST_P(Server, DrainGivesUpAtItsDeadline) {
    start();
    RawClient busy(port());
    busy.send(get("/gate"));
    ASSERT_TRUE(gate_.wait_for_waiting(1));
    const auto drained = server_->drain(50);
    ASSERT_FALSE(drained.ok());
    EXPECT_EQ(drained.error().code, ErrorCode::Timeout);
}

TEST_P(Server, ServesManyConnectionsOnSeveralLoops) {
    start({.io_threads = 3, .worker_threads = 4});
    std::vector<std::unique_ptr<RawClient>> clients;
    for (int index = 0; index < 60; ++index) {
        clients.push_back(std::make_unique<RawClient>(port()));
        clients.back()->send(get("/echo/" + std::to_string(index)));
    }
    for (int index = 0; index < 60; ++index) {
        const auto response = clients[static_cast<size_t>(index)]->response();
        ASSERT_TRUE(response) << index;
        EXPECT_EQ(json_of(*response).string_or("target"), "/echo/" + std::to_string(index));
    }
}

TEST_P(Server, SaysWhoHasThePort) {
    start();
    auto second =
        GetParam() == ServerKind::Pistache
            ? make_pistache_server({.port = port()}, make_router(), {clock_, random_, metrics_})
            : make_beast_server({.port = port()}, make_router(), {clock_, random_, metrics_});
    ASSERT_TRUE(second.ok());
    const auto started = second.value()->start();
    ASSERT_FALSE(started.ok());
    EXPECT_NE(started.error().message.find(std::to_string(port())), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Both, Server, ::testing::Values(ServerKind::Pistache, ServerKind::Beast),
                         [](const auto& kind) {
                             return kind.param == ServerKind::Pistache ? "Pistache" : "Beast";
                         });

}  // namespace
}  // namespace kumoi::api
