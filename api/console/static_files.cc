#include "api/console/static_files.h"

#include <array>
#include <optional>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api/http/url.h"
#include "base/fd.h"

namespace kumoi::api {

namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kTypes{{
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".json", "application/json"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".ico", "image/x-icon"},
    {".woff", "font/woff"},
    {".oga", "audio/ogg"},
    {".mp3", "audio/mpeg"},
}};

std::string_view type_of(std::string_view path) {
    for (const auto& [ending, type] : kTypes) {
        if (path.ends_with(ending)) {
            return type;
        }
    }
    return "application/octet-stream";
}

std::string reply(std::string_view status, std::string_view type, std::string_view body,
                  bool head_only) {
    std::string out = fmt::format(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n"
        "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
        "Cache-Control: no-cache\r\n\r\n",
        status, type, body.size());
    if (!head_only) {
        out += body;
    }
    return out;
}

std::string plain(std::string_view status, std::string_view text, bool head_only) {
    return reply(status, "text/plain; charset=utf-8", fmt::format("{}\n", text), head_only);
}

// `path` is relative; the kernel keeps it below the folder.
std::optional<std::string> read_below(const std::string& folder, const std::string& path) {
    const UniqueFd root(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    open_how how{};
    how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    const UniqueFd file(
        static_cast<int>(::syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof how)));
    struct stat status {};
    if (!file.is_open() || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
        static_cast<uint64_t>(status.st_size) > StaticFiles::kFileSizeMax) {
        return std::nullopt;
    }
    std::string content(static_cast<size_t>(status.st_size), '\0');
    size_t size = 0;
    while (size < content.size()) {
        const ssize_t count = ::read(file.get(), content.data() + size, content.size() - size);
        if (count <= 0) {
            return std::nullopt;
        }
        size += static_cast<size_t>(count);
    }
    return content;
}

}  // namespace

std::string StaticFiles::answer(std::string_view request) const {
    const std::string_view line = request.substr(0, request.find("\r\n"));
    const size_t first = line.find(' ');
    const size_t last = line.rfind(' ');
    if (first == std::string_view::npos || first == last ||
        !line.substr(last + 1).starts_with("HTTP/1.")) {
        return plain("400 Bad Request", "This is no HTTP request.", false);
    }
    const std::string_view method = line.substr(0, first);
    const bool head_only = method == "HEAD";
    if (method != "GET" && !head_only) {
        return plain("405 Method Not Allowed", "Only GET and HEAD are answered here.", false);
    }
    const auto target = parse_target(line.substr(first + 1, last - first - 1));
    if (!target) {
        return plain("400 Bad Request", target.error().message, head_only);
    }
    std::string path;
    for (const std::string& segment : target->segments) {
        path += (path.empty() ? "" : "/") + segment;
    }
    if (!path.empty()) {
        if (const auto content = read_below(folder_, path)) {
            return reply("200 OK", type_of(path), *content, head_only);
        }
    }
    return plain("404 Not Found",
                 fmt::format("There is no such file in {} of the console proxy. noVNC's pages come "
                             "with the Debian package novnc; the WebSocket is at /?token=TOKEN.",
                             folder_),
                 head_only);
}

}  // namespace kumoi::api
