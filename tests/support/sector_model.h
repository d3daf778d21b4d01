// SectorModel: what each sector of a disk may hold after a power cut, given which writes were
// issued, which completed and which flushes were acknowledged. A write fills each of its sectors
// with one 64-bit value, so any sector read back tells which write it came from.
#pragma once

#include <cstdint>
#include <vector>

namespace kumoi::test {

class SectorModel {
public:
    static constexpr uint64_t kSector = 512;
    explicit SectorModel(uint64_t sectors) : sectors_(sectors) {}

    void set(uint64_t sector, uint64_t value) { sectors_[sector] = {{value, 0, false}}; }
    uint64_t count() const { return sectors_.size(); }

    // A write (weak: a discard, which may do nothing) begins and ends.
    void begin(uint64_t sector, uint64_t value, bool weak) {
        sectors_[sector].push_back({value, kInFlight, weak});
    }
    void end(uint64_t sector, uint64_t value) {
        for (Version& version : sectors_[sector]) {
            if (version.value == value && version.completed == kInFlight) {
                version.completed = ++clock_;
            }
        }
    }
    uint64_t flush_begins() const { return clock_; }
    void flush_acknowledged(uint64_t begun) {
        for (auto& versions : sectors_) {
            size_t keep = 0;
            for (size_t i = 0; i < versions.size(); ++i) {
                if (versions[i].completed <= begun && !versions[i].weak) {
                    keep = i;
                }
            }
            versions.erase(versions.begin(), versions.begin() + static_cast<std::ptrdiff_t>(keep));
        }
    }
    bool possible_after_cut(uint64_t sector, uint64_t value) const {
        for (const Version& version : sectors_[sector]) {
            if (version.value == value) {
                return true;
            }
        }
        return false;
    }
    // While running, with nothing in flight on the sector.
    bool possible_now(uint64_t sector, uint64_t value) const {
        const auto& versions = sectors_[sector];
        for (size_t i = versions.size(); i-- > 0;) {
            if (versions[i].value == value) {
                return true;
            }
            if (!versions[i].weak) {
                return false;
            }
        }
        return false;
    }

private:
    static constexpr uint64_t kInFlight = UINT64_MAX;
    struct Version {
        uint64_t value;
        uint64_t completed;
        bool weak;
    };
    std::vector<std::vector<Version>> sectors_;
    uint64_t clock_ = 0;
};

}  // namespace kumoi::test
