// Firmware: a stock SeaBIOS or OVMF image in the machine's flash below 4 GiB.
//
// BIOS: the image ends at 4 GiB, read-only, and its last 128 KiB are copied into the RAM below 1
// MiB at each power-on. UEFI: the same for the code, with the variables (nvram) below it as a
// Pflash. Made before the guest runs; install() at each start and reset, with vCPUs parked.
#pragma once

#include <memory>
#include <string>

#include "base/fd.h"
#include "hypervisor/board/platform.h"
#include "hypervisor/firmware/pflash.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

enum class FirmwareType { Bios, Uefi };

struct FirmwareConfig {
    FirmwareType type = FirmwareType::Bios;
    std::string code;            // path of the image
    std::string nvram;           // UEFI: path of this machine's own variables; written
    bool serial_console = true;  // BIOS: its text output goes to the first serial port, too
    bool boot_menu = false;
};

class Firmware {
public:
    static Result<std::unique_ptr<Firmware>> create(const FirmwareConfig& config,
                                                    Platform& platform, FileSource& files);
    ~Firmware();

    // RAM as at power-on; nvram back to read-array mode.
    Result<void> install();
    Pflash* nvram() { return nvram_.get(); }

private:
    class NvramFile;
    explicit Firmware(Platform& platform);
    Result<void> map_code(const std::string& path, FileSource& files);
    Result<void> map_nvram(const std::string& path, FileSource& files);

    Platform& platform_;
    Mapping code_;
    std::unique_ptr<MappedMemory> code_mapping_;
    Mapping variables_;
    std::unique_ptr<NvramFile> file_;
    std::unique_ptr<Pflash> nvram_;
};

}  // namespace kumoi::hypervisor
