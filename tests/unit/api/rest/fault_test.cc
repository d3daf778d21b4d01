#include "api/rest/fault.h"

#include <gtest/gtest.h>

namespace kumoi::api {
namespace {

Json body_of(const Reply& reply) {
    return Json::parse(reply.body).value();
}

TEST(Fault, NovaNamesFollowTheStatus) {
    struct Row {
        Error error;
        int status;
        const char* name;
    };
    const std::vector<Row> rows{
        {Error::invalid("x"), 400, "badRequest"},
        {Error::unauthenticated("x"), 401, "unauthorized"},
        {Error::forbidden("x"), 403, "forbidden"},
        {Error::not_found("x"), 404, "itemNotFound"},
        {Error::conflict("x"), 409, "conflictingRequest"},
        {Error::too_large("x"), 413, "overLimit"},
        {Error::exhausted("x").with_fault("TooManyInstances"), 403, "forbidden"},
        {Error::exhausted("x").with_fault("NoValidHost"), 503, "serviceUnavailable"},
        {Error::unavailable("x"), 503, "serviceUnavailable"},
        {Error::unsupported("x"), 501, "notImplemented"},
        {Error::invalid("x").with_fault("NotAcceptable"), 406, "computeFault"},
        {Error::unavailable("x").with_fault("TooManyRequests"), 429, "overLimit"},
        {Error::internal("x"), 500, "computeFault"},
        {Error::io("x"), 500, "computeFault"},
    };
    for (const Row& row : rows) {
        const Reply reply = fault_reply(ApiShape::Nova, row.error);
        EXPECT_EQ(reply.status, row.status) << row.name;
        const Json body = body_of(reply);
        const Json* fault = body.find(row.name);
        ASSERT_NE(fault, nullptr) << row.name << ": " << reply.body;
        EXPECT_EQ(fault->integer_or("code"), row.status);
    }
}

TEST(Fault, EveryApiHasItsOwnShape) {
    const Error error = Error::not_found("Network n1 could not be found.")
                            .with_hint("List them.")
                            .with_fault("NetworkNotFound");
    const Json keystone = body_of(fault_reply(ApiShape::Keystone, error));
    EXPECT_EQ(keystone,
              Json::object(
                  {{"error", Json::object({{"code", 404},
                                           {"message", "Network n1 could not be found. List them."},
                                           {"title", "Not Found"}})}}));
    const Json neutron = body_of(fault_reply(ApiShape::Neutron, error));
    EXPECT_EQ(neutron.find("NeutronError")->string_or("type"), "NetworkNotFound");
    EXPECT_EQ(neutron.find("NeutronError")->string_or("detail", "absent"), "");
    Request request;
    request.request_id = "req-1";
    const Json placement = body_of(fault_reply(ApiShape::Placement, error, &request));
    EXPECT_EQ(placement.find("errors")->as_array().front().string_or("request_id"), "req-1");
}

TEST(Fault, GlancePagesEscapeWhatClientsSent) {
    const Reply reply =
        fault_reply(ApiShape::Glance, Error::not_found("No image <script>alert(\"&\")</script>."));
    EXPECT_EQ(reply.status, 404);
    EXPECT_EQ(reply.headers.first_or("Content-Type"), "text/html; charset=UTF-8");
    EXPECT_EQ(reply.body.find("<script>"), std::string::npos);
    EXPECT_NE(reply.body.find("&lt;script&gt;alert(&quot;&amp;&quot;)"), std::string::npos);
    EXPECT_NE(reply.body.find("<title>404 Not Found</title>"), std::string::npos);
}

TEST(Fault, OurOwnFailuresTellClientsNothingButTheRequestId) {
    Request request;
    request.request_id = "req-42";
    for (const ApiShape shape : {ApiShape::Nova, ApiShape::Keystone, ApiShape::Neutron,
                                 ApiShape::Glance, ApiShape::Placement}) {
        const Reply reply = fault_reply(shape, Error::corrupt("password_hash is s3cret"), &request);
        EXPECT_EQ(reply.status, 500);
        EXPECT_EQ(reply.body.find("s3cret"), std::string::npos);
        EXPECT_NE(reply.body.find("req-42"), std::string::npos);
    }
}

TEST(Fault, QuotaHasAnotherStatusInEachApi) {
    const Error over = Error::exhausted("Quota exceeded.").with_fault("OverQuota");
    EXPECT_EQ(http_status(ApiShape::Nova, over), 403);
    EXPECT_EQ(http_status(ApiShape::Neutron, over), 409);
    EXPECT_EQ(http_status(ApiShape::Glance, over), 413);
}

TEST(Fault, AnswerTurnsErrorsIntoReplies) {
    const Handler handler = answer(ApiShape::Nova, [](Request& request) -> Result<Reply> {
        if (request.query.has("fail")) {
            return Error::conflict("Server is locked.");
        }
        return Reply::accepted();
    });
    Request good = make_request("POST", "/x");
    EXPECT_EQ(handler(good).status, 202);
    Request bad = make_request("POST", "/x?fail");
    EXPECT_EQ(handler(bad).status, 409);
}

TEST(Fault, RefusalsOfTheHttpLayerTakeTheShapeToo) {
    Router router;
    router.set_error_renderer(fault_renderer(ApiShape::Nova));
    router.get("/known", [](Request&) { return Reply::ok(); });
    Request unknown = make_request("GET", "/unknown");
    EXPECT_NE(body_of(router.handle(unknown)).find("itemNotFound"), nullptr);
    Request wrong = make_request("DELETE", "/known");
    const Reply reply = router.handle(wrong);
    EXPECT_EQ(reply.status, 405);
    EXPECT_NE(body_of(reply).find("badMethod"), nullptr);
}

}  // namespace
}  // namespace kumoi::api
