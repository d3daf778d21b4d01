// The launcher's side of the broker, asked by a machine that somebody else has taken over: whatever
// bytes come, nothing is opened but what the rules name, and nothing makes the launcher wait.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "hypervisor/sandbox/broker.h"

namespace kumoi::hypervisor {
namespace {

const BrokerRules kRules{{"/d", "/dev/kvm", "tap0", "127.0.0.1", "/s"}, {"/nowhere.qcow2"}};

// Opens nothing, and looks at what it is asked for.
class Witness final : public FileSource {
public:
    Result<UniqueFd> open(const std::string& path, int flags, unsigned mode) override {
        must(kRules.names.contains(path));
        must((flags & (O_TRUNC | O_DIRECTORY | O_PATH | O_TMPFILE)) == 0 && (mode & ~0666u) == 0);
        return descriptor();
    }
    Result<UniqueFd> open_tap(const std::string& interface, bool /*multi_queue*/) override {
        return named(interface);
    }
    Result<UniqueFd> listen(const std::string& path, unsigned mode) override {
        must((mode & ~0666u) == 0);
        return named(path);
    }
    Result<UniqueFd> listen_tcp(const std::string& host, uint16_t /*port*/) override {
        return named(host);
    }
    Result<UniqueFd> connect(const std::string& path) override { return named(path); }
    Result<Connector> connector(const std::string& path) override {
        must(kRules.names.contains(path));
        return Connector([] { return descriptor(); });
    }
    Result<PortConnector> port_connector(const std::string& path) override {
        must(kRules.names.contains(path));
        return PortConnector([](uint32_t port) {
            return port % 2 == 0 ? descriptor() : Result<UniqueFd>(Error::unavailable("{}", port));
        });
    }
    void remove_socket(const std::string& /*path*/) override {}

private:
    static void must(bool holds) {
        if (!holds) {
            std::abort();
        }
    }
    static Result<UniqueFd> descriptor() {
        return UniqueFd(::memfd_create("witness", MFD_CLOEXEC));
    }
    static Result<UniqueFd> named(const std::string& name) {
        must(kRules.names.contains(name));
        return descriptor();
    }
};

// One message: its length in two bytes, then its bytes. The high bit of the length: on a connector.
struct Piece {
    bool connector;
    std::span<const uint8_t> bytes;
};
Piece next_piece(std::span<const uint8_t>& input) {
    const size_t word = static_cast<size_t>(input[0]) | static_cast<size_t>(input[1]) << 8;
    input = input.subspan(2);
    const auto bytes = input.first(std::min<size_t>(word & 0x3fff, input.size()));
    input = input.subspan(bytes.size());
    return {(word & 0x8000) != 0, bytes};
}

// The machine's end of the newest connector, out of the answer that brought it.
UniqueFd take_descriptor(int socket) {
    char text[8192];
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    iovec vector{text, sizeof text};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0) {
        return {};
    }
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    int fd = -1;
    if (header != nullptr) {
        std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
    }
    return UniqueFd(fd);
}

void run(std::span<const uint8_t> input) {
    Witness files;
    BrokerServer broker(kRules, files);
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return;
    }
    const UniqueFd machine(ends[0]);
    const UniqueFd launcher(ends[1]);
    UniqueFd connector;
    while (input.size() > 2) {
        const auto [to_connector, bytes] = next_piece(input);
        const int to = to_connector ? connector.get() : machine.get();
        if (to < 0 || ::send(to, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            continue;
        }
        if (to_connector) {
            if (!broker.serve(broker.connectors().back())) {
                broker.connectors().pop_back();
                connector.reset();
            }
            continue;
        }
        const size_t before = broker.connectors().size();
        if (broker.serve(launcher.get()) != BrokerServer::After::Goes) {
            return;
        }
        UniqueFd answered = take_descriptor(machine.get());
        if (broker.connectors().size() > before) {
            connector = std::move(answered);
        }
    }
}

}  // namespace
}  // namespace kumoi::hypervisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    kumoi::hypervisor::run({data, size});
    return 0;
}
