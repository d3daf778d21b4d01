// Heritage: the descriptors of a running machine that can have one owner only, or are the machine:
// its memory, TAP queues, listening sockets, the file of its UEFI variables. A newer kumoi-vmm on
// the same host is made from them (docs/reference/live-upgrade.md).
//
//     heritage.remember("tap:tap0", fd)     // a duplicate, as long as the device is there
//     heritage.send(socket)                 // to the newer process: all of it, with what is known
//     heritage = TRY(Heritage::receive(...))// over there; take() by whoever makes the device
//
// Names are those of the control protocol's descriptors, "memory:NAME", and "kept:N". Loop thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace kumoi::hypervisor {

class Heritage {
public:
    static constexpr size_t kItemsMax = 250;  // the kernel passes 253 at once

    struct Item {
        std::string name;
        UniqueFd fd;
        std::optional<uint32_t> offloads;  // of a TAP: what its kernel can do
    };

    // For as long as this or its heir lives, or until it is forgotten. Those of one name keep their
    // order.
    void remember(std::string name, int fd);
    void remember_offloads(const std::string& name, uint32_t offloads);
    void forget(const std::string& name);

    const std::vector<Item>& items() const { return items_; }
    // Everything this machine has, to the process at the other end of a unix stream socket.
    Result<void> send(int socket) const;
    // What another process sends, within that time; nothing of it is believed: see check().
    static Result<std::vector<Item>> receive(int socket, int64_t timeout_ms);
    // Each must be what its name says.
    static Result<void> check(const Item& item);

    // Memory of that name: the inherited one, which must have this size, or a fresh file; closed on
    // exec, remembered.
    Result<UniqueFd> memory(const std::string& name, uint64_t size);
    // While the state is saved for a newer process, which has the memory already.
    void set_memory_stays(bool stays) { memory_stays_ = stays; }
    bool memory_stays() const { return memory_stays_; }

    // --- In the newer process ---
    void inherit(std::vector<Item> items) { inherited_ = std::move(items); }
    bool is_heir() const { return !inherited_.empty(); }
    // The first of that name that nobody has taken; closed: there is none.
    UniqueFd take(const std::string& name);
    bool inherited(const std::string& name) const;       // taken or not
    std::vector<std::string> inherited_sockets() const;  // paths of listening ones
    std::optional<uint32_t> inherited_offloads(const std::string& name) const;
    void close_rest();  // the machine is made

private:
    std::vector<Item> items_;
    std::vector<Item> inherited_;  // those that were taken stay, closed
    bool memory_stays_ = false;
};

constexpr std::string_view kKeptPrefix = "kept:";  // descriptors of --keep-fd
constexpr std::string_view kRamName = "memory:ram";

}  // namespace kumoi::hypervisor
