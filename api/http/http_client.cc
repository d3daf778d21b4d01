#include "api/http/http_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

namespace kumoi::api {
namespace {

struct EasyDeleter {
    void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
using Easy = std::unique_ptr<CURL, EasyDeleter>;

struct ListDeleter {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using List = std::unique_ptr<curl_slist, ListDeleter>;

// What curl's callbacks see of one send(). Lives on its stack.
struct Exchange {
    const HttpRequest& request;
    size_t response_bytes_max;
    HttpResponse response;
    std::optional<Error> failure;  // of a source, a sink or a limit: wins over curl's own error

    void parse_status(std::string_view line) {
        response = {};  // an interim answer (100 Continue) came before
        const size_t space = line.find(' ');
        if (space != std::string_view::npos) {
            for (char digit : line.substr(space + 1, 3)) {
                response.status = response.status * 10 + (digit - '0');
            }
        }
    }
};

size_t on_header(char* data, size_t size, size_t count, void* context) {
    auto& exchange = *static_cast<Exchange*>(context);
    std::string_view line(data, size * count);
    while (line.ends_with('\n') || line.ends_with('\r')) {
        line.remove_suffix(1);
    }
    if (line.starts_with("HTTP/")) {
        exchange.parse_status(line);
    } else if (const size_t colon = line.find(':'); colon != std::string_view::npos) {
        exchange.response.headers.add(std::string(line.substr(0, colon)),
                                      std::string(trim(line.substr(colon + 1))));
    }
    return size * count;
}

size_t on_body(char* data, size_t size, size_t count, void* context) {
    auto& exchange = *static_cast<Exchange*>(context);
    const size_t bytes = size * count;
    if (exchange.request.sink != nullptr && exchange.response.ok()) {
        auto taken = exchange.request.sink(std::as_bytes(std::span(data, bytes)));
        if (!taken.ok()) {
            exchange.failure = std::move(taken).error();
            return 0;
        }
        return bytes;
    }
    if (exchange.response.body.size() + bytes > exchange.response_bytes_max) {
        exchange.failure = Error::too_large("The answer of {} has more than {} bytes",
                                            exchange.request.url, exchange.response_bytes_max);
        return 0;
    }
    exchange.response.body.append(data, bytes);
    return bytes;
}

size_t on_source(char* data, size_t size, size_t count, void* context) {
    auto& exchange = *static_cast<Exchange*>(context);
    auto given = exchange.request.source(std::as_writable_bytes(std::span(data, size * count)));
    if (!given.ok()) {
        exchange.failure = std::move(given).error();
        return CURL_READFUNC_ABORT;
    }
    return given.value();
}

Error to_error(CURLcode code, const char* detail, const std::string& url) {
    const std::string text = *detail != '\0' ? detail : curl_easy_strerror(code);
    switch (code) {
        case CURLE_OPERATION_TIMEDOUT: return Error::timeout("No answer from {}: {}", url, text);
        case CURLE_URL_MALFORMAT:
        case CURLE_UNSUPPORTED_PROTOCOL:
            return Error::invalid("'{}' is no usable URL: {}", url, text);
        case CURLE_OUT_OF_MEMORY: return Error::exhausted("No memory for a request to {}", url);
        default:
            return Error::unavailable("No answer from {}: {}", url, text)
                .with_hint("check that the service runs and that the address is right");
    }
}

void set_limits(CURL* handle, const HttpClientOptions& options, const HttpRequest& request) {
    const int64_t timeout_ms = request.timeout_ms.value_or(options.timeout_ms);
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_PROXY, "");
    curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS,
                     static_cast<long>(options.connect_timeout_ms));
    curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout_ms));
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME,
                     static_cast<long>(std::max<int64_t>(1, options.stall_timeout_ms / 1000)));
    curl_easy_setopt(handle, CURLOPT_USERAGENT, options.user_agent.c_str());
    curl_easy_setopt(handle, CURLOPT_BUFFERSIZE, 256L * 1024);
    curl_easy_setopt(handle, CURLOPT_UPLOAD_BUFFERSIZE, 256L * 1024);
    if (!options.ca_file.empty()) {
        curl_easy_setopt(handle, CURLOPT_CAINFO, options.ca_file.c_str());
    }
}

void set_method_and_body(CURL* handle, const HttpRequest& request, Exchange& exchange) {
    if (request.source != nullptr) {
        curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(handle, CURLOPT_READFUNCTION, on_source);
        curl_easy_setopt(handle, CURLOPT_READDATA, &exchange);
        curl_easy_setopt(handle, CURLOPT_INFILESIZE_LARGE,
                         static_cast<curl_off_t>(request.source_length
                                                     ? static_cast<int64_t>(*request.source_length)
                                                     : -1));
    } else if (!request.body.empty() || request.method == "POST" || request.method == "PUT" ||
               request.method == "PATCH") {
        curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE,
                         static_cast<curl_off_t>(request.body.size()));
        curl_easy_setopt(handle, CURLOPT_POSTFIELDS, request.body.c_str());
    }
    if (request.method == "HEAD") {
        curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
    } else {
        curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    }
}

Result<List> make_headers(const HttpRequest& request) {
    List list;
    const auto append = [&](const std::string& line) {
        curl_slist* longer = curl_slist_append(list.get(), line.c_str());
        if (longer != nullptr) {
            [[maybe_unused]] auto* const moved = list.release();
            list.reset(longer);
        }
        return longer != nullptr;
    };
    for (const auto& [name, value] : request.headers) {
        if (!valid_header_name(name) || !valid_header_value(value)) {
            return Error::invalid("The header {} can't be sent: its name or value is malformed",
                                  name);
        }
        // curl drops "Name:" and sends an empty value for "Name;".
        if (!append(value.empty() ? name + ";" : fmt::format("{}: {}", name, value))) {
            return Error::exhausted("No memory for request headers");
        }
    }
    // curl would add these two by itself and change what the caller asked for.
    if (!request.headers.has("Expect") && request.source == nullptr) {
        append("Expect:");
    }
    if (!request.headers.has("Content-Type")) {
        append("Content-Type:");
    }
    return list;
}

}  // namespace

struct HttpClient::Pool {
    std::mutex mutex;
    std::vector<Easy> idle;
};

HttpClient::HttpClient(HttpClientOptions options)
    : options_(std::move(options)), pool_(std::make_unique<Pool>()) {
    static std::once_flag once;
    std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

HttpClient::~HttpClient() = default;

Result<HttpResponse> HttpClient::send(const HttpRequest& request) {
    if (!valid_header_name(request.method)) {
        return Error::invalid("'{}' is no HTTP method", request.method);
    }
    Easy handle;
    {
        const std::lock_guard lock(pool_->mutex);
        if (!pool_->idle.empty()) {
            handle = std::move(pool_->idle.back());
            pool_->idle.pop_back();
        }
    }
    if (handle == nullptr) {
        handle.reset(curl_easy_init());
    }
    if (handle == nullptr) {
        return Error::exhausted("No memory for an HTTP client");
    }
    curl_easy_reset(handle.get());  // options only: connections stay open
    const List headers = TRY(make_headers(request));
    Exchange exchange{request, options_.response_bytes_max, {}, std::nullopt};
    char detail[CURL_ERROR_SIZE] = "";
    set_limits(handle.get(), options_, request);
    set_method_and_body(handle.get(), request, exchange);
    curl_easy_setopt(handle.get(), CURLOPT_URL, request.url.c_str());
    curl_easy_setopt(handle.get(), CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(handle.get(), CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(handle.get(), CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(handle.get(), CURLOPT_HEADERDATA, &exchange);
    curl_easy_setopt(handle.get(), CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(handle.get(), CURLOPT_WRITEDATA, &exchange);
    const CURLcode code = curl_easy_perform(handle.get());
    curl_easy_setopt(handle.get(), CURLOPT_ERRORBUFFER, nullptr);
    {
        const std::lock_guard lock(pool_->mutex);
        if (pool_->idle.size() < options_.idle_handles_max) {
            pool_->idle.push_back(std::move(handle));
        }
    }
    if (exchange.failure) {
        return std::move(*exchange.failure);
    }
    // A refusal that came before our upload was over is an answer, not a failure.
    const bool answered_early = code == CURLE_SEND_ERROR && exchange.response.status >= 400;
    if (code != CURLE_OK && !answered_early) {
        return to_error(code, detail, request.url);
    }
    return std::move(exchange.response);
}

}  // namespace kumoi::api
