#include "hypervisor/vm_config.h"

#include <gtest/gtest.h>

#include "hypervisor/disk_places.h"

#include "base/file.h"

namespace kumoi::hypervisor {
namespace {

Result<VmConfig> parse(std::string_view text) {
    return parse_vm_config(TRY(Json::parse(text)), "/srv/guest");
}

void expect_error(std::string_view text, std::string_view part) {
    const auto config = parse(text);
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_NE(config.error().text().find(part), std::string::npos) << config.error().text();
}

constexpr std::string_view kBoot = R"("memory_mib": 64, "boot": {"kernel": "k"})";

std::string with(std::string_view more) {
    return "{" + std::string(kBoot) + ", " + std::string(more) + "}";
}

TEST(VmConfig, TakesTheSmallestMachine) {
    const auto config = parse("{" + std::string(kBoot) + "}");
    ASSERT_TRUE(config.ok()) << config.error().text();
    EXPECT_EQ(config->memory_bytes(), 64u << 20);
    EXPECT_EQ(config->vcpus, 1u);
    EXPECT_EQ(config->boot.kernel, "/srv/guest/k");
    EXPECT_TRUE(config->rng);
    EXPECT_FALSE(config->console.enabled);
    EXPECT_EQ(config->on_crash, OnCrash::Stay);
}

TEST(VmConfig, TakesEveryMember) {
    const auto config = parse(R"({"name":"web","uuid":"0000000011112222333344445555AAAA",
        "board":"kumoi-1","memory_mib":128,"vcpus":4,
        "cpu":{"model":"kumoi-v1","mask":["kvm-pv-eoi"],"add":["aes"]},
        "boot":{"kernel":"/k","initrd":"i","cmdline":"quiet"},
        "disks":[{"id":"a","path":"../d.raw","format":"raw","read_only":true,"serial":"s",
                  "cache":"none"}],
        "nics":[{"id":"n","tap":"tap0","mac":"52:54:00:aB:00:01","mtu":9000,
                 "limits":{"inbound_bytes_sec":7}}],
        "serial":{"log":"l","socket":"s","log_size_max":8192},"rng":{"enabled":false},
        "console":{"socket":"c"},"control_socket":"ctl","pid_file":"pid",
        "on_reboot":"exit","on_shutdown":"stay","on_crash":"exit"})");
    ASSERT_TRUE(config.ok()) << config.error().text();
    EXPECT_EQ(config->uuid, "00000000-1111-2222-3333-44445555aaaa");
    EXPECT_EQ(config->disks[0].path, "/srv/d.raw");
    EXPECT_EQ(config->disks[0].cache, DiskCache::None);
    EXPECT_EQ(config->nics[0].mac, (std::array<uint8_t, 6>{0x52, 0x54, 0, 0xab, 0, 1}));
    EXPECT_EQ(config->nics[0].mtu, 9000);
    EXPECT_EQ(config->nics[0].limits, (NicLimits{.inbound = {.average = 7}}));
    EXPECT_TRUE(config->console.enabled);
    EXPECT_EQ(config->on_reboot, OnReboot::Exit);
    EXPECT_EQ(config->on_shutdown, OnShutdown::Stay);
}

TEST(VmConfig, NamesUnknownKeysAndTheirNeighbours) {
    expect_error(with(R"("vcpuz": 2)"), "vcpus");
    expect_error(with(R"("serial": {"logs": "x"})"), "serial");
    expect_error(with(R"("disks": [{"id":"a","path":"p","readonly":true}])"), "disks[0]");
}

TEST(VmConfig, RefusesWhatIsOutOfRangeWithItsPath) {
    expect_error("[]", "object");
    expect_error(R"({"memory_mib": 64})", "boot");
    expect_error(R"({"boot": {"kernel": "k"}})", "memory_mib");
    expect_error(R"({"memory_mib": 1, "boot": {"kernel": "k"}})", "memory_mib");
    expect_error(with(R"("vcpus": 0)"), "vcpus");
    expect_error(with(R"("vcpus": "2")"), "vcpus");
    expect_error(with(R"("uuid": "x")"), "uuid");
    expect_error(with(R"("board": "pc")"), "kumoi-1");
    expect_error(with(R"("cpu": {"model": "best"})"), "cpu");
    expect_error(with(R"("cpu": {"mask": ["avx9"]})"), "avx9");
    expect_error(with(R"("on_crash": "panic")"), "stay, exit");
    expect_error(with(R"("disks": [{"id":"a","path":"p","format":"vmdk"}])"), "disks[0].format");
    expect_error(with(R"("disks": [{"id":"a"}])"), "disks[0]");
    expect_error(with(R"("disks": [{"id":"a","path":"p"},{"id":"a","path":"q"}])"), "disks[1].id");
    expect_error(with(R"("disks": [{"id":"a","path":"p","serial":"123456789012345678901"}])"),
                 "20");
    expect_error(with(R"("nics": [{"id":"n","tap":"t","mac":"52:54:00:00:00"}])"), "nics[0].mac");
    expect_error(with(R"("nics": [{"id":"n","tap":"t","mac":"53:54:00:00:00:01"}])"), "group");
    expect_error(with(R"("nics": [{"id":"n","tap":"a/b","mac":"52:54:00:00:00:01"}])"),
                 "nics[0].tap");
    expect_error(with(R"("nics": [{"id":"n","tap":"t","mac":"52:54:00:00:00:01","mtu":10}])"),
                 "mtu");
    expect_error(with(R"("control_socket": "")"), "control_socket");
    expect_error(R"({"memory_mib": 64, "boot": {"kernel": "a\u0000b"}})", "kernel");
}

TEST(VmConfig, SingleDevicesAreAbsentUnlessConfigured) {
    const auto none = parse("{" + std::string(kBoot) + "}");
    ASSERT_TRUE(none.ok());
    EXPECT_FALSE(none->balloon.enabled || none->vsock.enabled || none->watchdog.enabled);
    const auto config = parse(with(R"("balloon": {"target_mib": 16, "deflate_on_oom": false,
        "statistics_interval_ms": 500}, "vsock": {"cid": 3, "socket": "v.sock"},
        "watchdog": {"action": "inject-nmi"})"));
    ASSERT_TRUE(config.ok()) << config.error().text();
    EXPECT_EQ(config->balloon.target_mib, 16u);
    EXPECT_FALSE(config->balloon.deflate_on_oom);
    EXPECT_TRUE(config->balloon.free_page_reporting);
    EXPECT_EQ(config->balloon.statistics_interval_ms, 500);
    EXPECT_EQ(config->vsock.cid, 3u);
    EXPECT_EQ(config->vsock.socket, "/srv/guest/v.sock");
    EXPECT_EQ(config->watchdog.action, WatchdogAction::InjectNmi);
}

TEST(VmConfig, Display) {
    EXPECT_FALSE(parse("{" + std::string(kBoot) + "}")->display.enabled);
    const auto config = parse(with(R"("display": {"width": 800, "height": 600, "vgabios": "rom.bin",
        "tablet": false, "vnc": [{"socket": "vnc.sock"}, {"listen": "[::1]:5901",
        "websocket": true}]})"));
    ASSERT_TRUE(config.ok()) << config.error().text();
    EXPECT_TRUE(config->display.enabled && config->display.keyboard);
    EXPECT_FALSE(config->display.tablet);
    EXPECT_EQ(config->display.vgabios, "/srv/guest/rom.bin");
    ASSERT_EQ(config->display.vnc.size(), 2u);
    EXPECT_EQ(config->display.vnc[0].socket, "/srv/guest/vnc.sock");
    EXPECT_EQ(config->display.vnc[1].host, "::1");
    EXPECT_EQ(config->display.vnc[1].port, 5901);
    EXPECT_TRUE(config->display.vnc[1].websocket);
    expect_error(with(R"("display": {"memory_mib": 3})"), "power of two");
    expect_error(with(R"("display": {"width": 2560, "height": 1600, "memory_mib": 8})"),
                 "memory_mib");
    expect_error(with(R"("display": {"vnc": [{"listen": "localhost"}]})"), "127.0.0.1:5901");
    expect_error(with(R"("display": {"vnc": [{}]})"), "socket");
    expect_error(with(R"("display": {"vgabios": ""})"), "display.vgabios");
    expect_error(with(R"("display": {"colour": 1})"), "colour");
}

TEST(VmConfig, SingleDevicesAreChecked) {
    expect_error(with(R"("balloon": {"target_mib": 65})"), "balloon.target_mib");
    expect_error(with(R"("balloon": {"statistics_interval_ms": 1})"), "statistics_interval_ms");
    expect_error(with(R"("balloon": {"size": 1})"), "balloon");
    expect_error(with(R"("vsock": {"cid": 2, "socket": "v"})"), "vsock.cid");
    expect_error(with(R"("vsock": {"cid": 3})"), "vsock");
    expect_error(with(R"("vsock": {"cid": 3, "socket": ")" + std::string(97, 'v') + "\"}"),
                 "at most 96");
    expect_error(with(R"("watchdog": {"action": "explode"})"), "inject-nmi");
}

TEST(VmConfig, ACardHasATapOrABackEnd) {
    const std::string card = R"("id": "n", "mac": "52:54:00:00:00:01")";
    expect_error(with("\"nics\": [{" + card + "}]"), "either");
    expect_error(with("\"nics\": [{" + card + R"(, "tap": "t", "vhost_user": "s"}])"), "either");
    expect_error(with("\"nics\": [{" + card + R"(, "tap": "t", "queue_pairs": 17}])"),
                 "queue_pairs");
    const auto config = parse(with("\"nics\": [{" + card + R"(, "vhost_user": "s"}])"));
    ASSERT_TRUE(config.ok()) << config.error().text();
    EXPECT_EQ(config->nics[0].vhost_user, "/srv/guest/s");
    EXPECT_EQ(config->nics[0].queue_pairs, 1);
}

TEST(VmConfig, BoundsTheNumberOfDevices) {
    std::string disks;
    for (int i = 0; i < 21; ++i) {
        disks += fmt::format("{}{{\"id\":\"d{}\",\"path\":\"p\"}}", i == 0 ? "" : ",", i);
    }
    expect_error(with("\"disks\": [" + disks + "]"), "too many");
}

constexpr std::string_view kBios = R"({"memory_mib": 64, "firmware": {"code": "bios.bin"})";

std::string bios_with(std::string_view more) {
    return std::string(kBios) + ", " + std::string(more) + "}";
}

TEST(VmConfig, BootsFirmwareInsteadOfAKernel) {
    const auto config = parse(bios_with(R"("cdroms": [{"id": "cd0", "path": "a.iso"},
        {"id": "cd1"}], "disks": [{"id": "root", "path": "d"}],
        "boot": {"order": ["cd0", "root"]},
        "smbios": {"product": "OpenStack Nova", "oem_strings": ["one"]})"));
    ASSERT_TRUE(config.ok()) << config.error().text();
    ASSERT_TRUE(config->firmware.has_value());
    EXPECT_EQ(config->firmware->type, FirmwareType::Bios);
    EXPECT_EQ(config->firmware->code, "/srv/guest/bios.bin");
    EXPECT_TRUE(config->firmware->serial_console);
    EXPECT_EQ(config->cdroms[0].path, "/srv/guest/a.iso");
    EXPECT_TRUE(config->cdroms[1].path.empty());
    EXPECT_EQ(config->boot.order, (std::vector<std::string>{"cd0", "root"}));
    EXPECT_EQ(config->smbios.product, "OpenStack Nova");
    EXPECT_EQ(config->smbios.manufacturer, "kumoi");
    EXPECT_TRUE(parse(std::string(kBios) + "}").ok());  // no boot member at all
}

TEST(VmConfig, RefusesTwoWaysOfBootOrHalfOfOne) {
    expect_error(bios_with(R"("boot": {"kernel": "k"})"), "firmware boots from disks");
    expect_error(bios_with(R"("boot": {"cmdline": "quiet"})"), "firmware boots from disks");
    expect_error(bios_with(R"("boot": {"order": ["nothing"]})"), "nothing");
    expect_error(R"({"memory_mib": 64, "boot": {"kernel": "k", "order": []}, "firmware": {}})",
                 "code");
    expect_error(R"({"memory_mib": 64, "firmware": {"type": "uefi", "code": "c"}})", "nvram");
    expect_error(R"({"memory_mib": 64, "firmware": {"code": "c", "nvram": "n"}})", "nvram");
    expect_error(R"({"memory_mib": 64, "firmware": {"type": "coreboot", "code": "c"}})",
                 "coreboot");
    expect_error(R"({"memory_mib": 64, "boot": {"kernel": "k", "order": ["x"]}})", "order");
    expect_error(R"({"memory_mib": 64, "boot": {}})", "kernel is needed");
}

TEST(VmConfig, BoundsCdromsAndSmbiosTexts) {
    expect_error(with(R"("cdroms": [{"id":"a"},{"id":"b"},{"id":"c"},{"id":"d"},{"id":"e"}])"),
                 "too many");
    expect_error(with(R"("smbios": {"serial": ")" + std::string(256, 'x') + "\"}"), "256 bytes");
    expect_error(with(R"("disks": [{"id": "a", "path": "p"}], "cdroms": [{"id": "a"}])"),
                 "used twice");
}

TEST(VmConfig, LoadsRelativeToItsFile) {
    auto directory = TemporaryDirectory::create("config-test");
    ASSERT_TRUE(directory.ok());
    const std::string path = directory->path() + "/guest.json";
    ASSERT_TRUE(write_file_atomic(path, "{" + std::string(kBoot) + "}").ok());
    const auto config = load_vm_config(path);
    ASSERT_TRUE(config.ok()) << config.error().text();
    EXPECT_EQ(config->boot.kernel, directory->path() + "/k");
    EXPECT_FALSE(load_vm_config(directory->path() + "/none.json").ok());
}

TEST(VmConfig, DisksOnTheScsiBusComeBehindTheCdroms) {
    const auto config = parse(with(R"("cdroms": [{"id": "cd0"}], "disks": [
        {"id": "a", "path": "p", "bus": "scsi"}, {"id": "b", "path": "q", "bus": "virtio"},
        {"id": "c", "path": "r", "bus": "scsi", "target": 1},
        {"id": "d", "path": "s", "bus": "scsi"}])"));
    ASSERT_TRUE(config.ok()) << config.error().text();
    EXPECT_EQ(config->disks[0].scsi_target, 2u);
    EXPECT_EQ(config->disks[1].bus, DiskBus::Virtio);
    EXPECT_FALSE(config->disks[1].scsi_target.has_value());
    EXPECT_EQ(config->disks[2].scsi_target, 1u);
    EXPECT_EQ(config->disks[3].scsi_target, 3u);
    EXPECT_EQ(config->disks[0].queues, 1);
}

TEST(VmConfig, WhatDoesNotGoWithABusIsRefused) {
    const auto disk = [](const std::string& members) {
        return with(R"("cdroms": [{"id": "cd0"}], "disks": [{"id": "a", "path": "p", )" + members +
                    "}]");
    };
    expect_error(disk(R"("bus": "ide")"), "disks[0].bus");
    expect_error(disk(R"("bus": "scsi", "slot": 11)"), "a target, not a slot");
    expect_error(disk(R"("target": 3)"), "only a disk with");
    expect_error(disk(R"("bus": "scsi", "target": 32)"), "disks[0].target");
    expect_error(disk(R"("bus": "scsi", "target": 0)"), "SCSI target 0 of");
    expect_error(disk(R"("bus": "scsi", "queues": 2)"), "one queue for all");
    std::string many;
    for (int i = 0; i < 32; ++i) {
        many += fmt::format("{}{{\"id\":\"d{}\",\"path\":\"p\",\"bus\":\"scsi\"}}",
                            i == 0 ? "" : ",", i);
    }
    EXPECT_TRUE(parse(with("\"disks\": [" + many + "]")).ok());
    expect_error(with("\"cdroms\": [{\"id\": \"cd0\"}], \"disks\": [" + many + "]"),
                 "no SCSI target is left");
}

TEST(VmConfig, ADiskThatComesLaterChoosesAFreeTarget) {
    const auto config = parse(with(R"("cdroms": [{"id": "cd0"}], "disks": [
        {"id": "a", "path": "p", "bus": "scsi"}])"));
    ASSERT_TRUE(config.ok());
    const auto later = [&](const std::string& text) {
        const Json json = Json::parse(text).value();
        return parse_disk_config(JsonView(json, "disk"), *config);
    };
    EXPECT_EQ(later(R"({"id": "b", "path": "/q", "bus": "scsi"})")->scsi_target, 2u);
    EXPECT_EQ(later(R"({"id": "b", "path": "/q", "bus": "scsi", "target": 9})")->scsi_target, 9u);
    EXPECT_FALSE(later(R"({"id": "b", "path": "/q", "bus": "scsi", "target": 1})").ok());
}

TEST(VmConfig, FirmwareFindsDisksByTheirBus) {
    const auto config = parse(bios_with(R"("cdroms": [{"id": "cd0"}], "disks": [
        {"id": "s", "path": "p", "bus": "scsi"}, {"id": "v", "path": "q", "slot": 13},
        {"id": "w", "path": "q"}],
        "boot": {"order": ["s", "cd0", "v", "w"]})"));
    ASSERT_TRUE(config.ok()) << config.error().text();
    EXPECT_EQ(
        firmware_boot_order(*config),
        (std::vector<std::string>{"/pci@i0cf8/scsi@1,6/channel@0/disk@1,0",
                                  "/pci@i0cf8/scsi@1,6/channel@0/disk@0,0",
                                  "/pci@i0cf8/scsi@d/disk@0,0", "/pci@i0cf8/scsi@b/disk@0,0"}));
}

}  // namespace
}  // namespace kumoi::hypervisor
