#include "hypervisor/firmware/table_loader.h"

namespace kumoi::hypervisor {

namespace {

constexpr size_t kCommandSize = 128;
constexpr size_t kNameSize = 56;
constexpr uint32_t kAllocate = 1;
constexpr uint32_t kAddPointer = 2;
constexpr uint32_t kAddChecksum = 3;
constexpr uint8_t kZoneHigh = 1;
constexpr uint8_t kZoneFSegment = 2;

class Command {
public:
    explicit Command(uint32_t command) { number(command); }
    Command& name(std::string text) {
        text.resize(kNameSize, '\0');
        bytes_ += text;
        return *this;
    }
    template <class T>
    Command& number(T value) {
        bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
        return *this;
    }
    std::string finish() {
        bytes_.resize(kCommandSize, '\0');
        return bytes_;
    }

private:
    std::string bytes_;
};

const char* file_of(AcpiImage::Part part) {
    return part == AcpiImage::Part::Rsdp ? kAcpiRsdpFile : kAcpiTablesFile;
}

std::string allocate(const char* file, uint32_t alignment, uint8_t zone) {
    return Command(kAllocate).name(file).number(alignment).number(zone).finish();
}

}  // namespace

std::string table_loader(const AcpiImage& image) {
    constexpr uint32_t kRsdpAlignment = 16;  // ACPI 6.4 §5.2.5.1
    std::string commands = allocate(kAcpiRsdpFile, kRsdpAlignment, kZoneFSegment) +
                           allocate(kAcpiTablesFile, AcpiImage::kAlignment, kZoneHigh);
    for (const AcpiImage::Pointer& pointer : image.pointers) {
        commands += Command(kAddPointer)
                        .name(file_of(pointer.part))
                        .name(kAcpiTablesFile)
                        .number(pointer.offset)
                        .number(pointer.size)
                        .finish();
    }
    for (const AcpiImage::Checksum& checksum : image.checksums) {
        commands += Command(kAddChecksum)
                        .name(file_of(checksum.part))
                        .number(checksum.at)
                        .number(checksum.start)
                        .number(checksum.length)
                        .finish();
    }
    return commands;
}

}  // namespace kumoi::hypervisor
