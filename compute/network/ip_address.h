// IpAddress and IpNetwork: IPv4 and IPv6 addresses and CIDR blocks as plain comparable values,
// parsed strictly (inet_pton's grammar: no leading zeros, no octal, no zone ids) and written
// canonically (RFC 5952). Addresses are held as 16 bytes in network order; IPv4 uses the first 4.
// Pure functions.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kumoi::compute {

class IpAddress {
public:
    IpAddress() = default;  // 0.0.0.0
    static std::optional<IpAddress> parse(std::string_view text);
    static IpAddress from_ipv4(uint32_t host_order);

    int version() const { return version_; }
    int bits() const { return version_ == 4 ? 32 : 128; }
    std::string text() const;
    uint32_t ipv4() const;  // host byte order; asserts version 4
    const std::array<uint8_t, 16>& bytes() const { return bytes_; }
    // This address plus `offset`; nullopt past the end of the address space.
    std::optional<IpAddress> plus(uint64_t offset) const;
    IpAddress masked(int prefix_length) const;   // host bits cleared
    IpAddress last_of(int prefix_length) const;  // host bits set
    bool is_multicast() const;
    bool is_loopback() const;
    bool is_unspecified() const;
    bool is_link_local() const;  // 169.254/16, fe80::/10
    auto operator<=>(const IpAddress&) const = default;

private:
    int version_ = 4;
    std::array<uint8_t, 16> bytes_{};
};

class IpNetwork {
public:
    IpNetwork() = default;
    IpNetwork(IpAddress address, int prefix_length)
        : address_(address.masked(prefix_length)), prefix_length_(prefix_length) {}
    // "10.0.0.0/24"; host bits are cleared; a bare address is a /32 or /128.
    static std::optional<IpNetwork> parse(std::string_view text);

    const IpAddress& address() const { return address_; }
    int prefix_length() const { return prefix_length_; }
    int version() const { return address_.version(); }
    std::string text() const;
    bool contains(const IpAddress& address) const;
    bool overlaps(const IpNetwork& other) const;
    IpAddress last() const { return address_.last_of(prefix_length_); }
    IpAddress netmask() const;
    auto operator<=>(const IpNetwork&) const = default;

private:
    IpAddress address_;
    int prefix_length_ = 0;
};

// How many addresses lie in [first, last], saturating; 0 when last < first or versions differ.
uint64_t address_count(const IpAddress& first, const IpAddress& last);

// "FA-16-3E-00-00-01" or "fa:16:3e:00:00:01" to lower case with colons; unicast, not all zero.
std::optional<std::string> parse_mac(std::string_view text);
std::array<uint8_t, 6> mac_bytes(std::string_view mac);  // asserts a parse_mac() result
// fe80::/64 address a guest with this MAC gives itself (RFC 4291 appendix A, modified EUI-64).
IpAddress link_local_address(std::string_view mac);

}  // namespace kumoi::compute
