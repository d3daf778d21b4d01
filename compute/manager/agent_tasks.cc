#include "compute/manager/agent_tasks.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <sstream>

#include "base/encoding.h"
#include "base/log.h"
#include "compute/manager/nova_rules.h"
#include "compute/manager/volume_api.h"
#include "compute/server_password.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr char kRsaType[] = "ssh-rsa";
constexpr int64_t kSnapshotsWaitMs = 300'000;
constexpr int64_t kSnapshotsLookMs = 500;

// What Nova's API passes on to whoever asked.
bool is_for_the_caller(const Error& error) {
    constexpr std::array<std::string_view, 3> kFaults = {
        "InstanceAgentNotEnabled", "QemuGuestAgentNotEnabled", "SetAdminPasswdNotSupported"};
    return std::ranges::find(kFaults, error.fault) != kFaults.end() || is_taken_over(error);
}

Error password_failure(const std::string& uuid, std::string_view reason) {
    return Error::conflict("Failed to set admin password on {} because {}", uuid, reason)
        .with_fault("InstancePasswordSetFailed");
}

Error for_the_caller(const Instance& instance, const Error& error) {
    if (is_for_the_caller(error)) {
        return error;
    }
    log_warn("compute", "the password was not set", {{"why", error.text()}});
    if (error.fault == "NotImplementedError") {
        return Error::unsupported(
                   "set_admin_password is not implemented by this driver or guest instance.")
            .with_hint(error.hint)
            .with_fault("NotImplementedError");
    }
    return password_failure(instance.uuid, "error setting admin password");
}

// Nobody can read it without the private key; a key of another kind keeps it from being kept.
std::optional<Properties> kept_password(const Instance& instance, const std::string& password) {
    if (!instance.key_data.starts_with(kRsaType)) {
        return std::nullopt;
    }
    const auto secret = encrypt_for_ssh_key(instance.key_data, password);
    if (!secret.ok() || secret->size() > kStoredPasswordMax) {
        log_warn("compute", "the password is not kept",
                 {{"why", secret.ok() ? "the server's key is too long" : secret.error().text()}});
        return std::nullopt;
    }
    Properties metadata = instance.system_metadata;
    for (auto& [key, piece] : password_pieces(*secret)) {
        metadata[key] = piece;
    }
    return metadata;
}

}  // namespace

Result<void> set_password_task(NodeServices& services, const Operation& operation,
                               const std::string& password) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    if (power_state_of(services.driver, instance) != power_states::kRunning) {
        return password_failure(instance.uuid,
                                fmt::format("instance {} is not running", instance.uuid));
    }
    services.journal.step(operation.journal_id, "password");
    const auto set = services.driver.set_admin_password(instance, password);
    if (!set.ok()) {
        return for_the_caller(instance, set.error());
    }
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kUpdatingPassword});
    update.system_metadata = kept_password(instance, password);
    return services.conductor.instance_save(instance.uuid, update);
}

Result<void> give_up_password(NodeServices& services, const Operation& operation) {
    TRY(services.conductor.instance_save(
        operation.uuid, to_task_state(std::nullopt, {task_states::kUpdatingPassword})));
    return node_was_restarted("set this server's password");
}

void wait_for_snapshots(NodeServices& services, const RequestContext& context,
                        const std::vector<std::string>& snapshot_ids) {
    if (services.volumes == nullptr) {
        return;
    }
    int64_t left_ms = kSnapshotsWaitMs;
    for (const std::string& id : snapshot_ids) {
        auto status = services.volumes->volumes.snapshot_status(context, id);
        while (status.ok() && *status == "creating" && left_ms > 0) {
            services.volumes->sleep(kSnapshotsLookMs);
            left_ms -= kSnapshotsLookMs;
            status = services.volumes->volumes.snapshot_status(context, id);
        }
        if (!status.ok() || *status == "creating") {
            log_warn("compute", "a snapshot of a volume is not waited for",
                     {{"snapshot", id}, {"why", status.ok() ? *status : status.error().text()}});
        }
    }
}

void thaw_after_restart(NodeServices& services, const Instance& instance) {
    if (instance.vm_state != vm_states::kActive) {
        return;
    }
    const auto thawed = services.driver.unquiesce(instance);
    if (!thawed.ok() && thawed.error().fault != "QemuGuestAgentNotEnabled" &&
        thawed.error().fault != "InstanceQuiesceNotSupported") {
        log_warn("compute", "the guest's file systems may stand still",
                 {{"server", instance.uuid}, {"why", thawed.error().text()}});
    }
}

// --- RSA ---

namespace {

struct Free {
    void operator()(BIGNUM* number) const { BN_free(number); }
    void operator()(OSSL_PARAM_BLD* builder) const { OSSL_PARAM_BLD_free(builder); }
    void operator()(OSSL_PARAM* params) const { OSSL_PARAM_free(params); }
    void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

// The next length-prefixed string of a key blob (RFC 4251 §5).
std::optional<std::string_view> take(std::string_view& blob) {
    if (blob.size() < 4) {
        return std::nullopt;
    }
    size_t size = 0;
    for (size_t i = 0; i < 4; ++i) {
        size = size << 8 | static_cast<unsigned char>(blob[i]);
    }
    if (size > blob.size() - 4) {
        return std::nullopt;
    }
    const std::string_view field = blob.substr(4, size);
    blob.remove_prefix(4 + size);
    return field;
}

Owned<BIGNUM> number(std::string_view bytes) {
    return Owned<BIGNUM>(BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()), nullptr));
}

Owned<EVP_PKEY> rsa_key(std::string_view exponent, std::string_view modulus) {
    const Owned<BIGNUM> e = number(exponent);
    const Owned<BIGNUM> n = number(modulus);
    const Owned<OSSL_PARAM_BLD> builder(OSSL_PARAM_BLD_new());
    if (!e || !n || !builder ||
        OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
        OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) != 1) {
        return nullptr;
    }
    const Owned<OSSL_PARAM> params(OSSL_PARAM_BLD_to_param(builder.get()));
    const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
    EVP_PKEY* key = nullptr;
    if (!params || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
        EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1) {
        return nullptr;
    }
    return Owned<EVP_PKEY>(key);
}

std::optional<std::string> encrypt(EVP_PKEY* key, std::string_view text) {
    const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new(key, nullptr));
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    size_t size = 0;
    if (!context || EVP_PKEY_encrypt_init(context.get()) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_PADDING) != 1 ||
        EVP_PKEY_encrypt(context.get(), nullptr, &size, bytes, text.size()) != 1) {
        return std::nullopt;
    }
    std::string secret(size, '\0');
    if (EVP_PKEY_encrypt(context.get(), reinterpret_cast<unsigned char*>(secret.data()), &size,
                         bytes, text.size()) != 1) {
        return std::nullopt;
    }
    secret.resize(size);
    return secret;
}

}  // namespace

Result<std::string> encrypt_for_ssh_key(const std::string& public_key, std::string_view text) {
    constexpr size_t kKeyMax = 16384;
    std::istringstream words(public_key.substr(0, kKeyMax));
    std::string type;
    std::string encoded;
    words >> type >> encoded;
    const auto blob = base64_decode(encoded);
    if (type != kRsaType || !blob) {
        return Error::invalid("the server's key is no ssh-rsa key");
    }
    std::string_view rest = *blob;
    const auto named = take(rest);
    const auto exponent = take(rest);
    const auto modulus = take(rest);
    const auto key =
        named == kRsaType && exponent && modulus ? rsa_key(*exponent, *modulus) : Owned<EVP_PKEY>();
    const auto secret = key ? encrypt(key.get(), text) : std::nullopt;
    if (!secret) {
        return Error::invalid("{} bytes cannot be encrypted for the server's ssh-rsa key",
                              text.size());
    }
    return base64_encode(*secret);
}

}  // namespace kumoi::compute
