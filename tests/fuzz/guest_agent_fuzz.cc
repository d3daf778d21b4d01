// Fuzzes the client of the QEMU guest agent: any bytes are what a guest says. An odd first byte
// stands for an agent that answers the first question right, so that the rest is read as answers.

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <thread>

#include "base/assert.h"
#include "base/fd.h"
#include "base/file.h"
#include "compute/driver/guest_agent.h"

using namespace kumoi;
using namespace kumoi::compute;

namespace {

constexpr uint64_t kSeed = 7;

struct Guest {
    Guest() {
        path = folder.path() + "/agent";
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        KUMOI_ASSERT(path.size() < sizeof address.sun_path);
        std::memcpy(address.sun_path, path.data(), path.size());
        listener = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        KUMOI_ASSERT(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address),
                            sizeof address) == 0);
        KUMOI_ASSERT(::listen(listener.get(), 1) == 0);
    }
    // Everything at once, then no more; what it is asked it does not read.
    void say(const std::string& bytes) const {
        const UniqueFd client(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        (void)write_all(client.get(), std::as_bytes(std::span(bytes)));
        ::shutdown(client.get(), SHUT_WR);
        char asked[4096];
        while (::recv(client.get(), asked, sizeof asked, 0) > 0) {
        }
    }

    TemporaryDirectory folder = TemporaryDirectory::create("guest-agent-fuzz").value();
    std::string path;
    UniqueFd listener;
};

std::string right_answer() {
    SeededRandom random(kSeed);
    const auto number = static_cast<int64_t>(random.next() >> 33);
    return "\xff{\"return\": " + std::to_string(number) + "}\n";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const Guest guest;
    if (size == 0 || size > 200'000) {
        return 0;
    }
    std::string bytes = data[0] % 2 == 1 ? right_answer() : "";
    bytes.append(reinterpret_cast<const char*>(data + 1), size - 1);
    std::thread speaker([&] { guest.say(bytes); });
    {
        SeededRandom random(kSeed);
        auto agent = GuestAgent::connect(
            guest.path, {.sync_timeout_ms = 5'000, .command_timeout_ms = 5'000}, random);
        if (agent.ok()) {
            (void)agent->is_frozen();
            const auto frozen = agent->freeze();
            KUMOI_ASSERT(!frozen.ok() || *frozen >= 0);
            (void)agent->set_user_password("root", "secret");
            (void)agent->thaw();
        }
    }
    speaker.join();
    return 0;
}
