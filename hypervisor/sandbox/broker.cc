#include "hypervisor/sandbox/broker.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

namespace kumoi::hypervisor {

namespace {

enum class Operation : uint32_t {
    Open,
    Tap,
    Listen,
    ListenTcp,
    Connect,
    Made,
    Connector,
    PortConnector
};

struct RequestHeader {
    Operation operation;
    uint32_t flags;  // of open(2); several queues; a port
    uint32_t mode;
};
struct AnswerHeader {
    uint32_t good;
    uint32_t code;  // ErrorCode
};
constexpr size_t kNameMax = 4096;
constexpr size_t kTextMax = 4096;  // of an error

constexpr int kFlagsAllowed = O_ACCMODE | O_APPEND | O_DIRECT | O_DSYNC | O_SYNC | O_NONBLOCK |
                              O_CREAT | O_CLOEXEC | O_LARGEFILE;
constexpr std::string_view kDevices[] = {"/dev/kvm", "/dev/vhost-net", "/dev/userfaultfd"};
constexpr int kBackingDepthMax = 64;

template <class Header>
std::string message_of(const Header& header, std::string_view text) {
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    bytes += text;
    return bytes;
}

bool send_message(int socket, const std::string& bytes, int descriptor, int flags = 0) {
    iovec vector{const_cast<char*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (descriptor >= 0) {
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    }
    return ::sendmsg(socket, &message, MSG_NOSIGNAL | flags) == static_cast<ssize_t>(bytes.size());
}

Result<UniqueFd> receive_answer(int socket, const std::string& name) {
    std::array<char, sizeof(AnswerHeader) + kTextMax> buffer;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    iovec vector{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t count = -1;
    do {
        count = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (count < 0 && errno == EINTR);
    UniqueFd fd;
    if (const cmsghdr* header = CMSG_FIRSTHDR(&message);
        header != nullptr && header->cmsg_type == SCM_RIGHTS) {
        int passed = -1;
        std::memcpy(&passed, CMSG_DATA(header), sizeof passed);
        fd.reset(passed);
    }
    if (count < static_cast<ssize_t>(sizeof(AnswerHeader))) {
        return Error::unavailable("the launcher is gone; {} cannot be opened", name);
    }
    AnswerHeader answer;
    std::memcpy(&answer, buffer.data(), sizeof answer);
    if (answer.good == 0 || !fd.is_open()) {
        return Error{
            static_cast<ErrorCode>(answer.code),
            std::string(buffer.data() + sizeof answer, static_cast<size_t>(count) - sizeof answer),
            {},
            {}};
    }
    return fd;
}

Result<UniqueFd> ask(int socket, Operation operation, uint32_t flags, uint32_t mode,
                     const std::string& name) {
    if (socket < 0) {
        return Error::not_found("the sandbox was given no descriptor for {}", name)
            .with_hint("while the guest runs they come with their request on the control socket");
    }
    if (name.empty() || name.size() > kNameMax ||
        !send_message(socket, message_of(RequestHeader{operation, flags, mode}, name), -1)) {
        return Error::unavailable("the launcher cannot be asked for {}", name);
    }
    return receive_answer(socket, name);
}

FileSource::PortConnector connector_over(UniqueFd socket, const std::string& path) {
    const auto channel = std::make_shared<UniqueFd>(std::move(socket));  // a function is copied
    return [channel, path](uint32_t port) -> Result<UniqueFd> {
        if (!send_message(channel->get(), message_of(port, ""), -1)) {
            return Error::unavailable("the launcher cannot be asked to connect to {}", path);
        }
        return receive_answer(channel->get(), path);
    };
}

Result<void> check_file(const UniqueFd& fd, const std::string& path) {
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) {
        return Error::from_errno(errno, "looking at " + path);
    }
    if (S_ISDIR(status.st_mode)) {
        return Error::invalid("{} is a directory", path);
    }
    return {};
}

void add_strings(const Json& json, const std::string& base, std::set<std::string>& names) {
    if (json.is_string()) {
        const std::string& text = json.as_string();
        if (!text.empty() && text.size() <= kNameMax) {
            names.insert(text);
            names.insert((std::filesystem::path(base) / text).lexically_normal().string());
        }
    } else if (json.is_array()) {
        for (const Json& item : json.as_array()) {
            add_strings(item, base, names);
        }
    } else if (json.is_object()) {
        for (const auto& [key, value] : json.as_object()) {
            add_strings(value, base, names);
        }
    }
}

// Objects with "format": "qcow2" and a "path", wherever they are.
void add_qcow2(const Json& json, const std::string& base, std::vector<std::string>& images) {
    if (json.is_array()) {
        for (const Json& item : json.as_array()) {
            add_qcow2(item, base, images);
        }
    } else if (json.is_object()) {
        if (json.string_or("format", "") == "qcow2" && !json.string_or("path", "").empty()) {
            images.push_back(
                (std::filesystem::path(base) / json.string_or("path", "")).lexically_normal());
        }
        for (const auto& [key, value] : json.as_object()) {
            add_qcow2(value, base, images);
        }
    }
}

uint64_t big_endian(std::span<const std::byte> bytes) {
    uint64_t value = 0;
    for (const std::byte byte : bytes) {
        value = value << 8 | static_cast<uint64_t>(byte);
    }
    return value;
}

}  // namespace

Result<UniqueFd> BrokerFiles::open(const std::string& path, int flags, unsigned mode) {
    return ask(fd(), Operation::Open, static_cast<uint32_t>(flags), mode, path);
}

Result<UniqueFd> BrokerFiles::open_tap(const std::string& interface, bool multi_queue) {
    return ask(fd(), Operation::Tap, multi_queue ? 1 : 0, 0, interface);
}

Result<UniqueFd> BrokerFiles::listen(const std::string& path, unsigned mode) {
    return ask(fd(), Operation::Listen, 0, mode, path);
}

Result<UniqueFd> BrokerFiles::listen_tcp(const std::string& host, uint16_t port) {
    return ask(fd(), Operation::ListenTcp, port, 0, host);
}

Result<UniqueFd> BrokerFiles::connect(const std::string& path) {
    return ask(fd(), Operation::Connect, 0, 0, path);
}

Result<FileSource::Connector> BrokerFiles::connector(const std::string& path) {
    return Connector([connect = connector_over(TRY(ask(fd(), Operation::Connector, 0, 0, path)),
                                               path)] { return connect(0); });
}

Result<FileSource::PortConnector> BrokerFiles::port_connector(const std::string& path) {
    return connector_over(TRY(ask(fd(), Operation::PortConnector, 0, 0, path)), path);
}

void BrokerFiles::machine_made() {
    if (socket_.is_open()) {
        send_message(fd(), message_of(RequestHeader{Operation::Made, 0, 0}, ""), -1);
        socket_.reset();
    }
}

BrokerRules broker_rules(const Json& config, const std::string& base_directory) {
    BrokerRules rules;
    add_strings(config, base_directory, rules.names);
    add_qcow2(config, base_directory, rules.qcow2);
    for (const std::string_view device : kDevices) {
        rules.names.emplace(device);
    }
    return rules;
}

// The sandboxed process may be anybody's by now: its request is checked like a stranger's.
Result<UniqueFd> BrokerServer::open_for(std::string_view request) {
    RequestHeader header;
    std::memcpy(&header, request.data(), sizeof header);
    const std::string name(request.substr(sizeof header));
    const auto flags = static_cast<int>(header.flags);
    const bool only_read = (flags & O_ACCMODE) == O_RDONLY && (flags & O_CREAT) == 0;
    if (!is_named(name) &&
        !(header.operation == Operation::Open && only_read && is_backing_file(name))) {
        return Error::forbidden("{} is not named by the machine's configuration", name);
    }
    switch (header.operation) {
        case Operation::Open: {
            if ((flags & ~kFlagsAllowed) != 0) {
                return Error::forbidden("opening {} with flags {:#x}", name, flags);
            }
            UniqueFd fd = TRY(files_.open(name, flags, header.mode & 0666));
            TRY(check_file(fd, name));
            return fd;
        }
        case Operation::Tap: return files_.open_tap(name, header.flags != 0);
        case Operation::Listen: {
            UniqueFd fd = TRY(files_.listen(name, header.mode & 0666));
            sockets_.push_back(name);
            return fd;
        }
        case Operation::ListenTcp: return files_.listen_tcp(name, static_cast<uint16_t>(flags));
        case Operation::Connect: return files_.connect(name);
        case Operation::Connector: {
            const auto connect = TRY(files_.connector(name));
            return make_connector([connect](uint32_t /*port*/) { return connect(); });
        }
        case Operation::PortConnector: return make_connector(TRY(files_.port_connector(name)));
        default: return Error::invalid("an unknown request");
    }
}

Result<UniqueFd> BrokerServer::make_connector(FileSource::PortConnector connect) {
    int ends[2];
    if (connectors_.size() >= kConnectorsMax) {
        return Error::exhausted("{} connectors are made already", connectors_.size());
    }
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return Error::from_errno(errno, "making a connector");
    }
    connectors_.push_back({UniqueFd(ends[0]), std::move(connect)});
    return UniqueFd(ends[1]);
}

bool BrokerServer::serve(const ConnectorEnd& connector) {
    uint32_t port = 0;
    if (::recv(connector.socket.get(), &port, sizeof port, MSG_DONTWAIT) !=
        static_cast<ssize_t>(sizeof port)) {
        return false;
    }
    reply(connector.socket.get(), connector.connect(port));
    return true;
}

// One who does not read his answers loses them: the launcher waits for nobody.
void BrokerServer::reply(int socket, const Result<UniqueFd>& fd) {
    if (fd) {
        send_message(socket, message_of(AnswerHeader{1, 0}, ""), fd->get(), MSG_DONTWAIT);
        return;
    }
    const std::string text = fd.error().text().substr(0, kTextMax);
    send_message(socket, message_of(AnswerHeader{0, static_cast<uint32_t>(fd.error().code)}, text),
                 -1, MSG_DONTWAIT);
}

BrokerServer::After BrokerServer::serve(int socket) {
    std::array<char, sizeof(RequestHeader) + kNameMax> buffer;
    const ssize_t count = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (count < static_cast<ssize_t>(sizeof(RequestHeader))) {
        return After::Closed;
    }
    RequestHeader header;
    std::memcpy(&header, buffer.data(), sizeof header);
    if (header.operation == Operation::Made) {
        return After::Made;
    }
    reply(socket, open_for({buffer.data(), static_cast<size_t>(count)}));
    return After::Goes;
}

bool BrokerServer::is_backing_file(const std::string& path) const {
    for (std::string image : rules_.qcow2) {
        for (int depth = 0; depth < kBackingDepthMax; ++depth) {
            const auto backing = qcow2_backing_path(image);
            if (!backing || backing->empty()) {
                break;
            }
            if (*backing == path) {
                return true;
            }
            image = *backing;
        }
    }
    return false;
}

// QEMU docs/interop/qcow2.rst: magic, version, offset and length of the backing file name.
Result<std::string> qcow2_backing_path(const std::string& image) {
    constexpr uint64_t kMagic = 0x5146'49fb;
    constexpr size_t kHeaderSize = 20;
    constexpr uint64_t kBackingNameMax = 1023;
    const UniqueFd fd = TRY(open_file(image, O_RDONLY | O_NONBLOCK));
    std::array<std::byte, kHeaderSize> header;
    if (TRY(pread_some(fd.get(), header, 0)) != header.size() ||
        big_endian(std::span(header).first<4>()) != kMagic) {
        return std::string();
    }
    const uint64_t offset = big_endian(std::span(header).subspan<8, 8>());
    const uint64_t size = big_endian(std::span(header).subspan<16, 4>());
    if (offset == 0 || size == 0) {
        return std::string();
    }
    if (size > kBackingNameMax || offset > INT64_MAX - size) {
        return Error::corrupt("{} has a backing file name of {} bytes at {}", image, size, offset);
    }
    std::string name(size, '\0');
    if (TRY(pread_some(fd.get(), std::as_writable_bytes(std::span(name)), offset)) != size ||
        name.find('\0') != std::string::npos) {
        return Error::corrupt("the backing file name of {} is cut off", image);
    }
    return (std::filesystem::path(image).parent_path() / name).lexically_normal().string();
}

}  // namespace kumoi::hypervisor
