// Router: method and path pattern to handler, behind a chain of middleware. Filled at start,
// immutable while serving; handle() may run on many threads at once.
//
//     Router router;
//     router.use(request_log);                                  // outermost first
//     router.use(authenticate);                                 // Reply(Request&, const Handler&
//     next) router.get("/v2.1/servers/detail", list_details);         // literal beats parameter
//     router.get("/v2.1/servers/{server_id}", show_server);     // one non-empty segment
//     router.post("/v2.1/servers/{server_id}/action", server_action);
//     router.get("/static/{path...}", static_file);             // the rest, may be empty, '/'
//     joined router.put_stream("/v2/images/{image_id}/file", upload);  // Reply(Request&,
//     BodyReader&); Beast only router.set_error_renderer(nova_fault);
//
// A trailing slash is accepted everywhere. HEAD runs the GET handler (the server drops the body).
// OPTIONS answers 204 with Allow. A known path with another method is 405 with Allow; all else is
// 404. Middleware runs for every request, also for those that end as 404 or 405; request.route and
// request.parameters are already set then (route is empty when nothing matched).
// A handler that throws is answered 500 without its text; the text goes to the log.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/http/body.h"
#include "api/http/reply.h"
#include "api/http/request.h"

namespace kumoi::api {

using Handler = std::function<Reply(Request& request)>;
using StreamHandler = std::function<Reply(Request& request, BodyReader& body)>;
using Middleware = std::function<Reply(Request& request, const Handler& next)>;

class Router {
public:
    Router();
    ~Router();
    Router(Router&&) noexcept;
    Router& operator=(Router&&) noexcept;

    // Asserts that the pattern is well formed and the pair (method, pattern) is new.
    void add(std::string_view method, std::string_view pattern, Handler handler);
    void add_stream(std::string_view method, std::string_view pattern, StreamHandler handler);
    void get(std::string_view pattern, Handler handler) { add("GET", pattern, std::move(handler)); }
    void post(std::string_view pattern, Handler handler) {
        add("POST", pattern, std::move(handler));
    }
    void put(std::string_view pattern, Handler handler) { add("PUT", pattern, std::move(handler)); }
    void patch(std::string_view pattern, Handler handler) {
        add("PATCH", pattern, std::move(handler));
    }
    void del(std::string_view pattern, Handler handler) {
        add("DELETE", pattern, std::move(handler));
    }
    void get_stream(std::string_view pattern, StreamHandler h) {
        add_stream("GET", pattern, std::move(h));
    }
    void put_stream(std::string_view pattern, StreamHandler h) {
        add_stream("PUT", pattern, std::move(h));
    }

    void use(Middleware middleware);
    void set_error_renderer(ErrorRenderer renderer);

    // True when the request belongs to a streaming route: its body must not be read before.
    bool is_stream(const Request& request) const;
    bool has_streams() const { return has_streams_; }
    // Sets route and parameters, runs middleware and handler. Never throws. `body` is needed for
    // streaming routes only. Unit tests of REST resources call this directly, without any server.
    Reply handle(Request& request, BodyReader* body = nullptr) const;
    Reply render_error(int status, std::string message, const Request* request) const;

    // Every "METHOD pattern", sorted; for documentation and tests.
    std::vector<std::string> list() const;

private:
    struct Endpoint;
    struct Node;
    struct Match;
    Node& node_for(std::string_view pattern, std::vector<std::string>& names);
    void insert(std::string_view method, std::string_view pattern, Handler handler,
                StreamHandler stream);
    Match match(const Request& request) const;
    Reply dispatch(Request& request, const Match& match, BodyReader* body) const;
    Reply run_chain(Request& request, size_t index, const Handler& last) const;

    std::unique_ptr<Node> root_;
    std::vector<Middleware> middleware_;
    ErrorRenderer render_error_;
    std::vector<std::string> routes_;
    bool has_streams_ = false;
};

// Builds the request a unit test wants: method, target ("/v2.1/servers?limit=2"), body, headers.
// Asserts that the target parses.
Request make_request(std::string_view method, std::string_view target, std::string body = {},
                     const HeaderMap& headers = {});

}  // namespace kumoi::api
