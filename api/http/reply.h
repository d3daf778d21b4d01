// Reply: what a handler answers. The server adds Date, Content-Length, Connection and
// X-Openstack-Request-Id (unless the handler set that one); it drops the body for HEAD, 204 and
// 304.
//
//     return Reply::json(Json::object({{"server", view}}));                    // 200
//     return Reply::json(view, 202).with_header("Location", url);
//     return Reply::no_content();                                              // 204
//     return Reply::accepted();                                                // 202, empty
//     Reply reply = Reply::ok(); reply.headers.add("Set-Cookie", "a=1"); reply.headers.add(...);
//
// Error bodies differ between the OpenStack APIs, so api/rest renders them (Error -> Reply in one
// place per API). What the HTTP layer itself must refuse (404, 405, 413 ...) goes through the
// router's ErrorRenderer, so those bodies have the API's shape too.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "api/http/body.h"
#include "api/http/headers.h"
#include "base/json.h"

namespace kumoi::api {

struct Reply {
    int status = 200;
    HeaderMap headers;
    std::string body;

    // At most one of these instead of `body`; only replies of streaming routes may have one.
    std::optional<FileRange> file;
    BodySource source;
    std::optional<uint64_t> source_length;  // none: chunked (HTTP/1.1) or until close (HTTP/1.0)

    static Reply ok() { return {}; }
    static Reply json(const Json& body, int status = 200);
    static Reply text(std::string body, int status = 200,
                      std::string_view content_type = "text/plain; charset=UTF-8");
    static Reply with_status(int status);  // no body
    static Reply accepted() { return with_status(202); }
    static Reply no_content() { return with_status(204); }
    static Reply redirect(std::string location, int status = 302);
    static Reply from_file(FileRange range, std::string_view content_type);
    static Reply from_source(BodySource source, std::optional<uint64_t> length,
                             std::string_view content_type);

    Reply& set_header(std::string_view name, std::string value) &;
    Reply&& with_header(std::string_view name, std::string value) &&;

    bool streams() const { return file.has_value() || source != nullptr; }
};

// "Not Found"; "Unknown" for a status without registered phrase.
std::string_view reason_phrase(int status);

// What the HTTP layer refuses by itself. `message` is fit for clients: whole sentence, no
// internals.
struct HttpRefusal {
    int status = 500;
    std::string message;
};
struct Request;
// `request` is nullptr when there is none yet (broken head, too many connections).
using ErrorRenderer = std::function<Reply(const HttpRefusal& refusal, const Request* request)>;

// {"error": {"code": 404, "title": "Not Found", "message": "..."}}, as Keystone writes it.
Reply render_plain_error(const HttpRefusal& refusal, const Request* request);

}  // namespace kumoi::api
