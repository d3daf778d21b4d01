#include "api/http/router.h"

#include <algorithm>

#include "base/assert.h"
#include "base/log.h"

namespace kumoi::api {

struct Router::Endpoint {
    std::string pattern;
    std::vector<std::string> parameter_names;  // in path order
    Handler handler;
    StreamHandler stream;
};

struct Router::Node {
    std::map<std::string, std::unique_ptr<Node>, std::less<>> literals;
    std::unique_ptr<Node> parameter;
    std::unique_ptr<Node> rest;                              // "{name...}": always last
    std::map<std::string, Endpoint, std::less<>> endpoints;  // by method
};

struct Router::Match {
    const Endpoint* endpoint = nullptr;  // of the method, or of GET for HEAD
    const Node* node = nullptr;          // the path is known, whatever the method
    std::vector<std::string> values;
};

namespace {

std::vector<std::string_view> split_pattern(std::string_view pattern) {
    KUMOI_ASSERT(pattern.starts_with('/'));
    std::vector<std::string_view> parts;
    pattern.remove_prefix(1);
    while (!pattern.empty()) {
        const size_t slash = pattern.find('/');
        parts.push_back(pattern.substr(0, slash));
        KUMOI_ASSERT(!parts.back().empty());
        pattern = slash == std::string_view::npos ? std::string_view() : pattern.substr(slash + 1);
    }
    return parts;
}

bool serves(const auto& node, std::string_view method) {
    return node.endpoints.find(method) != node.endpoints.end() ||
           (method == "HEAD" && node.endpoints.find("GET") != node.endpoints.end());
}

// Depth-first: literal, then parameter, then rest; a node that serves the method beats one that
// only knows the path. The depth is bounded by kPathSegmentCountMax and each step by the patterns.
template <class Node>
const Node* find_node(const Node& node, const std::vector<std::string>& segments, size_t index,
                      std::string_view method, std::vector<std::string>& values,
                      const Node*& path_only) {
    const auto accept = [&](const Node& candidate) -> const Node* {
        if (candidate.endpoints.empty()) {
            return nullptr;
        }
        if (serves(candidate, method)) {
            return &candidate;
        }
        path_only = path_only == nullptr ? &candidate : path_only;
        return nullptr;
    };
    if (index == segments.size()) {
        if (const Node* found = accept(node)) {
            return found;
        }
    } else {
        if (auto literal = node.literals.find(segments[index]); literal != node.literals.end()) {
            if (const Node* found =
                    find_node(*literal->second, segments, index + 1, method, values, path_only)) {
                return found;
            }
        }
        if (node.parameter != nullptr && !segments[index].empty()) {
            values.push_back(segments[index]);
            if (const Node* found =
                    find_node(*node.parameter, segments, index + 1, method, values, path_only)) {
                return found;
            }
            values.pop_back();
        }
    }
    if (node.rest == nullptr) {
        return nullptr;
    }
    std::string joined;
    for (size_t position = index; position < segments.size(); ++position) {
        joined += (position == index ? "" : "/") + segments[position];
    }
    values.push_back(std::move(joined));
    if (const Node* found = accept(*node.rest)) {
        return found;
    }
    values.pop_back();
    return nullptr;
}

std::string allowed_methods(const auto& node) {
    std::string allow;
    const auto append = [&](std::string_view method) {
        allow += allow.empty() ? "" : ", ";
        allow += method;
    };
    for (const auto& [method, endpoint] : node.endpoints) {
        append(method);
        if (method == "GET" && node.endpoints.find("HEAD") == node.endpoints.end()) {
            append("HEAD");
        }
    }
    if (node.endpoints.find("OPTIONS") == node.endpoints.end()) {
        append("OPTIONS");
    }
    return allow;
}

}  // namespace

Router::Router() : root_(std::make_unique<Node>()), render_error_(render_plain_error) {}
Router::~Router() = default;
Router::Router(Router&&) noexcept = default;
Router& Router::operator=(Router&&) noexcept = default;

void Router::add(std::string_view method, std::string_view pattern, Handler handler) {
    KUMOI_ASSERT(handler != nullptr);
    insert(method, pattern, std::move(handler), nullptr);
}

void Router::add_stream(std::string_view method, std::string_view pattern, StreamHandler handler) {
    KUMOI_ASSERT(handler != nullptr);
    insert(method, pattern, nullptr, std::move(handler));
    has_streams_ = true;
}

void Router::insert(std::string_view method, std::string_view pattern, Handler handler,
                    StreamHandler stream) {
    Endpoint endpoint;
    endpoint.pattern = pattern;
    endpoint.handler = std::move(handler);
    endpoint.stream = std::move(stream);
    Node& node = node_for(pattern, endpoint.parameter_names);
    KUMOI_ASSERT(valid_header_name(method));
    const bool is_new = node.endpoints.emplace(std::string(method), std::move(endpoint)).second;
    KUMOI_ASSERT(is_new);
    routes_.push_back(std::string(method) + " " + std::string(pattern));
}

Router::Node& Router::node_for(std::string_view pattern, std::vector<std::string>& names) {
    const auto child = [](std::unique_ptr<Node>& slot) {
        if (slot == nullptr) {
            slot = std::make_unique<Node>();
        }
        return slot.get();
    };
    Node* node = root_.get();
    bool ended = false;
    for (std::string_view part : split_pattern(pattern)) {
        KUMOI_ASSERT(!ended);  // "{name...}" stands last
        if (!part.starts_with('{')) {
            node = child(node->literals[std::string(part)]);
            continue;
        }
        KUMOI_ASSERT(part.ends_with('}'));
        part = part.substr(1, part.size() - 2);
        ended = part.ends_with("...");
        node = child(ended ? node->rest : node->parameter);
        names.emplace_back(ended ? part.substr(0, part.size() - 3) : part);
        KUMOI_ASSERT(!names.back().empty());
        KUMOI_ASSERT(std::count(names.begin(), names.end(), names.back()) == 1);
    }
    return *node;
}

void Router::use(Middleware middleware) {
    KUMOI_ASSERT(middleware != nullptr);
    middleware_.push_back(std::move(middleware));
}

void Router::set_error_renderer(ErrorRenderer renderer) {
    KUMOI_ASSERT(renderer != nullptr);
    render_error_ = std::move(renderer);
}

Router::Match Router::match(const Request& request) const {
    Match match;
    const Node* path_only = nullptr;
    match.node = find_node(*root_, request.segments, 0, request.method, match.values, path_only);
    if (match.node == nullptr) {
        match.node = path_only;
        match.values.clear();
        return match;
    }
    auto found = match.node->endpoints.find(request.method);
    if (found == match.node->endpoints.end()) {
        found = match.node->endpoints.find("GET");
    }
    match.endpoint = &found->second;
    return match;
}

bool Router::is_stream(const Request& request) const {
    if (!has_streams_) {
        return false;
    }
    const Match found = match(request);
    return found.endpoint != nullptr && found.endpoint->stream != nullptr;
}

Reply Router::handle(Request& request, BodyReader* body) const {
    const Match found = match(request);
    if (found.endpoint != nullptr) {
        request.route = found.endpoint->pattern;
        request.parameters.clear();
        for (size_t index = 0; index < found.values.size(); ++index) {
            request.parameters.emplace_back(found.endpoint->parameter_names[index],
                                            found.values[index]);
        }
    }
    try {
        return run_chain(request, 0, [&](Request& inner) { return dispatch(inner, found, body); });
    } catch (const std::exception& exception) {
        log_error(
            "http", "handler threw",
            {{"method", request.method}, {"route", request.route}, {"what", exception.what()}});
    } catch (...) {
        log_error("http", "handler threw something that is no std::exception",
                  {{"method", request.method}, {"route", request.route}});
    }
    return render_error(500,
                        "The server has either erred or is incapable of performing the requested "
                        "operation.",
                        &request);
}

Reply Router::dispatch(Request& request, const Match& match, BodyReader* body) const {
    if (match.endpoint != nullptr) {
        if (match.endpoint->handler != nullptr) {
            return match.endpoint->handler(request);
        }
        KUMOI_ASSERT(body != nullptr);  // servers ask is_stream() first
        return match.endpoint->stream(request, *body);
    }
    if (request.method == "OPTIONS" && request.path == "*") {
        return Reply::no_content().with_header("Allow",
                                               "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    }
    if (match.node == nullptr) {
        return render_error(404, "The resource could not be found.", &request);
    }
    std::string allow = allowed_methods(*match.node);
    if (request.method == "OPTIONS") {
        return Reply::no_content().with_header("Allow", std::move(allow));
    }
    return render_error(405,
                        "The method " + request.method +
                            " is not allowed for this resource; allowed are " + allow + ".",
                        &request)
        .with_header("Allow", allow);
}

Reply Router::run_chain(Request& request, size_t index, const Handler& last) const {
    if (index == middleware_.size()) {
        return last(request);
    }
    return middleware_[index](request,
                              [&](Request& inner) { return run_chain(inner, index + 1, last); });
}

Reply Router::render_error(int status, std::string message, const Request* request) const {
    try {
        return render_error_({status, std::move(message)}, request);
    } catch (...) {
        log_error("http", "the error renderer threw", {{"status", status}});
        return Reply::with_status(status);
    }
}

std::vector<std::string> Router::list() const {
    std::vector<std::string> sorted = routes_;
    std::sort(sorted.begin(), sorted.end());
    return sorted;
}

Request make_request(std::string_view method, std::string_view target, std::string body,
                     const HeaderMap& headers) {
    Result<Target> parsed = parse_target(target);
    KUMOI_ASSERT(parsed.ok());
    Request request;
    request.method = method;
    request.raw_target = target;
    request.path = std::move(parsed->path);
    request.segments = std::move(parsed->segments);
    request.query = std::move(parsed->query);
    request.headers = headers;
    request.body = std::move(body);
    request.peer_address = "127.0.0.1:40000";
    request.local_address = "127.0.0.1:8774";
    request.request_id = "req-00000000-0000-4000-8000-000000000000";
    return request;
}

}  // namespace kumoi::api
