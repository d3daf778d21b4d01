#include "api/http/router.h"

#include <gtest/gtest.h>

namespace kumoi::api {
namespace {

Handler says(std::string text) {
    return [text](Request& request) {
        Reply reply = Reply::text(text);
        for (const auto& [name, value] : request.parameters) {
            reply.body += " " + name + "=" + value;
        }
        return reply;
    };
}

Reply ask(const Router& router, std::string_view method, std::string_view target) {
    Request request = make_request(method, target);
    return router.handle(request);
}

Router servers() {
    Router router;
    router.get("/v2.1/servers", says("list"));
    router.post("/v2.1/servers", says("create"));
    router.get("/v2.1/servers/detail", says("detail"));
    router.get("/v2.1/servers/{server_id}", says("show"));
    router.del("/v2.1/servers/{server_id}", says("delete"));
    router.get("/v2.1/servers/{server_id}/ips/{label}", says("ips"));
    router.get("/static/{path...}", says("static"));
    return router;
}

TEST(Router, PrefersLiteralsOverParametersAndFallsBack) {
    const Router router = servers();
    EXPECT_EQ(ask(router, "GET", "/v2.1/servers/detail").body, "detail");
    EXPECT_EQ(ask(router, "GET", "/v2.1/servers/abc").body, "show server_id=abc");
    // "detail" has no DELETE, the parameter route does.
    EXPECT_EQ(ask(router, "DELETE", "/v2.1/servers/detail").body, "delete server_id=detail");
    EXPECT_EQ(ask(router, "GET", "/v2.1/servers/detail/ips/net").body,
              "ips server_id=detail label=net");
}

TEST(Router, DecodesParametersAndRefusesEmptyOnes) {
    const Router router = servers();
    EXPECT_EQ(ask(router, "GET", "/v2.1/servers/a%2Fb%20c").body, "show server_id=a/b c");
    EXPECT_EQ(ask(router, "GET", "/v2.1/servers//ips/x").status, 404);
}

TEST(Router, AcceptsATrailingSlash) {
    const Router router = servers();
    EXPECT_EQ(ask(router, "GET", "/v2.1/servers/").body, "list");
    EXPECT_EQ(ask(router, "GET", "/v2.1/servers/x/").body, "show server_id=x");
}

TEST(Router, MatchesTheRestOfAPath) {
    const Router router = servers();
    EXPECT_EQ(ask(router, "GET", "/static/a/b/c.js").body, "static path=a/b/c.js");
    EXPECT_EQ(ask(router, "GET", "/static").body, "static path=");
}

TEST(Router, TellsWrongMethodFromUnknownPath) {
    const Router router = servers();
    const Reply refused = ask(router, "PATCH", "/v2.1/servers");
    EXPECT_EQ(refused.status, 405);
    EXPECT_EQ(refused.headers.first("Allow"), "GET, HEAD, POST, OPTIONS");
    EXPECT_EQ(ask(router, "GET", "/v2.1").status, 404);
    EXPECT_EQ(ask(router, "GET", "/").status, 404);
    EXPECT_EQ(ask(router, "OPTIONS", "/v2.1/servers").status, 204);
    EXPECT_EQ(ask(router, "HEAD", "/v2.1/servers").body, "list");
}

TEST(Router, RunsMiddlewareOutsideInAlsoForUnknownPaths) {
    Router router = servers();
    std::string trace;
    router.use([&](Request& request, const Handler& next) {
        trace += "(" + request.route;
        Reply reply = next(request);
        trace += ")";
        return reply;
    });
    router.use([&](Request& request, const Handler& next) {
        trace += "[";
        request.attach<int>(7);
        Reply reply = next(request);
        trace += "]";
        return reply;
    });
    EXPECT_EQ(ask(router, "GET", "/v2.1/servers").status, 200);
    EXPECT_EQ(ask(router, "GET", "/nowhere").status, 404);
    EXPECT_EQ(trace, "(/v2.1/servers[])([])");
}

TEST(Router, LetsMiddlewareAnswerByItself) {
    Router router = servers();
    router.use([](Request&, const Handler&) { return Reply::with_status(401); });
    EXPECT_EQ(ask(router, "GET", "/v2.1/servers").status, 401);
}

TEST(Router, TurnsExceptionsIntoThePlain500OfTheRenderer) {
    Router router;
    router.get("/a", [](Request&) -> Reply { throw std::runtime_error("secret"); });
    router.set_error_renderer([](const HttpRefusal& refusal, const Request*) {
        return Reply::text("fault: " + refusal.message, refusal.status);
    });
    const Reply reply = ask(router, "GET", "/a");
    EXPECT_EQ(reply.status, 500);
    EXPECT_TRUE(reply.body.starts_with("fault: "));
    EXPECT_EQ(reply.body.find("secret"), std::string::npos);
}

TEST(Router, KnowsStreamingRoutes) {
    Router router = servers();
    EXPECT_FALSE(router.has_streams());
    router.put_stream("/images/{id}/file",
                      [](Request&, BodyReader&) { return Reply::no_content(); });
    EXPECT_TRUE(router.is_stream(make_request("PUT", "/images/1/file")));
    EXPECT_FALSE(router.is_stream(make_request("GET", "/images/1/file")));
}

TEST(Router, DiesOnPatternsThatAreMistakes) {
    Router router = servers();
    EXPECT_DEATH(router.get("no-slash", says("")), "");
    EXPECT_DEATH(router.get("/v2.1/servers", says("")), "");
    EXPECT_DEATH(router.get("/{rest...}/more", says("")), "");
    EXPECT_DEATH(router.get("/{a}/{a}", says("")), "");
}

TEST(Request, AttachmentsAreOnePerType) {
    Request request = make_request("GET", "/");
    EXPECT_EQ(request.attachment<std::string>(), nullptr);
    request.attach<std::string>("first");
    request.attach<int>(1);
    request.attach<std::string>("second");
    EXPECT_EQ(*request.attachment<std::string>(), "second");
    EXPECT_EQ(request.attachments.size(), 2u);
}

}  // namespace
}  // namespace kumoi::api
