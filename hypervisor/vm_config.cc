#include "hypervisor/vm_config.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

#include <fmt/ranges.h>

#include "base/file.h"
#include "base/uuid.h"
#include "hypervisor/board/board_layout.h"
#include "hypervisor/board/pci_layout.h"
#include "hypervisor/scsi_config.h"
#include "hypervisor/vcpu/cpu_topology.h"

namespace kumoi::hypervisor {

namespace {

constexpr int64_t kMemoryMibMin = 2;
constexpr int64_t kMemoryMibMax = 16 << 20;  // 16 TiB
constexpr int64_t kVcpusMax = 1024;          // the host's own limit is checked when it is known
constexpr size_t kDisksMax = 20;             // slots 11 to 30
constexpr size_t kNicsMax = 8;               // slots 3 to 10
constexpr size_t kCdromsMax = 4;             // targets of one SCSI controller
constexpr size_t kSmbiosTextMax = 255;
constexpr size_t kFileSizeMax = 1u << 20;
constexpr size_t kNameMax = 255;
constexpr int64_t kMtuMin = 68;  // RFC 791
constexpr int64_t kMtuMax = 65535;
constexpr size_t kTapNameMax = 15;  // IFNAMSIZ - 1
constexpr int64_t kDiskQueuesMax = 16;
constexpr int64_t kDiskQueuesUsual = 4;
constexpr int64_t kQueuePairsMax = 16;
constexpr size_t kDiskSerialMax = 20;  // virtio 1.2 §5.2.6: get-id

std::string absolute(const std::string& path, const std::string& base) {
    if (path.empty() || path.front() == '/') {
        return path;
    }
    return (std::filesystem::path(base) / path).lexically_normal().string();
}

// A path that is there must not be empty nor hold a zero byte, which would cut it short silently.
Result<std::string> path_or(const JsonView& view, std::string_view key, const std::string& base) {
    if (!view.has(key)) {
        return std::string();
    }
    const std::string path = TRY(view.string(key));
    if (path.empty() || path.find('\0') != std::string::npos) {
        return TRY(view.at(key)).error("expected a path");
    }
    return absolute(path, base);
}

template <class Value>
Result<Value> choice(const JsonView& view, std::string_view key, Value other,
                     std::initializer_list<std::pair<std::string_view, Value>> choices) {
    if (!view.has(key)) {
        return other;
    }
    const std::string text = TRY(view.string(key));
    std::vector<std::string> names;
    for (const auto& [name, value] : choices) {
        if (name == text) {
            return value;
        }
        names.emplace_back(name);
    }
    return TRY(view.at(key))
        .error(fmt::format("\"{}\" is not one of {}", text, fmt::join(names, ", ")));
}

Result<std::vector<std::string>> strings_or_none(const JsonView& view, std::string_view key) {
    std::vector<std::string> strings;
    if (view.has(key)) {
        for (const JsonView& item : TRY(view.array(key))) {
            strings.push_back(TRY(item.as_string()));
        }
    }
    return strings;
}

Result<std::array<uint8_t, 6>> parse_mac(const JsonView& view) {
    const std::string text = TRY(view.as_string());
    std::array<uint8_t, 6> mac{};
    bool good = text.size() == 17;
    for (size_t i = 0; good && i < mac.size(); ++i) {
        const char* at = text.data() + i * 3;
        const auto [end, error] = std::from_chars(at, at + 2, mac[i], 16);
        good = error == std::errc() && end == at + 2 && (i == 5 || at[2] == ':');
    }
    if (!good) {
        return view.error(fmt::format("\"{}\" is not a MAC address like 52:54:00:12:34:56", text));
    }
    if ((mac[0] & 1) != 0) {
        return view.error(
            fmt::format("{} is a group address; a card needs an individual one", text));
    }
    return mac;
}

Result<std::string> parse_id(const JsonView& view, std::set<std::string>& taken) {
    const std::string id = TRY(view.string("id"));
    if (id.empty() || id.size() > kNameMax || !taken.insert(id).second) {
        return TRY(view.at("id"))
            .error(id.empty() ? std::string("must not be empty")
                              : fmt::format("\"{}\" is too long or used twice", id));
    }
    return id;
}

Result<void> parse_queues_and_limits(const JsonView& view, uint32_t vcpus, DiskConfig& disk) {
    const int64_t usual = std::min<int64_t>(vcpus, kDiskQueuesUsual);
    disk.queues = static_cast<uint16_t>(TRY(view.integer_or("queues", usual, {1, kDiskQueuesMax})));
    if (disk.bus == DiskBus::Scsi) {
        disk.queues = 1;  // the controller's
    }
    if (view.has("limits")) {
        disk.limits = TRY(parse_disk_limits(TRY(view.object("limits"))));
    }
    return {};
}

Result<void> parse_disk_format(const JsonView& view, const std::string& base, DiskConfig& disk) {
    constexpr int64_t kChainDepthMax = 64;
    disk.format = TRY(choice<DiskFormat>(view, "format", DiskFormat::Raw,
                                         {{"raw", DiskFormat::Raw}, {"qcow2", DiskFormat::Qcow2}}));
    disk.chain_depth_max = static_cast<uint32_t>(
        TRY(view.integer_or("chain_depth_max", disk.chain_depth_max, {0, kChainDepthMax})));
    if (view.has("lock")) {
        const JsonView lock = TRY(view.object("lock"));
        TRY(lock.only({"lease", "epoch", "owner"}));
        disk.lock.lease = TRY(path_or(lock, "lease", base));
        if (disk.lock.lease.empty()) {
            return lock.error("a lease needs a path");
        }
        disk.lock.epoch = static_cast<uint64_t>(TRY(lock.integer("epoch", {1, INT64_MAX})));
        disk.lock.owner = TRY(lock.string("owner"));
    }
    return {};
}

Result<DiskConfig> parse_disk(const JsonView& view, const std::string& base, uint32_t vcpus,
                              std::set<std::string>& ids) {
    TRY(view.only({"id", "path", "format", "read_only", "serial", "cache", "queues", "limits",
                   "vhost_user", "chain_depth_max", "lock", "slot", "bus", "target"}));
    DiskConfig disk;
    disk.id = TRY(parse_id(view, ids));
    disk.path = TRY(path_or(view, "path", base));
    disk.vhost_user = TRY(path_or(view, "vhost_user", base));
    if (disk.path.empty() == disk.vhost_user.empty()) {
        return view.error("a disk needs either a path or a vhost_user socket");
    }
    TRY(parse_disk_bus(view, disk));
    TRY(parse_queues_and_limits(view, vcpus, disk));
    TRY(parse_disk_format(view, base, disk));
    disk.read_only = TRY(view.boolean_or("read_only", false));
    disk.serial = TRY(view.string_or("serial", ""));
    if (disk.serial.size() > kDiskSerialMax) {
        return TRY(view.at("serial"))
            .error(fmt::format("has {} bytes; at most {} are possible", disk.serial.size(),
                               kDiskSerialMax));
    }
    disk.slot = static_cast<unsigned>(
        TRY(view.integer_or("slot", 0, {board::kPciDiskSlotFirst, board::kPciDiskSlotLast})));
    disk.cache = TRY(choice<DiskCache>(view, "cache", DiskCache::Writeback,
                                       {{"writeback", DiskCache::Writeback},
                                        {"none", DiskCache::None},
                                        {"writethrough", DiskCache::Writethrough}}));
    return disk;
}

Result<CdromConfig> parse_cdrom(const JsonView& view, const std::string& base,
                                std::set<std::string>& ids) {
    TRY(view.only({"id", "path"}));
    CdromConfig cdrom;
    cdrom.id = TRY(parse_id(view, ids));
    cdrom.path = TRY(path_or(view, "path", base));
    return cdrom;
}

Result<NicConfig> parse_nic(const JsonView& view, const std::string& base,
                            std::set<std::string>& ids) {
    TRY(view.only(
        {"id", "tap", "mac", "mtu", "queue_pairs", "vhost_user", "slot", "limits", "vhost"}));
    NicConfig nic;
    nic.id = TRY(parse_id(view, ids));
    nic.tap = TRY(view.string_or("tap", ""));
    nic.vhost_user = TRY(path_or(view, "vhost_user", base));
    if (nic.tap.empty() == nic.vhost_user.empty()) {
        return view.error("a nic needs either a tap or a vhost_user socket");
    }
    if (nic.tap.size() > kTapNameMax ||
        nic.tap.find_first_of(std::string_view("/\0 ", 3)) != std::string::npos) {
        return TRY(view.at("tap"))
            .error(fmt::format("\"{}\" is no interface name of 1 to {} characters", nic.tap,
                               kTapNameMax));
    }
    nic.slot = static_cast<unsigned>(
        TRY(view.integer_or("slot", 0, {board::kPciNicSlotFirst, board::kPciNicSlotLast})));
    nic.mac = TRY(parse_mac(TRY(view.at("mac"))));
    nic.mtu = static_cast<uint16_t>(TRY(view.integer_or("mtu", 1500, {kMtuMin, kMtuMax})));
    nic.queue_pairs =
        static_cast<uint16_t>(TRY(view.integer_or("queue_pairs", 1, {1, kQueuePairsMax})));
    nic.vhost = TRY(choice<VhostMode>(
        view, "vhost", VhostMode::Off,
        {{"off", VhostMode::Off}, {"auto", VhostMode::Auto}, {"on", VhostMode::On}}));
    if (nic.vhost == VhostMode::On && nic.tap.empty()) {
        return TRY(view.at("vhost")).error("vhost-net carries the frames of a tap only");
    }
    if (view.has("limits")) {
        nic.limits = TRY(parse_nic_limits(TRY(view.object("limits"))));
    }
    return nic;
}

// Slots that are named are taken by one device each, and are named before others find a free one.
Result<void> check_slots(const JsonView& view, const VmConfig& config) {
    std::set<unsigned> taken;
    const auto check = [&](const auto& parts) -> Result<void> {
        bool automatic = false;
        for (const auto& part : parts) {
            automatic = automatic || part.slot == 0;
            if (part.slot != 0 && (automatic || !taken.insert(part.slot).second)) {
                return view.error(
                    fmt::format("slot {} of \"{}\" is taken, or named behind a device without one",
                                part.slot, part.id));
            }
        }
        return {};
    };
    TRY(check(config.nics));
    std::vector<DiskConfig> disks = config.disks;
    std::erase_if(disks, [](const DiskConfig& disk) { return disk.bus != DiskBus::Virtio; });
    return check(disks);
}

Result<void> parse_devices(const JsonView& view, const std::string& base, VmConfig& config) {
    std::set<std::string> ids;
    if (view.has("disks")) {
        for (const JsonView& item : TRY(view.array("disks"))) {
            config.disks.push_back(TRY(parse_disk(item, base, config.vcpus, ids)));
        }
    }
    if (view.has("cdroms")) {
        for (const JsonView& item : TRY(view.array("cdroms"))) {
            config.cdroms.push_back(TRY(parse_cdrom(item, base, ids)));
        }
    }
    if (config.cdroms.size() > kCdromsMax) {
        return view.error(fmt::format("{} cdroms are too many: at most {} fit",
                                      config.cdroms.size(), kCdromsMax));
    }
    if (view.has("nics")) {
        for (const JsonView& item : TRY(view.array("nics"))) {
            config.nics.push_back(TRY(parse_nic(item, base, ids)));
        }
    }
    TRY(check_slots(view, config));
    TRY(assign_scsi_targets(view, config));
    const auto on_pci = static_cast<size_t>(std::ranges::count_if(
        config.disks, [](const DiskConfig& disk) { return disk.bus == DiskBus::Virtio; }));
    if (on_pci > kDisksMax || config.nics.size() > kNicsMax) {
        return view.error(fmt::format("{} disks and {} nics are too many: at most {} and {} fit",
                                      on_pci, config.nics.size(), kDisksMax, kNicsMax));
    }
    if (view.has("rng")) {
        const JsonView rng = TRY(view.object("rng"));
        TRY(rng.only({"enabled"}));
        config.rng = TRY(rng.boolean_or("enabled", true));
    }
    if (view.has("console")) {
        const JsonView console = TRY(view.object("console"));
        TRY(console.only({"socket"}));
        config.console.enabled = true;
        config.console.socket = TRY(path_or(console, "socket", base));
    }
    config.channels = TRY(parse_channels(view, base));
    if (view.has("balloon")) {
        config.balloon = TRY(parse_balloon(TRY(view.object("balloon")), config.memory_mib));
    }
    if (view.has("vsock")) {
        config.vsock = TRY(parse_vsock(TRY(view.object("vsock")), base));
    }
    if (view.has("display")) {
        config.display = TRY(parse_display(TRY(view.object("display")), base));
    }
    if (view.has("watchdog")) {
        config.watchdog = TRY(parse_watchdog(TRY(view.object("watchdog"))));
    }
    return {};
}

Result<void> parse_machine(const JsonView& view, VmConfig& config) {
    config.name = TRY(view.string_or("name", "guest"));
    if (config.name.empty() || config.name.size() > kNameMax) {
        return TRY(view.at("name")).error(fmt::format("must have 1 to {} bytes", kNameMax));
    }
    if (view.has("uuid")) {
        const std::string text = TRY(view.string("uuid"));
        const auto uuid = Uuid::parse(text);
        if (!uuid) {
            return TRY(view.at("uuid")).error(fmt::format("\"{}\" is not a UUID", text));
        }
        config.uuid = uuid->text();
    }
    TRY(choice<bool>(view, "board", true, {{board::kName, true}}));
    config.memory_mib =
        static_cast<uint64_t>(TRY(view.integer("memory_mib", {kMemoryMibMin, kMemoryMibMax})));
    config.vcpus = static_cast<uint32_t>(TRY(view.integer_or("vcpus", 1, {1, kVcpusMax})));
    if (view.has("cpu")) {
        const JsonView cpu = TRY(view.object("cpu"));
        TRY(cpu.only({"model", "mask", "add", "topology"}));
        config.cpu.model = TRY(cpu.string_or("model", "host"));
        config.cpu.mask = TRY(strings_or_none(cpu, "mask"));
        config.cpu.add = TRY(strings_or_none(cpu, "add"));
        TRY_CONTEXT(check_cpu_selection(config.cpu), "{}", cpu.path());
    }
    return {};
}

Result<FirmwareConfig> parse_firmware(const JsonView& view, const std::string& base) {
    TRY(view.only({"type", "code", "nvram", "serial_console", "boot_menu"}));
    FirmwareConfig firmware;
    firmware.type =
        TRY(choice<FirmwareType>(view, "type", FirmwareType::Bios,
                                 {{"bios", FirmwareType::Bios}, {"uefi", FirmwareType::Uefi}}));
    firmware.code = TRY(path_or(view, "code", base));
    firmware.nvram = TRY(path_or(view, "nvram", base));
    firmware.serial_console = TRY(view.boolean_or("serial_console", true));
    firmware.boot_menu = TRY(view.boolean_or("boot_menu", false));
    if (firmware.code.empty()) {
        return view.error("firmware needs a code image");
    }
    if ((firmware.type == FirmwareType::Uefi) == firmware.nvram.empty()) {
        return view.error(firmware.nvram.empty()
                              ? "UEFI needs nvram, a copy of its variables for this machine alone"
                              : "a BIOS has no nvram");
    }
    return firmware;
}

// Exactly one way to boot: a kernel, or firmware.
Result<void> parse_boot(const JsonView& view, const std::string& base, VmConfig& config) {
    if (view.has("firmware")) {
        config.firmware = TRY(parse_firmware(TRY(view.object("firmware")), base));
        if (!view.has("boot")) {
            return {};
        }
    }
    const JsonView boot = TRY(view.object("boot"));
    TRY(boot.only({"kernel", "initrd", "cmdline", "order"}));
    config.boot.kernel = TRY(path_or(boot, "kernel", base));
    config.boot.initrd = TRY(path_or(boot, "initrd", base));
    config.boot.cmdline = TRY(boot.string_or("cmdline", ""));
    config.boot.order = TRY(strings_or_none(boot, "order"));
    if (config.firmware) {
        if (!config.boot.kernel.empty() || !config.boot.initrd.empty() ||
            !config.boot.cmdline.empty()) {
            return boot.error(
                "firmware boots from disks: kernel, initrd and cmdline go without it");
        }
        return {};
    }
    if (config.boot.kernel.empty()) {
        return boot.error("a kernel is needed, or firmware beside boot");
    }
    if (!config.boot.order.empty()) {
        return boot.error("an order is for firmware; a kernel needs none");
    }
    return {};
}

Result<void> parse_smbios(const JsonView& view, SmbiosConfig& smbios) {
    TRY(view.only(
        {"manufacturer", "product", "version", "serial", "sku", "family", "oem_strings"}));
    smbios.manufacturer = TRY(view.string_or("manufacturer", smbios.manufacturer));
    smbios.product = TRY(view.string_or("product", smbios.product));
    smbios.version = TRY(view.string_or("version", ""));
    smbios.serial = TRY(view.string_or("serial", ""));
    smbios.sku = TRY(view.string_or("sku", ""));
    smbios.family = TRY(view.string_or("family", ""));
    smbios.oem_strings = TRY(strings_or_none(view, "oem_strings"));
    std::vector<std::string> all = smbios.oem_strings;
    all.insert(all.end(), {smbios.manufacturer, smbios.product, smbios.version, smbios.serial,
                           smbios.sku, smbios.family});
    for (const std::string& text : all) {
        if (text.size() > kSmbiosTextMax || text.find('\0') != std::string::npos) {
            return view.error(fmt::format("a text has {} bytes or a zero byte; at most {} fit",
                                          text.size(), kSmbiosTextMax));
        }
    }
    return {};
}

// Back ends of vhost-user disks map guest memory when they are connected, and no more later.
Result<void> check_hot_memory(const JsonView& view, const VmConfig& config) {
    const auto shares = [](const DiskConfig& disk) { return !disk.vhost_user.empty(); };
    if (config.memory.max_mib != 0 && std::ranges::any_of(config.disks, shares)) {
        return TRY(view.at("memory_max_mib"))
            .error("memory cannot grow beside a vhost-user disk, whose back end would not see it");
    }
    return {};
}

Result<void> check_boot_order(const JsonView& view, const VmConfig& config) {
    for (const std::string& id : config.boot.order) {
        const auto is = [&id](const auto& device) { return device.id == id; };
        if (std::ranges::none_of(config.disks, is) && std::ranges::none_of(config.cdroms, is) &&
            std::ranges::none_of(config.nics, is)) {
            return view.error(
                fmt::format("boot.order: no disk, cdrom or nic is called \"{}\"", id));
        }
    }
    return {};
}

Result<void> parse_serial(const JsonView& view, const std::string& base, VmConfig& config) {
    if (view.has("serial")) {
        constexpr int64_t kLogMin = 4096;
        constexpr int64_t kLogMax = int64_t{1} << 40;
        const JsonView serial = TRY(view.object("serial"));
        TRY(serial.only({"log", "socket", "log_size_max"}));
        config.serial.log = TRY(path_or(serial, "log", base));
        config.serial.socket = TRY(path_or(serial, "socket", base));
        config.serial.log_size_max = static_cast<uint64_t>(
            TRY(serial.integer_or("log_size_max", 4 << 20, {kLogMin, kLogMax})));
    }
    return {};
}

}  // namespace

Result<VmConfig> parse_vm_config(const Json& json, const std::string& base_directory) {
    const JsonView view(json);
    if (!json.is_object()) {
        return view.wrong_type("an object");
    }
    TRY(view.only(
        {"name",      "uuid",        "board",          "memory_mib",  "vcpus",    "cpu",
         "boot",      "firmware",    "smbios",         "disks",       "cdroms",   "nics",
         "serial",    "rng",         "console",        "balloon",     "vsock",    "watchdog",
         "on_reboot", "pid_file",    "control_socket", "on_shutdown", "on_crash", "vcpus_max",
         "vcpu",      "io_affinity", "display",        "memory",      "numa",     "memory_max_mib",
         "sandbox",   "channels",    "dirty_tracking"}));
    VmConfig config;
    config.source = json;
    config.base_directory = base_directory;
    TRY(parse_machine(view, config));
    config.resources = TRY(parse_resources(view, config.vcpus));
    config.memory = TRY(parse_memory_config(view, config.memory_mib, config.resources.vcpus_max));
    TRY_CONTEXT(check_topology(config.resources.topology), "cpu.topology");
    TRY(parse_boot(view, base_directory, config));
    TRY(parse_serial(view, base_directory, config));
    if (view.has("smbios")) {
        TRY(parse_smbios(TRY(view.object("smbios")), config.smbios));
    }
    TRY(parse_devices(view, base_directory, config));
    TRY(check_hot_memory(view, config));
    TRY(check_boot_order(view, config));
    config.control_socket = TRY(path_or(view, "control_socket", base_directory));
    if (view.has("sandbox")) {
        config.sandbox = TRY(parse_sandbox_config(TRY(view.object("sandbox"))));
    }
    config.pid_file = TRY(path_or(view, "pid_file", base_directory));
    config.on_reboot =
        TRY(choice<OnReboot>(view, "on_reboot", OnReboot::Reset,
                             {{"reset", OnReboot::Reset}, {"exit", OnReboot::Exit}}));
    config.on_shutdown =
        TRY(choice<OnShutdown>(view, "on_shutdown", OnShutdown::Exit,
                               {{"exit", OnShutdown::Exit}, {"stay", OnShutdown::Stay}}));
    config.on_crash = TRY(choice<OnCrash>(view, "on_crash", OnCrash::Stay,
                                          {{"stay", OnCrash::Stay},
                                           {"exit", OnCrash::Exit},
                                           {"reset", OnCrash::Reset},
                                           {"continue", OnCrash::Continue}}));
    return config;
}

Result<DiskConfig> parse_disk_config(const JsonView& view, const VmConfig& config) {
    std::set<std::string> ids;
    DiskConfig disk = TRY(parse_disk(view, "/", config.vcpus, ids));
    if (config.memory.max_mib != 0 && !disk.vhost_user.empty()) {
        return view.error("a vhost-user disk does not go with memory that may grow");
    }
    TRY(choose_scsi_target(view, config, disk));
    return disk;
}

Result<NicConfig> parse_nic_config(const JsonView& view) {
    std::set<std::string> ids;
    return parse_nic(view, "/", ids);
}

Result<VmConfig> load_vm_config(const std::string& path) {
    const std::string text =
        TRY_CONTEXT(read_file(path, kFileSizeMax), "reading the guest configuration {}", path);
    const Json json = TRY_CONTEXT(Json::parse(text), "{}", path);
    std::error_code ignored;
    const auto full = std::filesystem::absolute(path, ignored);
    return TRY_CONTEXT(parse_vm_config(json, full.parent_path().string()), "{}", path);
}

}  // namespace kumoi::hypervisor
