#include "hypervisor/virtio/device_factory.h"

#include <fcntl.h>

#include "base/log.h"
#include "hypervisor/block/late_disk.h"
#include "hypervisor/block/vhost_user_disk.h"
#include "hypervisor/net/tap.h"
#include "hypervisor/net/vhost_user_net.h"
#include "hypervisor/virtio/console_socket.h"
#include "hypervisor/virtio/rng.h"
#include "hypervisor/virtio/vsock.h"

namespace kumoi::hypervisor {

namespace {

Result<void> check_queue_size(const std::string& device, uint16_t size) {
    if (size < 2 || size > virtio::kQueueSizeMax || (size & (size - 1)) != 0) {
        return Error::invalid("queue size {} of {} is not a power of two from 2 to {}", size,
                              device, virtio::kQueueSizeMax);
    }
    return {};
}

// Whoever is plugged in while a sandboxed guest runs has the one connection it came with.
FileSource::Connector connector(FileSource& files, const std::string& path) {
    auto again = files.connector(path);
    if (again) {
        return std::move(again).value();
    }
    return [error = again.error()] { return Result<UniqueFd>(error); };
}

const SystemClock& system_clock() {
    static const SystemClock clock;  // no state
    return clock;
}

SystemRandom& system_random() {
    static SystemRandom random;  // getrandom(2): no state, thread safe
    return random;
}

}  // namespace

namespace {

// The first connection is made at once, unless the disk is late; each later one when it is wanted.
Result<std::function<Result<std::unique_ptr<DiskImage>>()>> vhost_user_backend(
    Platform& platform, FileSource& files, const VirtioBlockConfig& config) {
    VhostUserDisk::Options options;
    options.socket = config.vhost_user;
    options.connect = connector(files, config.vhost_user);
    // Shared because a std::function must be copyable.
    auto first = std::make_shared<UniqueFd>();
    if (!config.late) {
        *first = TRY(files.connect(config.vhost_user));
    }
    return std::function([options, first, &memory = platform.memory()]() {
        auto socket = first->is_open() ? Result<UniqueFd>(std::move(*first)) : options.connect();
        return socket.ok() ? VhostUserDisk::open(options, std::move(socket).value(), memory)
                           : Result<std::unique_ptr<DiskImage>>(std::move(socket).error());
    });
}

}  // namespace

Result<std::unique_ptr<DiskImage>> open_disk_image(Platform& platform, FileSource& files,
                                                   const VirtioBlockConfig& config) {
    LateDisk::Spec spec;
    spec.options = {.path = config.path,
                    .format = config.format,
                    .read_only = config.read_only,
                    .cache = config.cache,
                    .engine = config.engine,
                    .chain_depth_max = config.chain_depth_max,
                    .lock = config.lock};
    spec.queues = config.queue_count;
    if (!config.vhost_user.empty()) {
        spec.options.path = config.vhost_user;
        spec.backend = TRY(vhost_user_backend(platform, files, config));
    }
    if (config.late) {
        return Result<std::unique_ptr<DiskImage>>(LateDisk::closed(files, std::move(spec)));
    }
    return Result<std::unique_ptr<DiskImage>>(TRY(LateDisk::open(files, std::move(spec))));
}

Result<std::unique_ptr<VirtioPciDevice>> make_virtio_block(Platform& platform, FileSource& files,
                                                           const VirtioBlockConfig& config,
                                                           const VirtioPciConfig& pci) {
    TRY(check_queue_size(config.name, config.queue_size));
    auto image = TRY(open_disk_image(platform, files, config));
    const std::string& serial = config.serial.empty() ? config.name : config.serial;
    auto block = std::make_unique<VirtioBlock>(config.name, std::move(image), serial,
                                               config.queue_size, config.queue_count);
    TRY(block->set_limits(config.limits, SystemClock().monotonic_ns()));
    return VirtioPciDevice::create(platform, std::move(block), pci);
}

namespace {

// One for each pair. Vhost-net knows no limits.
Result<std::vector<std::unique_ptr<VhostNet>>> open_vhost(FileSource& files,
                                                          const VirtioNetConfig& config) {
    std::vector<std::unique_ptr<VhostNet>> pairs;
    if (config.vhost == VhostMode::Off) {
        return pairs;
    }
    const auto opened = [&]() -> Result<void> {
        if (config.limits != NicLimits{}) {
            return Error::unsupported("vhost-net knows no bandwidth limits");
        }
        for (uint16_t i = 0; i < config.queue_pairs; ++i) {
            auto device = TRY(files.open(VhostNet::kDevice, O_RDWR | O_NONBLOCK));
            pairs.push_back(TRY(VhostNet::create(std::move(device), system_vhost_kernel())));
        }
        return {};
    }();
    if (opened.ok()) {
        return pairs;
    }
    if (config.vhost == VhostMode::On) {
        return Error(opened.error())
            .with_context(fmt::format("{} asks for vhost-net", config.name));
    }
    log_info("virtio", "a card's frames pass through this process",
             {{"device", config.name}, {"reason", opened.error().text()}});
    pairs.clear();
    return pairs;
}

}  // namespace

Result<std::unique_ptr<VirtioPciDevice>> make_virtio_net(Platform& platform, FileSource& files,
                                                         const VirtioNetConfig& config,
                                                         const VirtioPciConfig& pci) {
    TRY(check_queue_size(config.name, config.queue_size));
    if (config.mtu < 68) {  // §5.1.4.1
        return Error::invalid("MTU {} of {} is below 68", config.mtu, config.name);
    }
    if ((config.mac[0] & 1) != 0 || config.mac == MacAddress{}) {
        return Error::invalid("the MAC address of {} is not a unicast address", config.name);
    }
    auto queues = config.vhost_user.empty()
                      ? TRY(Tap::open_queues(files, config.tap, config.queue_pairs))
                      : TRY(VhostUserNet::open({.socket = config.vhost_user,
                                                .pairs = config.queue_pairs,
                                                .mtu = config.mtu,
                                                .connect = connector(files, config.vhost_user),
                                                .clock = &system_clock()},
                                               TRY(files.connect(config.vhost_user))));
    auto vhost = TRY(open_vhost(files, config));
    auto net = std::make_unique<VirtioNet>(
        VirtioNet::Options{config.name, config.mac, config.mtu, config.queue_size},
        std::move(queues), std::move(vhost));
    TRY(net->set_limits(config.limits, system_clock().monotonic_ns()));
    return VirtioPciDevice::create(platform, std::move(net), pci);
}

Result<std::unique_ptr<VirtioPciDevice>> make_virtio_console(Platform& platform, FileSource& files,
                                                             const VirtioConsoleConfig& config,
                                                             const VirtioPciConfig& pci) {
    std::unique_ptr<ConsoleBackend> backend = std::make_unique<NullConsoleBackend>();
    if (!config.socket_path.empty()) {
        backend = TRY(SocketConsole::open(files, config.socket_path));
    }
    return VirtioPciDevice::create(platform,
                                   std::make_unique<VirtioConsole>(config.name, std::move(backend),
                                                                   config.columns, config.rows),
                                   pci);
}

Result<std::unique_ptr<VirtioPciDevice>> make_virtio_vsock(Platform& platform, FileSource& files,
                                                           const VirtioVsockConfig& config,
                                                           const VirtioPciConfig& pci) {
    auto sockets = TRY(VsockUnixSockets::open(files, config.socket_path));
    return VirtioPciDevice::create(
        platform, std::make_unique<VirtioVsock>(config.name, config.cid, std::move(sockets)), pci);
}

Result<std::unique_ptr<VirtioPciDevice>> make_virtio_rng(Platform& platform, std::string name,
                                                         const VirtioPciConfig& pci) {
    return VirtioPciDevice::create(
        platform, std::make_unique<VirtioRng>(std::move(name), system_random()), pci);
}

}  // namespace kumoi::hypervisor
