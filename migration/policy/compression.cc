#include "migration/policy/compression.h"

#include <algorithm>

namespace kumoi::migration {

namespace {
constexpr uint64_t kLinkBytesMax = 64u << 20;  // remembered; then the older half counts half
}

bool compression_pays(const CompressionSample& sample, const LinkSample& link) {
    if (sample.in == 0 || link.bytes == 0) {
        return true;  // nothing speaks against it yet
    }
    if (sample.out >= sample.in) {
        return false;
    }
    const double per_byte = static_cast<double>(link.ns) / static_cast<double>(link.bytes);
    return static_cast<double>(sample.in - sample.out) * per_byte >
           static_cast<double>(sample.cpu_ns);
}

void CompressionGauge::turn(const CompressionSample& sample, const LinkSample& link) {
    link_.bytes += link.bytes;
    link_.ns += link.ns;
    if (link_.bytes > kLinkBytesMax) {
        link_.bytes /= 2;
        link_.ns /= 2;
    }
    if (resting_ != 0) {
        --resting_;
        return;
    }
    sample_.in += sample.in;
    sample_.out += sample.out;
    sample_.cpu_ns += sample.cpu_ns;
    if (sample_.in < limits_.telling_bytes || sample_.in == 0) {
        return;
    }
    if (compression_pays(sample_, link_)) {
        rest_ = 1;
    } else {
        resting_ = rest_;
        rest_ = std::min(rest_ * 2, limits_.rest_max);
        ++dropped_;
    }
    sample_ = {};
}

}  // namespace kumoi::migration
