// VhostUserBackendFake: a vhost-user-blk back end on its own thread, with its disk in memory, on
// the far end of a socket pair. Tests set its knobs before start(), and may let it lie.
//
//     VhostUserBackendFake backend(disk_bytes);
//     auto connection = VhostUserConnection::over(backend.start(), {});
#pragma once

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "hypervisor/vhost_user/channel.h"

namespace kumoi::hypervisor {

class VhostUserBackendFake {
public:
    using Message = vhost_user::Message;
    using Request = vhost_user::Request;

    explicit VhostUserBackendFake(size_t disk_bytes = 1 << 20) : disk(disk_bytes) {}
    ~VhostUserBackendFake() { stop(); }

    UniqueFd start() {
        std::array<int, 2> pair{-1, -1};
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair.data()) !=
            0) {
            std::abort();
        }
        serve(UniqueFd(pair[0]));
        return UniqueFd(pair[1]);
    }
    void serve(UniqueFd socket) {
        stop();
        memory_.clear();
        rings_.clear();
        stop_fd_ = make_eventfd().value();
        channel_ = std::make_unique<vhost_user::MessageChannel>(std::move(socket), 5000, clock_);
        thread_ = std::thread([this] { run(); });
    }
    // Ends as a killed process does: what is in flight is lost, the socket closes.
    void stop() {
        if (thread_.joinable()) {
            const uint64_t one = 1;
            [[maybe_unused]] const ssize_t written = ::write(stop_fd_.get(), &one, sizeof(one));
            thread_.join();
        }
        channel_.reset();
    }
    // From the test's thread: tells the front end that the configuration has changed.
    void send_config_change(uint32_t flags = 0) {
        const std::lock_guard lock(mutex_);
        if (backend_channel_) {
            backend_channel_
                ->send(static_cast<uint32_t>(vhost_user::BackendRequest::ConfigChange), flags, {})
                .value();
        }
    }
    void set_capacity_sectors(uint64_t sectors) {
        const std::lock_guard lock(mutex_);
        std::memcpy(config.data(), &sectors, sizeof(sectors));
    }

    std::vector<std::byte> disk;
    uint64_t features =
        1ull << 30 | 1ull << 32 | 1ull << 28 | 1ull << 9 | 1ull << 12 | 1ull << 13 | 1ull << 14;
    uint64_t protocol_features = vhost_user::kProtocolMultiQueue | vhost_user::kProtocolReplyAck |
                                 vhost_user::kProtocolConfig | vhost_user::kProtocolBackendRequest |
                                 vhost_user::kProtocolInflight;
    uint64_t queue_count = 4;
    std::array<std::byte, 60> config{};
    // Called for each message; true: the test has answered (or wants silence), do nothing more.
    std::function<bool(vhost_user::MessageChannel&, const Message&)> intercept;
    // Takes requests from the rings and never completes them, like a back end that will be killed.
    std::atomic<bool> swallow{false};
    // As a network back end that sends every frame of a pair back on the same pair.
    bool loop_frames = false;
    std::atomic<uint64_t> swallowed{0};
    std::atomic<uint64_t> served{0};
    std::atomic<uint64_t> flushes{0};
    // When set, what goes into the used ring instead of the head.
    std::atomic<int> lie_about_head{-1};
    std::atomic<int> lie_about_used_index{-1};
    std::atomic<int> status_to_answer{0};

private:
    struct Region {
        vhost_user::MemoryTableEntry entry{};
        Mapping mapping;
    };
    struct Ring {
        uint32_t size = 0;
        uint16_t next = 0;
        vhost_user::RingAddress address{};
        UniqueFd kick;
        UniqueFd call;
        bool running = false;
    };
    struct Descriptor {
        uint64_t address;
        uint32_t length;
        uint16_t flags;
        uint16_t next;
    };

    void run() {
        while (true) {
            std::vector<pollfd> polled{{stop_fd_.get(), POLLIN, 0}, {channel_->fd(), POLLIN, 0}};
            std::vector<uint32_t> indexes;
            for (auto& [index, ring] : rings_) {
                if (ring.running && ring.kick.is_open()) {
                    polled.push_back({ring.kick.get(), POLLIN, 0});
                    indexes.push_back(index);
                }
            }
            ::poll(polled.data(), polled.size(), -1);
            if (polled[0].revents != 0) {
                return;
            }
            if (polled[1].revents != 0 && !take_message()) {
                return;
            }
            for (size_t i = 0; i < indexes.size(); ++i) {
                if (polled[i + 2].revents != 0) {
                    uint64_t count = 0;
                    [[maybe_unused]] const ssize_t size =
                        ::read(polled[i + 2].fd, &count, sizeof(count));
                    serve_ring(indexes[i]);
                }
            }
        }
    }

    template <class T>
    static T part(const Message& message, size_t at = 0) {
        T value{};
        std::memcpy(&value, message.payload.data() + at, sizeof(T));
        return value;
    }
    template <class T>
    void reply(const Message& message, const T& value) {
        (void)channel_->send(message.request, vhost_user::kFlagReply,
                             std::as_bytes(std::span(&value, 1)));
    }

    bool take_message() {
        auto received = channel_->receive();
        if (!received.ok()) {
            return false;
        }
        Message message = std::move(received).value();
        if (intercept && intercept(*channel_, message)) {
            return true;
        }
        if (!answer(message) && (message.flags & vhost_user::kFlagNeedReply) != 0) {
            reply(message, uint64_t{0});
        }
        return true;
    }

    // True: the message has its own answer.
    bool answer(Message& message) {
        switch (static_cast<Request>(message.request)) {
            case Request::GetFeatures: reply(message, features); return true;
            case Request::GetProtocolFeatures: reply(message, protocol_features); return true;
            case Request::GetQueueNum: reply(message, queue_count); return true;
            case Request::GetConfig: {
                const std::lock_guard lock(mutex_);
                std::vector<std::byte> bytes = message.payload;
                std::memcpy(bytes.data() + 12, config.data(),
                            std::min(config.size(), bytes.size() - 12));
                (void)channel_->send(message.request, vhost_user::kFlagReply, bytes);
                return true;
            }
            case Request::GetInflightFd: {
                auto description = part<vhost_user::InflightDescription>(message);
                description.mmap_size = 4096;
                const UniqueFd memory(::memfd_create("inflight", MFD_CLOEXEC));
                const std::array<int, 1> fds{memory.get()};
                (void)channel_->send(message.request, vhost_user::kFlagReply,
                                     std::as_bytes(std::span(&description, 1)), fds);
                return true;
            }
            case Request::GetVringBase: {
                auto state = part<vhost_user::RingState>(message);
                rings_[state.index].running = false;
                state.value = rings_[state.index].next;
                reply(message, state);
                return true;
            }
            case Request::SetBackendRequestFd: {
                const std::lock_guard lock(mutex_);
                backend_channel_ = std::make_unique<vhost_user::MessageChannel>(
                    std::move(message.fds.at(0)), 5000, clock_);
                return false;
            }
            default: set_up(message); return false;
        }
    }

    void set_up(Message& message) {
        switch (static_cast<Request>(message.request)) {
            case Request::SetMemTable: map_memory(message); break;
            case Request::SetVringNum: {
                const auto state = part<vhost_user::RingState>(message);
                rings_[state.index].size = state.value;
                break;
            }
            case Request::SetVringBase: {
                const auto state = part<vhost_user::RingState>(message);
                rings_[state.index].next = static_cast<uint16_t>(state.value);
                break;
            }
            case Request::SetVringAddr: {
                const auto address = part<vhost_user::RingAddress>(message);
                rings_[address.index].address = address;
                break;
            }
            case Request::SetVringKick:
                rings_[part<uint64_t>(message) & 0xff].kick = std::move(message.fds.at(0));
                break;
            case Request::SetVringCall:
                rings_[part<uint64_t>(message) & 0xff].call = std::move(message.fds.at(0));
                break;
            case Request::SetVringEnable: {
                const auto state = part<vhost_user::RingState>(message);
                rings_[state.index].running = state.value == 1;
                break;
            }
            default: break;
        }
    }

    void map_memory(Message& message) {
        memory_.clear();
        const auto count = part<uint32_t>(message);
        for (uint32_t i = 0; i < count; ++i) {
            Region region;
            region.entry = part<vhost_user::MemoryTableEntry>(message, 8 + i * 32);
            region.mapping =
                Mapping::map(message.fds.at(i).get(), region.entry.size, PROT_READ | PROT_WRITE,
                             MAP_SHARED, region.entry.mmap_offset)
                    .value();
            memory_.push_back(std::move(region));
        }
    }

    std::byte* find(uint64_t address, bool user) {
        for (Region& region : memory_) {
            const uint64_t base = user ? region.entry.user_address : region.entry.guest_address;
            if (address >= base && address - base < region.entry.size) {
                return region.mapping.data() + (address - base);
            }
        }
        return nullptr;
    }
    static std::atomic_ref<uint16_t> word(std::byte* at) {
        return std::atomic_ref<uint16_t>(*reinterpret_cast<uint16_t*>(at));
    }

    // The next buffer of a ring whose chains are one descriptor long; null: there is none.
    std::byte* next_buffer(Ring& ring, uint16_t& head, uint32_t& length) {
        std::byte* available = find(ring.address.available, true);
        if (word(available + 2).load(std::memory_order_acquire) == ring.next) {
            return nullptr;
        }
        std::memcpy(&head, available + 4 + 2 * (ring.next++ % ring.size), sizeof(head));
        Descriptor descriptor{};
        std::memcpy(&descriptor, find(ring.address.descriptor, true) + 16 * head,
                    sizeof(descriptor));
        length = descriptor.length;
        return find(descriptor.address, false);
    }

    void loop_back(uint32_t index) {
        Ring& send = rings_[index];
        Ring& receive = rings_[index - 1];
        uint16_t from_head = 0, to_head = 0;
        uint32_t size = 0, room = 0;
        while (std::byte* from = next_buffer(send, from_head, size)) {
            if (std::byte* to = next_buffer(receive, to_head, room)) {
                std::memcpy(to, from, std::min(size, room));
                complete(receive, to_head, std::min(size, room));
            }
            complete(send, from_head, 0);
        }
    }

    void serve_ring(uint32_t index) {
        Ring& ring = rings_[index];
        if (loop_frames) {
            if (index % 2 == 1) {
                loop_back(index);
            }
            return;
        }
        std::byte* available = find(ring.address.available, true);
        while (word(available + 2).load(std::memory_order_acquire) != ring.next) {
            uint16_t head = 0;
            std::memcpy(&head, available + 4 + 2 * (ring.next % ring.size), sizeof(head));
            ++ring.next;
            if (swallow) {
                ++swallowed;
                swallowed.notify_all();
                continue;
            }
            serve_chain(ring, head);
        }
    }

    void serve_chain(Ring& ring, uint16_t head) {
        std::vector<Descriptor> chain;
        std::byte* table = find(ring.address.descriptor, true);
        for (uint16_t index = head;;) {
            Descriptor descriptor{};
            std::memcpy(&descriptor, table + 16 * index, sizeof(descriptor));
            if ((descriptor.flags & 4) != 0) {
                table = find(descriptor.address, false);
                index = 0;
                continue;
            }
            chain.push_back(descriptor);
            if ((descriptor.flags & 1) == 0) {
                break;
            }
            index = descriptor.next;
        }
        complete(ring, head, execute(chain));
    }

    void complete(Ring& ring, uint16_t head, uint32_t written) {
        std::byte* used = find(ring.address.used, true);
        const uint16_t at = word(used + 2).load();
        const uint32_t id = lie_about_head >= 0 ? static_cast<uint32_t>(lie_about_head) : head;
        std::memcpy(used + 4 + 8 * (at % ring.size), &id, 4);
        std::memcpy(used + 8 + 8 * (at % ring.size), &written, 4);
        const int lie = lie_about_used_index;
        word(used + 2).store(lie >= 0 ? static_cast<uint16_t>(lie) : static_cast<uint16_t>(at + 1),
                             std::memory_order_release);
        ++served;
        const uint64_t one = 1;
        [[maybe_unused]] const ssize_t size = ::write(ring.call.get(), &one, sizeof(one));
    }

    uint32_t execute(const std::vector<Descriptor>& chain) {
        struct {
            uint32_t type;
            uint32_t reserved;
            uint64_t sector;
        } header{};
        std::memcpy(&header, find(chain[0].address, false), sizeof(header));
        uint64_t at = header.sector * 512;
        uint32_t written = 1;
        if (header.type == 4) {
            ++flushes;
        }
        for (size_t i = 1; i + 1 < chain.size(); ++i) {
            std::byte* bytes = find(chain[i].address, false);
            if (header.type == 0) {
                std::memcpy(bytes, disk.data() + at, chain[i].length);
                written += chain[i].length;
            } else if (header.type == 1) {
                std::memcpy(disk.data() + at, bytes, chain[i].length);
            } else if (header.type == 11 || header.type == 13) {
                struct {
                    uint64_t sector;
                    uint32_t count;
                    uint32_t flags;
                } range{};
                std::memcpy(&range, bytes, sizeof(range));
                std::memset(disk.data() + range.sector * 512, 0, range.count * 512ull);
            }
            at += chain[i].length;
        }
        *find(chain.back().address, false) = static_cast<std::byte>(status_to_answer.load());
        return written;
    }

    SystemClock clock_;
    std::mutex mutex_;  // guards backend_channel_ and config
    std::unique_ptr<vhost_user::MessageChannel> channel_;
    std::unique_ptr<vhost_user::MessageChannel> backend_channel_;
    std::vector<Region> memory_;
    std::map<uint32_t, Ring> rings_;
    UniqueFd stop_fd_;
    std::thread thread_;
};

}  // namespace kumoi::hypervisor
