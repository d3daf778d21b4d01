// SSH keys of key pairs: reading a public key line (RFC 4253 §6.6, RFC 5656, RFC 8709), encrypting
// for one, and making new pairs with OpenSSL. Input is hostile: every length is checked. Pure but
// for the random source of OpenSSL; any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace kumoi::compute {

struct SshPublicKey {
    std::string type;  // "ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256" ...
    std::string comment;
    std::string fingerprint_md5;  // "aa:bb:...": of the key blob, as Nova shows it
};

// InvalidArgument, fault InvalidKeypair, with what is wrong.
Result<SshPublicKey> parse_ssh_public_key(std::string_view line);

enum class SshKeyKind { Rsa2048, Ed25519 };

struct SshKeypair {
    std::string public_key;   // one line
    std::string private_key;  // RSA: PKCS#1 PEM; Ed25519: OpenSSH's own format (PROTOCOL.key)
    std::string fingerprint_md5;
};

Result<SshKeypair> generate_ssh_keypair(SshKeyKind kind, const std::string& comment);

// PKCS #1 v1.5 for an "ssh-rsa" public key line, then base64; InvalidArgument for other keys.
Result<std::string> encrypt_for_ssh_key(std::string_view line, std::string_view text);

}  // namespace kumoi::compute
