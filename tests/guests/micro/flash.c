// The flash chip below the firmware, attacked by a guest that is the firmware (rom.S): garbage of
// commands, half sequences, cycles of the wrong width and beyond the chip. In between and at the
// end it must program, erase and read back as the data sheet says. `kib=`: size of the chip;
// `storm`: programs and returns to reading for ever.
#include "micro.h"

static const char kName[] = "flash";
enum {
    kEnd = 0xfffe0000u,  // where the ROM begins
    kBlock = 4096,
    kProgram = 0x40,
    kErase = 0x20,
    kConfirm = 0xd0,
    kBuffer = 0xe8,
    kClearStatus = 0x50,
    kReadStatus = 0x70,
    kIdentifier = 0x90,
    kQuery = 0x98,
    kReadArray = 0xff,
    kRounds = 24,
    kCycles = 128,
};

static volatile uint8_t* chip;
static uint32_t size;
static uint64_t state = 0x9e3779b97f4a7c15ull;

static uint32_t next(void) {  // xorshift64
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static void expect(uint8_t got, uint8_t wanted, const char* what, const char* after) {
    if (got != wanted) {
        verdict_fail(kName, "%s is %x, not %x, after %s", what, (uint64_t)got, (uint64_t)wanted,
                     after);
    }
}

static void program(uint32_t at, uint8_t value) {
    chip[at] = kProgram;
    chip[at] = value;
}

static void erase(uint32_t at) {
    chip[at] = kErase;
    chip[at] = kConfirm;
}

// From whatever state: what waits for a second cycle or for bytes is ended, then one of each.
static void serves(const char* after) {
    static const char kText[] = "kumoi flash";
    for (uint32_t i = 0; i < 300; i++) {
        chip[i % 2] = kReadArray;
    }
    chip[0] = kClearStatus;
    chip[0] = kQuery;
    expect(chip[0x10], 'Q', "query", after);
    expect(chip[0x12], 'Y', "query", after);
    chip[0] = kIdentifier;
    expect(chip[0], 0x89, "manufacturer", after);
    chip[0] = kReadArray;
    const uint32_t block = size - 2 * kBlock;
    erase(block);
    expect(chip[block], 0x80, "status", after);
    chip[block] = kReadArray;
    expect(chip[block], 0xff, "an erased byte", after);
    for (uint32_t i = 0; i < sizeof kText; i++) {
        program(block + i, (uint8_t)kText[i]);
    }
    chip[block + 16] = kBuffer;
    chip[block + 16] = 3;
    for (uint32_t i = 0; i < 4; i++) {
        chip[block + 16 + i] = (uint8_t)(0xa0 + i);
    }
    chip[block + 16] = kConfirm;
    expect(chip[block], 0x80, "status", after);
    chip[block] = kReadArray;
    for (uint32_t i = 0; i < sizeof kText; i++) {
        expect(chip[block + i], (uint8_t)kText[i], "a programmed byte", after);
    }
    expect(chip[block + 19], 0xa3, "a byte of a buffer", after);
    expect(chip[block + 20], 0xff, "the byte behind a buffer", after);
}

static void access(volatile uint8_t* at, uint32_t kind, uint32_t value) {
    switch (kind % 8) {
        case 0: *(volatile uint16_t*)at = (uint16_t)value; break;
        case 1: *(volatile uint32_t*)at = value; break;
        case 2: *(volatile uint64_t*)at = (uint64_t)value << 32 | value; break;
        case 3: (void)*(volatile uint32_t*)at; break;
        case 4: (void)*(volatile uint64_t*)at; break;
        default: *at = (uint8_t)value; break;
    }
}

// Commands more often than bytes that are none; at any place, across both ends of the chip too.
static void garbage(void) {
    static const uint8_t kCommands[] = {kProgram,     0x10,       kErase,      0x60,
                                        kConfirm,     kBuffer,    kReadStatus, kIdentifier,
                                        kClearStatus, kReadArray, kQuery,      0x01};
    for (uint32_t i = 0; i < kCycles; i++) {
        const uint32_t near = next() % 4;
        const uint32_t at = near == 0   ? 0u - next() % 8
                            : near == 1 ? size - next() % 8 + next() % 4
                                        : next() % size;
        access(chip + (int32_t)at, next(), next() % 4 == 0 ? next() : kCommands[next() % 12]);
    }
}

static void half_sequences(void) {
    static const uint8_t kFirst[] = {kProgram, 0x10, kErase, 0x60, kBuffer};
    for (uint32_t i = 0; i < sizeof kFirst; i++) {
        chip[i] = kFirst[i];
        serves("half a sequence");
        chip[size - 1] = kFirst[i];
        chip[0] = 0x77;
        (void)chip[size - 1];
        serves("a sequence that changes its place");
    }
}

static void buffers(void) {
    for (uint32_t i = 0; i < 4; i++) {  // across the end of the chip, where there is ROM
        chip[size - 1] = kBuffer;
        chip[size - 1] = i == 0 ? 0xff : 0x0f;
        for (uint32_t byte = 0; byte < 16; byte++) {
            chip[size - 1 + byte] = (uint8_t)byte;
        }
        chip[size - 1] = kConfirm;
        serves("a buffer across the end");
    }
    chip[0] = kBuffer;
    chip[0] = 0x0f;
    for (uint32_t byte = 16; byte-- > 0;) {  // backwards
        chip[byte] = 0x55;
    }
    serves("a buffer backwards");
    chip[0] = kBuffer;
    chip[0] = 0xff;
    for (uint32_t byte = 0; byte < 1024; byte++) {  // more than it was promised
        chip[byte] = 0x55;
    }
    serves("a buffer that is too long");
}

int main(void) {
    size = (uint32_t)option_number("kib=", 64) << 10;
    chip = (volatile uint8_t*)(uintptr_t)(kEnd - size);
    print("\nmicro: flash begins\n");
    serves("nothing");
    while (option("storm")) {
        program(next() % size, (uint8_t)next());
        chip[0] = kReadArray;
    }
    for (uint32_t i = 0; i < kRounds; i++) {
        garbage();
        serves("garbage");
    }
    half_sequences();
    buffers();
    verdict_ok(kName, "rounds=%u", (uint64_t)kRounds);
}
