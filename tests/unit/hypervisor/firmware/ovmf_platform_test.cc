// Stock OVMF cannot run where KVM emulates ring 0 (it begins with an x87 instruction), so this
// walks through what its platform code does on a Q35, in its order (edk2 OvmfPkg: PlatformPei,
// PlatformInitLib, QemuFwCfgLib, AcpiTimerLib, QemuFlashFvbServicesRuntimeDxe, ResetSystemLib), on
// the machine that kumoi-vmm assembles, with the flash images of Debian's package where it is
// installed.
#include <cstring>
#include <map>

#include <gtest/gtest.h>

#include "base/file.h"
#include "hypervisor/firmware/fw_cfg_items.h"
#include "hypervisor/firmware/table_loader.h"
#include "hypervisor/vmm_devices.h"
#include "tests/support/platform_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kMemory = 64u << 20;
constexpr uint32_t kLpc = 0x1f << 11;
constexpr uint64_t kDmaBlock = 0x10000;
constexpr uint64_t kDmaBuffer = 0x20000;
constexpr char kCode[] = "/usr/share/OVMF/OVMF_CODE_4M.fd";
constexpr char kVariables[] = "/usr/share/OVMF/OVMF_VARS_4M.fd";

class OvmfPlatform : public testing::Test {
protected:
    void SetUp() override {
        config_.memory_mib = kMemory >> 20;
        config_.vcpus = 3;
        config_.uuid = "00112233-4455-6677-8899-aabbccddeeff";
        config_.firmware.emplace();
        config_.firmware->type = FirmwareType::Uefi;
        config_.firmware->code = image("code.fd", kCode, 3'653'632);
        config_.firmware->nvram = image("nvram.fd", kVariables, 540'672);
        devices_ =
            MachineDevices::create(config_, platform_, console_, direct_files(), loop_, clock_, {})
                .value();
        firmware_ = Firmware::create(*config_.firmware, platform_, direct_files()).value();
        FirmwareItems items;
        items.firmware = *config_.firmware;
        items.vcpus = config_.vcpus;
        items.ram = platform_.memory().regions();
        items.uuid = config_.uuid;
        items.smbios.memory_bytes = items.smbios.low_memory_bytes = kMemory;
        items.boot_order = {boot_path_disk(11)};
        items.acpi = [this] {
            return AcpiConfig{
                .vcpus = 3, .ram_end = kMemory, .ecam_base = devices_->pci().ecam_address()};
        };
        ASSERT_TRUE(add_firmware_items(devices_->fw_cfg(), items).ok());
        ASSERT_TRUE(firmware_->install().ok());
    }
    // The package's image, or as many bytes where the package is not there.
    std::string image(const std::string& name, const std::string& stock, size_t size) {
        const std::string path = folder_.path() + "/" + name;
        const auto content = read_file(stock, 16u << 20);
        stock_ = stock_ && content.ok();
        EXPECT_TRUE(
            write_file_atomic(path, content.ok() ? *content : std::string(size, '\xff')).ok());
        return path;
    }
    uint32_t in(uint16_t port, size_t width) {
        uint8_t bytes[4] = {};
        platform_.port_bus().read(port, std::span(bytes).first(width));
        uint32_t value = 0;
        std::memcpy(&value, bytes, sizeof value);
        return value;
    }
    void out(uint16_t port, uint32_t value, size_t width) {
        uint8_t bytes[4];
        std::memcpy(bytes, &value, sizeof bytes);
        platform_.port_bus().write(port, std::span<const uint8_t>(bytes, width));
    }
    uint32_t pci(uint32_t function, uint32_t offset, size_t width) {
        out(0xcf8, 1u << 31 | function | (offset & 0xfc), 4);
        return in(static_cast<uint16_t>(0xcfc + (offset & 3)), width);
    }
    void set_pci(uint32_t function, uint32_t offset, uint32_t value, size_t width) {
        out(0xcf8, 1u << 31 | function | (offset & 0xfc), 4);
        out(static_cast<uint16_t>(0xcfc + (offset & 3)), value, width);
    }
    uint8_t cmos(uint8_t index) {
        out(0x70, index, 1);
        return static_cast<uint8_t>(in(0x71, 1));
    }
    std::string fw_cfg_bytes(size_t size) {
        std::string bytes;
        for (size_t i = 0; i < size; ++i) {
            bytes += static_cast<char>(in(0x511, 1));
        }
        return bytes;
    }
    std::string fw_cfg_item(uint16_t key, size_t size) {
        out(0x510, key, 2);
        return fw_cfg_bytes(size);
    }
    // InternalQemuFwCfgDmaBytes(): the control block big endian, then poll it for zero.
    std::string fw_cfg_dma(uint16_t key, uint32_t size) {
        const uint32_t block[4] = {__builtin_bswap32(uint32_t{key} << 16 | 8 | 2),
                                   __builtin_bswap32(size), 0,
                                   __builtin_bswap32(static_cast<uint32_t>(kDmaBuffer))};
        EXPECT_TRUE(platform_.memory().store(kDmaBlock, block).ok());
        out(0x514, 0, 4);
        out(0x518, __builtin_bswap32(static_cast<uint32_t>(kDmaBlock)), 4);
        EXPECT_EQ(platform_.memory().load<uint32_t>(kDmaBlock).value(), 0u);
        std::string bytes(size, '\0');
        EXPECT_TRUE(
            platform_.memory().read(kDmaBuffer, std::as_writable_bytes(std::span(bytes))).ok());
        return bytes;
    }
    // QemuFwCfgFindFile().
    std::string file(const std::string& name) {
        out(0x510, 0x19, 2);
        const std::string count = fw_cfg_bytes(4);
        for (uint8_t i = 0; i < static_cast<uint8_t>(count[3]); ++i) {
            const std::string entry = fw_cfg_bytes(64);
            if (entry.substr(8, name.size() + 1) == name + '\0') {
                uint32_t size = 0;
                std::memcpy(&size, entry.data(), 4);
                const auto key = static_cast<uint16_t>(static_cast<uint8_t>(entry[4]) << 8 |
                                                       static_cast<uint8_t>(entry[5]));
                return fw_cfg_dma(key, __builtin_bswap32(size));
            }
        }
        ADD_FAILURE() << "no file " << name;
        return {};
    }
    uint8_t flash(uint64_t address) {
        if (const std::byte* byte = platform_.mapped_byte(address)) {
            return static_cast<uint8_t>(*byte);
        }
        uint8_t byte = 0;
        platform_.mmio_bus().read(address, std::span(&byte, 1));
        return byte;
    }
    void set_flash(uint64_t address, uint8_t value) {
        platform_.mmio_bus().write(address, std::span<const uint8_t>(&value, 1));
    }
    void pei_sets_up_the_platform();

    TemporaryDirectory folder_ = TemporaryDirectory::create("ovmf-test").value();
    bool stock_ = true;
    ManualClock clock_;
    EventLoop loop_{clock_};
    PlatformFake platform_{kMemory};
    SerialConsole console_{loop_, std::nullopt};
    VmConfig config_;
    std::unique_ptr<MachineDevices> devices_;
    std::unique_ptr<Firmware> firmware_;
};

// MiscInitialization() and PciExBarInitialization().
void OvmfPlatform::pei_sets_up_the_platform() {
    out(0x92, in(0x92, 1) | 2, 1);  // A20
    if ((pci(kLpc, 0x44, 1) & 0x80) == 0) {
        set_pci(kLpc, 0x40, 0x600, 4);
        set_pci(kLpc, 0x44, pci(kLpc, 0x44, 1) | 0x80, 1);
    }
    set_pci(kLpc, 0xf0, 0xfed1'c001, 4);  // RCBA
    set_pci(0, 0x60, 0, 4);
    set_pci(0, 0x64, 0, 4);
    set_pci(0, 0x60, 0xe000'0001, 4);
}

TEST_F(OvmfPlatform, SecFindsTheResetVectorAndTheVariables) {
    EXPECT_NE(platform_.mapped_byte(0xffff'fff0), nullptr);
    if (!stock_) {
        GTEST_SKIP() << "the package ovmf is not installed";
    }
    EXPECT_EQ(flash(0xffff'fff0), 0x90);  // nop nop jmp: where every OVMF begins
    // The firmware volume header of the variable store has "_FVH" at 40.
    EXPECT_EQ(flash(0xffc0'0028), '_');
    EXPECT_EQ(flash(0xffc0'0029), 'F');
}

TEST_F(OvmfPlatform, PeiDetectsAQ35AndSetsItUp) {
    EXPECT_EQ(pci(0, 2, 2), 0x29c0u);
    EXPECT_EQ(fw_cfg_item(0, 4), "QEMU");
    EXPECT_EQ(fw_cfg_item(1, 1)[0] & 2, 2);  // DMA
    pei_sets_up_the_platform();
    EXPECT_EQ(pci(kLpc, 0x44, 1) & 0x80, 0x80u);
    EXPECT_EQ(pci(kLpc, 0x40, 4) & 0xffc0, 0x600u);
    EXPECT_EQ(devices_->pci().ecam_address(), 0xe000'0000u);
    uint8_t bytes[4] = {};
    ASSERT_TRUE(platform_.mmio_bus().read(0xe000'0000 + (0x1fu << 15), bytes));
    EXPECT_EQ(bytes[0], 0x86);
    EXPECT_EQ(cmos(0x0f), 0);  // no S3 resume
}

TEST_F(OvmfPlatform, MemoryAndProcessorsAreTold) {
    EXPECT_EQ(fw_cfg_item(5, 2), std::string("\3\0", 2));
    const uint32_t below4g = (cmos(0x34) | cmos(0x35) << 8) * 0x10000u + (16u << 20);
    EXPECT_EQ(below4g, kMemory);
    EXPECT_EQ(cmos(0x5b) | cmos(0x5c) << 8 | cmos(0x5d) << 16, 0);
    const std::string e820 = file("etc/e820");
    ASSERT_EQ(e820.size(), 20u);
    uint64_t size = 0;
    std::memcpy(&size, &e820[8], sizeof size);
    EXPECT_EQ(size, kMemory);
    EXPECT_EQ(e820[16], 1);
}

TEST_F(OvmfPlatform, AcpiTimerCountsAtTheBaseThatPeiSet) {
    pei_sets_up_the_platform();
    const auto timer = static_cast<uint16_t>((pci(kLpc, 0x40, 4) & 0xffc0) + 8);
    const uint32_t before = in(timer, 4);
    clock_.advance(kNanosPerSecond);
    EXPECT_EQ(in(timer, 4) - before, 3'579'545u);
}

// FVB: probe, then a variable: erase its block, program it, read it back, and find it in the file.
TEST_F(OvmfPlatform, VariablesAreWrittenToTheirFile) {
    constexpr uint64_t kBase = 0xffc0'0000;
    const uint8_t original = flash(kBase + 0x8000);
    set_flash(kBase + 0x8000, 0x50);
    set_flash(kBase + 0x8000, 0x70);
    EXPECT_EQ(flash(kBase + 0x8000), 0x00);
    set_flash(kBase + 0x8000, 0xff);
    EXPECT_EQ(flash(kBase + 0x8000), original);
    set_flash(kBase + 0x8000, 0x20);
    set_flash(kBase + 0x8000, 0xd0);
    const std::string variable = "BootOrder\1\2\3";
    for (size_t i = 0; i < variable.size(); ++i) {
        set_flash(kBase + 0x8000 + i, 0x10);
        set_flash(kBase + 0x8000 + i, static_cast<uint8_t>(variable[i]));
    }
    set_flash(kBase + 0x8000 + variable.size() - 1, 0xff);
    EXPECT_EQ(flash(kBase + 0x8000), 'B');
    const std::string content = read_file(config_.firmware->nvram).value();
    EXPECT_EQ(content.substr(0x8000, variable.size()), variable);
    EXPECT_EQ(content[0x8fff], '\xff');
}

TEST_F(OvmfPlatform, TheCodeFlashCannotBeWritten) {
    const uint8_t before = flash(0xffff'0000);
    set_flash(0xffff'0000, 0x10);
    set_flash(0xffff'0000, static_cast<uint8_t>(~before));
    EXPECT_EQ(flash(0xffff'0000), before);
}

TEST_F(OvmfPlatform, DxeReadsTablesThatKnowWhereEcamIs) {
    pei_sets_up_the_platform();
    const std::string tables = file(kAcpiTablesFile);
    const size_t mcfg = tables.find("MCFG");
    ASSERT_NE(mcfg, std::string::npos);
    uint64_t ecam = 0;
    std::memcpy(&ecam, &tables[mcfg + 44], sizeof ecam);
    EXPECT_EQ(ecam, 0xe000'0000u);
    EXPECT_EQ(file(kTableLoaderFile).size() % 128, 0u);
    EXPECT_EQ(file("etc/smbios/smbios-anchor").substr(0, 4), "_SM_");
    EXPECT_EQ(file("bootorder"), std::string("/pci@i0cf8/scsi@b/disk@0,0\0", 27));
}

TEST_F(OvmfPlatform, ResetAndShutdownReachTheMachine) {
    out(0xcf9, 6, 1);
    EXPECT_EQ(platform_.resets, 1);
    out(0x604, (in(0x604, 2) & ~0x1c00u) | 1u << 13, 2);  // type 0, sleep enable
    EXPECT_EQ(platform_.shutdowns, 1);
}

}  // namespace
}  // namespace kumoi::hypervisor
