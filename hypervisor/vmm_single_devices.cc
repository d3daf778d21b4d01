// MachineDevices' balloon, vsock, watchdog and display: each exists at most once and has a place of
// its own.
#include "hypervisor/board/pci_layout.h"
#include "hypervisor/pci/i6300esb.h"
#include "hypervisor/virtio/channel_socket.h"
#include "hypervisor/virtio/serial.h"
#include "hypervisor/vmm_devices.h"

namespace kumoi::hypervisor {

namespace {

VirtioBalloonOptions balloon_options(const BalloonConfig& config) {
    VirtioBalloonOptions options;
    options.target_mib = config.target_mib;
    options.deflate_on_oom = config.deflate_on_oom;
    options.free_page_reporting = config.free_page_reporting;
    options.statistics_interval_ms = config.statistics_interval_ms;
    return options;
}

Result<std::unique_ptr<VirtioSerial>> make_serial(const std::vector<ChannelConfig>& channels,
                                                  FileSource& files) {
    std::vector<SerialPort> ports;
    for (const ChannelConfig& channel : channels) {
        auto backend = TRY(ChannelSocket::open(files, channel.socket));
        ports.push_back({channel.name, std::move(backend)});
    }
    return std::make_unique<VirtioSerial>("channels", std::move(ports));
}

}  // namespace

Result<void> MachineDevices::create_single_devices(const VmConfig& config, Platform& platform,
                                                   FileSource& files, EventLoop& loop,
                                                   const Clock& clock, const Events& events) {
    if (config.balloon.enabled) {
        auto balloon = std::make_unique<VirtioBalloon>(balloon_options(config.balloon),
                                                       platform.memory(), clock);
        balloon_ = balloon.get();
        TRY(pci_->add(board::kPciBalloon,
                      VirtioPciDevice::create(platform, std::move(balloon),
                                              pci_config(board::kPciBalloon, events))));
    }
    if (config.vsock.enabled) {
        VirtioVsockConfig vsock;
        vsock.cid = config.vsock.cid;
        vsock.socket_path = config.vsock.socket;
        TRY_CONTEXT(
            pci_->add(board::kPciVsock, make_virtio_vsock(platform, files, vsock,
                                                          pci_config(board::kPciVsock, events))),
            "vsock");
    }
    if (!config.channels.empty()) {
        auto serial = TRY(make_serial(config.channels, files));
        TRY(pci_->add(board::kPciChannels,
                      VirtioPciDevice::create(platform, std::move(serial),
                                              pci_config(board::kPciChannels, events))));
    }
    if (config.watchdog.enabled) {
        TRY(pci_->add(board::kPciWatchdog,
                      std::make_unique<I6300Esb>(loop, clock, events.watchdog_expired)));
    }
    if (config.display.enabled) {
        const MachineDisplay::Place place{
            platform, files, *pci_, *keyboard_,
            [&events](PciAddress at) { return pci_config(at, events); }};
        display_ = TRY(MachineDisplay::create(config.display, config.name, place));
    }
    return {};
}

}  // namespace kumoi::hypervisor
