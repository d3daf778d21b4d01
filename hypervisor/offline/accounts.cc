#include "hypervisor/offline/accounts.h"

#include <crypt.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>

#include <fmt/core.h>

namespace kumoi::hypervisor::offline {
namespace {

constexpr char kPasswd[] = "/etc/passwd";
constexpr char kShadow[] = "/etc/shadow";
constexpr size_t kPasswordMax = 256;
constexpr size_t kKeyMax = 16384;
constexpr int64_t kSecondsPerDay = 86400;

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> parts;
    for (size_t begin = 0; begin <= text.size();) {
        const size_t end = std::min(text.find(separator, begin), text.size());
        parts.emplace_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

std::string join(const std::vector<std::string>& parts, char separator) {
    std::string text;
    for (size_t i = 0; i < parts.size(); ++i) {
        text += (i == 0 ? "" : std::string(1, separator)) + parts[i];
    }
    return text;
}

std::optional<uint32_t> number(const std::string& text) {
    uint32_t value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    return error == std::errc() && stop == end ? std::optional(value) : std::nullopt;
}

// The line of `name` in a file of colon-separated lines.
std::optional<size_t> line_of(const std::vector<std::string>& lines, const std::string& name) {
    const auto found = std::find_if(lines.begin(), lines.end(), [&](const std::string& line) {
        return line.starts_with(name + ":");
    });
    return found == lines.end() ? std::nullopt
                                : std::optional(static_cast<size_t>(found - lines.begin()));
}

std::string salt(Random& random) {
    constexpr std::string_view kAlphabet =
        "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    std::string text = "$6$";
    for (int i = 0; i < 16; ++i) {
        text += kAlphabet[random.below(kAlphabet.size())];
    }
    return text + "$";
}

Result<std::string> hash_password(const std::string& password, Random& random) {
    const auto data = std::make_unique<crypt_data>();
    std::memset(data.get(), 0, sizeof(crypt_data));
    const char* hash = crypt_r(password.c_str(), salt(random).c_str(), data.get());
    if (hash == nullptr || *hash == '*') {
        return Error::unsupported("crypt(3) of this host has no SHA-512");
    }
    return std::string(hash);
}

}  // namespace

Result<void> check_account_name(const std::string& name) {
    const std::string_view stem =
        name.ends_with('$') ? std::string_view(name).substr(0, name.size() - 1) : name;
    const bool good = !stem.empty() && name.size() <= 32 && stem.front() != '-' &&
                      std::all_of(stem.begin(), stem.end(), [](unsigned char c) {
                          return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
                      });
    if (!good) {
        return Error::invalid("\"{}\" is no account name", name);
    }
    return {};
}

Result<void> check_ssh_key(const std::string& key) {
    const bool printable =
        std::all_of(key.begin(), key.end(), [](unsigned char c) { return c >= ' ' && c != 0x7f; });
    const bool known = key.starts_with("ssh-") || key.starts_with("ecdsa-") ||
                       key.starts_with("sk-ssh-") || key.starts_with("sk-ecdsa-");
    if (!printable || !known || key.size() > kKeyMax || key.find(" AAAA") == std::string::npos) {
        return Error::invalid("\"{}\" is no SSH public key", key.substr(0, 40))
            .with_hint("one line as in id_ed25519.pub");
    }
    return {};
}

Result<Account> find_account(GuestFiles& files, const std::string& name) {
    TRY(check_account_name(name));
    const auto lines = split(TRY(files.read(kPasswd)), '\n');
    const auto at = line_of(lines, name);
    if (!at) {
        return Error::not_found("the guest has no account {} in {}", name, kPasswd)
            .with_hint("kumoi vm inspect shows which system it is");
    }
    const auto fields = split(lines[*at], ':');
    const auto uid = fields.size() >= 6 ? number(fields[2]) : std::nullopt;
    const auto gid = fields.size() >= 6 ? number(fields[3]) : std::nullopt;
    if (!uid || !gid || !fields[5].starts_with('/')) {
        return Error::corrupt("the line of {} in the guest's {} is broken", name, kPasswd);
    }
    return Account{name, {*uid, *gid}, fields[5]};
}

Result<void> set_password(GuestFiles& files, const std::string& name, const std::string& password,
                          Random& random, const Clock& clock) {
    if (password.empty() || password.size() > kPasswordMax ||
        password.find_first_of(std::string_view("\0\n", 2)) != std::string::npos) {
        return Error::invalid("a password has 1 to {} bytes in one line", kPasswordMax);
    }
    TRY(find_account(files, name));
    auto lines = split(TRY(files.read(kShadow)), '\n');
    const auto at = line_of(lines, name);
    if (!at) {
        return Error::not_found("the guest has no line of {} in {}", name, kShadow);
    }
    auto fields = split(lines[*at], ':');
    fields.resize(std::max<size_t>(fields.size(), 9));
    fields[1] = TRY(hash_password(password, random));
    fields[2] = std::to_string(clock.wall_ns() / kNanosPerSecond / kSecondsPerDay);
    lines[*at] = join(fields, ':');
    return files.write(kShadow, join(lines, '\n'), 0640);
}

Result<void> add_ssh_keys(GuestFiles& files, const Account& account,
                          const std::vector<std::string>& keys) {
    const std::string folder = account.home + "/.ssh", path = folder + "/authorized_keys";
    if (!TRY(files.exists(folder))) {
        TRY(files.make_directory(folder, 0700));
        TRY(files.own(folder, account.owner));
    }
    std::string text;
    if (TRY(files.exists(path))) {
        text = TRY(files.read(path));
    }
    if (!text.empty() && text.back() != '\n') {
        text += '\n';
    }
    const auto present = split(text, '\n');
    for (const std::string& key : keys) {
        TRY(check_ssh_key(key));
        if (std::find(present.begin(), present.end(), key) == present.end()) {
            text += key + '\n';
        }
    }
    TRY(files.write(path, text, 0600));
    TRY(files.chmod(path, 0600));
    return files.own(path, account.owner);
}

}  // namespace kumoi::hypervisor::offline
