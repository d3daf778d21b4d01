#include "compute/network/ip_address.h"

#include <arpa/inet.h>

#include <charconv>
#include <cstring>

#include "base/assert.h"

namespace kumoi::compute {

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
    char buffer[INET6_ADDRSTRLEN + 1] = {};
    if (text.empty() || text.size() >= sizeof(buffer) ||
        text.find('\0') != std::string_view::npos) {
        return std::nullopt;
    }
    std::memcpy(buffer, text.data(), text.size());
    IpAddress address;
    if (inet_pton(AF_INET, buffer, address.bytes_.data()) == 1) {
        return address;
    }
    address.version_ = 6;
    if (inet_pton(AF_INET6, buffer, address.bytes_.data()) == 1) {
        return address;
    }
    return std::nullopt;
}

IpAddress IpAddress::from_ipv4(uint32_t host_order) {
    IpAddress address;
    for (size_t i = 0; i < 4; ++i) {
        address.bytes_[i] = static_cast<uint8_t>(host_order >> (24 - 8 * i));
    }
    return address;
}

std::string IpAddress::text() const {
    char buffer[INET6_ADDRSTRLEN] = {};
    inet_ntop(version_ == 4 ? AF_INET : AF_INET6, bytes_.data(), buffer, sizeof(buffer));
    return buffer;
}

uint32_t IpAddress::ipv4() const {
    KUMOI_ASSERT(version_ == 4);
    return static_cast<uint32_t>(bytes_[0]) << 24 | static_cast<uint32_t>(bytes_[1]) << 16 |
           static_cast<uint32_t>(bytes_[2]) << 8 | static_cast<uint32_t>(bytes_[3]);
}

std::optional<IpAddress> IpAddress::plus(uint64_t offset) const {
    IpAddress sum = *this;
    uint64_t carry = offset;
    for (size_t i = static_cast<size_t>(bits() / 8); i-- > 0 && carry != 0;) {
        const uint64_t value = bytes_[i] + (carry & 0xff);
        sum.bytes_[i] = static_cast<uint8_t>(value);
        carry = (carry >> 8) + (value >> 8);
    }
    return carry == 0 ? std::optional(sum) : std::nullopt;
}

IpAddress IpAddress::masked(int prefix_length) const {
    IpAddress result = *this;
    for (int bit = prefix_length; bit < bits(); ++bit) {
        result.bytes_[static_cast<size_t>(bit / 8)] &= static_cast<uint8_t>(~(0x80 >> (bit % 8)));
    }
    return result;
}

IpAddress IpAddress::last_of(int prefix_length) const {
    IpAddress result = *this;
    for (int bit = prefix_length; bit < bits(); ++bit) {
        result.bytes_[static_cast<size_t>(bit / 8)] |= static_cast<uint8_t>(0x80 >> (bit % 8));
    }
    return result;
}

bool IpAddress::is_multicast() const {
    return version_ == 4 ? (bytes_[0] & 0xf0) == 0xe0 : bytes_[0] == 0xff;
}

bool IpAddress::is_loopback() const {
    return version_ == 4 ? bytes_[0] == 127 : *this == *IpAddress::parse("::1");
}

bool IpAddress::is_unspecified() const {
    return bytes_ == std::array<uint8_t, 16>{};
}

bool IpAddress::is_link_local() const {
    return version_ == 4 ? bytes_[0] == 169 && bytes_[1] == 254
                         : bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
}

std::optional<IpNetwork> IpNetwork::parse(std::string_view text) {
    const size_t slash = text.find('/');
    const auto address = IpAddress::parse(text.substr(0, slash));
    if (!address) {
        return std::nullopt;
    }
    if (slash == std::string_view::npos) {
        return IpNetwork(*address, address->bits());
    }
    const std::string_view digits = text.substr(slash + 1);
    int prefix_length = -1;
    const auto [end, failure] =
        std::from_chars(digits.data(), digits.data() + digits.size(), prefix_length);
    if (failure != std::errc() || end != digits.data() + digits.size() || digits.size() > 3 ||
        prefix_length < 0 || prefix_length > address->bits()) {
        return std::nullopt;
    }
    return IpNetwork(*address, prefix_length);
}

std::string IpNetwork::text() const {
    return address_.text() + "/" + std::to_string(prefix_length_);
}

bool IpNetwork::contains(const IpAddress& address) const {
    return address.version() == version() && address.masked(prefix_length_) == address_;
}

bool IpNetwork::overlaps(const IpNetwork& other) const {
    return contains(other.address_) || other.contains(address_);
}

IpAddress IpNetwork::netmask() const {
    IpAddress zero = address_.masked(0);
    IpAddress ones = zero.last_of(0);
    return ones.masked(prefix_length_);
}

uint64_t address_count(const IpAddress& first, const IpAddress& last) {
    if (first.version() != last.version() || last < first) {
        return 0;
    }
    uint64_t difference = 0;
    for (size_t i = 0; i < static_cast<size_t>(first.bits() / 8); ++i) {
        if (difference >> 55 != 0) {
            return UINT64_MAX;
        }
        // May go through a smaller value on the way: modular arithmetic gives the right end.
        difference = (difference << 8) + last.bytes()[i] - first.bytes()[i];
    }
    return difference + 1;
}

std::optional<std::string> parse_mac(std::string_view text) {
    if (text.size() != 17) {
        return std::nullopt;
    }
    std::string mac;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (i % 3 == 2) {
            if ((c != ':' && c != '-') || c != text[2]) {
                return std::nullopt;
            }
            mac += ':';
        } else if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')) {
            mac += c;
        } else if (c >= 'A' && c <= 'F') {
            mac += static_cast<char>(c - 'A' + 'a');
        } else {
            return std::nullopt;
        }
    }
    if (mac == "00:00:00:00:00:00" || (mac_bytes(mac)[0] & 1) != 0) {
        return std::nullopt;
    }
    return mac;
}

std::array<uint8_t, 6> mac_bytes(std::string_view mac) {
    KUMOI_ASSERT(mac.size() == 17);
    std::array<uint8_t, 6> bytes{};
    for (size_t i = 0; i < bytes.size(); ++i) {
        std::from_chars(mac.data() + 3 * i, mac.data() + 3 * i + 2, bytes[i], 16);
    }
    return bytes;
}

IpAddress link_local_address(std::string_view mac) {
    const auto b = mac_bytes(mac);
    char text[64];
    std::snprintf(text, sizeof(text), "fe80::%02x%02x:%02xff:fe%02x:%02x%02x", b[0] ^ 2, b[1], b[2],
                  b[3], b[4], b[5]);
    return *IpAddress::parse(text);
}

}  // namespace kumoi::compute
