// Bytes over a connection of a live migration on loopback: as it is, and through kumoi-relay on
// both sides (TLS 1.3, two more copies and two processes), with 1 and 2 streams, in turns, best of
// three. Prints one line each. usage: link_bench [MIB]; kumoi-relay is found beside it.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "migration/link/relay.h"
#include "tests/support/programs.h"

namespace {

using namespace kumoi;        // NOLINT: one program
using namespace kumoi::link;  // NOLINT
using Clock = std::chrono::steady_clock;

constexpr size_t kPiece = 1 << 20;

struct Ends {
    std::vector<UniqueFd> source;
    std::vector<UniqueFd> destination;
};

LinkStream end_of(int socket) {
    tune_stream(socket, 10'000);
    return {UniqueFd(socket), std::string(kTlsSecretSize, 's')};
}

Ends connect(size_t streams, Encryption encryption) {
    const UniqueFd listener = listen_tcp({}).value();
    std::vector<LinkStream> near;
    std::vector<LinkStream> far;
    for (size_t i = 0; i < streams; ++i) {
        near.push_back(end_of(
            connect_tcp("127.0.0.1", local_port(listener.get()).value(), 5000).value().release()));
        pollfd ready{listener.get(), POLLIN, 0};
        ::poll(&ready, 1, -1);
        far.push_back(end_of(::accept(listener.get(), nullptr, nullptr)));
    }
    RelayOptions options;
    options.program = built_program("kumoi-relay");
    Ends ends;
    std::thread other([&] {
        ends.destination =
            secure_streams(std::move(far), TlsRole::Server, encryption, options).value();
    });
    ends.source = secure_streams(std::move(near), TlsRole::Client, encryption, options).value();
    other.join();
    return ends;
}

void send_much(int socket, size_t bytes) {
    const std::vector<std::byte> piece(kPiece, std::byte{0x5a});
    for (size_t sent = 0; sent < bytes; sent += kPiece) {
        (void)write_all(socket, piece);
    }
}

void receive_much(int socket, size_t bytes) {
    std::vector<char> piece(kPiece);
    for (size_t got = 0; got < bytes;) {
        const ssize_t count = ::recv(socket, piece.data(), piece.size(), 0);
        if (count <= 0) {
            std::fprintf(stderr, "the stream ended after %zu bytes\n", got);
            std::exit(1);
        }
        got += static_cast<size_t>(count);
    }
}

double mib_per_s(size_t streams, Encryption encryption, size_t mib) {
    const Ends ends = connect(streams, encryption);
    const size_t each = (mib / streams) << 20;
    const auto begun = Clock::now();
    std::vector<std::thread> threads;
    for (size_t i = 0; i < streams; ++i) {
        threads.emplace_back([&, i] { send_much(ends.source[i].get(), each); });
        threads.emplace_back([&, i] { receive_much(ends.destination[i].get(), each); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    return static_cast<double>(mib) / std::chrono::duration<double>(Clock::now() - begun).count();
}

}  // namespace

int main(int argc, char** argv) {
    const size_t mib = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 512;
    ignore_broken_pipes();
    for (const size_t streams : {1u, 2u}) {
        double plain = 0;
        double relayed = 0;
        for (int run = 0; run < 3; ++run) {
            plain = std::max(plain, mib_per_s(streams, Encryption::None, mib));
            relayed = std::max(relayed, mib_per_s(streams, Encryption::Psk, mib));
        }
        std::printf("link_mib_per_s streams=%zu plain=%.0f relay=%.0f mib=%zu\n", streams, plain,
                    relayed, mib);
    }
    return 0;
}
