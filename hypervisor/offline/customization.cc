#include "hypervisor/offline/customization.h"

#include <algorithm>
#include <cctype>

#include <fmt/core.h>

#include "hypervisor/offline/accounts.h"
#include "hypervisor/offline/system_reset.h"

namespace kumoi::hypervisor::offline {
namespace {

constexpr size_t kListMax = 64;  // users, keys of one, cards, addresses of one

// RFC 1123 labels, as hostname(7) wants them.
Result<void> check_hostname(const std::string& name) {
    size_t label = 0;
    bool good = !name.empty() && name.size() <= 253;
    for (size_t i = 0; i < name.size() && good; ++i) {
        const auto character = static_cast<unsigned char>(name[i]);
        const bool edge = label == 0 || i + 1 == name.size() || name[i + 1] == '.';
        if (character == '.') {
            good = label != 0 && i + 1 != name.size();
            label = 0;
        } else {
            good = (std::isalnum(character) != 0 || (character == '-' && !edge)) && ++label <= 63;
        }
    }
    if (!good) {
        return Error::invalid("\"{}\" is no host name", name)
            .with_hint("letters, digits, '-' inside and '.' between; at most 63 a label");
    }
    return {};
}

Result<std::vector<JsonView>> list(const JsonView& view, std::string_view key) {
    if (!view.has(key)) {
        return std::vector<JsonView>();
    }
    auto items = TRY(view.array(key));
    if (items.size() > kListMax) {
        return view.error(
            fmt::format("{} has {} entries, at most {}", key, items.size(), kListMax));
    }
    return items;
}

Result<std::vector<std::string>> texts(const JsonView& view, std::string_view key) {
    std::vector<std::string> values;
    for (const JsonView& item : TRY(list(view, key))) {
        values.push_back(TRY(item.as_string()));
    }
    return values;
}

Result<std::optional<std::string>> text(const JsonView& view, std::string_view key) {
    if (!view.has(key)) {
        return std::optional<std::string>();
    }
    return std::optional(TRY(view.string(key)));
}

Result<UserCustomization> parse_user(const JsonView& view) {
    TRY(view.only({"name", "password", "ssh_keys"}));
    UserCustomization user;
    user.name = TRY(view.string("name"));
    TRY(check_account_name(user.name));
    user.password = TRY(text(view, "password"));
    user.ssh_keys = TRY(texts(view, "ssh_keys"));
    for (const std::string& key : user.ssh_keys) {
        TRY(check_ssh_key(key));
    }
    return user;
}

Result<CardNetwork> parse_card(const JsonView& view) {
    TRY(view.only({"mac", "addresses", "gateway4", "gateway6", "dns"}));
    CardNetwork card;
    card.mac = TRY(view.string("mac"));
    card.addresses = TRY(texts(view, "addresses"));
    card.gateway4 = TRY(text(view, "gateway4"));
    card.gateway6 = TRY(text(view, "gateway6"));
    card.dns = TRY(texts(view, "dns"));
    TRY(check_card(card));
    return card;
}

// The line of 127.0.1.1, Debian's for the machine's own name, follows the name where there is one.
Result<void> set_hostname(GuestFiles& files, const std::string& name) {
    TRY(files.write("/etc/hostname", name + "\n", 0644));
    if (!TRY(files.exists("/etc/hosts"))) {
        return {};
    }
    std::string hosts = TRY(files.read("/etc/hosts"));
    constexpr std::string_view kOwn = "127.0.1.1";
    size_t at = hosts.find(kOwn);
    while (at != std::string::npos && at != 0 && hosts[at - 1] != '\n') {
        at = hosts.find(kOwn, at + 1);
    }
    if (at == std::string::npos) {
        return {};
    }
    const size_t end = std::min(hosts.find('\n', at), hosts.size());
    const std::string shorter = name.substr(0, name.find('.'));
    hosts.replace(at, end - at,
                  fmt::format("{}\t{}{}", kOwn, name, shorter == name ? "" : " " + shorter));
    return files.write("/etc/hosts", hosts, 0644);
}

Result<void> set_network(GuestFiles& files, const std::vector<CardNetwork>& cards) {
    const NetworkSystem system = TRY(find_network_system(files));
    for (const NetworkFile& file : network_files(system, cards)) {
        TRY(files.make_directory(file.path.substr(0, file.path.rfind('/')), 0755));
        TRY(files.write(file.path, file.content, file.mode));
        TRY(files.chmod(file.path, file.mode));
    }
    return {};
}

// New files have no label; SELinux sets them all at the next boot when told to.
Result<bool> wants_relabel(GuestFiles& files) {
    if (!TRY(files.exists("/etc/selinux/config"))) {
        return false;
    }
    const std::string config = "\n" + TRY(files.read("/etc/selinux/config"));
    return config.find("\nSELINUX=disabled") == std::string::npos;
}

}  // namespace

Result<Customization> parse_customization(const Json& request) {
    const JsonView view(request);
    if (!request.is_object()) {
        return view.wrong_type("an object");
    }
    TRY(view.only({"hostname", "reset", "users", "network"}));
    Customization wanted;
    wanted.hostname = TRY(text(view, "hostname"));
    if (wanted.hostname) {
        TRY(check_hostname(*wanted.hostname));
    }
    wanted.reset = TRY(view.boolean_or("reset", false));
    for (const JsonView& user : TRY(list(view, "users"))) {
        wanted.users.push_back(TRY(parse_user(user)));
    }
    for (const JsonView& card : TRY(list(view, "network"))) {
        wanted.network.push_back(TRY(parse_card(card)));
    }
    return wanted;
}

Result<std::vector<std::string>> customize(GuestFiles& files, const Customization& wanted,
                                           Random& random, const Clock& clock) {
    std::vector<std::string> done;
    if (wanted.reset) {
        const auto paths = TRY(reset_system(files));
        done.push_back(fmt::format("reset: {} files removed or emptied", paths.size()));
    }
    if (wanted.hostname) {
        TRY(set_hostname(files, *wanted.hostname));
        done.push_back("host name " + *wanted.hostname);
    }
    if (!wanted.network.empty()) {
        TRY(set_network(files, wanted.network));
        done.push_back(fmt::format("network of {} cards", wanted.network.size()));
    }
    for (const UserCustomization& user : wanted.users) {
        const Account account = TRY(find_account(files, user.name));
        if (user.password) {
            TRY(set_password(files, user.name, *user.password, random, clock));
            done.push_back("password of " + user.name);
        }
        if (!user.ssh_keys.empty()) {
            TRY(add_ssh_keys(files, account, user.ssh_keys));
            done.push_back(fmt::format("{} SSH keys of {}", user.ssh_keys.size(), user.name));
        }
    }
    if (!done.empty() && TRY(wants_relabel(files))) {
        TRY(files.write("/.autorelabel", "", 0644));
        done.push_back("SELinux labels at the next start");
    }
    return done;
}

}  // namespace kumoi::hypervisor::offline
