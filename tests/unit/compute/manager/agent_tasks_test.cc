// Passwords and frozen file systems: what is recorded, what a caller is told, and what a node that
// is killed at any border leaves.
#include "compute/manager/agent_tasks.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "base/encoding.h"
#include "compute/server_password.h"
#include "compute/ssh_key.h"
#include "tests/support/crash_world.h"

namespace kumoi::compute {
namespace {

using namespace crash;

std::string decrypt(const std::string& pem, const std::string& secret) {
    BIO* text = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
    EVP_PKEY* key = PEM_read_bio_PrivateKey(text, nullptr, nullptr, nullptr);
    BIO_free(text);
    EVP_PKEY_CTX* context = EVP_PKEY_CTX_new(key, nullptr);
    std::string plain(1024, '\0');
    size_t size = plain.size();
    EXPECT_EQ(EVP_PKEY_decrypt_init(context), 1);
    EXPECT_EQ(EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING), 1);
    EXPECT_EQ(
        EVP_PKEY_decrypt(context, reinterpret_cast<unsigned char*>(plain.data()), &size,
                         reinterpret_cast<const unsigned char*>(secret.data()), secret.size()),
        1);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(key);
    plain.resize(size);
    return plain;
}

class AgentTasks : public testing::Test {
protected:
    void SetUp() override {
        world_.start_node();
        world_.build();
    }
    Result<void> set(const std::string& password) {
        world_.set_task(task_states::kUpdatingPassword);
        return world_.manager->set_admin_password({world_.context, kUuid, password});
    }
    void fail(const std::string& call, const Error& error) {
        world_.log.fail = [call, error](const std::string& now) {
            return now == call ? Result<void>(error) : Result<void>();
        };
    }
    Instance stored() const { return world_.conductor.get(kUuid); }

    World world_;
};

TEST_F(AgentTasks, APasswordIsSetAndKeptForTheOwnerOfTheKeyAlone) {
    const SshKeypair pair = generate_ssh_keypair(SshKeyKind::Rsa2048, "me@home").value();
    Instance instance = stored();
    instance.key_data = pair.public_key;
    instance.system_metadata["other"] = "stays";
    world_.conductor.add(instance);
    const auto done = set("s3cret");
    ASSERT_TRUE(done.ok()) << done.error().text();
    EXPECT_EQ(world_.driver.admin_password(kUuid), "s3cret");
    EXPECT_FALSE(stored().task_state);
    EXPECT_EQ(stored().system_metadata.at("other"), "stays");
    EXPECT_EQ(stored().system_metadata.at("password_3"), "");
    EXPECT_EQ(stored().system_metadata.at("password_0").size(), 255u);
    const std::string kept = stored_password(stored().system_metadata);
    EXPECT_EQ(kept.size(), 344u);
    EXPECT_EQ(decrypt(pair.private_key, base64_decode(kept).value()), "s3cret");
    EXPECT_EQ(world_.conductor.fault_count(kUuid), 0u);
    EXPECT_EQ(world_.open_operations(), 0u);
}

TEST_F(AgentTasks, WithoutAnRsaKeyNothingIsKept) {
    for (const std::string key :
         {"", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me", "ssh-rsa AAAA me", "ssh-rsa"}) {
        Instance instance = stored();
        instance.key_data = key;
        world_.conductor.add(instance);
        EXPECT_TRUE(set("s3cret").ok()) << key;
        EXPECT_FALSE(stored().system_metadata.contains("password_0")) << key;
    }
    EXPECT_FALSE(encrypt_for_ssh_key("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAA/////w==", "x").ok());
    const SshKeypair pair = generate_ssh_keypair(SshKeyKind::Rsa2048, "").value();
    EXPECT_FALSE(encrypt_for_ssh_key(pair.public_key, std::string(246, 'x')).ok());
}

TEST_F(AgentTasks, CallersHearNovasExceptionsAndNothingOfTheGuests) {
    const auto fault_of = [&](const Error& error) {
        fail("driver.set_admin_password", error);
        const auto failed = set("s3cret");
        EXPECT_FALSE(failed.ok());
        EXPECT_FALSE(stored().task_state);
        EXPECT_EQ(stored().vm_state, vm_states::kActive);
        EXPECT_EQ(failed.error().text().find("secret of the guest"), std::string::npos);
        return failed.error().fault;
    };
    const auto error = [](const char* fault) {
        return Error::conflict("something").with_fault(fault);
    };
    EXPECT_EQ(fault_of(error("QemuGuestAgentNotEnabled")), "QemuGuestAgentNotEnabled");
    EXPECT_EQ(fault_of(error("SetAdminPasswdNotSupported")), "SetAdminPasswdNotSupported");
    EXPECT_EQ(fault_of(Error::timeout("secret of the guest").with_fault("NotImplementedError")),
              "NotImplementedError");
    EXPECT_EQ(fault_of(Error::unavailable("secret of the guest")), "InstancePasswordSetFailed");
    EXPECT_EQ(world_.conductor.fault_count(kUuid), 4u);
    world_.log.fail = {};
    world_.driver.set_guest(kUuid, power_states::kPaused);
    EXPECT_EQ(set("x").error().fault, "InstancePasswordSetFailed");
    EXPECT_NE(set("x").error().message.find("is not running"), std::string::npos);
}

TEST_F(AgentTasks, ADeleteThatCameBetweenIsNotDisturbed) {
    world_.set_task(task_states::kDeleting);
    const auto set = world_.manager->set_admin_password({world_.context, kUuid, "s3cret"});
    ASSERT_FALSE(set.ok());
    EXPECT_TRUE(is_unexpected_task_state(set.error())) << set.error().fault;
    EXPECT_EQ(stored().task_state, task_states::kDeleting);
}

TEST_F(AgentTasks, FileSystemsStandStillUntilTheVolumesSnapshotsAreThere) {
    ASSERT_TRUE(world_.manager->quiesce_instance(world_.context, kUuid).ok());
    EXPECT_TRUE(world_.driver.frozen(kUuid));
    ASSERT_TRUE(world_.manager->unquiesce_instance(world_.context, kUuid, {"unknown"}).ok());
    EXPECT_FALSE(world_.driver.frozen(kUuid));
    fail("driver.quiesce", Error::conflict("no").with_fault("QemuGuestAgentNotEnabled"));
    EXPECT_EQ(world_.manager->quiesce_instance(world_.context, kUuid).error().fault,
              "QemuGuestAgentNotEnabled");
}

TEST(AgentCrash, AtAnyBorderTheTaskEndsAndNothingIsLeftOpen) {
    bool crashed = true;
    for (int border = 1; crashed && border < kBordersMax; ++border) {
        World world;
        world.start_node();
        world.build();
        world.set_task(task_states::kUpdatingPassword);
        crashed = world.crashes(border, [&] {
            (void)world.manager->set_admin_password({world.context, kUuid, "s3cret"});
        });
        world.start_node();
        EXPECT_FALSE(world.conductor.get(kUuid).task_state) << border;
        EXPECT_EQ(world.conductor.get(kUuid).vm_state, vm_states::kActive) << border;
        EXPECT_EQ(world.open_operations(), 0u) << border;
        EXPECT_TRUE(world.conductor.open_events().empty()) << border;
    }
    EXPECT_FALSE(crashed);
}

}  // namespace
}  // namespace kumoi::compute
