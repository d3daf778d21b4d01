#include "hypervisor/display/machine_display.h"

#include <array>

#include <fcntl.h>
#include <unistd.h>

#include "hypervisor/board/board_layout.h"
#include "hypervisor/board/pci_layout.h"
#include "hypervisor/display/bochs_display.h"
#include "hypervisor/display/vnc_server.h"
#include "hypervisor/virtio/input.h"

#include "hypervisor/upgrade/heritage.h"

namespace kumoi::hypervisor {

namespace {

// The image begins with 0x55 0xaa and its length in units of 512 bytes (PCI Firmware 3.3 §5.1).
Result<std::string> read_rom(FileSource& files, const std::string& path) {
    const UniqueFd fd = TRY_CONTEXT(files.open(path, O_RDONLY), "the display's option ROM");
    std::string content(kOptionRomSizeMax + 1, '\0');
    size_t size = 0;
    while (size < content.size()) {
        const ssize_t count = ::pread(fd.get(), content.data() + size, content.size() - size,
                                      static_cast<off_t>(size));
        if (count < 0) {
            return Error::from_errno(errno, fmt::format("reading the option ROM {}", path));
        }
        if (count == 0) {
            break;
        }
        size += static_cast<size_t>(count);
    }
    content.resize(size);
    constexpr size_t kUnit = 512;
    if (size < 3 || size > kOptionRomSizeMax || !content.starts_with("\x55\xaa") ||
        static_cast<uint8_t>(content[2]) * kUnit > size) {
        return Error::invalid("{} of {} bytes is no option ROM of up to {} bytes", path, size,
                              kOptionRomSizeMax)
            .with_hint(
                "the Debian package seabios has /usr/share/seabios/"
                "vgabios-bochs-display.bin");
    }
    return content;
}

}  // namespace

MachineDisplay::MachineDisplay(FileSource& files, DisplayConfig config)
    : files_(files), config_(std::move(config)) {}

MachineDisplay::~MachineDisplay() {
    vnc_.reset();
    for (const VncListen& listen : config_.vnc) {
        if (!listen.socket.empty()) {
            files_.remove_socket(listen.socket);
        }
    }
}

Result<std::unique_ptr<MachineDisplay>> MachineDisplay::create(const DisplayConfig& config,
                                                               const std::string& name,
                                                               const Place& place) {
    std::unique_ptr<MachineDisplay> machine(new MachineDisplay(place.files, config));
    BochsDisplayConfig picture;
    picture.memory_bytes = uint64_t{config.memory_mib} << 20;
    picture.width = config.width;
    picture.height = config.height;
    if (!config.vgabios.empty()) {
        picture.rom = TRY(read_rom(place.files, config.vgabios));
    }
    UniqueFd memory;
    if (Heritage* heritage = place.files.heritage()) {
        memory = TRY(heritage->memory("memory:display", picture.memory_bytes));
        picture.memory_file = memory.get();
        picture.memory_stays = [heritage] { return heritage->memory_stays(); };
    }
    auto display = TRY(BochsDisplay::create(place.platform, picture));
    const BochsDisplay& source = *display;
    TRY(place.pci.add(board::kPciDisplay, std::move(display)));
    TRY(machine->add_input(place));
    VncServer::Options options;
    options.name = name;
    machine->vnc_ = TRY(VncServer::create(std::move(options), source, machine->hub_));
    TRY(machine->listen());
    return machine;
}

// The virtio devices come first: once their driver runs, keys go there.
Result<void> MachineDisplay::add_input(const Place& place) {
    if (config_.keyboard) {
        auto keyboard = std::make_unique<VirtioKeyboard>("keyboard");
        hub_.add(static_cast<KeySink&>(*keyboard));
        TRY(place.pci.add(board::kPciKeyboard,
                          VirtioPciDevice::create(place.platform, std::move(keyboard),
                                                  place.pci_config(board::kPciKeyboard))));
    }
    if (config_.tablet) {
        auto tablet = std::make_unique<VirtioTablet>("tablet");
        hub_.add(static_cast<PointerSink&>(*tablet));
        TRY(place.pci.add(board::kPciTablet,
                          VirtioPciDevice::create(place.platform, std::move(tablet),
                                                  place.pci_config(board::kPciTablet))));
    }
    place.controller.plug_keyboard(TRY(place.platform.irq_line(board::kKeyboardIrq)));
    hub_.add(static_cast<KeySink&>(place.controller));
    return {};
}

Result<void> MachineDisplay::listen() {
    for (const VncListen& at : config_.vnc) {
        UniqueFd socket = TRY_CONTEXT(
            at.socket.empty() ? files_.listen_tcp(at.host, at.port) : files_.listen(at.socket),
            "display.vnc");
        TRY(vnc_->listen(std::move(socket),
                         at.websocket ? VncServer::Kind::WebSocket : VncServer::Kind::Plain));
    }
    return {};
}

Json MachineDisplay::statistics() const {
    return vnc_->statistics();
}

}  // namespace kumoi::hypervisor
