// Accounts of a Linux guest in /etc/passwd and /etc/shadow: passwords and SSH keys.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "hypervisor/offline/guest_files.h"

namespace kumoi::hypervisor::offline {

struct Account {
    std::string name;
    Owner owner;
    std::string home;
};

// NotFound when the guest has no such account.
Result<Account> find_account(GuestFiles& files, const std::string& name);
// SHA-512 crypt(3), the strongest that every Linux guest can check; changed today.
Result<void> set_password(GuestFiles& files, const std::string& name, const std::string& password,
                          Random& random, const Clock& clock);
// Adds the keys that authorized_keys does not have yet; makes ~/.ssh (0700) and the file (0600).
Result<void> add_ssh_keys(GuestFiles& files, const Account& account,
                          const std::vector<std::string>& keys);

// One line of OpenSSH's public key format, no options: "ssh-ed25519 AAAA... comment".
Result<void> check_ssh_key(const std::string& key);
// Letters, digits, '_', '-', '.', a trailing '$'; at most 32.
Result<void> check_account_name(const std::string& name);

}  // namespace kumoi::hypervisor::offline
