// Numbers of the Virtual I/O Device specification, version 1.2, that more than one file needs.
#pragma once

#include <cstdint>

namespace kumoi::hypervisor::virtio {

// §5: device types.
constexpr uint16_t kTypeNet = 1;
constexpr uint16_t kTypeBlock = 2;
constexpr uint16_t kTypeConsole = 3;
constexpr uint16_t kTypeEntropy = 4;
constexpr uint16_t kTypeBalloon = 5;
constexpr uint16_t kTypeInput = 18;
constexpr uint16_t kTypeVsock = 19;
constexpr uint16_t kTypeMemory = 24;

// §2.1: device status.
constexpr uint8_t kStatusAcknowledge = 1;
constexpr uint8_t kStatusDriver = 2;
constexpr uint8_t kStatusDriverOk = 4;
constexpr uint8_t kStatusFeaturesOk = 8;
constexpr uint8_t kStatusNeedsReset = 64;
constexpr uint8_t kStatusFailed = 128;

// §6: reserved feature bits, as masks.
constexpr uint64_t kFeatureIndirectDescriptors = 1ull << 28;
constexpr uint64_t kFeatureEventIndex = 1ull << 29;
constexpr uint64_t kFeatureVersion1 = 1ull << 32;

constexpr uint16_t kNoVector = 0xffff;    // §4.1.5.1.2
constexpr uint16_t kQueueSizeMax = 1024;  // our limit; the specification allows 32768

}  // namespace kumoi::hypervisor::virtio
