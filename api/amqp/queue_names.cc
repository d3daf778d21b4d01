#include "api/amqp/queue_names.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <charconv>

#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "base/uuid.h"

namespace kumoi::amqp {
namespace {

constexpr size_t kStartTimeField = 20;  // of /proc/PID/stat, counted behind the command's name

// When the leader of a process group started: tells a new group from an old one of the same number.
std::string start_time_of(pid_t leader) {
    const auto stat = read_file(fmt::format("/proc/{}/stat", leader), 4096);
    if (!stat.ok()) {
        return "0";
    }
    size_t at = stat->rfind(')');
    for (size_t field = 0; field < kStartTimeField && at != std::string::npos; ++field) {
        at = stat->find(' ', at + 1);
    }
    return at == std::string::npos ? "0" : stat->substr(at + 1, stat->find(' ', at + 1) - at - 1);
}

// "group:counter:start time"; the counter begins anew when another group wrote it.
uint64_t next_counter(std::string_view content, const std::string& group,
                      const std::string& start) {
    const size_t first = content.find(':');
    const size_t second = first == std::string_view::npos ? first : content.find(':', first + 1);
    if (second == std::string_view::npos || content.substr(0, first) != group ||
        content.substr(second + 1) != start) {
        return 1;
    }
    uint64_t counter = 0;
    std::from_chars(content.data() + first + 1, content.data() + second, counter);
    return counter + 1;
}

Result<uint64_t> count_up(const std::string& path) {
    const UniqueFd file = TRY(open_file(path, O_RDWR | O_CREAT, 0600));
    if (::flock(file.get(), LOCK_EX) != 0) {
        return Error::from_errno(errno, fmt::format("locking {}", path));
    }
    std::array<std::byte, 256> bytes{};
    const size_t size = TRY(pread_some(file.get(), bytes, 0));
    std::string_view content(reinterpret_cast<const char*>(bytes.data()), size);
    while (!content.empty() && content.back() <= ' ') {
        content.remove_suffix(1);
    }
    const std::string group = std::to_string(::getpgrp());
    const std::string start = start_time_of(::getpgrp());
    const uint64_t counter = next_counter(content, group, start);
    const std::string fresh = fmt::format("{}:{}:{}", group, counter, start);
    TRY(pwrite_all(file.get(), std::as_bytes(std::span(fresh)), 0));
    if (::ftruncate(file.get(), static_cast<off_t>(fresh.size())) != 0) {
        return Error::from_errno(errno, fmt::format("shortening {}", path));
    }
    return counter;
}

}  // namespace

std::string host_name(const AmqpOptions& options) {
    if (!options.hostname.empty()) {
        return options.hostname;
    }
    std::array<char, 256> name{};
    return ::gethostname(name.data(), name.size() - 1) == 0 ? std::string(name.data())
                                                            : "localhost";
}

std::string process_name(const AmqpOptions& options) {
    return options.processname.empty() ? "nova-compute" : options.processname;
}

std::string managed_queue_name(const AmqpOptions& options, const std::string& folder) {
    const std::string host = host_name(options);
    const std::string process = process_name(options);
    const std::string path = fmt::format("{}/{}_{}_qmanager", folder, host, process);
    const auto counter = count_up(path);
    if (!counter.ok()) {
        log_error("amqp", "no repeatable queue name; using a random one",
                  {{"error", counter.error().text()}});
        SystemRandom random;
        return Uuid::generate(random).hex();
    }
    return fmt::format("{}:{}:{}", host, process, *counter);
}

}  // namespace kumoi::amqp
