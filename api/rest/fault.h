// fault: Error to HTTP answer, in the body shape of each OpenStack API. The only place that maps
// error codes and fault names to statuses. Pure functions (they log what is our own failure); any
// thread.
//
//     router.set_error_renderer(fault_renderer(ApiShape::Nova));
//     router.get("/v2.1/servers/{id}", answer(ApiShape::Nova, [&](Request& r) -> Result<Reply> {
//         auto server = TRY(conductor.get(...));          // an Error becomes the fault reply
//         return Reply::json(...);
//     }));
//
// Status by code: InvalidArgument 400, Unauthenticated 401, Forbidden 403, NotFound 404, Conflict
// and Cancelled 409, TooLarge 413, Exhausted 403 (quota; Neutron 409, Glance 413), Unavailable 503,
// Timeout 504, Unsupported 501, the rest 500. Error::fault may override it: NotAcceptable 406,
// MethodNotAllowed 405, Gone 410, PreconditionFailed 412, UnsupportedMediaType 415,
// TooManyRequests 429, OverLimit 413, NoValidHost 503 (table in fault.cc).
// The text of a 500 goes to the log, never to the client.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "api/http/reply.h"
#include "api/http/request.h"
#include "api/http/router.h"
#include "base/result.h"

namespace kumoi::api {

// Nova:     {"itemNotFound": {"code": 404, "message": "..."}}
// Keystone: {"error": {"code": 404, "message": "...", "title": "Not Found"}}
// Neutron:  {"NeutronError": {"type": "NetworkNotFound", "message": "...", "detail": ""}}
// Glance:   an HTML page with the message, as its WSGI errors
// Placement: {"errors": [{"status": 404, "title": ..., "detail": ..., "request_id": ...}]}
enum class ApiShape { Nova, Keystone, Neutron, Glance, Placement };

int http_status(ApiShape shape, const Error& error);
// `request` may be nullptr; it adds the request id where the shape has a place for it.
Reply fault_reply(ApiShape shape, const Error& error, const Request* request = nullptr);
// For a status that no Error stands for. `type`: the fault's own name, used by Neutron.
Reply fault_body(ApiShape shape, int status, std::string_view message, std::string_view type = {},
                 const Request* request = nullptr);

// What the HTTP layer refuses by itself, in this API's shape.
ErrorRenderer fault_renderer(ApiShape shape);

using ResultHandler = std::function<Result<Reply>(Request& request)>;
using ResultStreamHandler = std::function<Result<Reply>(Request& request, BodyReader& body)>;
// A handler whose errors become fault replies.
Handler answer(ApiShape shape, ResultHandler handler);
StreamHandler answer_stream(ApiShape shape, ResultStreamHandler handler);

}  // namespace kumoi::api
