#include "compute/clients/http_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <mutex>
#include <vector>

namespace kumoi::clients {
namespace {

struct EasyDeleter {
    void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
using Easy = std::unique_ptr<CURL, EasyDeleter>;

struct ListDeleter {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using List = std::unique_ptr<curl_slist, ListDeleter>;

// "http://host:port" of a URL: what a connection belongs to.
std::string origin_of(const std::string& url) {
    const size_t scheme = url.find("://");
    return scheme == std::string::npos ? url : url.substr(0, url.find_first_of("/?#", scheme + 3));
}

// What curl's callbacks see of one send(). Lives on its stack.
struct Exchange {
    const HttpRequest& request;
    const HttpClientOptions& options;
    HttpReply reply = {};
    size_t header_bytes = 0;
    uint64_t source_offset = 0;
    bool head_told = false;
    std::optional<Error> failure = {};  // of source, sink or a limit: wins over curl's own error
};

void take_status_line(Exchange& exchange, std::string_view line) {
    exchange.reply = {};  // an interim reply (100 Continue) came before
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) {
        return;
    }
    for (const char digit : line.substr(space + 1, 3)) {
        if (digit >= '0' && digit <= '9') {
            exchange.reply.status = exchange.reply.status * 10 + (digit - '0');
        }
    }
}

std::string_view trim_blanks(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
        text.remove_prefix(1);
    }
    while (!text.empty() && (static_cast<unsigned char>(text.back()) <= ' ')) {
        text.remove_suffix(1);
    }
    return text;
}

size_t on_header(char* data, size_t size, size_t count, void* context) {
    auto& exchange = *static_cast<Exchange*>(context);
    const std::string_view line(data, size * count);
    exchange.header_bytes += line.size();
    if (exchange.header_bytes > exchange.options.reply_header_bytes_max) {
        exchange.failure =
            Error::too_large("The reply of {} has more than {} bytes of headers",
                             exchange.request.url, exchange.options.reply_header_bytes_max);
        return 0;
    }
    if (line.starts_with("HTTP/")) {
        take_status_line(exchange, line);
    } else if (const size_t colon = line.find(':'); colon != std::string_view::npos) {
        exchange.reply.headers.add(std::string(trim_blanks(line.substr(0, colon))),
                                   std::string(trim_blanks(line.substr(colon + 1))));
    }
    return line.size();
}

Result<void> give_to_sink(Exchange& exchange, std::span<const std::byte> bytes) {
    if (!exchange.head_told && exchange.request.head != nullptr) {
        exchange.head_told = true;
        TRY(exchange.request.head(exchange.reply.status, exchange.reply.headers));
    }
    return exchange.request.sink(bytes);
}

size_t on_body(char* data, size_t size, size_t count, void* context) {
    auto& exchange = *static_cast<Exchange*>(context);
    const size_t bytes = size * count;
    if (exchange.request.sink != nullptr && exchange.reply.ok()) {
        auto taken = give_to_sink(exchange, std::as_bytes(std::span(data, bytes)));
        if (!taken.ok()) {
            exchange.failure = std::move(taken).error();
            return 0;
        }
        return bytes;
    }
    if (exchange.reply.body.size() + bytes > exchange.options.reply_bytes_max) {
        exchange.failure = Error::too_large("The reply of {} has more than {} bytes",
                                            exchange.request.url, exchange.options.reply_bytes_max);
        return 0;
    }
    exchange.reply.body.append(data, bytes);
    return bytes;
}

size_t on_source(char* data, size_t size, size_t count, void* context) {
    auto& exchange = *static_cast<Exchange*>(context);
    auto given = exchange.request.source(std::as_writable_bytes(std::span(data, size * count)),
                                         exchange.source_offset);
    if (!given.ok()) {
        exchange.failure = std::move(given).error();
        return CURL_READFUNC_ABORT;
    }
    exchange.source_offset += given.value();
    return given.value();
}

size_t on_body_read(char* data, size_t size, size_t count, void* context) {
    auto& exchange = *static_cast<Exchange*>(context);
    const std::string& body = exchange.request.body;
    const size_t given = std::min(size * count, body.size() - exchange.source_offset);
    std::memcpy(data, body.data() + exchange.source_offset, given);
    exchange.source_offset += given;
    return given;
}

// curl asks for it when a kept connection turned out to be dead: it begins again on a new one.
int on_seek(void* context, curl_off_t offset, int origin) {
    if (origin != SEEK_SET || offset < 0) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    static_cast<Exchange*>(context)->source_offset = static_cast<uint64_t>(offset);
    return CURL_SEEKFUNC_OK;
}

Error to_error(CURLcode code, const char* detail, const std::string& url) {
    const std::string text = *detail != '\0' ? detail : curl_easy_strerror(code);
    switch (code) {
        case CURLE_OPERATION_TIMEDOUT: return Error::timeout("No reply from {}: {}", url, text);
        case CURLE_URL_MALFORMAT:
        case CURLE_UNSUPPORTED_PROTOCOL:
            return Error::invalid("'{}' is no usable URL: {}", url, text);
        case CURLE_OUT_OF_MEMORY: return Error::exhausted("No memory for a request to {}", url);
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_CONNECT:
        case CURLE_SSL_CONNECT_ERROR:
            return Error::unavailable("Can't connect to {}: {}", url, text)
                .with_hint("check that the service runs and that its endpoint is right")
                .with_fault(kConnectFailure);
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CERTPROBLEM:
            return Error::unavailable("Can't trust {}: {}", url, text)
                .with_hint("check cafile, certfile and keyfile of this service's section");
        default: return Error::unavailable("The connection to {} broke: {}", url, text);
    }
}

void set_limits(CURL* handle, const HttpClientOptions& options, const HttpRequest& request) {
    const bool streams = request.source != nullptr || request.sink != nullptr;
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_PROXY, "");
    curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(handle, CURLOPT_MAXCONNECTS, 4L);
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS,
                     static_cast<long>(options.connect_timeout_ms));
    curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS,
                     static_cast<long>(request.timeout_ms.value_or(options.timeout_ms)));
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME,
                     static_cast<long>(std::max<int64_t>(1, options.stall_timeout_ms / 1000)));
    curl_easy_setopt(handle, CURLOPT_USERAGENT, options.user_agent.c_str());
    if (streams) {
        curl_easy_setopt(handle, CURLOPT_BUFFERSIZE, 512L * 1024);
        curl_easy_setopt(handle, CURLOPT_UPLOAD_BUFFERSIZE, 512L * 1024);
    }
}

void set_tls(CURL* handle, const TlsOptions& tls) {
    if (!tls.ca_file.empty()) {
        curl_easy_setopt(handle, CURLOPT_CAINFO, tls.ca_file.c_str());
    }
    if (!tls.cert_file.empty()) {
        curl_easy_setopt(handle, CURLOPT_SSLCERT, tls.cert_file.c_str());
        curl_easy_setopt(handle, CURLOPT_SSLKEY,
                         (tls.key_file.empty() ? tls.cert_file : tls.key_file).c_str());
    }
    if (tls.insecure) {
        curl_easy_setopt(handle, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(handle, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

void set_method_and_body(CURL* handle, const HttpRequest& request, Exchange& exchange) {
    if (request.source != nullptr) {
        curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(handle, CURLOPT_READFUNCTION, on_source);
        curl_easy_setopt(handle, CURLOPT_READDATA, &exchange);
        curl_easy_setopt(handle, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(handle, CURLOPT_SEEKDATA, &exchange);
        curl_easy_setopt(handle, CURLOPT_INFILESIZE_LARGE,
                         static_cast<curl_off_t>(request.source_length
                                                     ? static_cast<int64_t>(*request.source_length)
                                                     : -1));
    } else if (request.method == "POST" || request.method == "PATCH") {
        // curl itself repeats a request that a kept connection swallowed. One with effects may have
        // had them: as its body can't be rewound, it fails instead.
        curl_easy_setopt(handle, CURLOPT_POST, 1L);
        curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE,
                         static_cast<curl_off_t>(request.body.size()));
        curl_easy_setopt(handle, CURLOPT_READFUNCTION, on_body_read);
        curl_easy_setopt(handle, CURLOPT_READDATA, &exchange);
    } else if (!request.body.empty() || request.method == "PUT") {
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

void set_callbacks(CURL* handle, Exchange& exchange, char* detail) {
    curl_easy_setopt(handle, CURLOPT_URL, exchange.request.url.c_str());
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(handle, CURLOPT_HEADERDATA, &exchange);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, &exchange);
}

bool is_token_text(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char letter) {
        return letter > ' ' && letter < 0x7f && letter != ':';
    });
}

bool is_value_text(std::string_view text) {
    return std::none_of(text.begin(), text.end(), [](unsigned char letter) {
        return (letter < ' ' && letter != '\t') || letter == 0x7f;
    });
}

bool append(List& list, const std::string& line) {
    curl_slist* longer = curl_slist_append(list.get(), line.c_str());
    if (longer != nullptr) {
        [[maybe_unused]] auto* const moved = list.release();
        list.reset(longer);
    }
    return longer != nullptr;
}

Result<List> make_headers(const HttpRequest& request) {
    List list;
    for (const auto& [name, value] : request.headers.fields()) {
        if (!is_token_text(name) || !is_value_text(value)) {
            return Error::invalid("The header {} can't be sent: its name or value is malformed",
                                  name);
        }
        // curl drops "Name:" and sends an empty value for "Name;".
        if (!append(list, value.empty() ? name + ";" : fmt::format("{}: {}", name, value))) {
            return Error::exhausted("No memory for request headers");
        }
    }
    // curl would add these by itself: no waiting for a 100, and no form type for a body of ours.
    append(list, "Expect:");
    if (!request.headers.has("Content-Type")) {
        append(list, "Content-Type:");
    }
    return list;
}

}  // namespace

struct HttpClient::Pool {
    struct Idle {
        Easy handle;
        std::string origin;  // the last host it spoke to
    };

    Easy take(const std::string& origin) {
        const std::lock_guard lock(mutex);
        if (idle.empty()) {
            return nullptr;
        }
        auto found = std::find_if(idle.rbegin(), idle.rend(),
                                  [&](const Idle& one) { return one.origin == origin; });
        const auto place = found == idle.rend() ? std::prev(idle.end()) : std::prev(found.base());
        Easy handle = std::move(place->handle);
        idle.erase(place);
        return handle;
    }
    void give_back(Easy handle, std::string origin, size_t count_max) {
        const std::lock_guard lock(mutex);
        if (idle.size() < count_max) {
            idle.push_back({std::move(handle), std::move(origin)});
        }
    }

    std::mutex mutex;
    std::vector<Idle> idle;
    std::atomic<uint64_t> connections_opened{0};
};

HttpClient::HttpClient(HttpClientOptions options)
    : options_(std::move(options)), pool_(std::make_unique<Pool>()) {
    static std::once_flag once;
    std::call_once(once, [] {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        // OpenSSL writes to sockets without MSG_NOSIGNAL: a peer that hangs up must not end us.
        std::signal(SIGPIPE, SIG_IGN);
    });
}

HttpClient::~HttpClient() = default;

uint64_t HttpClient::connections_opened() const {
    return pool_->connections_opened.load();
}

Result<HttpReply> HttpClient::send(const HttpRequest& request) {
    if (!is_token_text(request.method)) {
        return Error::invalid("'{}' is no HTTP method", request.method);
    }
    const List headers = TRY(make_headers(request));
    const std::string origin = origin_of(request.url);
    Easy handle = pool_->take(origin);
    if (handle == nullptr) {
        handle.reset(curl_easy_init());
    }
    if (handle == nullptr) {
        return Error::exhausted("No memory for an HTTP client");
    }
    curl_easy_reset(handle.get());  // options only: connections stay open
    Exchange exchange{.request = request, .options = options_};
    char detail[CURL_ERROR_SIZE] = "";
    set_limits(handle.get(), options_, request);
    set_tls(handle.get(), options_.tls);
    set_method_and_body(handle.get(), request, exchange);
    set_callbacks(handle.get(), exchange, detail);
    curl_easy_setopt(handle.get(), CURLOPT_HTTPHEADER, headers.get());
    const CURLcode code = curl_easy_perform(handle.get());
    long opened = 0;
    curl_easy_getinfo(handle.get(), CURLINFO_NUM_CONNECTS, &opened);
    pool_->connections_opened += static_cast<uint64_t>(std::max(0L, opened));
    curl_easy_reset(handle.get());  // it may keep no pointer to this stack
    pool_->give_back(std::move(handle), origin, options_.idle_handles_max);
    if (exchange.failure) {
        return std::move(*exchange.failure);
    }
    // A refusal that came before our upload was over is a reply, not a failure.
    const bool answered_early = code == CURLE_SEND_ERROR && exchange.reply.status >= 400;
    if (code != CURLE_OK && !answered_early) {
        return to_error(code, detail, request.url);
    }
    return std::move(exchange.reply);
}

}  // namespace kumoi::clients
